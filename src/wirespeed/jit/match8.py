"""Eight access rules against one packet, in vector registers.

A block holds eight rules column by column, so that each comparison is one 32-byte instruction for all of them::

    IPv4, 256 bytes                            IPv6, 640 bytes
    offset  bytes                              offset  bytes
    0       8 * 4   source address             0       4 * 8 * 8  words of the addresses: source high and low,
    32      8 * 4   its mask                                      destination high and low, eight of each
    64      8 * 4   destination address        256     4 * 8 * 8  their masks
    96      8 * 4   its mask
    128     8 * 4   lowest ports               512     8 * 4      lowest ports
    160     8 * 4   highest ports              544     8 * 4      highest ports
    192     8       protocol                   576     8          protocol
    200     8       its mask                   584     8          its mask
    208     48      the caller's               592     48         the caller's

    ports (32 bits): source << 16 | destination

A field of a rule misses where ``(packet ^ value) & mask`` is not zero, or where a port is below the lowest or above
the highest (the saturating differences ``lowest - port`` and ``port - highest`` are not zero). The misses of all
fields are or-ed; a lane that stays zero matches. LLVM makes AVX2 of it where there is AVX2, and SSE where not.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.memory import check, load8, load16, load32, load64
from wirespeed.jit.primitive import i8, i16, i32, i64, intrinsic, pointer, primitive

V4_BYTES, V4_PORTS, V4_FREE = 256, 128, 208
V6_BYTES, V6_PORTS, V6_FREE = 640, 512, 592

_LANES = 8
_U64 = 0xFFFF_FFFF_FFFF_FFFF


def _vector(builder: ir.IRBuilder, address: ir.Value, offset: int, element: ir.Type, count: int) -> ir.Value:
    kind = ir.VectorType(element, count)
    value = builder.load(builder.bitcast(pointer(builder, address, offset), kind.as_pointer()))
    value.align = 8
    return value


def _spread(builder: ir.IRBuilder, scalar: ir.Value, count: int) -> ir.Value:
    """``scalar`` in each of ``count`` lanes."""
    kind = ir.VectorType(scalar.type, count)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(i32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(i32, count), [0] * count))


def _ports_and_protocol(
    builder: ir.IRBuilder, block: ir.Value, at: int, ports: ir.Value, protocol: ir.Value
) -> ir.Value:
    """Eight lanes of 32 bits, zero where ports and protocol fit."""
    halves = ir.VectorType(i16, 16)
    lanes = ir.VectorType(i32, _LANES)
    below = intrinsic(builder, "llvm.usub.sat.v16i16", halves, [halves, halves])
    both = builder.bitcast(_spread(builder, builder.trunc(ports, i32), _LANES), halves)
    low = builder.call(below, [_vector(builder, block, at, i16, 16), both])
    high = builder.call(below, [both, _vector(builder, block, at + 32, i16, 16)])
    kind = _spread(builder, builder.trunc(protocol, i8), _LANES)
    odd = builder.xor(kind, _vector(builder, block, at + 64, i8, _LANES))
    odd = builder.zext(builder.and_(odd, _vector(builder, block, at + 72, i8, _LANES)), lanes)
    return builder.or_(builder.bitcast(builder.or_(low, high), lanes), odd)


def _zeros(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """A bit for each lane that is zero."""
    zero = builder.icmp_unsigned("==", vector, ir.Constant(vector.type, [0] * vector.type.count))
    return builder.zext(builder.bitcast(zero, ir.IntType(vector.type.count)), i64)


def _emit_v4(
    builder: ir.IRBuilder, block: ir.Value, src: ir.Value, dst: ir.Value, ports: ir.Value, protocol: ir.Value
) -> ir.Value:
    odd = _ports_and_protocol(builder, block, V4_PORTS, ports, protocol)
    for word, at in ((src, 0), (dst, 64)):
        differ = builder.xor(_spread(builder, builder.trunc(word, i32), _LANES), _vector(builder, block, at, i32, 8))
        odd = builder.or_(odd, builder.and_(differ, _vector(builder, block, at + 32, i32, 8)))
    return _zeros(builder, odd)


def _emit_v6(builder: ir.IRBuilder, block: ir.Value, *packet: ir.Value) -> ir.Value:
    *words, ports, protocol = packet
    found = _zeros(builder, _ports_and_protocol(builder, block, V6_PORTS, ports, protocol))
    halves = []
    for half in (0, 32):
        odd = ir.Constant(ir.VectorType(i64, 4), [0] * 4)
        for index, word in enumerate(words):
            at = index * 64 + half
            differ = builder.xor(_spread(builder, word, 4), _vector(builder, block, at, i64, 4))
            odd = builder.or_(odd, builder.and_(differ, _vector(builder, block, at + 256, i64, 4)))
        halves.append(_zeros(builder, odd))
    return builder.and_(found, builder.or_(halves[0], builder.shl(halves[1], ir.Constant(i64, 4))))


def _other_fields(block: int, lane: int, ports: int, protocol: int) -> bool:
    for shift in (0, 16):
        at, port = block + lane * 4 + shift // 8, ports >> shift & 0xFFFF
        if not load16(at) <= port <= load16(at + 32):
            return False
    return (protocol ^ load8(block + 64 + lane)) & load8(block + 72 + lane) == 0


@primitive(_emit_v4, types.int64, *[types.int64] * 5)
def match8_v4(block: int, src: int, dst: int, ports: int, protocol: int) -> int:
    """Which of the eight IPv4 rules of ``block`` match: bit n for rule n.

    Args:
        block: address of it, a multiple of 8.
        src, dst: the low 32 bits count.
        ports: source << 16 | destination.
        protocol: the low 8 bits count.
    """
    check(block, V4_BYTES)
    found = 0
    for lane in range(_LANES):
        at = block + lane * 4
        if (src ^ load32(at)) & load32(at + 32) or (dst ^ load32(at + 64)) & load32(at + 96):
            continue
        found |= _other_fields(block + V4_PORTS, lane, ports, protocol) << lane
    return found


@primitive(_emit_v6, types.int64, *[types.int64] * 7)
def match8_v6(block: int, src_high: int, src_low: int, dst_high: int, dst_low: int, ports: int, protocol: int) -> int:
    """Which of the eight IPv6 rules of ``block`` match: bit n for rule n. Arguments as :func:`match8_v4`."""
    check(block, V6_BYTES)
    found = 0
    words = (src_high, src_low, dst_high, dst_low)
    for lane in range(_LANES):
        places = [block + index * 64 + lane * 8 for index in range(4)]
        if any((word ^ load64(at)) & load64(at + 256) & _U64 for word, at in zip(words, places, strict=True)):
            continue
        found |= _other_fields(block + V6_PORTS, lane, ports, protocol) << lane
    return found


__all__: list[Any] = ["V4_BYTES", "V4_FREE", "V4_PORTS", "V6_BYTES", "V6_FREE", "V6_PORTS", "match8_v4", "match8_v6"]
