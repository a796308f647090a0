"""The memory of a hash table: buckets of eight tags in one cache line, entries of their own that never move.

::

    offset         bytes               what
    0              256                 head (:class:`HashHead`); what writers write is from 128 on
    256            64 * buckets        buckets
    ...            entry * capacity    entries
    ...            4 * capacity        free slots, a stack

    bucket
    0    8 x 16    tags: 16 bits of a key's hash; 0 is a free place
    16   8 x 32    slots: number of the entry; bit 31: this is the key's second bucket
    48   64        state: version (44 bits), overflow (20 bits)
    56   64        lock, when there are many writers

    entry
    0    8         value
    8    8 * n     key, padded with zeros to words
    ...            what a flow table or a record of the user's adds

Bucketised cuckoo hashing (Pagh and Rodler, "Cuckoo hashing", 2001; Li et al., "Algorithmic improvements for fast
concurrent cuckoo hashing", EuroSys 2014; the shape of a bucket is that of DPDK's rte_hash). A key may be in two
buckets. The first is the hash scaled to the number of buckets; the two add up to a number made from the tag (modulo
the number of buckets), so each follows from the other and the tag without the key, and the number of buckets need not
be a power of two.
``overflow`` counts the keys whose first bucket this is and which are in their second: while it is 0, who does not
find a key here need not look there, so most lookups of absent keys, and most additions, touch one bucket.

**Readers take no lock and write nothing.** A reader reads a bucket's state, searches, and reads the state again:

- each deletion changes the state of the bucket that held the key, so a reader that found an entry and sees the same
  state after it read the value knows that the entry was that key's all the time: its slot cannot have been reused;
- a key that moves between its buckets is put in the new one first, then the state of its *first* bucket changes, then
  it is taken from the old one. A reader that found nothing in both and sees the first one's state unchanged has not
  missed it.

Otherwise it looks again. Each repetition means that a writer got something done in between, so readers cannot wait
for each other. x86-64 keeps loads in order and stores in order; the acquire loads hold the compiler to it.

**Writers** are one, or many with a lock in each bucket: who changes a key's places holds the locks of both its
buckets, the lower one taken first.
"""
# mypy: allow-untyped-calls, allow-untyped-defs, no-warn-return-any

from wirespeed.jit import (
    Local,
    View,
    cold,
    compare_exchange,
    fetch_add,
    inline,
    le64,
    load16,
    load32,
    load64,
    load_acquire,
    match16,
    multiply_fold,
    pause,
    prefetch,
    shift_right,
    store32,
    store64,
    store_release,
    store_release16,
    trailing_zeros,
    word,
)
from wirespeed.jit.libc import poll

HEAD_BYTES: int = 256
BUCKET_BYTES: int = 64
PLACES: int = 8
"""Places in a bucket."""
KEY: int = 8
"""Offset of the key in an entry."""
MAX_WORDS: int = 8

SLOTS: int = 16
"""Offset of the slots in a bucket."""
_STATE = 48
_LOCK = 56
SECOND: int = 1 << 31
_VERSION = 1 << 20
_OVERFLOW = _VERSION - 1
_DEEPEST = 4  # moves to make room; two suffice nearly always, also at 95 %
_ROUNDS = 64  # how often many writers may take the room made for another
_SPINS = 4096  # pauses before a waiting thread sleeps


class HashHead(View):
    """The first line of the memory, and the line that writers write."""

    buckets = le64(0, "how many")
    capacity = le64(8, "keys it may hold")
    entry_bytes = le64(16, "from one entry to the next")
    many = le64(24, "1: many writers")
    entries = le64(32, "offset of the entries")
    stack = le64(40, "offset of the stack of free slots")
    idle = le64(48, "flow tables: how long a flow may be silent")
    words = le64(56, "of a key")
    secret0 = le64(64)
    secret1 = le64(72)
    secret2 = le64(80)
    secret3 = le64(88)
    secret4 = le64(96)
    fresh = le64(128, "slots that have been used at all")
    spare = le64(136, "slots on the stack")
    stack_lock = le64(144)
    retired = le64(152, "slots that wait for a grace period")
    displaced = le64(160, "keys moved to their other bucket")
    refused = le64(168, "additions for which there was no place")
    evicted = le64(176, "flows that gave way to a new one")
    expired = le64(184, "flows that were silent too long")
    cursor = le64(192, "bucket that the next sweep starts at")
    SIZE = HEAD_BYTES


_STACK_LOCK: int = HashHead.stack_lock.offset
_DISPLACED: int = HashHead.displaced.offset
_REFUSED: int = HashHead.refused.offset
_SECRETS: int = HashHead.secret0.offset


class KeyWords(Local):
    """A key in registers: as many words as it has, least significant byte first, the last padded with zeros."""

    w0 = word()
    w1 = word()
    w2 = word()
    w3 = word()
    w4 = word()
    w5 = word()
    w6 = word()
    w7 = word()

    # ``words`` is a constant wherever these are called, so that of the conditions nothing is left.

    def load(self, address: int, words: int) -> None:
        """Take the key from memory, ``8 * words`` bytes."""
        self.w0 = load64(address)
        if words > 1:
            self.w1 = load64(address + 8)
        if words > 2:
            self.w2 = load64(address + 16)
        if words > 3:
            self.w3 = load64(address + 24)
        if words > 4:
            self.w4 = load64(address + 32)
        if words > 5:
            self.w5 = load64(address + 40)
        if words > 6:
            self.w6 = load64(address + 48)
        if words > 7:
            self.w7 = load64(address + 56)

    def store(self, address: int, words: int) -> None:
        """Put it into memory."""
        store64(address, self.w0)
        if words > 1:
            store64(address + 8, self.w1)
        if words > 2:
            store64(address + 16, self.w2)
        if words > 3:
            store64(address + 24, self.w3)
        if words > 4:
            store64(address + 32, self.w4)
        if words > 5:
            store64(address + 40, self.w5)
        if words > 6:
            store64(address + 48, self.w6)
        if words > 7:
            store64(address + 56, self.w7)

    def differs(self, address: int, words: int) -> int:
        """0 if the key in memory is the same."""
        bits = load64(address) ^ self.w0
        if words > 1:
            bits |= load64(address + 8) ^ self.w1
        if words > 2:
            bits |= load64(address + 16) ^ self.w2
        if words > 3:
            bits |= load64(address + 24) ^ self.w3
        if words > 4:
            bits |= load64(address + 32) ^ self.w4
        if words > 5:
            bits |= load64(address + 40) ^ self.w5
        if words > 6:
            bits |= load64(address + 48) ^ self.w6
        if words > 7:
            bits |= load64(address + 56) ^ self.w7
        return bits

    def hash(self, table: int, words: int) -> int:
        """The key's hash with the table's secrets: 64 bits, of which the top choose the bucket, the low the tag.

        Two words a multiplication, each masked with a secret first (wyhash's construction), and one more at the
        end. Who does not know the secrets cannot choose keys that collide.
        """
        secret = table + _SECRETS
        h = load64(secret)
        if words > 1:
            h = multiply_fold(self.w1 ^ h, self.w0 ^ load64(secret + 8))
        else:
            h = multiply_fold(self.w0 ^ h, load64(secret + 8))
        if words > 3:
            h = multiply_fold(self.w3 ^ h, self.w2 ^ load64(secret + 16))
        elif words > 2:
            h = multiply_fold(self.w2 ^ h, load64(secret + 16))
        if words > 5:
            h = multiply_fold(self.w5 ^ h, self.w4 ^ load64(secret + 24))
        elif words > 4:
            h = multiply_fold(self.w4 ^ h, load64(secret + 24))
        if words > 7:
            h = multiply_fold(self.w7 ^ h, self.w6 ^ load64(secret + 32))
        elif words > 6:
            h = multiply_fold(self.w6 ^ h, load64(secret + 32))
        return multiply_fold(h, load64(secret + 8) | 1)


# Where a key may be ------------------------------------------------------------------------------------------


@inline
def tag_of(hash: int) -> int:
    """The 16 bits a bucket keeps of a hash; never 0."""
    tag = hash & 0xFFFF
    return tag if tag != 0 else 1


@inline
def first_bucket(table: int, hash: int) -> int:
    """Address of a key's first bucket."""
    return table + HEAD_BYTES + ((shift_right(hash, 32) * HashHead(table).buckets) >> 32 << 6)


@inline
def other_bucket(table: int, bucket: int, tag: int) -> int:
    """Address of the other bucket of a key with this tag; its own inverse.

    The numbers of a key's two buckets add up to an odd number, modulo their even count: never is one both.
    """
    buckets = HashHead(table).buckets
    total = (((tag * 0x9E3779B1) & 0xFFFF_FFFF) * (buckets >> 1)) >> 31 | 1
    index = total - ((bucket - table - HEAD_BYTES) >> 6)
    if index < 0:
        index += buckets
    return table + HEAD_BYTES + (index << 6)


@inline
def overflows(bucket: int) -> bool:
    """Whether keys whose first bucket this is are in their second."""
    return load_acquire(bucket + _STATE) & _OVERFLOW != 0


@inline
def entry_of(table: int, slot: int) -> int:
    """Address of an entry."""
    head = HashHead(table)
    return table + head.entries + slot * head.entry_bytes


# Reading -----------------------------------------------------------------------------------------------------


@inline
def _probe(table, bucket, tag, key, words):
    """(place, slot) of the key in this bucket; (-1, -1) if it is not there."""
    hits = match16(bucket, tag)
    while hits != 0:
        place = trailing_zeros(hits)
        slot = load32(bucket + SLOTS + (place << 2)) & (SECOND - 1)
        if key.differs(entry_of(table, slot) + KEY, words) == 0:
            return place, slot
        hits &= hits - 1
    return -1, -1


@inline
def search(table, hash, key, words):
    """(bucket + place, slot, value) of a key; slot is -1 if it is not there. For readers beside writers, too."""
    tag = tag_of(hash)
    first = first_bucket(table, hash)
    while True:
        state = load_acquire(first + _STATE)
        place, slot = _probe(table, first, tag, key, words)
        if slot >= 0:
            value = load64(entry_of(table, slot))
            if load_acquire(first + _STATE) == state:
                return first + place, slot, value
        elif state & _OVERFLOW == 0:
            if load_acquire(first + _STATE) == state:
                return 0, -1, 0
        else:
            second = other_bucket(table, first, tag)
            state_there = load_acquire(second + _STATE)
            place, slot = _probe(table, second, tag, key, words)
            if slot >= 0:
                value = load64(entry_of(table, slot))
                if load_acquire(second + _STATE) == state_there:
                    return second + place, slot, value
            elif load_acquire(first + _STATE) == state:
                return 0, -1, 0


@inline
def prefetch_entry(table, hash, words):
    """Ask for the entry that a search will compare with, or for the second bucket; the first bucket should be here."""
    bucket = first_bucket(table, hash)
    tag = tag_of(hash)
    hits = match16(bucket, tag)
    if hits != 0:
        entry = entry_of(table, load32(bucket + SLOTS + (trailing_zeros(hits) << 2)) & (SECOND - 1))
        prefetch(entry)
        if words > 7:
            prefetch(entry + 64)
    elif overflows(bucket):
        prefetch(other_bucket(table, bucket, tag))


# Slots and locks ---------------------------------------------------------------------------------------------


@cold
def _acquire(lock: int) -> None:
    spins = 0
    while compare_exchange(lock, 0, 1) == 0:
        spins += 1
        if spins < _SPINS:
            pause()
        else:
            poll(0, 0, 1)  # who holds it lost its core: leave it ours


@cold
def lock_pair(first: int, second: int) -> None:
    """Lock two buckets, the lower one first."""
    _acquire((first if first < second else second) + _LOCK)
    _acquire((second if first < second else first) + _LOCK)


@inline
def unlock_pair(first: int, second: int) -> None:
    """Unlock them."""
    store_release(first + _LOCK, 0)
    store_release(second + _LOCK, 0)


@inline
def count_up(table: int, counter: int) -> None:
    """Count in the head, at offset ``counter``, also beside other writers."""
    if HashHead(table).many != 0:
        fetch_add(table + counter, 1)
    else:
        store64(table + counter, load64(table + counter) + 1)


@inline
def take_slot(table: int) -> int:
    """A free slot, or -1."""
    head = HashHead(table)
    if head.many != 0:
        _acquire(table + _STACK_LOCK)
    slot = -1
    spare = head.spare
    if spare > 0:
        head.spare = spare - 1
        slot = load32(table + head.stack + ((spare - 1) << 2))
    elif head.fresh < head.capacity:
        slot = head.fresh
        head.fresh = slot + 1
    if head.many != 0:
        store_release(table + _STACK_LOCK, 0)
    return slot


@inline
def give_slot(table: int, slot: int) -> None:
    """Put a slot back."""
    head = HashHead(table)
    if head.many != 0:
        _acquire(table + _STACK_LOCK)
    store32(table + head.stack + (head.spare << 2), slot)
    head.spare += 1
    if head.many != 0:
        store_release(table + _STACK_LOCK, 0)


# Changing ----------------------------------------------------------------------------------------------------


@inline
def _change_state(bucket: int, overflow: int) -> None:
    store_release(bucket + _STATE, load64(bucket + _STATE) + _VERSION + overflow)


@inline
def _put(bucket: int, free: int, tag: int, slot: int) -> None:
    """Fill the lowest of the ``free`` places; readers see the tag last."""
    place = trailing_zeros(free)
    store32(bucket + SLOTS + (place << 2), slot)
    store_release16(bucket + (place << 1), tag)


@inline
def insert(table, hash, key, words, value, extra, stamp):
    """The slot of a new key that :func:`search` has not found (under its locks), or -1: no slot or place is free.

    ``extra`` is how many words follow the key in an entry: the first becomes ``stamp``, the others 0.
    """
    slot = take_slot(table)
    if slot < 0:
        count_up(table, _REFUSED)
        return -1
    entry = entry_of(table, slot)
    store64(entry, value)
    key.store(entry + KEY, words)
    for i in range(extra):
        store64(entry + KEY + (words + i) * 8, stamp if i == 0 else 0)
    tag = tag_of(hash)
    first = first_bucket(table, hash)
    free = match16(first, 0)
    if free != 0:
        _put(first, free, tag, slot)
        return slot
    return _settle(table, hash, slot, words)


@inline
def add(table, hash, key, words, value, extra):
    """The slot of a key that now has this value, or -1: there is no place for it."""
    many = HashHead(table).many
    first = second = 0
    if many != 0:
        first = first_bucket(table, hash)
        second = other_bucket(table, first, tag_of(hash))
        lock_pair(first, second)
    _, slot, _ = search(table, hash, key, words)
    if slot >= 0:
        store64(entry_of(table, slot), value)
    else:
        slot = insert(table, hash, key, words, value, extra, 0)
    if many != 0:
        unlock_pair(first, second)
    return slot


@inline
def delete(table, hash, key, words, keep):
    """Delete a key; its slot, or -1. With ``keep`` the slot is not free yet: the caller gives it back."""
    many = HashHead(table).many
    first = second = 0
    if many != 0:
        first = first_bucket(table, hash)
        second = other_bucket(table, first, tag_of(hash))
        lock_pair(first, second)
    at, slot, _ = search(table, hash, key, words)
    if slot >= 0:
        remove(table, at & -BUCKET_BYTES, at & (BUCKET_BYTES - 1))
        if keep == 0:
            give_slot(table, slot)
    if many != 0:
        unlock_pair(first, second)
    return slot


@inline
def remove(table: int, bucket: int, place: int) -> None:
    """Empty a place; under the locks of the key's two buckets. The slot is the caller's."""
    tag = load16(bucket + (place << 1))
    store_release16(bucket + (place << 1), 0)
    _change_state(bucket, 0)
    if load32(bucket + SLOTS + (place << 2)) & SECOND != 0:
        _change_state(other_bucket(table, bucket, tag), -1)


@cold
def _settle(table, hash, slot, words):
    """Find a place for an entry that is written, where its first bucket is full; its slot, or -1 (given back).

    With many writers it is called and returns with both buckets locked, and lets go of them while it makes room: the
    key may then have been added by somebody else, whose slot it returns.
    """
    tag = tag_of(hash)
    first = first_bucket(table, hash)
    second = other_bucket(table, first, tag)
    many = HashHead(table).many
    for _ in range(_ROUNDS):
        if put_in(table, first, second, tag, slot):
            return slot
        if many != 0:
            unlock_pair(first, second)
        made = make_room(table, first, second)
        if many != 0:
            lock_pair(first, second)
            known = _same_key(table, first, second, tag, slot, words)
            if known >= 0:
                store64(entry_of(table, known), load64(entry_of(table, slot)))
                give_slot(table, slot)
                return known
        if made == 0:
            break
    if put_in(table, first, second, tag, slot):
        return slot
    give_slot(table, slot)
    count_up(table, _REFUSED)
    return -1


@inline
def put_in(table, first, second, tag, slot):
    """Put an entry in a free place of its buckets; False if there is none."""
    free = match16(first, 0)
    if free != 0:
        _put(first, free, tag, slot)
        return True
    free = match16(second, 0)
    if free != 0:
        _change_state(first, 1)
        _put(second, free, tag, slot | SECOND)
        return True
    return False


@inline
def _same_key(table, first, second, tag, slot, words):
    """The slot of another entry with the key of this one, or -1; under the locks."""
    mine = entry_of(table, slot) + KEY
    bucket = first
    for _ in range(2):
        hits = match16(bucket, tag)
        while hits != 0:
            other = load32(bucket + SLOTS + (trailing_zeros(hits) << 2)) & (SECOND - 1)
            theirs = entry_of(table, other) + KEY
            differs = 0
            for i in range(words):
                differs |= load64(mine + i * 8) ^ load64(theirs + i * 8)
            if differs == 0:
                return other
            hits &= hits - 1
        bucket = second
    return -1


# Making room -------------------------------------------------------------------------------------------------


@inline
def _follow(table, root, path, steps):
    """The bucket that ``steps`` keys of a path lead to: three bits of it name the place of each; 0: one is gone."""
    bucket = root
    for step in range(steps):
        tag = load16(bucket + (((path >> (3 * step)) & 7) << 1))
        if tag == 0:
            return 0
        bucket = other_bucket(table, bucket, tag)
    return bucket


@inline
def _move(table, bucket, place):
    """Move a key to its other bucket; 1, or 0: it is gone, or there is no room."""
    tag = load16(bucket + (place << 1))
    if tag == 0:
        return 0
    to = other_bucket(table, bucket, tag)
    many = HashHead(table).many
    if many != 0:
        lock_pair(bucket, to)
    moved = 0
    free = match16(to, 0)
    if free != 0 and load16(bucket + (place << 1)) == tag:
        slot = load32(bucket + SLOTS + (place << 2))
        # The order that readers rely on: first the new place, then the first bucket's state, then the old place.
        _put(to, free, tag, slot ^ SECOND)
        if slot & SECOND != 0:
            _change_state(to, -1)
        else:
            _change_state(bucket, 1)
        store_release16(bucket + (place << 1), 0)
        moved = 1
    if many != 0:
        unlock_pair(bucket, to)
    if moved != 0:
        count_up(table, _DISPLACED)
    return moved


@cold
def make_room(table, first, second):
    """Free a place in one of two full buckets by moving keys; 1, or 0: no way of up to four moves leads to one.

    Breadth first: all ways of one move, then of two... A way is a number, three bits for the place of each key on
    it, so there is no queue to keep. It is walked back from its end, each move by itself leaving the table right.
    """
    for moves in range(1, _DEEPEST + 1):
        for path in range(1 << (3 * moves)):
            for root in (first, second):
                if match16(root, 0) != 0:
                    return 1
                end = _follow(table, root, path, moves)
                if end != 0 and match16(end, 0) != 0:
                    step = moves
                    good = 1
                    while step > 0 and good != 0:
                        step -= 1
                        bucket = _follow(table, root, path, step)
                        good = 0 if bucket == 0 else _move(table, bucket, (path >> (3 * step)) & 7)
                    if good != 0:
                        return 1
    return 0
