"""Every fault of FaultProxy, seen from a client and a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from rpckit.testing import FaultProxy

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SOON = 2.0  # seconds: far more than loopback needs
QUIET = 0.05  # seconds in which nothing may come


class Echo:
    """A server that sends back what it gets, and keeps it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ends: list[str] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.received += data
                writer.write(data)
                await writer.drain()
            self.ends.append("end")
        except ConnectionResetError:
            self.ends.append("reset")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as server:
        yield server


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", echo.port) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def say(connection: Connection, data: bytes) -> bytes:
    reader, writer = connection
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), SOON)


async def nothing_comes(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a moment. Ends the reader's usefulness only if something did."""
    try:
        await asyncio.wait_for(reader.read(1), QUIET)
    except TimeoutError:
        return True
    return False


async def eventually(condition: Callable[[], object], value: object) -> None:
    """Wait until calling `condition` gives `value`."""
    deadline = time.monotonic() + SOON
    while condition() != value and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    assert condition() == value


async def test_bytes_pass_both_ways_and_are_counted(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        assert await say(connection, b"hello") == b"hello"
    assert (proxy.bytes_to_server, proxy.bytes_to_client) == (5, 5)


async def test_large_transfers_pass_whole(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 20_000
    async with connected(proxy) as connection:
        assert await say(connection, data) == data


async def test_half_close_lets_the_answer_through(proxy: FaultProxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), SOON) == b"last words"


async def test_cut_ends_both_sides(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as connection:
        await say(connection, b"x")
        proxy.cut()
        assert await asyncio.wait_for(connection[0].read(), SOON) == b""
        await eventually(lambda: echo.ends, ["end"])
        await eventually(lambda: proxy.connections, 0)


async def test_after_a_cut_a_new_connection_works(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        await say(connection, b"x")
        proxy.cut()
    async with connected(proxy) as connection:
        assert await say(connection, b"again") == b"again"
    assert proxy.accepted == 2


async def test_reset_is_seen_as_a_reset_on_both_sides(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as connection:
        await say(connection, b"x")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(connection[0].read(), SOON)
        await eventually(lambda: echo.ends, ["reset"])


async def test_frozen_bytes_arrive_after_the_thaw(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.freeze()
        writer.write(b"held")
        assert await nothing_comes(reader)
        assert echo.received == b""
        proxy.thaw()
        assert await asyncio.wait_for(reader.readexactly(4), SOON) == b"held"


async def test_freeze_to_client_lets_requests_through(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.freeze("to_client")
        writer.write(b"request")
        await eventually(lambda: bytes(echo.received), b"request")
        assert await nothing_comes(reader)
        proxy.thaw("to_client")
        assert await asyncio.wait_for(reader.readexactly(7), SOON) == b"request"


async def test_freeze_to_server_holds_requests(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        await say((reader, writer), b"x")
        proxy.freeze("to_server")
        writer.write(b"request")
        assert await nothing_comes(reader)
        assert echo.received == b"x"


async def test_a_frozen_proxy_stops_a_fast_sender(proxy: FaultProxy) -> None:
    async with connected(proxy) as (_, writer):
        proxy.freeze()
        writer.write(bytes(64 * 1024 * 1024))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)
        writer.transport.abort()


async def test_new_connections_to_a_frozen_proxy_are_accepted_into_silence(proxy: FaultProxy) -> None:
    proxy.freeze()
    async with connected(proxy) as (reader, writer):
        writer.write(b"x")
        assert await nothing_comes(reader)


async def test_cut_ends_a_frozen_connection(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.freeze()
        writer.write(b"lost")
        assert await nothing_comes(reader)
        proxy.cut()
        assert await asyncio.wait_for(reader.read(), SOON) == b""
    assert echo.received == b""


async def test_delay_is_latency_each_way(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        await say(connection, b"x")
        proxy.delay(0.05)
        started = time.monotonic()
        await say(connection, b"x")
        assert 0.1 <= time.monotonic() - started < 0.5


async def test_delayed_chunks_overlap_and_stay_in_order(proxy: FaultProxy) -> None:
    proxy.delay(0.1, "to_server")
    async with connected(proxy) as (reader, writer):
        started = time.monotonic()
        for n in range(8):
            writer.write(b"%d" % n)
            await asyncio.sleep(0.005)
        assert await asyncio.wait_for(reader.readexactly(8), SOON) == b"01234567"
        assert time.monotonic() - started < 0.4


async def test_many_small_chunks_are_delayed_for_as_long_as_one(proxy: FaultProxy) -> None:
    proxy.delay(0.3, "to_server")
    async with connected(proxy) as (reader, writer):
        started = time.monotonic()
        for _ in range(40):
            writer.write(b"x")
            await asyncio.sleep(0.005)
        await asyncio.wait_for(reader.readexactly(40), SOON)
        assert time.monotonic() - started < 0.85  # were 16 read ahead at most, it would be over 0.9


async def test_refuse_refuses_new_connections_and_keeps_open_ones(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        await say(connection, b"x")
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        assert await say(connection, b"still") == b"still"


async def test_accept_listens_on_the_same_port_again(proxy: FaultProxy) -> None:
    port = proxy.port
    await proxy.refuse()
    await proxy.accept()
    assert proxy.port == port
    async with connected(proxy) as connection:
        assert await say(connection, b"back") == b"back"


@pytest.mark.parametrize("n", [1, 3, 9])
async def test_cut_after_forwards_exactly_that_many_bytes(proxy: FaultProxy, echo: Echo, n: int) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.cut_after(n, "to_server")
        writer.write(b"0123456789")
        await asyncio.wait_for(reader.read(), SOON)
        await eventually(lambda: bytes(echo.received), b"0123456789"[:n])
    assert proxy.bytes_to_server == n


async def test_cut_after_to_client_cuts_the_answer_once(proxy: FaultProxy) -> None:
    proxy.cut_after(4, "to_client")
    async with connected(proxy) as (reader, writer):
        writer.write(b"0123456789")
        assert await asyncio.wait_for(reader.read(), SOON) == b"0123"
    async with connected(proxy) as connection:
        assert await say(connection, b"0123456789") == b"0123456789"


async def test_a_target_that_is_down_closes_the_client() -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy, connected(proxy) as (reader, _):
        assert await asyncio.wait_for(reader.read(), SOON) == b""


async def test_leaving_ends_every_task_while_peers_stay_connected(echo: Echo) -> None:
    before = asyncio.all_tasks()
    async with FaultProxy("127.0.0.1", echo.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        await say((reader, writer), b"x")
        proxy.freeze()
        proxy.delay(60)
        writer.write(b"never arrives")
        assert await nothing_comes(reader)
    own = {task for task in asyncio.all_tasks() - before if "Echo" not in repr(task)}
    assert own == set()
    assert await asyncio.wait_for(reader.read(), SOON) == b""
    writer.close()
    await writer.wait_closed()


def test_url_keeps_everything_but_host_and_port() -> None:
    proxy = FaultProxy("broker.example", 5672)
    url = proxy.url("amqps://user:p%40ss@broker.example:5671/%2Fvhost?heartbeat=5")
    assert url == f"amqps://user:p%40ss@127.0.0.1:{proxy.port}/%2Fvhost?heartbeat=5"
    assert proxy.url("redis://localhost") == f"redis://127.0.0.1:{proxy.port}"
