"""Requests and answers as bytes: RFC 5905, read by scapy's NTP layer; and whatever else comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.ntp import NTP, NTPControl, NTPHeader, NTPPrivate

from wirespeed.apps.ntp.clock import Standing
from wirespeed.apps.ntp.server import NtpServer
from wirespeed.apps.ntp.state import DROPS
from wirespeed.eal.clock import Clock
from wirespeed.eal.kernel_clock import KernelClock
from wirespeed.errors import ConfigError
from wirespeed.jit import write_bytes

CYCLES, HZ, NOW_NS = 77_000_000_000_000, 2_600_000_000, 1_800_000_000_123_456_789  # the rig's
ASKED = 0xE1B2C3D4_01234567


def ntp_of(unix_ns):
    seconds, ns = divmod(unix_ns, 10**9)
    return (seconds + 2_208_988_800) % 2**32 * 2**32 + ns * 2**32 // 10**9


def request(version=4, mode=3, poll=6, trailer=b""):
    """A client's, as scapy builds it; the transmit timestamp is a nonce (RFC 5905 asks for no more)."""
    made = bytearray(bytes(NTPHeader(leap=0, version=version, mode=mode, stratum=0, poll=poll, precision=0)))
    made[16:40] = bytes(24)
    made[40:48] = ASKED.to_bytes(8, "big")
    return bytes(made) + trailer


def words(answer):
    """Reference, origin, receive and transmit timestamp."""
    return [int.from_bytes(answer[at : at + 8], "big") for at in range(16, 48, 8)]


def test_bytes_in_and_out(rig):
    """A client's first request and its answer, byte by byte (RFC 5905 figure 8); the clock's figures are the rig's."""
    asked = bytes.fromhex("23000620" + "00" * 36 + "e1b2c3d401234567")
    assert rig.ask(asked) == bytes.fromhex(
        "240306eb"  # no leap second, version 4, server; stratum 3; poll as asked; precision 2^-21 s
        "00000000 000000c5 7f7f0101"  # root dispersion 3000.25 us, following itself
        "eef45080 1f9add37"  # the clock was set when the server started
        "e1b2c3d4 01234567"
        "eef45080 1f9add37 eef45080 1f9add37"
    )


@pytest.mark.parametrize("version", [3, 4])
def test_scapy_reads_the_answer(rig, version):
    answer = NTP(rig.ask(request(version)))
    assert isinstance(answer, NTPHeader)
    assert (answer.version, answer.mode, answer.stratum, answer.leap) == (version, 4, 3, 0)
    assert answer.id == "127.127.1.1"
    assert answer.dispersion == pytest.approx(0.003, abs=1e-4)
    assert answer.poll == 6


def test_time_goes_on_with_the_counter(rig):
    for passed in (1, 1000, HZ, 10 * HZ + 12345, -26000):
        rig.now = CYCLES + passed
        reference, origin, receive, transmit = words(rig.ask(request()))
        true = ntp_of(NOW_NS + passed * 10**9 // HZ)
        assert abs(transmit - true) < 2 * 2**32 // 10**9 + 2, passed  # two nanoseconds
        assert (receive, origin, reference) == (transmit, ASKED, ntp_of(NOW_NS))


def test_the_era_ends_in_2036(rig):
    """RFC 5905 section 6: seconds wrap on 7 February 2036."""
    turn_s = 2**32 - 2_208_988_800
    rig.clock = Clock(HZ, CYCLES, turn_s * 10**9 - 5, "test", uncertainty_ns=250)
    rig.server.refresh()
    assert words(rig.ask(request()))[3] >> 32 == 2**32 - 1
    rig.now = CYCLES + HZ
    assert words(rig.ask(request()))[3] >> 32 == 0


@pytest.mark.parametrize(
    ("ago_ns", "taken"),
    [(5, True), (700, True), (99_000_000, True), (101_000_000, False), (-1000, False), (37_000_000_000, False)],
)
def test_arrival_by_the_port(rig, ago_ns, taken):
    """A hardware clock that is not set by ours (TAI is 37 s ahead) is not believed."""
    rig.now = CYCLES + HZ
    arrival = NOW_NS + 10**9 - ago_ns
    _, _, receive, transmit = words(rig.ask(request(), arrival=arrival))
    assert transmit >= receive
    assert receive == (ntp_of(arrival) if taken else transmit)
    assert rig.server.stats().stamped == taken


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (b"", "short"),
        (request()[:47], "short"),
        (bytes(NTPControl(version=2, op_code=1)).ljust(48, b"\0"), "control"),
        (bytes(NTPPrivate(version=2, implementation=3, request_code=42)).ljust(192, b"\0"), "private"),  # monlist
        (request(mode=0), "mode"),
        (request(mode=1), "mode"),
        (request(mode=4), "mode"),
        (request(mode=5), "mode"),
        (request(version=2), "version"),
        (request(version=7), "version"),
        (request(version=0), "version"),
    ],
)
def test_refused(rig, asked, reason):
    assert rig.ask(asked) == reason
    assert rig.server.stats().refused == 1


def test_a_key_that_is_not_known(rig):
    """RFC 5905 section 9.2, crypto-NAK: answered, but with key 0."""
    for digest in (16, 20):
        answer = rig.ask(request(trailer=b"\0\0\0\1" + bytes(digest)))
        assert len(answer) == 52
        assert answer[48:] == bytes(4)
    assert rig.server.stats().unknown_keys == 2


def test_extension_fields_are_ignored(rig):
    """RFC 7822 section 3."""
    assert len(rig.ask(request(trailer=bytes.fromhex("0104 001c") + bytes(24)))) == 48


def test_what_the_kernel_says(make):
    rig = make(Standing(2, reference="192.0.2.7"))
    assert rig.ask(request())[12:16] == bytes([192, 0, 2, 7])
    for leap_s, leap in ((1, 1), (-1, 2), (0, 0)):
        rig.kernel = KernelClock(True, 100, leap_s)
        rig.server.refresh()
        assert rig.ask(request())[0] >> 6 == leap
    rig.kernel = KernelClock(True, 100, pps=True)
    rig.server.refresh()
    assert (rig.ask(request())[1], rig.ask(request())[12:16]) == (1, b"PPS\0")
    rig.kernel = KernelClock(False, 16_000_000)
    rig.server.refresh()
    answer = rig.ask(request())
    assert (answer[0] >> 6, answer[1], answer[12:16]) == (3, 0, b"INIT")
    assert not rig.server.stats().synchronised


def test_a_clock_that_follows_itself(make):
    rig = make(Standing(local=10))
    rig.kernel = KernelClock(False, 16_000_000)
    rig.server.refresh()
    answer = rig.ask(request())
    assert (answer[0] >> 6, answer[1], answer[12:16]) == (0, 10, bytes([127, 127, 1, 1]))
    assert int.from_bytes(answer[8:12], "big") == 1


def test_reference_time_is_when_the_error_shrank(rig):
    """The kernel lets the error grow by 500 ppm until somebody sets the clock."""
    for error_us, second in ((3500, 0), (4000, 0), (1000, 3), (1500, 3)):
        rig.clock = Clock(HZ, CYCLES, NOW_NS + (second if error_us == 1000 else 9) * 10**9, "test", uncertainty_ns=250)
        rig.kernel = KernelClock(True, error_us)
        rig.server.refresh()
        assert words(rig.ask(request()))[0] == ntp_of(NOW_NS + second * 10**9)


def test_who_asks_too_often(make):
    """RFC 5905 section 7.4: a kiss-o'-death now and then, else nothing; others are not affected."""
    rig = make(interval_s=2, burst=4, slip=3)
    answers = [rig.ask(request(), peer=0x0A000001) for _ in range(10)]
    assert [len(each) if isinstance(each, bytes) else each for each in answers] == [
        48, 48, 48, 48, "rate-limited", "rate-limited", 48, "rate-limited", "rate-limited", 48,
    ]  # fmt: skip
    kiss = NTP(answers[6])
    assert (kiss.leap, kiss.stratum, kiss.mode, kiss.ref_id, kiss.poll) == (3, 0, 4, b"RATE", 7)
    assert set(words(answers[6])) == {ASKED}  # no time in it
    assert len(rig.ask(request(), peer=0x0B000001)) == 48  # a neighbour
    rig.now += 2 * HZ + 1000
    assert rig.ask(request(), peer=0x0A000001)[1] == 3
    stats = rig.server.stats()
    assert (stats.answered, stats.limited, stats.slipped) == (6, 6, 2)


def test_a_sheet_that_is_being_written(rig):
    """The other one counts, whatever is in this."""
    write_bytes(rig.server.address + 64, bytes(64))  # generation 2 is not there yet
    assert words(rig.ask(request()))[3] == ntp_of(NOW_NS)
    write_bytes(rig.server.address, bytes(8))
    assert rig.ask(request()) == "no-time"


@given(st.binary(max_size=200), st.booleans())
def test_hostile(endless, data, client):
    if client and data:
        data = b"\x23" + data[1:]
    answer = endless.ask(data)
    assert endless.ask(data, in_place=True) == answer
    assert answer in DROPS or 48 <= len(answer) <= len(data)


@pytest.mark.parametrize(
    "wrong",
    [lambda: Standing(0), lambda: Standing(16), lambda: Standing(local=16), lambda: Standing(reference="GALILEO"),
     lambda: NtpServer(interval_s=-1), lambda: NtpServer(burst=0), lambda: NtpServer(slip=-1)],
)  # fmt: skip
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ConfigError):
        wrong()
