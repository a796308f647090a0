"""hashes: functions of bytes that need no memory of their own: hashes and checksums.

Each comes in three forms, by one name::

    crc32c(data)                    from Python: bytes, bytearray, memoryview, arrays
    crc32c_many(keys)               from Python: one for each row of an array, by one call
    crc32c_at(address, length)      in nodes and kernels, inlined

    what                     bits  for
    crc32c                   32    checksums of iSCSI and SCTP; as ``crc32c_hash``, DPDK's rte_hash_crc: the fastest
    crc16                    16    the variants of the catalogue (HDLC, Modbus, XMODEM, ...)
    xxhash64                 64    well mixed, any length, the same everywhere
    siphash24                64    with a secret key: for keys that strangers choose
    checksum                 16    the Internet checksum, and its incremental update

The Toeplitz hash has tables of its own and is in :mod:`wirespeed.tables.toeplitz`.
"""

from wirespeed.hashes.crc16 import crc16, crc16_many
from wirespeed.hashes.crc32c import crc32c, crc32c_at, crc32c_hash_at, crc32c_hash_many, crc32c_many
from wirespeed.hashes.internet import checksum, checksum_at, checksum_many, update16, update32, update64
from wirespeed.hashes.siphash import siphash24, siphash24_at, siphash24_many, siphash_key
from wirespeed.hashes.xxhash64 import xxhash64, xxhash64_at, xxhash64_many

__all__ = [
    "checksum", "checksum_at", "checksum_many", "crc16", "crc16_many", "crc32c", "crc32c_at", "crc32c_hash_at",
    "crc32c_hash_many", "crc32c_many", "siphash24", "siphash24_at", "siphash24_many", "siphash_key", "update16",
    "update32", "update64", "xxhash64", "xxhash64_at", "xxhash64_many",
]  # fmt: skip
