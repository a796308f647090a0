"""Rules as a port's text has them: ``drop:tcp/23;queue:1:udp;mark:7:arp;else:take``."""

from wirespeed.errors import PortError
from wirespeed.ports.match import parse_matches
from wirespeed.ports.rules.rules import TAKE, Action, parse_action


def parse_rules(spec: str, text: str) -> tuple[list[tuple[str, Action]], Action]:
    """Read ``action:match;...;else:action``.

    Returns:
        The rules in order, and what becomes of all other packets.

    Raises:
        PortError: no such action or match, a bad number; the message names the rule.
    """
    found: list[tuple[str, Action]] = []
    otherwise = TAKE
    for part in filter(None, (each.strip() for each in text.split(";"))):
        word, _, rest = part.partition(":")
        try:
            if word == "else":
                otherwise = parse_action(rest)
                continue
            match = rest
            if word in ("queue", "mark"):
                number, _, match = rest.partition(":")
                word = f"{word}:{number}"
            parse_matches(match)
            found.append((match, parse_action(word)))
        except PortError as error:
            raise PortError(f"port {spec!r}: rule {part!r}: {error}") from None
    return found, otherwise


__all__ = ["parse_rules"]
