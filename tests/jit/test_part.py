"""A part is compiled once for each set of types, whatever constants it is called with."""

import pytest

from wirespeed.jit import COMPILED, cold, inline, kernel
from wirespeed.jit.decorators import _parts


@cold
def weighed(a, by, more):
    return a * by + more


@inline
def doubled(a, by=2):
    return weighed(a, by, 0)


@kernel
def run(a):
    return weighed(a, 3, 1) + weighed(a, 5, -1) + doubled(a) + doubled(a, 7) + doubled(a, by=9)


def test_constants_are_values_of_a_type():
    assert run(10) == 31 + 49 + 20 + 70 + 90
    if not COMPILED:
        pytest.skip("nothing is compiled")
    overloads = {part.py_func: list(part.overloads) for part in _parts}
    assert len(overloads[weighed]) <= 1  # none if the kernel was found on disk
    assert len(overloads[doubled]) <= 2  # with and without what has a default
