"""Response-rate limiting: nobody gets the same answer more often than a resolver could want it.

Senders of UDP are not verified: who sends questions with a victim's address has the answers flood the victim. A cache
asks once a TTL for a name, so a limit on equal answers to one network (a /24, or a /56 of IPv6) costs real clients
nothing; what is beyond is dropped, and each so manieth is answered with TC and no records (it is no larger than its
question, and who is real asks again over TCP, or later). The scheme is that of P. Vixie and V. Schryver, "DNS Response
Rate Limiting" (2012); the meter is a virtual clock (GCRA), so there is nothing to sweep.

::

    a set, 64 bytes: four times    0  hash of network and answer    8  time until which it is paid for
"""

from wirespeed.apps.dns.state import DnsView
from wirespeed.jit import cold, load64, multiply_fold, shift_right, store64

PASS, DROP, SLIP = 0, 1, 2
SETS: int = 4096
"""Of each worker; 64 bytes each."""

_NET4 = 0x00FF_FFFF  # the first three bytes of an address, as they stand in memory
_NET6 = (1 << 56) - 1


@cold
def admit(state: DnsView, now: int, peer: int, answer: int) -> int:
    """Whether an answer, known by a number, may go to ``peer`` now: PASS, DROP or SLIP."""
    network = peer & (_NET4 if shift_right(peer, 32) == 0 else _NET6)
    key = multiply_fold(multiply_fold(network ^ state.seed0, answer ^ state.seed1), state.seed0 | 1)
    place = state.rates + ((key & state.rates_mask) << 6)
    oldest, paid = place, load64(place + 8)
    found = 0
    for i in range(4):
        entry = place + (i << 4)
        until = load64(entry + 8)
        if load64(entry) == key:
            found, paid = entry, until
            break
        if until < paid:
            oldest, paid = entry, until
    if found == 0:
        found, paid = oldest, now
        store64(found, key)
    paid = max(paid, now)
    if paid - now < state.burst:
        store64(found + 8, paid + state.interval)
        return PASS
    store64(found + 8, paid)
    state.limited += 1
    if state.slip != 0 and state.limited % state.slip == 0:
        state.slipped += 1
        return SLIP
    return DROP


__all__ = ["DROP", "PASS", "SETS", "SLIP", "admit"]
