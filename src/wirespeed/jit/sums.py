"""The sum of 32-bit words, by vectors: what the Internet checksum spends its time on.

Per 32 bytes a load, a shift and two additions. With L and H the sums of the low and high halves of the 64-bit
words, ``whole`` is L + H * 2^32 modulo 2^64 and ``high`` is H, so L = whole - H * 2^32, exact because L < 2^64; the
total is L + H. Two additions and a shift for 32 bytes on four vector units are 0.75 cycles: 43 bytes a cycle at best
(Zen 3; loads would allow 64). LLVM makes 16-byte vectors of the same loop written with words, and of those half as
many a cycle, which is why this one is spelled out.
"""

from llvmlite import ir
from numba.core import types

from wirespeed.jit.memory import check, read_bytes
from wirespeed.jit.primitive import i8, i32, i64, pointer, primitive

_BLOCK = 32
_AHEAD = 4  # blocks a turn of the main loop: the loop's own instructions are then one in nine
_vector = ir.VectorType(i64, 4)
_zero = ir.Constant(_vector, [0] * 4)
_half = ir.Constant(_vector, [32] * 4)
_low = ir.Constant(_vector, [0xFFFF_FFFF] * 4)
_bytes = ir.VectorType(i8, _BLOCK)
_no_bytes = ir.Constant(_bytes, [0] * _BLOCK)
_places = ir.Constant(_bytes, list(range(_BLOCK)))


def _add_block(builder: ir.IRBuilder, address: ir.Value, offset: int, sums: list[ir.Value]) -> list[ir.Value]:
    """[whole, high] with one block more."""
    block = builder.load(builder.bitcast(pointer(builder, address, offset), _vector.as_pointer()))
    block.align = 1
    return [builder.add(sums[0], block), builder.add(sums[1], builder.lshr(block, _half))]


def _loop(
    builder: ir.IRBuilder, address: ir.Value, count: ir.Value, blocks: int, sums: list[list[ir.Value]]
) -> tuple[ir.Value, list[list[ir.Value]]]:
    """``count`` turns of ``blocks`` blocks, dealt to the running sums in turn; the address after, and the sums."""
    before = builder.block
    turn, after = builder.append_basic_block("sums.turn"), builder.append_basic_block("sums.after")
    zero, one = ir.Constant(i64, 0), ir.Constant(i64, 1)
    builder.cbranch(builder.icmp_signed(">", count, zero), turn, after)
    builder.position_at_end(turn)
    left, at = builder.phi(i64), builder.phi(i64)
    running = [[builder.phi(_vector) for _ in pair] for pair in sums]
    left.add_incoming(count, before)
    at.add_incoming(address, before)
    made = running
    for block in range(blocks):
        which = block % len(made)
        made = [_add_block(builder, at, block * _BLOCK, pair) if i == which else pair for i, pair in enumerate(made)]
    next_at = builder.add(at, ir.Constant(i64, blocks * _BLOCK))
    next_left = builder.sub(left, one)
    left.add_incoming(next_left, turn)
    at.add_incoming(next_at, turn)
    builder.cbranch(builder.icmp_signed(">", next_left, zero), turn, after)
    builder.position_at_end(after)
    end = builder.phi(i64)
    end.add_incoming(address, before)
    end.add_incoming(next_at, turn)
    results = []
    for pair, phis, values in zip(sums, running, made, strict=True):
        result = []
        for first, phi, value in zip(pair, phis, values, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(value, turn)
            out = builder.phi(_vector)
            out.add_incoming(first, before)
            out.add_incoming(value, turn)
            result.append(out)
        results.append(result)
    return end, results


def _emit(builder: ir.IRBuilder, address: ir.Value, count: ir.Value) -> ir.Value:
    turns = builder.ashr(count, ir.Constant(i64, 2))
    at, sums = _loop(builder, address, turns, _AHEAD, [[_zero, _zero], [_zero, _zero]])
    rest = builder.and_(count, ir.Constant(i64, _AHEAD - 1))
    (even, even_high), (odd, odd_high) = sums
    _, [(whole, high)] = _loop(builder, at, rest, 1, [[builder.add(even, odd), builder.add(even_high, odd_high)]])
    return _across(builder, builder.add(builder.sub(whole, builder.shl(high, _half)), high))


def _across(builder: ir.IRBuilder, lanes: ir.Value) -> ir.Value:
    """The sum of a vector's words."""
    halves = [builder.shuffle_vector(lanes, lanes, ir.Constant(ir.VectorType(i32, 2), [n, n + 1])) for n in (0, 2)]
    pair = builder.add(*halves)
    return builder.add(*(builder.extract_element(pair, ir.Constant(i32, lane)) for lane in (0, 1)))


def _emit_tail(builder: ir.IRBuilder, end: ir.Value, count: ir.Value) -> ir.Value:
    start = builder.sub(end, ir.Constant(i64, _BLOCK))
    window = builder.load(builder.bitcast(pointer(builder, start), _bytes.as_pointer()))
    window.align = 1
    first = builder.trunc(builder.sub(ir.Constant(i64, _BLOCK), count), i8)
    spread = builder.insert_element(ir.Constant(_bytes, ir.Undefined), first, ir.Constant(i32, 0))
    spread = builder.shuffle_vector(spread, spread, ir.Constant(ir.VectorType(i32, _BLOCK), [0] * _BLOCK))
    wanted = builder.icmp_signed(">=", _places, spread)
    words = builder.bitcast(builder.select(wanted, window, _no_bytes), _vector)
    total = _across(builder, builder.add(builder.and_(words, _low), builder.lshr(words, _half)))
    odd = builder.shl(builder.and_(count, ir.Constant(i64, 1)), ir.Constant(i64, 3))
    return builder.shl(total, odd)


@primitive(_emit, types.int64, types.int64, types.int64)
def sum_blocks(address: int, count: int) -> int:
    """The sum of the 32-bit words (little endian) of ``count`` (0 to 2^28) blocks of 32 bytes."""
    if count == 0:
        return 0
    check(address, count * _BLOCK)
    data = memoryview(read_bytes(address, count * _BLOCK)).cast("I")
    return sum(data)


@primitive(_emit_tail, types.int64, types.int64, types.int64)
def sum_tail(end: int, count: int) -> int:
    """What the last ``count`` (0 to 31) bytes before ``end`` add to a total of 32-bit words that began at the first of
    them; a last odd byte is padded with zero. The 32 bytes before ``end`` must be readable: no step depends on how
    many of them count.

    Bytes at odd places count with the two bytes of each 16-bit word exchanged (RFC 1071 section 2 (B)).
    """
    check(end - _BLOCK, _BLOCK)
    data = bytes(_BLOCK - count) + read_bytes(end - count, count)
    return sum(memoryview(data).cast("I")) << 8 * (count & 1)
