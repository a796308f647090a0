"""The token bucket, with time as an argument."""

from wirespeed.stack.bucket import Bucket


def test_a_burst_then_the_rate():
    bucket = Bucket(per_second=8, burst=3)
    assert [bucket.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(5.125)
    assert not bucket.take(5.125)
    assert bucket.refused == 2


def test_a_long_pause_saves_no_more_than_a_burst():
    bucket = Bucket(per_second=10, burst=2)
    bucket.take(0.0)
    assert [bucket.take(1e6) for _ in range(3)] == [True, True, False]


def test_time_that_goes_back_gives_nothing():
    bucket = Bucket(per_second=1000, burst=1)
    assert bucket.take(10.0)
    assert not bucket.take(9.0)


def test_none_at_all():
    assert not Bucket(per_second=0, burst=0).take(1.0)
