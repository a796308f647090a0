"""ntp: the time of day, told to who asks: RFC 5905's server, the stateless half of NTP.

::

    control code:  CLOCK_REALTIME, adjtimex ──▶ TimeSheet ──▶ record of each worker        ten times a second
    worker:        request ──▶ serve: cycle counter ──▶ record ──▶ answer, in place

Who steers this machine's clock (chronyd, ptp4l) is not our business: what is told is the kernel's time, and how good
the kernel says it is.
"""
