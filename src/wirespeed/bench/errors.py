"""The one error of the benches: something a bench needs is missing or misbehaved."""

from wirespeed.errors import WirespeedError


class BenchError(WirespeedError):
    """A bench that cannot run: a peer not installed or dead, no disk space, no input."""
