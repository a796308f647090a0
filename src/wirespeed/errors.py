"""One tree of errors.

The data plane never raises: it returns counts. What control code raises is a :class:`WirespeedError`
whose message names the thing, the reason and the remedy. The command line prints the message and
exits with code 2.
"""


class WirespeedError(Exception):
    """Anything that went wrong in control code; the message says what to do next."""


class GraphError(WirespeedError):
    """A graph that cannot run: a dangling output, a cycle without a queue, a door nobody declared."""


class NodeError(GraphError):
    """A node that does not compile; the message points at the file and line."""


class PortError(WirespeedError):
    """A port that cannot be opened: a missing interface, no permission, an unknown option."""


class CaptureError(PortError):
    """A file that is not a capture, or one of a kind that cannot be read."""


class ConfigError(WirespeedError):
    """A configuration that says something it must not; names the field and what would be right."""


class ArenaError(WirespeedError):
    """Memory that cannot be had, or is full."""


class TableError(WirespeedError):
    """A table that is full, or was asked for something it cannot hold."""
