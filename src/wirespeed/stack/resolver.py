"""A stub resolver for the control side: names to addresses, by asyncio, over any transport (RFC 1034 section 5.3.1).

::

    resolve(name, "A") -> a literal, localhost, the hosts given -> the cache -> a question under way -> the servers
                                                                                       round 1, round 2: each in turn

The transport is an async callable, ``await send(server, payload) -> payload``: it sends one datagram from a source port
that nobody can guess, a new one each time (RFC 5452 section 4.5; with the number that is 32 bits to guess), to that
server's address, and gives back the first datagram that comes from there to that port. Timeouts are applied here. Over
the kernel that is :func:`~wirespeed.stack.resolver_kernel.ask_kernel`.

What is remembered is bounded (the least recently used goes), as are questions under way; equal questions wait for one
answer. That a name does not exist is remembered as the SOA says (RFC 2308), that servers fail for FAILED_S (RFC 9520).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random, SystemRandom

from wirespeed.stack.dns_answer import (
    ALIASES_MAX,
    Answer,
    BadAnswer,
    IpAddress,
    NoSuchName,
    Question,
    ResolveError,
    Truncated,
)

Send = Callable[[IpAddress, bytes], Awaitable[bytes]]

TIMEOUT_S: float = 2.0
ROUNDS: int = 2
FAILED_S: float = 5.0
UNDER_WAY_MAX: int = 256
_LOCAL: dict[str, IpAddress] = {"A": IPv4Address("127.0.0.1"), "AAAA": IPv6Address("::1")}
_VERSION = {"A": 4, "AAAA": 6}


@dataclass(slots=True)
class ResolverStats:
    """What happened since the start."""

    questions: int = 0
    cached: int = 0
    shared: int = 0
    sent: int = 0
    timeouts: int = 0
    bad_answers: int = 0
    evicted: int = 0


@dataclass(slots=True)
class _Kept:
    answer: Answer | str
    until_s: float


class Resolver:
    """Resolves names.

    Args:
        send: the transport, for datagrams.
        servers: addresses of recursive servers, asked in this order.
        hosts: addresses of names that are known.
        search: domains tried for names with fewer dots than ``dots``.
        stream: the transport for answers that do not fit a datagram (RFC 7766); without it they are no use.
        timeout_s: for each try.
        rounds: how often each server is tried.
        limit: answers remembered.
        now: the clock, in seconds; that of the event loop by default.
        random: for the questions' numbers; the system's by default.
    """

    def __init__(
        self,
        send: Send,
        servers: Iterable[IpAddress] = (),
        hosts: Mapping[str, Iterable[IpAddress]] | None = None,
        search: Iterable[str] = (),
        dots: int = 1,
        stream: Send | None = None,
        timeout_s: float = TIMEOUT_S,
        rounds: int = ROUNDS,
        limit: int = 1024,
        now: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        self.servers = tuple(servers)
        """May be set anew: a lease brought others."""
        self.search = tuple(search)
        self.stats = ResolverStats()
        self._send, self._stream = send, stream
        self._hosts = {_plain(name): tuple(addresses) for name, addresses in (hosts or {}).items()}
        self._dots, self._timeout_s, self._rounds, self._limit = dots, timeout_s, rounds, limit
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._random = random or SystemRandom()
        self._cache: OrderedDict[Question, _Kept] = OrderedDict()
        self._under_way: dict[Question, asyncio.Task[Answer]] = {}

    async def addresses(self, name: str) -> tuple[IpAddress, ...]:
        """All addresses of a name, IPv6 first; both questions at once.

        Raises:
            NoSuchName: it does not exist, or has no address.
            ResolveError: nobody could tell.
        """
        found = await asyncio.gather(self.resolve(name, "AAAA"), self.resolve(name, "A"), return_exceptions=True)
        addresses = tuple(address for each in found if not isinstance(each, BaseException) for address in each)
        if addresses:
            return addresses
        failed = [each for each in found if isinstance(each, BaseException)]
        raise failed[0] if failed else NoSuchName(f"{name}: the name exists, but it has no address")

    async def resolve(self, name: str, kind: str = "A") -> tuple[IpAddress, ...]:
        """The addresses of one type; none if the name exists without any.

        Args:
            name: with or without the last dot; with it, no search domain is tried.
            kind: "A" or "AAAA".

        Raises:
            NoSuchName: it does not exist.
            ResolveError: it is no name, or nobody could tell.
        """
        if kind not in _VERSION:
            raise ResolveError(f"type {kind!r}: A and AAAA are resolved")
        self.stats.questions += 1
        literal = _literal(name)
        if literal is not None:
            return (literal,) if literal.version == _VERSION[kind] else ()
        missing: NoSuchName | None = None
        for candidate in self._candidates(name):
            known = self._known(candidate, kind)
            if known is not None:
                return known
            try:
                return await self._chain(candidate, kind)
            except NoSuchName as error:
                missing = missing or error
        raise missing or ResolveError("an empty name")

    def forget(self) -> None:
        """Forget all answers: the network is another."""
        self._cache.clear()

    def _candidates(self, name: str) -> list[str]:
        """As resolv.conf(5) has it: names with enough dots as they are first, others last."""
        plain = _plain(name)
        if not plain or name.endswith("."):
            return [plain] if plain else []
        longer = [f"{plain}.{_plain(domain)}" for domain in self.search]
        return [plain, *longer] if plain.count(".") >= self._dots else [*longer, plain]

    def _known(self, name: str, kind: str) -> tuple[IpAddress, ...] | None:
        if name in self._hosts:
            return tuple(address for address in self._hosts[name] if address.version == _VERSION[kind])
        last = name.rpartition(".")[2]
        if last == "localhost":  # RFC 6761 section 6.3: never asked for
            return (_LOCAL[kind],)
        if last == "invalid":  # section 6.4
            raise NoSuchName(f"{name}: .invalid has no names (RFC 6761)")
        return None

    async def _chain(self, name: str, kind: str) -> tuple[IpAddress, ...]:
        """Follow aliases whose end the server did not say."""
        at = name
        for _ in range(ALIASES_MAX):
            answer = await self._answer(Question(at, kind))
            if not answer.exists:
                raise NoSuchName(f"{name}: there is no such name")
            if not answer.alias:
                return answer.addresses
            at = answer.alias
        raise ResolveError(f"{name}: more than {ALIASES_MAX} aliases")

    # Cache and questions under way --------------------------------------------------------------------------

    async def _answer(self, question: Question) -> Answer:
        kept = self._cache.get(question)
        if kept is not None and kept.until_s > self._now():
            self.stats.cached += 1
            self._cache.move_to_end(question)
            if isinstance(kept.answer, str):
                raise ResolveError(kept.answer)
            return kept.answer
        task = self._under_way.get(question)
        if task is None:
            if len(self._under_way) >= UNDER_WAY_MAX:
                raise ResolveError(f"{question.name}: {UNDER_WAY_MAX} questions are under way already")
            task = asyncio.create_task(self._ask(question))
            self._under_way[question] = task
            task.add_done_callback(lambda done: self._done(question, done))
        else:
            self.stats.shared += 1
        # Who gives up waiting must not take the answer from the others.
        return await asyncio.shield(task)

    def _done(self, question: Question, task: "asyncio.Task[Answer]") -> None:
        self._under_way.pop(question, None)
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits any more

    def _keep(self, question: Question, answer: Answer | str, seconds: float) -> None:
        if seconds <= 0:
            return
        self._cache[question] = _Kept(answer, self._now() + seconds)
        self._cache.move_to_end(question)
        while len(self._cache) > self._limit:
            self._cache.popitem(last=False)
            self.stats.evicted += 1

    async def _ask(self, question: Question) -> Answer:
        """Ask the servers, each in turn, ``rounds`` times."""
        question.encode(self._random)  # no name: said before anybody is asked
        said = "no DNS server is known"
        for _ in range(self._rounds):
            for server in self.servers:
                try:
                    answer = await self._ask_one(server, question)
                except (BadAnswer, OSError) as error:
                    self.stats.bad_answers += 1
                    said = f"{server}: {error}"
                    continue
                except TimeoutError:
                    self.stats.timeouts += 1
                    said = f"{server} does not answer"
                    continue
                self._keep(question, answer, answer.ttl_s)
                return answer
        said = f"{question.name}: {said}"
        self._keep(question, said, FAILED_S if self.servers else 0.0)
        raise ResolveError(said)

    async def _ask_one(self, server: IpAddress, question: Question) -> Answer:
        query = question.encode(self._random)  # a new number for each try
        self.stats.sent += 1
        async with asyncio.timeout(self._timeout_s):
            payload = await self._send(server, query)
            try:
                return question.read(query, payload)
            except Truncated:
                if self._stream is None:
                    raise
                return question.read(query, await self._stream(server, query))


def _plain(name: str) -> str:
    return name.removesuffix(".").lower()


def _literal(name: str) -> IpAddress | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


__all__ = ["FAILED_S", "ROUNDS", "TIMEOUT_S", "UNDER_WAY_MAX", "Resolver", "ResolverStats", "Send"]
