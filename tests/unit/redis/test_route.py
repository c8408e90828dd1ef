"""The way of requests to one place: how many commands, in which order, and who is told of a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import hiredis
import pytest

from rpckit.errors import RpcError
from rpckit_redis._keys import PlaceKind, place_of
from rpckit_redis._link import Link
from rpckit_redis._route import MAX_GATHERED, Route, Waiting
from rpckit_redis._scripts import PUSH_LIST, PUSH_STREAM


class Redis:
    """The other end of a link: the commands it gets, as words."""

    def __init__(self) -> None:
        self.link = Link()
        self._reader = hiredis.Reader()
        self.link.connection_made(cast(asyncio.Transport, self))

    def write(self, data: bytes) -> None:
        self._reader.feed(data)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, *, high: int) -> None: ...

    async def commands(self) -> list[list[bytes]]:
        await asyncio.sleep(0)
        found = []
        while (command := self._reader.gets()) is not False:
            found.append(command)
        return found


class Place:
    def __init__(self, kind: PlaceKind) -> None:
        self.redis = Redis()
        self.refused: list[tuple[list[Waiting], Any]] = []
        self.route = Route(place_of("x", kind), self._on_refused)

    def _on_refused(self, waiting: Iterable[Waiting], reply: Any) -> None:
        self.refused.append((list(waiting), reply))

    def push(self, *requests: bytes, asks: bool = False) -> None:
        for data in requests:
            self.route.push(self.redis.link, data, f"id of {data.decode():.9}", asks=asks)

    def answer(self, reply: bytes) -> None:
        self.redis.link.data_received(reply)


@pytest.fixture
async def stream() -> Place:
    return Place(PlaceKind.STREAM)


@pytest.fixture
async def in_list() -> Place:
    return Place(PlaceKind.LIST)


async def test_one_request_is_a_plain_command(stream: Place, in_list: Place) -> None:
    stream.push(b"a")
    in_list.push(b"a")
    assert await stream.redis.commands() == [[b"XADD", b"rpckit:{x}:stream", b"*", b"__data__", b"a"]]
    assert await in_list.redis.commands() == [[b"RPUSH", b"rpckit:{x}:list", b"a"]]


async def test_requests_of_one_tick_are_one_command_in_their_order(stream: Place, in_list: Place) -> None:
    stream.push(b"a", b"b")
    in_list.push(b"a", b"b")
    assert await stream.redis.commands() == [
        [b"EVALSHA", PUSH_STREAM.sha, b"1", b"rpckit:{x}:stream", b"", b"a", b"b"],
    ]
    assert await in_list.redis.commands() == [[b"RPUSH", b"rpckit:{x}:list", b"a", b"b"]]


async def test_those_that_ask_who_serves_do_not_overtake_those_that_do_not(in_list: Place) -> None:
    in_list.push(b"a")
    in_list.push(b"b", b"c", asks=True)
    in_list.push(b"d")
    asking = [b"EVALSHA", PUSH_LIST.sha, b"1", b"rpckit:{x}:list", b"rpckit:alive:rpckit:{x}:list", b"b", b"c"]
    plain = [[b"RPUSH", b"rpckit:{x}:list", data] for data in (b"a", b"d")]
    assert await in_list.redis.commands() == [plain[0], asking, plain[1]]


async def test_who_serves_is_asked_once_in_a_while(in_list: Place) -> None:
    in_list.push(b"a", asks=True)
    assert (await in_list.redis.commands())[0][0] == b"EVALSHA"
    in_list.answer(b":1\r\n")
    in_list.push(b"b", asks=True)
    assert (await in_list.redis.commands())[0][0] == b"RPUSH"


@pytest.mark.parametrize("reply", [b":0\r\n", b"-OOM full\r\n"])
async def test_all_requests_of_a_command_are_refused_with_it(stream: Place, reply: bytes) -> None:
    stream.push(b"a", b"b", asks=True)
    await stream.redis.commands()
    stream.answer(reply)
    ((waiting, told),) = stream.refused
    assert waiting == ["id of a", "id of b"]
    assert told == 0 or "OOM" in str(told)


async def test_who_waits_until_redis_has_it_is_told(stream: Place) -> None:
    taken: asyncio.Future[RpcError | None] = asyncio.get_running_loop().create_future()
    stream.route.push(stream.redis.link, b"a", taken, asks=False)
    await stream.redis.commands()
    assert not taken.done()
    stream.answer(b"$3\r\n1-0\r\n")
    assert await taken is None


async def test_a_large_request_does_not_wait_for_others(stream: Place) -> None:
    stream.push(b"a", bytes(MAX_GATHERED + 1), b"b")
    assert [command[-1][:1] for command in await stream.redis.commands()] == [b"\0", b"b"]
