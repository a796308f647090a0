"""What a callback is given: the timer that expired, and when.

::

    @timers.on_expire
    def idle(timer):
        expired.add(1)
        flows.delete(timer.word)
"""

from collections.abc import Callable
from typing import Any

from wirespeed.jit import Local
from wirespeed.jit import word as register


class Timer(Local):
    """A timer that has just expired. In registers; it means nothing after the callback."""

    handle = register()
    """For ``timers.start(timer.handle, delay_ns)`` and the like."""
    word = register()
    """The user's word."""
    now = register()
    """ns: the time the wheel was told."""
    deadline = register()
    """ns: when it was to expire; never after ``now``."""
    periods = register()
    """How many periods this call stands for: 1, and those a stalled worker missed; 1 for one-shot timers."""
    number = register()
    """Of its callback."""


class Callback(int):
    """A function for expired timers, by the number under which its wheels know it.

    It is a number, so nodes can hold it; and it can be called, as the function that it stands for.
    """

    function: Callable[[Any], Any]

    def __new__(cls, number: int, function: Callable[[Any], Any]) -> "Callback":
        """The callback ``number`` of some timers."""
        self = int.__new__(cls, number)
        self.function = function
        self.__doc__ = function.__doc__
        return self

    def __call__(self, timer: Any) -> Any:
        """Run the function, interpreted."""
        return self.function(timer)

    def __repr__(self) -> str:
        return f"<callback {int(self)}: {self.function.__qualname__}>"
