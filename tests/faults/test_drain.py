"""Servers that stop, in order and by force, and replies whose way breaks.

What was begun runs once, or again if it may; what was not begun is run by another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pika
import pytest

from rpckit import Client, OutcomeUnknown, RpcError, Server, Service
from rpckit.ids import new_id
from rpckit.testing import FaultProxy, RabbitMq
from rpckit.url import Url

from .world import Figure, eventually, proxied, with_options

RESTARTS = 5
WORK_S = 4.0  # seconds: another worker starts and is ready meanwhile, also on a loaded machine
CONCURRENCY = 4
WORKER = Path(__file__).with_name("worker.py")

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
async def address(amqp_url: str) -> AsyncIterator[str]:
    address = f"faults.drain.{new_id()[:8]}"
    yield address
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_delete(address)


# -- in order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["once", "again"])
async def test_a_rolling_restart_with_a_full_queue_loses_nothing(amqp_url: str, address: str, method: str) -> None:
    """Five restarts while 300 calls wait: none is lost or refused, and a plain one runs once.

    Of the plain ones only those that ran when the grace was over are told that they may have run.
    """
    executions: Counter[int] = Counter()
    servers: Counter[int] = Counter()

    def service_of(serial: int) -> Service:
        service = Service("drain", address=address)

        async def work(n: int) -> int:
            executions[n] += 1
            servers[serial] += 1
            await asyncio.sleep(0.02)
            return n

        service.method(work, name="once")
        service.method(work, name="again", idempotent=True)
        return service

    serials = count()
    server = Server(service_of(next(serials)), url=amqp_url, concurrency=CONCURRENCY)
    await server.start()
    async with Client(amqp_url, timeout=20) as client:
        calls = [
            asyncio.create_task(client.call(f"{address}.{method}", n, no_server="wait", idempotent=method == "again"))
            for n in range(300)
        ]
        for restart in range(RESTARTS):
            await asyncio.sleep(0.12)
            await eventually(partial(lambda before: len(servers) > before, restart))
            after = Server(service_of(next(serials)), url=amqp_url, concurrency=CONCURRENCY)
            await asyncio.gather(server.stop(grace=0.1), after.start())
            server = after
        results = await asyncio.gather(*calls, return_exceptions=True)
        await server.stop()
    stopped = [n for n, result in enumerate(results) if isinstance(result, OutcomeUnknown)]
    assert [result for n, result in enumerate(results) if n not in stopped] == [
        n for n in range(300) if n not in stopped
    ]
    assert len(stopped) <= (CONCURRENCY * RESTARTS if method == "once" else 0)
    assert set(executions) == set(range(300))
    assert len(servers) == RESTARTS + 1
    if method == "once":
        assert set(executions.values()) == {1}


async def test_what_runs_longer_than_the_grace_is_told_or_run_again(amqp_url: str, address: str) -> None:
    """A plain call begun and stopped is told so at once; an idempotent one is run by the next server."""
    begun: list[str] = []
    patience = 20.0

    def service() -> Service:
        service = Service("drain", address=address)

        async def work(name: str) -> str:
            begun.append(name)
            await asyncio.sleep(patience)
            return name

        service.method(work, name="once")
        service.method(work, name="again", idempotent=True)
        return service

    async with Client(amqp_url) as client:
        first = Server(service(), url=amqp_url)
        await first.start()
        once = asyncio.create_task(client.call(f"{address}.once", "once"))
        again = asyncio.create_task(client.call(f"{address}.again", "again", idempotent=True))
        await eventually(lambda: len(begun) == 2)
        began = asyncio.get_running_loop().time()
        await first.stop(grace=0.1)
        with pytest.raises(OutcomeUnknown, match="stopping"):
            await once
        assert asyncio.get_running_loop().time() - began < 1.5
        patience = 0.0
        async with Server(service(), url=amqp_url):
            assert await again == "again"
    assert begun == ["once", "again", "again"]


async def drained(served_url: str, url: str, address: str, *others: pika.BasicProperties) -> list[tuple[str, bytes]]:
    """What a server of `served_url` runs after another one that stops, given a long request and the `others`."""
    ran: list[tuple[str, bytes]] = []

    def server_of(name: str) -> Server:
        service = Service("drain", address=address)

        @service.method(default=True)
        async def work(body: bytes) -> None:
            ran.append((name, body))
            await asyncio.sleep(20 if body == b"long" else 0)

        return Server(service, url=served_url, concurrency=1)

    first, second = server_of("first"), server_of("second")
    await first.start()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_publish("", address, b"long")
        for n, properties in enumerate(others):
            channel.basic_publish("", address, b"%d" % n, properties)
        await eventually(lambda: first.in_flight == len(others) + 1)
        stopping = asyncio.create_task(first.stop(grace=0.3))
        await asyncio.sleep(0.05)
        async with second:
            await stopping
            await eventually(lambda: len(ran) == len(others) + 1)
            await asyncio.sleep(0.1)  # nothing more is run
    return ran


async def test_requests_of_a_user_are_handed_back_by_another(own_rabbitmq: RabbitMq, address: str) -> None:
    """The broker takes no message in another user's name, and closes the channel over one."""
    await asyncio.to_thread(own_rabbitmq.ctl, "add_user", address, "secret")
    await asyncio.to_thread(own_rabbitmq.ctl, "set_permissions", address, ".*", ".*", ".*")
    served_url = own_rabbitmq.url.replace("guest:guest", f"{address}:secret")
    of_user = pika.BasicProperties(user_id="guest")
    ran = await drained(served_url, own_rabbitmq.url, address, pika.BasicProperties(), of_user, pika.BasicProperties())
    assert ran[0] == ("first", b"long")
    assert sorted(ran[1:]) == [("second", b"%d" % n) for n in range(3)]


async def test_a_request_handed_back_is_not_sent_once_more_to_the_queues_in_its_cc(amqp_url: str, address: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        audit = channel.queue_declare("", exclusive=True).method.queue
        ran = await drained(amqp_url, amqp_url, address, pika.BasicProperties(headers={"CC": [audit], "user": "7"}))
        assert ran == [("first", b"long"), ("second", b"0")]
        assert channel.queue_declare(audit, passive=True).method.message_count == 1


# -- by force ---------------------------------------------------------------------------------------


@asynccontextmanager
async def worker(url: str, address: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), url, address, str(log), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 10) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def executions_in(log: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()


async def test_a_server_killed_in_mid_handler_costs_no_idempotent_call(
    amqp_url: str, address: str, tmp_path: Path, figure: Figure
) -> None:
    """Idempotent calls run again elsewhere, plain ones are told that they may have run."""
    log = tmp_path / "executions"
    loop = asyncio.get_running_loop()
    async with worker(amqp_url, address, log) as first, Client(amqp_url) as client:
        again = [
            asyncio.create_task(client.call(f"{address}.again", f"a{n}", WORK_S, idempotent=True)) for n in range(20)
        ]
        once = [asyncio.create_task(client.call(f"{address}.once", f"o{n}", WORK_S)) for n in range(20)]
        await eventually(lambda: len(executions_in(log)) == 40)
        async with worker(amqp_url, address, log) as second:
            os.kill(first.pid, signal.SIGKILL)
            began = loop.time()
            told = await asyncio.gather(*once, return_exceptions=True)
            figure("server killed → plain calls told OutcomeUnknown", loop.time() - began)
            assert [type(outcome) for outcome in told] == [OutcomeUnknown] * 20
            assert loop.time() - began < WORK_S
            assert await asyncio.gather(*again) == [second.pid] * 20
            figure("server killed → idempotent calls of 4 s answered by another", loop.time() - began)
    executions = executions_in(log)
    assert {executions[f"a{n}"] for n in range(20)} == {2}
    assert {executions[f"o{n}"] for n in range(20)} == {1}


async def test_a_server_killed_with_nobody_else_there_is_served_by_the_next(
    amqp_url: str, address: str, tmp_path: Path
) -> None:
    log = tmp_path / "executions"
    async with worker(amqp_url, address, log) as first, Client(amqp_url) as client:
        call = asyncio.create_task(client.call(f"{address}.again", "a", 0.5, idempotent=True))
        await eventually(lambda: executions_in(log)["a"] == 1)
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        async with worker(amqp_url, address, log) as second:
            assert await call == second.pid
    assert executions_in(log)["a"] == 2


# -- the way back -------------------------------------------------------------------------------------


class ReplyPath:
    """A server whose publishing connection goes by one proxy and whose consuming connection by another."""

    def __init__(self, publishing: FaultProxy, consuming: FaultProxy, server: Server) -> None:
        self.publishing, self.consuming, self.server = publishing, consuming, server


@asynccontextmanager
async def reply_path(url: str, service: Service) -> AsyncIterator[ReplyPath]:
    credentials = Url.parse(url)
    async with proxied(url) as (publishing, _), proxied(url) as (consuming, _):
        hosts = f"127.0.0.1:{publishing.port},127.0.0.1:{consuming.port}"
        server_url = with_options(
            f"amqp://{credentials.username}:{credentials.password}@{hosts}/{credentials.path or ''}",
            heartbeat=1,
        )
        server = Server(service, url=server_url)
        starting = asyncio.create_task(server.start())
        while not publishing.accepted and not starting.done():
            await asyncio.sleep(0)
        await publishing.refuse()  # the second connection takes the second host
        await starting
        assert (publishing.connections, consuming.connections) == (1, 1)
        await publishing.accept()
        try:
            yield ReplyPath(publishing, consuming, server)
        finally:
            await server.stop()


def echo_service(address: str, log: list[int], meanwhile: Any) -> Service:
    """A service whose handler breaks something before it returns."""
    service = Service("replies", address=address)

    async def work(n: int) -> int:
        log.append(n)
        await meanwhile(n)
        return n

    service.method(work, name="once")
    service.method(work, name="again", idempotent=True)
    return service


@pytest.mark.parametrize("method", ["once", "again"])
@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_reply_outlives_the_connection_it_was_to_take(
    amqp_url: str, address: str, method: str, fault: str, figure: Figure
) -> None:
    """The publishing connection breaks between handler and reply: the reply takes the next one."""
    log: list[int] = []
    path: ReplyPath

    async def break_it(n: int) -> None:
        if n == 0:
            getattr(path.publishing, fault)()

    async with (
        reply_path(amqp_url, echo_service(address, log, break_it)) as path,
        Client(amqp_url) as client,
    ):
        began = asyncio.get_running_loop().time()
        calls = [client.call(f"{address}.{method}", n, timeout=5) for n in range(10)]
        assert await asyncio.gather(*calls) == list(range(10))
        figure(
            f"reply after its connection was lost: {fault}, {method}",
            asyncio.get_running_loop().time() - began,
        )
    assert sorted(log) == list(range(10))


@pytest.mark.parametrize("method", ["once", "again"])
async def test_a_reply_written_into_a_dead_link_is_sent_again(amqp_url: str, address: str, method: str) -> None:
    """It left the process, and nobody has it: found after two heartbeats, sent once more."""
    log: list[int] = []
    path: ReplyPath

    async def freeze_it(n: int) -> None:
        path.publishing.freeze("to_server")

    async with (
        reply_path(amqp_url, echo_service(address, log, freeze_it)) as path,
        Client(amqp_url) as client,
    ):
        calls = asyncio.gather(*(client.call(f"{address}.{method}", n, timeout=8) for n in range(10)))
        await eventually(lambda: len(log) == 10)
        await asyncio.sleep(0.3)  # the replies are written
        await path.publishing.refuse()
        path.publishing.cut()
        path.publishing.thaw()
        assert await calls == list(range(10))
    assert sorted(log) == list(range(10))


@pytest.mark.parametrize("method", ["once", "again"])
async def test_work_in_hand_is_answered_though_its_delivery_was_lost(amqp_url: str, address: str, method: str) -> None:
    """The consuming connection breaks: what comes again is what runs here; it is not refused or run twice."""
    log: list[int] = []
    path: ReplyPath

    async def break_it(n: int) -> None:
        if n == 0:
            await eventually(lambda: path.server.in_flight == 10)
            path.consuming.cut()
        await asyncio.sleep(0.5)

    async with (
        reply_path(amqp_url, echo_service(address, log, break_it)) as path,
        Client(amqp_url) as client,
    ):
        calls = [client.call(f"{address}.{method}", n, timeout=5) for n in range(10)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [result for result in results if isinstance(result, BaseException)] == []
        assert results == list(range(10))
        await eventually(lambda: path.server.in_flight == 0)
    assert sorted(log) == list(range(10))


async def test_a_caller_that_left_stops_its_work(amqp_url: str, address: str) -> None:
    """Its reply is returned; what else it had asked for is not worth doing any more."""
    stopped: list[int] = []

    async def wait(n: int) -> None:
        try:
            await asyncio.sleep(0.2 if n == 0 else 20)
        except asyncio.CancelledError:
            stopped.append(n)
            raise

    service = echo_service(address, [], wait)
    async with (
        Server(service, url=amqp_url) as server,
        proxied(amqp_url) as (proxy, url),
        Client(url) as client,
    ):
        calls = [asyncio.create_task(client.call(f"{address}.once", n)) for n in range(4)]
        await eventually(lambda: server.in_flight == 4)
        await proxy.refuse()
        proxy.reset()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, RpcError) for result in results)
        await eventually(lambda: sorted(stopped) == [1, 2, 3])
        await eventually(lambda: server.in_flight == 0)
