"""redis-py's defects (facts/drivers.md, R1 to R24), as users of ours see them, or do not.

| row      | where it is tested, or why it cannot reach anybody                                                     |
|----------|--------------------------------------------------------------------------------------------------------|
| R1, R2   | here: a command goes out once, and nobody retries it but `idempotent=True`                             |
| R3, R11  | here: a link that is silent, either way, is found within two heartbeats                                |
| R4, R24  | here: a refused port, a wrong password and none end at once, and no password is shown                  |
| R5       | here: a blocked read ends before its link is called dead                                               |
| R6       | test_redis_costs: 10,000 cancelled calls; a cancelled command costs no connection                      |
| R7, R8   | a blocked read is never cancelled: what it brings is delivered or handed back; here, and rolling       |
|          | restarts in test_redis_workers                                                                         |
| R9       | there is no pool; test_redis_costs: as many connections for 1,000 calls as for one                     |
| R10      | here: nothing is subscribed in silence, each pending call is told; a publish count of 0 is NoResponder |
| R12, R13 | test_redis_faults: a dead Redis costs no CPU. Errors of the socket come as `connection_lost`, once:    |
|          | there is no StreamReader to be asked again and again                                                   |
| R14      | here: serving, and being able to hear a reply, is confirmed before the first call                      |
| R15      | here: a forbidden channel is refused at start                                                          |
| R16, R23 | test_redis_faults                                                                                      |
| R17      | test_redis_faults: killed and started; FLUSHALL                                                        |
| R18      | here: requests that were trimmed away are forgotten                                                    |
| R19      | CLIENT REPLY is never sent; `Link` has one callback for each command                                   |
| R20, R21 | test_redis_sentinel                                                                                    |
| R22      | here: a Cluster is refused; all keys of an address share a slot (tests/unit/redis/test_keys.py)        |
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rpckit import Client, ConnectionLost, NoResponder, NotSent, OutcomeUnknown, Server, Service, UsageError
from rpckit.ids import new_id
from rpckit.testing import FaultProxy, Redis
from rpckit.testing._ports import free_port

from .nursery import nursery
from .world import KINDS, eventually, of_kind, proxied

HEARTBEAT = 0.5  # seconds
MARGIN = 0.4  # seconds for a busy machine, on top of two heartbeats
QUEUES = ("stream", "list")
PASSWORD = "s3cr3t#/@%:?&=ü"

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address() -> str:
    return f"faults.rows.{new_id()[:8]}"


def service_at(address: str, log: list[object] | None = None) -> Service:
    service = Service("rows", address=address)

    async def echo(value: object, seconds: float = 0.0) -> object:
        if log is not None:
            log.append(value)
        await asyncio.sleep(seconds)
        return value

    service.method(echo, name="echo")
    service.method(echo, name="again", idempotent=True)
    return service


async def seconds_of(work: Awaitable[object]) -> tuple[object, float]:
    """The outcome of an awaitable, result or error, and how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    return outcome, loop.time() - began


@asynccontextmanager
async def served_through(
    broker: Redis, kind: str, address: str, log: list[object] | None = None
) -> AsyncIterator[tuple[Client, FaultProxy]]:
    """A server, and a client that reaches Redis through a proxy."""
    url = of_kind(broker.url, kind)
    async with (
        Server(service_at(address, log), url=url, grace=0),
        proxied(broker.url) as (proxy, through),
        Client(of_kind(through, kind, heartbeat=HEARTBEAT, connect_timeout=1), send_wait=1) as client,
    ):
        assert await client.at(address).echo(0) == 0
        yield client, proxy


# -- what is sent, once ---------------------------------------------------------------------------------


async def test_a_request_whose_confirmation_is_lost_runs_once(own_redis: Redis, kind: str, address: str) -> None:
    """R1: the driver executed a write four times and said OK."""
    log: list[object] = []
    async with served_through(own_redis, kind, address, log) as (client, proxy):
        proxy.freeze("to_client")
        outcomes = await asyncio.gather(
            client.call(f"{address}.echo", "call", timeout=3),
            client.notify(f"{address}.echo", "notify"),
            return_exceptions=True,
        )
        proxy.thaw()
        assert all(isinstance(outcome, OutcomeUnknown) for outcome in outcomes), outcomes
        assert await client.at(address).echo("after") == "after"
    assert log == [0, "call", "notify", "after"]


async def test_a_request_to_a_frozen_redis_runs_once_at_most(own_redis: Redis, kind: str, address: str) -> None:
    """R2: two entries and OK, when it had thawed."""
    log: list[object] = []
    async with served_through(own_redis, kind, address, log) as (client, _):
        own_redis.freeze()
        try:
            outcome, took = await seconds_of(client.call(f"{address}.echo", "call", timeout=3))
        finally:
            own_redis.thaw()
        assert isinstance(outcome, ConnectionLost)
        assert took < 2 * HEARTBEAT + MARGIN
        await eventually(lambda: client.transport.inbox)
        assert await client.call(f"{address}.echo", "after", no_server="fail") == "after"
    assert log.count("call") <= 1


@pytest.mark.parametrize("direction", ["both", "to_client", "to_server"])
async def test_a_silent_link_is_found_within_two_heartbeats(
    own_redis: Redis, kind: str, address: str, direction: str
) -> None:
    """R3 and R11: 58.7 s, and never."""
    async with served_through(own_redis, kind, address) as (client, proxy):
        calls = asyncio.gather(*(client.call(f"{address}.echo", n, 10) for n in range(5)), return_exceptions=True)
        await asyncio.sleep(0.1)
        proxy.freeze(direction)  # type: ignore[arg-type]
        results, took = await seconds_of(calls)
        assert isinstance(results, list)
        assert [type(result) for result in results] == [ConnectionLost] * 5
        assert took < 2 * HEARTBEAT + MARGIN


# -- connecting -----------------------------------------------------------------------------------------


async def test_a_refused_port_is_told_at_once(kind: str) -> None:
    """R4: three to five seconds."""
    client = Client(of_kind(f"redis://127.0.0.1:{free_port()}", kind))
    outcome, took = await seconds_of(client.connect())
    assert isinstance(outcome, NotSent)
    assert took < 1
    await client.close()


@pytest.mark.parametrize("credentials", ["", f":wrong-{PASSWORD.replace('/', '%2F').replace('#', '%23')}@", "who:x@"])
async def test_a_wrong_password_is_a_quick_usage_error_and_is_never_shown(
    credentials: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R4 and R24."""
    caplog.set_level(logging.DEBUG)
    with Redis(password=PASSWORD) as broker:
        url = of_kind(f"redis://{credentials.replace('?', '%3F')}127.0.0.1:{broker.port}", "stream")
        client = Client(url)
        outcome, took = await seconds_of(client.connect())
        assert isinstance(outcome, UsageError)
        assert took < 1
        said = "".join(traceback.format_exception(outcome)) + repr(client) + caplog.text
        assert PASSWORD not in said
        assert "s3cr3t" not in said
        await client.close()


async def test_a_password_changed_under_us_ends_the_connection_for_good() -> None:
    """R4: credentials that are refused are not tried again."""
    with Redis(password=PASSWORD) as broker:
        async with Client(of_kind(broker.url, "stream")) as client:
            broker.ctl("CONFIG", "SET", "requirepass", "another")
            stranger = Redis(password="another")
            stranger.port = broker.port
            stranger.ctl("CLIENT", "KILL", "TYPE", "normal")
            stranger.ctl("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: client.state == "closed")
            outcome, took = await seconds_of(client.call("x.y"))
            assert isinstance(outcome, NotSent)
            assert took < 0.5
            assert PASSWORD not in str(outcome)


@pytest.mark.parametrize("kind", QUEUES, indirect=True)
async def test_a_blocked_read_outlives_many_heartbeats(own_redis: Redis, kind: str, address: str) -> None:
    """R5: reconnected every five seconds, or never returned."""
    url = of_kind(own_redis.url, kind, heartbeat=0.2)
    async with Server(service_at(address), url=url) as server, Client(url) as client:
        assert server._dispatcher is not None
        transport = server._dispatcher.links[0].transport
        session = transport._connection.session  # type: ignore[attr-defined]
        await asyncio.sleep(2.5)
        assert transport._connection.session is session  # type: ignore[attr-defined]
        assert await client.at(address).echo(1) == 1


async def test_a_cluster_is_refused() -> None:
    """R22: publish counts and blocking moves mean something else there."""
    with Redis(config={"cluster-enabled": "yes", "cluster-port": str(free_port())}) as broker:
        client = Client(of_kind(broker.url, "list"))
        outcome, _ = await seconds_of(client.connect())
        assert isinstance(outcome, UsageError)
        assert "Cluster" in str(outcome)
        await client.close()


# -- subscriptions --------------------------------------------------------------------------------------


async def test_a_lost_subscription_is_told_to_each_pending_call(own_redis: Redis, kind: str, address: str) -> None:
    """R10: resubscribed in silence, and what was published meanwhile was missing."""
    url = of_kind(own_redis.url, kind)
    async with Server(service_at(address), url=url, grace=0), Client(url) as client:
        calls = asyncio.gather(*(client.call(f"{address}.echo", n, 5) for n in range(20)), return_exceptions=True)
        await asyncio.sleep(0.1)
        own_redis.ctl("CLIENT", "KILL", "TYPE", "pubsub")
        results, took = await seconds_of(calls)
        assert isinstance(results, list)
        assert [type(result) for result in results] == [ConnectionLost] * 20
        assert took < 0.5


async def test_nobody_there_is_told_by_the_publish_count(own_redis: Redis, address: str) -> None:
    """R10, of use: 0 means that nobody heard it."""
    async with Client(of_kind(own_redis.url, "pubsub")) as client:
        outcome, took = await seconds_of(client.call(f"{address}.echo", 1))
        assert isinstance(outcome, NoResponder)
        assert took < 0.5


async def test_whoever_serves_hears_the_very_next_request(own_redis: Redis, kind: str, address: str) -> None:
    """R14: `subscribe()` returned before Redis knew, and what came right after was lost."""
    async with proxied(own_redis.url) as (proxy, through), Client(of_kind(own_redis.url, kind)) as client:
        proxy.delay(0.05)
        slow = Client(of_kind(through, kind))
        async with Server(service_at(address), url=of_kind(through, kind)), slow:
            assert await client.call(f"{address}.echo", 1, timeout=3) == 1
            assert await slow.call(f"{address}.echo", 2, timeout=3) == 2


async def test_a_forbidden_channel_is_refused_at_start(own_redis: Redis, kind: str, address: str) -> None:
    """R15: `subscribe()` was OK, and the refusal came later, to somebody else."""
    own_redis.ctl("ACL", "SETUSER", "deaf", "on", ">x", "~*", "+@all", "resetchannels")
    try:
        url = of_kind(own_redis.url, kind).replace("//", "//deaf:x@")
        for outcome in (
            await seconds_of(Server(service_at(address), url=url).start()),
            await seconds_of(_connect(Client(url))),
        ):
            assert isinstance(outcome[0], UsageError)
            assert "ACL SETUSER" in str(outcome[0])
            assert outcome[1] < 1
    finally:
        own_redis.ctl("ACL", "DELUSER", "deaf")


async def _connect(client: Client) -> None:
    try:
        await client.connect()
    finally:
        await client.close()


# -- requests that are gone -----------------------------------------------------------------------------


async def test_no_request_is_lost_by_pausing_and_stopping_a_reader(own_redis: Redis, address: str) -> None:
    """R7 and R8: a quarter of the messages was lost with the reads that were cancelled."""
    own_redis.ctl("FLUSHALL")
    log: list[object] = []
    for kind in QUEUES:
        url = of_kind(own_redis.url, kind)
        async with Client(url) as client:
            for round_ in range(20):
                server = Server(service_at(address, log), url=url)
                await server.start()
                sending = [
                    asyncio.create_task(client.notify(f"{address}.echo", f"{kind}-{round_}-{n}", no_server="wait"))
                    for n in range(10)
                ]
                await asyncio.sleep(0.005 * (round_ % 5))
                await server.stop()
                await asyncio.gather(*sending)
        async with Server(service_at(address, log), url=url):
            await eventually(lambda: len(log) >= (200 if kind == "stream" else 400))  # noqa: B023
    assert sorted(map(str, log)) == sorted(f"{kind}-{r}-{n}" for kind in QUEUES for r in range(20) for n in range(10))


async def test_requests_trimmed_away_are_forgotten(own_redis: Redis, address: str, tmp_path: Path) -> None:
    """R18: they stay pending, and come as `(id, {})`."""
    key = f"rpckit:{{{address}}}:stream"
    url, log = of_kind(own_redis.url, "stream"), tmp_path / "log"
    async with nursery() as workers, Client(url) as client:
        first = await workers.spawn(url, address, log, 1)
        for n in range(10):
            await client.notify(f"{address}.again", f"a{n}", 30)
        await eventually(lambda: _pending(own_redis, key) == 10)
        own_redis.ctl("XTRIM", key, "MAXLEN", "0")
        os.kill(first, signal.SIGKILL)
        async with Server(service_at(address), url=url):
            await eventually(lambda: _pending(own_redis, key) == 0)
            assert await client.at(address).echo(1) == 1


def _pending(broker: Redis, key: str) -> object:
    answer = broker.ctl("XPENDING", key, "rpckit")
    assert isinstance(answer, list)
    return answer[0]


async def test_a_database_hears_nothing_of_another(own_redis: Redis, kind: str, address: str) -> None:
    """Redis's channels are one for all databases, its keys are not."""
    ran: list[object] = []
    heard: list[int] = []
    url = of_kind(own_redis.url, kind)
    service = service_at(address, ran)

    @service.on(f"{address}.news", group="one")
    async def news(n: int) -> None:
        heard.append(n)

    async with Server(service, url=f"{url}/1"):
        async with Client(f"{url}/0") as stranger:
            with pytest.raises(NoResponder):
                await stranger.call(f"{address}.echo", 1, timeout=5)
            await stranger.emit(f"{address}.news", 1)
            assert await stranger.survey("ping", address) == []
        async with Client(f"{url}/1") as client, Server(service_at(address, ran), url=f"{url}/2"):
            assert [await client.call(f"{address}.echo", n, timeout=5) for n in range(3)] == [0, 1, 2]
            await client.emit(f"{address}.news", 2)
            await eventually(lambda: heard == [2])
    assert ran == [0, 1, 2]


async def test_a_port_that_is_not_redis_is_told_without_a_traceback(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as web:
        port = web.sockets[0].getsockname()[1]
        with pytest.raises(NotSent, match="is it Redis, and well"):
            await Client(of_kind(f"redis://127.0.0.1:{port}", kind)).connect()
    assert "Traceback" not in caplog.text
