"""The server: what is refused at start-up, and how it drains."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from rpckit import (
    Client,
    ConnectionLost,
    Context,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Response,
    Server,
    Service,
    Settings,
    UsageError,
)
from rpckit.memory import CAPABILITIES, MemoryBroker, MemoryTransport
from rpckit.transport import State

Serve = Callable[..., Awaitable[Server]]
BRIEF = 0.01  # seconds: enough for a memory broker


class Work:
    """A service of one method that does what the test lets it."""

    def __init__(self, **options: Any) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.go_on = asyncio.Event()
        self.service = Service("s")

        async def work(n: int) -> int:
            self.begun.append(n)
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.append(n)
                raise
            return n

        self.service.method(**options)(work)


def calls(client: Client, *numbers: int) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(client.call("s.work", n)) for n in numbers]


def memory(server: Server) -> MemoryTransport:
    assert server._dispatcher is not None
    transport = server._dispatcher.links[0].transport
    assert isinstance(transport, MemoryTransport)
    return transport


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other side is about to do."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.001)


async def forever(*_: Any, **__: Any) -> None:
    await asyncio.Event().wait()


# -- starting ---------------------------------------------------------------------------------------


async def test_nothing_to_serve_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="nothing to serve"):
        await Server(url=url).start()


async def test_a_service_without_methods_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="'empty' has no methods"):
        await Server(Service("empty"), url=url).start()


async def test_two_services_at_one_address_are_refused(url: str) -> None:
    other = Service("other", address="s")
    other.method(name="work")(Work().service.methods["work"].function)
    with pytest.raises(UsageError, match="two services at the address 's'"):
        await Server(Work().service, other, url=url).start()


async def test_at_least_once_is_refused_where_the_transport_cannot(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Work(idempotent=True, delivery="at_least_once").service
    async with Server(service, url=url):
        pass
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, redelivers=False))
    with pytest.raises(UsageError, match=r's\.work demands delivery="at_least_once", which memory cannot'):
        await Server(service, url=url).start()


async def test_what_is_no_service_is_refused(url: str) -> None:
    module: Any = asyncio
    with pytest.raises(UsageError, match="serves instances of Service, not <module 'asyncio'"):
        await Server(module, url=url).start()


async def test_a_second_start_is_refused_and_leaves_the_first_as_it_is(url: str, client: Client) -> None:
    work = Work()
    work.go_on.set()
    async with Server(work.service, url=url) as server:
        for again in (server.start, server.run):
            with pytest.raises(UsageError, match="running already"):
                await again()
        assert await client.call("s.work", 1) == 1
    with pytest.raises(NoResponder):
        await client.call("s.work", 2)


def test_a_setting_that_is_none_is_looked_at(url: str) -> None:
    assert Server(Work().service, url=url, timeout=None).settings.timeout is None
    with pytest.raises(UsageError, match="nonsense"):
        Server(Work().service, url=url, nonsense=None)


async def test_a_failed_start_leaves_nothing_running(url: str, broker: MemoryBroker) -> None:
    server = Server(Work().service, url=[url, "nothing://"])
    with pytest.raises(UsageError, match="no transport for nothing"):
        await server.start()
    assert not broker.served("s")
    await server.stop()


async def test_stopping_ends_a_start_that_is_told_so(
    url: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = MemoryTransport.connect

    async def slowly(self: MemoryTransport, *, serve: bool = False) -> None:
        await asyncio.sleep(1)
        await connect(self, serve=serve)

    monkeypatch.setattr(MemoryTransport, "connect", slowly)
    server = Server(Work().service, url=[url, "memory://other"])
    for seconds in (0.5, 1.5):  # in the first, in the second
        starting = asyncio.ensure_future(server.start())
        await asyncio.sleep(seconds)
        await server.stop()
        with pytest.raises(NotSent, match="stopped while it started"):
            await starting
        assert not broker._loops
    async with server:
        assert broker.served("s")


@pytest.mark.parametrize("how, raised", [("cancel", asyncio.CancelledError), ("stop", NotSent)])
async def test_a_start_ended_at_any_moment_leaves_nothing_running(
    how: str, raised: type[BaseException], url: str, broker: MemoryBroker
) -> None:
    server = Server(Work().service, url=url)
    for turns in range(1, 100):
        starting = asyncio.ensure_future(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        if starting.done():
            break
        if how == "cancel":
            starting.cancel()
        else:
            await server.stop()
        with pytest.raises(raised):
            await starting
        assert not broker._loops
    assert turns > 1
    await server.stop()


async def test_a_start_cancelled_twice_is_cleaned_up_all_the_same(
    url: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = MemoryTransport.close

    async def slowly(self: MemoryTransport) -> None:
        await asyncio.sleep(1)
        await close(self)

    monkeypatch.setattr(MemoryTransport, "close", slowly)
    monkeypatch.setattr(MemoryTransport, "subscribe", forever)
    server = Server(Work().service, url=url)
    starting = asyncio.ensure_future(server.start())
    for _ in range(2):
        await asyncio.sleep(BRIEF)
        starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert broker._loops
    await server.stop()
    assert not broker._loops


async def test_settings_and_overrides_cannot_both_be_given(url: str) -> None:
    with pytest.raises(UsageError, match="concurrency are both given"):
        Server(url=url, settings=Settings(), concurrency=3)


async def test_one_function_is_served_at_one_address_without_a_service(url: str, client: Client) -> None:
    server = Server(url=url)

    @server.handler("channel:test-channel")
    async def shout(msg: str, ctx: Context) -> Response:
        return Response(msg.upper(), headers={"x-token": "t"})

    async with server:
        reply = await client.request("channel:test-channel", "Hi!")
    assert (reply.decode(), reply.headers["x-token"]) == ("HI!", "t")


async def test_services_are_served_on_several_transports_at_once(url: str) -> None:
    work = Work()
    work.go_on.set()
    urls = [url, f"{url}-other"]
    async with Server(work.service, url=urls):
        for number, each in enumerate(urls):
            async with Client(each) as client:
                assert await client.call("s.work", number) == number


async def test_a_server_can_start_again_after_it_stopped(url: str, client: Client) -> None:
    work = Work()
    work.go_on.set()
    server = Server(work.service, url=url)
    for number in range(2):
        async with server:
            assert await client.call("s.work", number) == number
        with pytest.raises(NoResponder):
            await client.call("s.work", number)


# -- stopping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("after, begun", [(3.9, [1, 2]), (4.1, [1])])
async def test_nothing_is_begun_in_the_last_second_of_the_grace_period(
    after: float, begun: list[int], url: str, client: Client
) -> None:
    work = Work()
    server = Server(work.service, url=url, concurrency=1)
    await server.start()
    waiting = calls(client, 1, 2)
    await until(lambda: server.in_flight == 2)
    stopping = asyncio.ensure_future(server.stop(grace=5))
    await asyncio.sleep(after)
    work.go_on.set()
    await stopping
    assert work.begun == begun
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_second_interrupt_ends_the_drain_and_callers_are_told(url: str, client: Client) -> None:
    work = Work()
    server = Server(work.service, url=url, concurrency=1, grace=60)
    running = asyncio.ensure_future(server.run())
    await until(lambda: server._working is not None)
    begun, waiting = calls(client, 1, 2)
    await until(lambda: work.begun == [1] and server.in_flight == 2)
    began = asyncio.get_running_loop().time()
    server._interrupt()
    await asyncio.sleep(1)
    assert not begun.done()
    server._interrupt()
    with pytest.raises(OutcomeUnknown, match="the server is stopping"):
        await begun
    await running
    assert asyncio.get_running_loop().time() - began < 2
    assert work.begun == [1]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_two_interrupts_before_the_drain_are_told_to_callers_too(url: str, client: Client) -> None:
    work = Work()
    server = Server(work.service, url=url, grace=60)
    running = asyncio.ensure_future(server.run())
    await until(lambda: server._working is not None)
    (call,) = calls(client, 1)
    await until(lambda: work.begun == [1])
    server._interrupt()
    server._interrupt()
    with pytest.raises(OutcomeUnknown, match="the server is stopping"):
        await call
    await running


async def test_an_interrupt_while_it_closes_does_not_cut_that_short(
    url: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, go_on, close = asyncio.Event(), asyncio.Event(), MemoryTransport.close

    async def slowly(self: MemoryTransport) -> None:
        closing.set()
        await go_on.wait()
        await close(self)

    monkeypatch.setattr(MemoryTransport, "close", slowly)
    server = Server(Work().service, url=url)
    running = asyncio.ensure_future(server.run())
    await until(lambda: server._working is not None)
    server._interrupt()
    await closing.wait()
    server._interrupt()
    await asyncio.sleep(BRIEF)
    go_on.set()
    await running
    assert not broker.served("s")


async def test_stopping_that_is_cancelled_goes_on(
    url: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, close = asyncio.Event(), MemoryTransport.close

    async def slowly(self: MemoryTransport) -> None:
        await go_on.wait()
        await close(self)

    monkeypatch.setattr(MemoryTransport, "close", slowly)
    server = Server(Work().service, url=url)
    await server.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.stop(), BRIEF)
    go_on.set()
    await server.stop()
    assert not broker.served("s")


async def test_stopping_lets_what_was_delivered_run_within_the_grace_period(url: str, client: Client) -> None:
    work = Work()
    server = Server(work.service, url=url, concurrency=1)
    await server.start()
    tasks = calls(client, 1, 2, 3)
    await until(lambda: server.in_flight == 3)
    stopping = asyncio.ensure_future(server.stop(grace=5))
    await asyncio.sleep(BRIEF)
    with pytest.raises(NoResponder):
        await client.call("s.work", 4)
    work.go_on.set()
    assert await asyncio.gather(*tasks) == [1, 2, 3]
    await stopping
    assert work.cancelled == []


async def test_what_has_not_begun_by_then_is_handed_back_in_order(
    url: str, client: Client, broker: MemoryBroker, serve: Serve
) -> None:
    work = Work()
    server = Server(work.service, url=url, concurrency=2)
    await server.start()
    tasks = calls(client, *range(10))
    await until(lambda: server.in_flight == 10 and len(work.begun) == 2)
    await server.stop(grace=0)
    assert work.begun == work.cancelled == [0, 1]
    assert broker.depth("s") == 8
    for task in tasks[:2]:
        with pytest.raises(OutcomeUnknown, match="the server is stopping"):
            await task
    again = Work()
    again.go_on.set()
    await serve(again.service, concurrency=1)
    assert await asyncio.gather(*tasks[2:]) == again.begun == list(range(2, 10))


async def test_begun_work_that_may_run_again_is_handed_back_when_it_is_stopped(
    url: str, client: Client, serve: Serve
) -> None:
    work = Work(idempotent=True)
    server = Server(work.service, url=url)
    await server.start()
    (task,) = calls(client, 7)
    await until(lambda: work.begun == [7])
    await server.stop(grace=0)
    assert work.cancelled == [7]
    again = Work(idempotent=True)
    again.go_on.set()
    await serve(again.service)
    assert await task == 7


async def test_stopping_twice_is_once_and_stopping_before_starting_is_nothing(url: str) -> None:
    server = Server(Work().service, url=url)
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()
    assert server.in_flight == 0


async def busy(url: str, client: Client) -> tuple[Server, Work, asyncio.Future[Any]]:
    """A server, and a call that it has begun."""
    work = Work()
    server = Server(work.service, url=url)
    await server.start()
    (call,) = calls(client, 1)
    await until(lambda: work.begun == [1])
    return server, work, call


async def test_whoever_stops_a_server_that_drains_waits_for_the_same_end(url: str, client: Client) -> None:
    server, work, call = await busy(url, client)
    stopping = [asyncio.ensure_future(server.stop()) for _ in range(2)]
    await asyncio.sleep(BRIEF)
    assert [each.done() for each in stopping] == [False, False]
    work.go_on.set()
    await asyncio.gather(*stopping)
    assert await call == 1


async def test_a_server_that_drains_is_not_started_before_its_end(url: str, client: Client) -> None:
    server, work, call = await busy(url, client)
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(BRIEF)
    with pytest.raises(UsageError, match="still stopping"):
        await server.start()
    work.go_on.set()
    await stopping
    assert await call == 1
    async with server:
        assert await client.call("s.work", 2) == 2


async def test_stopping_ends_the_threads_it_started(url: str, client: Client) -> None:
    service = Service("s")

    @service.method
    def work() -> str:
        return threading.current_thread().name

    before = set(threading.enumerate())
    async with Server(service, url=url):
        assert (await client.call("s.work")).startswith("rpckit-handler")
        assert len(set(threading.enumerate()) - before) == 2
    await until(lambda: not set(threading.enumerate()) - before)


async def test_stopping_leaves_no_address_behind(url: str, broker: MemoryBroker) -> None:
    async with Server(Work().service, url=url):
        assert broker.served("s")
    assert not broker.served("s")
    assert not list(broker.topics)


async def test_a_server_that_loses_its_connection_serves_again_when_it_is_back(client: Client, serve: Serve) -> None:
    work = Work()
    work.go_on.set()
    server = await serve(work.service)
    memory(server).drop()
    with pytest.raises(NoResponder):
        await client.call("s.work", 1)
    memory(server).restore()
    assert await client.call("s.work", 2) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_run_serves_until_a_signal_then_drains(number: signal.Signals, url: str, client: Client) -> None:
    work = Work()
    running = asyncio.ensure_future(Server(work.service, url=url).run())
    task = asyncio.ensure_future(client.call("s.work", 1, no_server="wait"))
    while not work.begun:
        await asyncio.sleep(0)
    os.kill(os.getpid(), number)
    await asyncio.sleep(BRIEF)
    assert not running.done()
    work.go_on.set()
    assert await task == 1
    await running


async def test_a_signal_while_it_connects_ends_it_in_order_and_at_once(
    url: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(MemoryTransport, "connect", forever)
    server = Server(Work().service, url=url)
    running = asyncio.ensure_future(server.run())
    await asyncio.sleep(BRIEF)
    server._interrupt()
    async with asyncio.timeout(BRIEF):
        await running
    assert caplog.messages == []
    monkeypatch.undo()
    async with server:
        assert broker.served("s")


async def test_a_signal_while_it_connects_to_another_broker_drains_what_runs(
    url: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = MemoryTransport.connect
    monkeypatch.setattr(
        MemoryTransport, "connect", lambda self, **how: connect(self, **how) if str(self.url) == url else forever()
    )
    work = Work()
    running = asyncio.ensure_future(Server(work.service, url=[url, "memory://other"]).run())
    call = asyncio.ensure_future(client.call("s.work", 1, no_server="wait"))
    await until(lambda: work.begun == [1])
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(BRIEF)
    assert not running.done()
    work.go_on.set()
    await running
    assert await call == 1


async def test_a_signal_at_any_moment_of_a_start_ends_it_in_order(url: str, broker: MemoryBroker) -> None:
    for turns in range(1, 30):
        server = Server(Work().service, url=url)
        running = asyncio.ensure_future(server.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        server._interrupt()
        await running
        assert not broker._loops
    assert server._starting is not None
    assert not server._starting.cancelled()  # it was serving by then


async def test_a_second_signal_while_a_start_is_cleaned_up_cancels_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryTransport, "connect", forever)
    monkeypatch.setattr(MemoryTransport, "close", forever)
    server = Server(Work().service, url=url)
    running = asyncio.ensure_future(server.run())
    everything = asyncio.all_tasks
    monkeypatch.setattr(asyncio, "all_tasks", lambda: everything() - {asyncio.current_task()})
    await asyncio.sleep(BRIEF)
    server._interrupt()
    await asyncio.sleep(BRIEF)
    assert not running.done()
    server._interrupt()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_run_ends_with_an_error_when_its_connection_is_lost_for_good(url: str, broker: MemoryBroker) -> None:
    server = Server(Work().service, url=url)
    running = asyncio.ensure_future(server.run())
    await until(lambda: broker.served("s"))
    await memory(server).close()
    with pytest.raises(NotSent, match="closed by this process"):
        await running


async def test_a_lost_connection_is_said_once_and_its_return_as_loudly(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where one transport has two connections, and tells of both."""
    async with Server(Work().service, url=url) as server:
        with caplog.at_level(logging.WARNING):
            memory(server).drop("lost")
            memory(server).tell_state(State.RECONNECTING, "lost")
            memory(server).restore()
    said = [each.getMessage() for each in caplog.records if each.name == "rpckit.server"]
    assert len(said) == 2
    assert "is reconnecting: lost" in said[0]
    assert "is connected again: " in said[1]


async def test_a_server_that_is_started_once_more_was_not_lost(url: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(Work().service, url=url)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await server.start()
            await server.stop()
    assert caplog.records == []


async def test_stopping_says_what_was_still_in_flight(
    url: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(Work().service, url=url)
    await server.start()
    tasks = calls(client, 1)
    await until(lambda: server.in_flight == 1)
    with caplog.at_level(logging.WARNING):
        await server.stop(grace=0)
    assert "with 1 calls in flight" in caplog.text
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_connection_lost_while_it_starts_is_not_sent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it may try again: no call can have run."""

    async def lose(*_: object, **__: object) -> None:
        raise ConnectionLost("closed by the broker")

    monkeypatch.setattr(MemoryTransport, "receive", lose)
    with pytest.raises(NotSent, match="closed by the broker"):
        await Server(Work().service, url=url).start()
