"""CRC-16 in its usual variants, by the names of the catalogue.

A variant is a polynomial, which end it starts from, what the register holds before the first byte and what is
added after the last. "CRC-16-CCITT" means four different ones, so none is called that here:

    name                 polynomial  reflected  initial  final   check   who
    CRC-16/ARC           0x8005      yes        0        0       0xBB3D  LHA, USB's relatives
    CRC-16/MODBUS        0x8005      yes        0xFFFF   0       0x4B37  Modbus
    CRC-16/IBM-3740      0x1021      no         0xFFFF   0       0x29B1  "CCITT-FALSE", AUTOSAR
    CRC-16/XMODEM        0x1021      no         0        0       0x31C3  XMODEM, CRC-16/ACORN
    CRC-16/KERMIT        0x1021      yes        0        0       0x2189  ITU-T V.41, Bluetooth's kin
    CRC-16/IBM-SDLC      0x1021      yes        0xFFFF   0xFFFF  0x906E  X.25, HDLC, PPP; DPDK's CRC16_CCITT

``check`` is the CRC of the nine characters ``123456789``.

References: G. Cook, "Catalogue of parametrised CRC algorithms" (reveng.sourceforge.io); RFC 1662 appendix C.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.hashes.rows import octets, rows
from wirespeed.jit import crc_steps, inline, kernel, lent, load8, load64, store16

arc_word, arc_byte = crc_steps(0xA001, 16, True)
kermit_word, kermit_byte = crc_steps(0x8408, 16, True)
xmodem_word, xmodem_byte = crc_steps(0x1021, 16, False)


@dataclass(frozen=True)
class Crc16Variant:
    """One line of the catalogue."""

    name: str
    polynomial: int
    reflected: bool
    initial: int
    final: int
    check: int


VARIANTS: dict[str, Crc16Variant] = {
    variant.name: variant
    for variant in (
        Crc16Variant("CRC-16/ARC", 0x8005, True, 0, 0, 0xBB3D),
        Crc16Variant("CRC-16/MODBUS", 0x8005, True, 0xFFFF, 0, 0x4B37),
        Crc16Variant("CRC-16/IBM-3740", 0x1021, False, 0xFFFF, 0, 0x29B1),
        Crc16Variant("CRC-16/XMODEM", 0x1021, False, 0, 0, 0x31C3),
        Crc16Variant("CRC-16/KERMIT", 0x1021, True, 0, 0, 0x2189),
        Crc16Variant("CRC-16/IBM-SDLC", 0x1021, True, 0xFFFF, 0xFFFF, 0x906E),
    )
}
"""What :func:`crc16` knows."""


@inline
def _arc(crc: int, address: int, length: int) -> int:
    for _ in range(length >> 3):
        crc = arc_word(crc, load64(address))
        address += 8
    for _ in range(length & 7):
        crc = arc_byte(crc, load8(address))
        address += 1
    return crc


@inline
def _kermit(crc: int, address: int, length: int) -> int:
    for _ in range(length >> 3):
        crc = kermit_word(crc, load64(address))
        address += 8
    for _ in range(length & 7):
        crc = kermit_byte(crc, load8(address))
        address += 1
    return crc


@inline
def _xmodem(crc: int, address: int, length: int) -> int:
    for _ in range(length >> 3):
        crc = xmodem_word(crc, load64(address))
        address += 8
    for _ in range(length & 7):
        crc = xmodem_byte(crc, load8(address))
        address += 1
    return crc


@inline
def crc16_arc_at(address: int, length: int) -> int:
    """CRC-16/ARC of ``length`` bytes, in a node."""
    return _arc(0, address, length)


@inline
def crc16_modbus_at(address: int, length: int) -> int:
    """CRC-16/MODBUS of ``length`` bytes, in a node."""
    return _arc(0xFFFF, address, length)


@inline
def crc16_ibm_3740_at(address: int, length: int) -> int:
    """CRC-16/IBM-3740 ("CCITT-FALSE") of ``length`` bytes, in a node."""
    return _xmodem(0xFFFF, address, length)


@inline
def crc16_xmodem_at(address: int, length: int) -> int:
    """CRC-16/XMODEM of ``length`` bytes, in a node."""
    return _xmodem(0, address, length)


@inline
def crc16_kermit_at(address: int, length: int) -> int:
    """CRC-16/KERMIT of ``length`` bytes, in a node."""
    return _kermit(0, address, length)


@inline
def crc16_ibm_sdlc_at(address: int, length: int) -> int:
    """CRC-16/IBM-SDLC (X.25, HDLC, PPP) of ``length`` bytes, in a node."""
    return _kermit(0xFFFF, address, length) ^ 0xFFFF


@kernel
def _rows(address: int, count: int, stride: int, length: int, which: int, start: int, final: int, out: int) -> None:
    for i in range(count):
        at = address + i * stride
        if which == 0:
            crc = _arc(start, at, length)
        elif which == 1:
            crc = _kermit(start, at, length)
        else:
            crc = _xmodem(start, at, length)
        store16(out + i * 2, crc ^ final)


def crc16(data: Any, variant: str = "CRC-16/ARC") -> int:
    """The CRC-16 of bytes, or of anything with a buffer, in a variant of the catalogue.

    Raises:
        TableError: no such variant.
    """
    array = octets(data)
    out = np.empty(1, dtype=np.uint16)
    with lent(array, out):
        _rows(array.ctypes.data, 1, 0, len(array), *_parameters(variant), out.ctypes.data)
    return int(out[0])


def crc16_many(keys: Any, variant: str = "CRC-16/ARC") -> NDArray[np.uint16]:
    """The CRC-16 of each row of an array of keys."""
    given = rows(keys)
    out = np.empty(given.count, dtype=np.uint16)
    with lent(given.array, out):
        _rows(given.address, given.count, given.stride, given.length, *_parameters(variant), out.ctypes.data)
    return out


def _parameters(name: str) -> tuple[int, int, int]:
    """(which loop, initial, final)."""
    found = VARIANTS.get(name)
    if found is None:
        raise TableError(f"there is no {name!r}; known are {', '.join(VARIANTS)}")
    which = 0 if found.polynomial == 0x8005 else 1 if found.reflected else 2
    return which, found.initial, found.final


__all__ = [
    "VARIANTS", "Crc16Variant", "crc16", "crc16_arc_at", "crc16_ibm_3740_at", "crc16_ibm_sdlc_at", "crc16_kermit_at",
    "crc16_many", "crc16_modbus_at", "crc16_xmodem_at",
]  # fmt: skip
