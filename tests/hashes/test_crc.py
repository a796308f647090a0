"""CRCs: published check values and vectors, a bitwise model, DPDK's hash, bulk and continued."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.hashes import crc16, crc16_many, crc32c, crc32c_at, crc32c_hash_at, crc32c_hash_many, crc32c_many
from wirespeed.hashes.crc16 import (
    VARIANTS,
    crc16_arc_at,
    crc16_ibm_3740_at,
    crc16_ibm_sdlc_at,
    crc16_kermit_at,
    crc16_modbus_at,
    crc16_xmodem_at,
)
from wirespeed.jit import kernel, write_bytes

anything = st.binary(max_size=80)


def model(data, width, polynomial, reflected, initial, final):
    """Bit by bit, as the catalogue defines them; the polynomial is not reversed."""
    crc, mask = initial, (1 << width) - 1
    for byte in data:
        if reflected:
            byte = int(f"{byte:08b}"[::-1], 2)
        crc ^= byte << width - 8
        for _ in range(8):
            crc = (crc << 1 ^ (polynomial if crc >> width - 1 else 0)) & mask
    return (int(f"{crc:0{width}b}"[::-1], 2) if reflected else crc) ^ final


@kernel
def in_node(address, length, crc, seed):
    return crc32c_at(address, length, crc), crc32c_hash_at(address, length, seed)


@kernel
def in_node_16(address, length):
    return (
        crc16_arc_at(address, length),
        crc16_modbus_at(address, length),
        crc16_ibm_3740_at(address, length),
        crc16_xmodem_at(address, length),
        crc16_kermit_at(address, length),
        crc16_ibm_sdlc_at(address, length),
    )


def test_iscsi_vectors():
    """RFC 3720 appendix B.4; the CRC there is shown as the bytes on the wire, lowest first."""
    assert crc32c(bytes(32)).to_bytes(4, "little").hex() == "aa36918a"
    assert crc32c(b"\xff" * 32).to_bytes(4, "little").hex() == "43aba862"
    assert crc32c(bytes(range(32))).to_bytes(4, "little").hex() == "4e79dd46"
    assert crc32c(bytes(range(31, -1, -1))).to_bytes(4, "little").hex() == "5cdb3f11"
    read = bytes.fromhex(
        "01c0 0000 0000 0000 0000 0000 0000 0000 1400 0000 0000 0400 0000 0014 0000 0018"
        "2800 0000 0000 0000 0200 0000 0000 0000"
    )
    assert crc32c(read).to_bytes(4, "little").hex() == "563a96d9"


def test_dpdk_values():
    """What hash_functions_autotest of DPDK 22.11 (app/test/test_hash_functions.c) expects of rte_hash_crc."""
    key = bytes(range(64))
    sizes = (1, 2, 4, 8, 16, 32, 48, 64, 9, 13, 37, 40)
    for seed, expect in (
        (0, (0x00000000, 0xF26B8303, 0x91545164, 0x06040EB1, 0x9BB99201, 0xCC4C4FE4, 0x14A90993, 0xF8A5DD8C,
             0xCAA1AD0B, 0x7AC1E03E, 0x43F44466, 0x4A11475E)),
        (0xDEADBEEF, (0xBDFD3980, 0x70204542, 0x98CD4C70, 0xD52C702F, 0x41FC0E1C, 0x3905F65C, 0x94BFF47F, 0x1BAB102D,
                      0xF4A2C645, 0xBF441539, 0x789C104F, 0x53028D3E)),
    ):  # fmt: skip
        for size, value in zip(sizes, expect, strict=True):
            row = np.frombuffer(key[:size], dtype=np.uint8).reshape(1, size)
            assert crc32c_hash_many(row, seed).tolist() == [value]


@given(anything, st.integers(0, 80))
def test_crc32c(memory, data, cut):
    expect = model(data, 32, 0x1EDC6F41, True, 0xFFFF_FFFF, 0xFFFF_FFFF)
    assert crc32c(data) == expect
    assert crc32c(data[cut:], crc32c(data[:cut])) == expect
    write_bytes(memory + 1, data)
    assert in_node(memory + 1, len(data), 0, 0)[0] == expect
    assert in_node(memory + 1, len(data), 0, 0xFFFF_FFFF)[1] == expect ^ 0xFFFF_FFFF


@pytest.mark.parametrize("name", VARIANTS)
def test_check_values(name):
    assert crc16(b"123456789", name) == VARIANTS[name].check


@given(anything)
def test_crc16(memory, data):
    expect = [model(data, 16, v.polynomial, v.reflected, v.initial, v.final) for v in VARIANTS.values()]
    assert [crc16(data, name) for name in VARIANTS] == expect
    write_bytes(memory + 3, data)
    assert list(in_node_16(memory + 3, len(data))) == expect


def test_bulk():
    random = np.random.default_rng(3)
    table = random.integers(0, 256, (50, 64), dtype=np.uint8)
    keys = table[:, 5:18]  # rows that are apart, not copied
    assert crc32c_many(keys).tolist() == [crc32c(bytes(row)) for row in keys]
    assert crc16_many(keys, "CRC-16/XMODEM").tolist() == [crc16(bytes(row), "CRC-16/XMODEM") for row in keys]
    numbers = random.integers(-(1 << 62), 1 << 62, 20)
    assert crc32c_many(numbers).tolist() == [crc32c(number.tobytes()) for number in numbers]
    assert crc32c_many(numbers[::-2]).tolist() == [crc32c(number.tobytes()) for number in numbers[::-2]]
    assert crc32c_many(np.zeros((0, 8), dtype=np.uint8)).tolist() == []


def test_what_python_may_give():
    data = bytearray(b"123456789")
    assert crc32c(data) == crc32c(memoryview(data)) == crc32c(np.frombuffer(data, dtype=np.uint8)) == 0xE3069283
    assert crc32c(b"") == 0


def test_bad_input():
    with pytest.raises(TableError, match="str cannot be hashed"):
        crc32c("text")
    with pytest.raises(TableError, match="no 'CRC-16'; known are CRC-16/ARC"):
        crc16(b"", "CRC-16")
    with pytest.raises(TableError, match="3 dimensions"):
        crc32c_many(np.zeros((1, 1, 1)))
    with pytest.raises(TableError, match="object"):
        crc32c_many(["a", None])
