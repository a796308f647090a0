"""Kernels called by address."""

from wirespeed.jit import kernel
from wirespeed.jit.entry import enter3, enter4, enter5, entry


@kernel
def weigh(a, b, c):  # type: ignore[no-untyped-def]
    return a + 10 * b + 100 * c


@kernel
def stack(a, b, c, d):  # type: ignore[no-untyped-def]
    return a + 2 * b + 4 * c + 8 * d


@kernel
def place(a, b, c, d, e):  # type: ignore[no-untyped-def]
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e


@kernel
def through(which, middle, other):  # type: ignore[no-untyped-def]
    total = 0
    for i in range(3):
        total += enter3(which, i, 2, 3) + enter4(middle, 1, i, 1, 1) + enter5(other, 1, 2, 3, 4, i)
    return total


def test_a_kernel_is_called_by_its_address() -> None:
    first, middle, second = entry(weigh, 3), entry(stack, 4), entry(place, 5)
    assert (entry(weigh, 3), first != second) == (first, True)
    assert through(first, middle, second) == sum(i + 320 + 13 + 2 * i + 4321 + 10000 * i for i in range(3))
