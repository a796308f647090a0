"""Rules as a port's text has them: ``drop:tcp/23;queue:1:udp;mark:7:arp;else:take``."""

from wirespeed.errors import PortError
from wirespeed.ports.match import parse_matches
from wirespeed.ports.options import nearest
from wirespeed.ports.rules import COUNT, DROP, KERNEL, TAKE, Action, mark, to_queue


def parse_rules(spec: str, text: str) -> tuple[list[tuple[str, Action]], Action]:
    """Read ``action:match;...;else:action``.

    Returns:
        The rules in order, and what becomes of all other packets.

    Raises:
        PortError: no such action, a bad number; the message names the rule.
    """
    found: list[tuple[str, Action]] = []
    otherwise = TAKE
    for part in filter(None, (each.strip() for each in text.split(";"))):
        word, _, rest = part.partition(":")
        if word == "else":
            otherwise = _action(spec, part, rest, "")[0]
            continue
        action, match = _action(spec, part, word, rest)
        parse_matches(match)
        found.append((match, action))
    return found, otherwise


def _action(spec: str, part: str, word: str, rest: str) -> tuple[Action, str]:
    plain = {"take": TAKE, "drop": DROP, "count": COUNT, "kernel": KERNEL}
    if word in plain:
        return plain[word], rest
    if word in ("queue", "mark"):
        number, _, match = rest.partition(":")
        try:
            value = int(number, 0)
        except ValueError:
            raise PortError(
                f"port {spec!r}: rule {part!r}: {word}:{number} must be a number, {word}:1:udp/53"
            ) from None
        return (to_queue(value) if word == "queue" else mark(value)), match
    known = [*plain, "queue", "mark", "else"]
    raise PortError(f"port {spec!r}: rule {part!r}: no action is called {word!r}; {nearest(word, known)}")


__all__ = ["parse_rules"]
