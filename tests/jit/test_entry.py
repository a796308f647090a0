"""Kernels called by address."""

from wirespeed.jit import kernel
from wirespeed.jit.entry import enter3, enter5, entry


@kernel
def weigh(a, b, c):  # type: ignore[no-untyped-def]
    return a + 10 * b + 100 * c


@kernel
def place(a, b, c, d, e):  # type: ignore[no-untyped-def]
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e


@kernel
def through(which, other):  # type: ignore[no-untyped-def]
    total = 0
    for i in range(3):
        total += enter3(which, i, 2, 3) + enter5(other, 1, 2, 3, 4, i)
    return total


def test_a_kernel_is_called_by_its_address() -> None:
    first, second = entry(weigh, 3), entry(place, 5)
    assert (entry(weigh, 3), first != second) == (first, True)
    assert through(first, second) == sum(i + 320 + 4321 + 10000 * i for i in range(3))
