"""The client: every call ends, with the right error, and leaves its table once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sized
from dataclasses import replace
from typing import Any, NoReturn, cast

import pytest

from rpckit import (
    BadReply,
    Call,
    Client,
    ConnectionLost,
    Context,
    DeadlineExceeded,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Response,
    RpcError,
    Server,
    Service,
    Settings,
    TypedClient,
    UsageError,
)
from rpckit.memory import CAPABILITIES, MemoryBroker, MemoryTransport
from rpckit.message import Message
from rpckit.transport import OnMessage, State

Serve = Callable[..., Awaitable[Server]]
BRIEF = 0.01  # seconds: enough for a memory broker


class Desk:
    """A service whose work a test can watch and hold up."""

    def __init__(self) -> None:
        self.seen: list[Context] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.service = Service("desk")
        for method in (self.echo, self.hold, self.idle, self.plus):
            self.service.method(method)

    async def echo(self, value: Any, ctx: Context) -> Response:
        self.seen.append(ctx)
        return Response(value, headers={"x-token": "t"}, correlation_id="c-own")

    async def hold(self, ctx: Context) -> int:
        self.seen.append(ctx)
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return len(self.seen)

    async def idle(self) -> None: ...

    async def plus(self, a: int, b: int = 1) -> int:
        return a + b


@pytest.fixture
async def desk(serve: Serve) -> Desk:
    desk = Desk()
    await serve(desk.service, debug=True)
    return desk


def memory(client: Client) -> MemoryTransport:
    assert isinstance(client.transport, MemoryTransport)
    return client.transport


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other side is about to do."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.001)


async def settled(task: asyncio.Future[Any]) -> BaseException | None:
    """The error a call ended with, if any."""
    await asyncio.wait([task])
    return asyncio.CancelledError() if task.cancelled() else task.exception()


# -- calling ------------------------------------------------------------------------------------


async def test_call_returns_the_result(client: Client, desk: Desk) -> None:
    assert await client.call("desk.plus", 2, b=3) == 5
    assert await client.call("desk.idle") is None
    assert client.pending == 0


async def test_a_peer_has_the_methods_as_attributes(client: Client, desk: Desk) -> None:
    peer = client.at("desk")
    assert await peer.plus(2) == 3
    assert repr(peer) == f"<Peer 'desk' on {client.url}>"
    assert not hasattr(peer, "__deepcopy__")


async def test_a_peers_call_goes_to_the_only_method(client: Client, serve: Serve) -> None:
    service = Service("one")

    @service.method
    async def double(n: int) -> int:
        return 2 * n

    await serve(service)
    assert await client.at("one").call(4) == 8


async def test_headers_go_both_ways(client: Client, desk: Desk) -> None:
    await client.at("desk").using(headers={"user": "7"}).echo("hi")
    assert desk.seen[0].headers == {"user": "7"}


async def test_a_raw_request_gets_body_headers_and_the_responses_own_correlation_id(
    client: Client, serve: Serve
) -> None:
    service = Service("shout")

    @service.method
    async def shout(msg: str, ctx: Context) -> Response:
        return Response(msg.upper(), headers={"x-token": ctx.headers["user"]}, correlation_id="c-1")

    await serve(service)
    reply = await client.request("shout", "Hi!", headers={"user": "7"})
    assert (reply.body, reply.decode()) == (b"HI!", "HI!")
    assert reply.headers["x-token"] == "7"
    assert reply.correlation_id == "c-1"


async def test_a_body_that_cannot_be_sent_is_a_usage_error(client: Client) -> None:
    for body in (object(), "\ud800"):
        with pytest.raises(UsageError, match="cannot be sent"):
            await client.request("desk", body)
    with pytest.raises(UsageError, match="cannot be sent"):
        await client.call("desk.echo", object())


async def test_notify_runs_the_method_and_returns_nothing(client: Client, serve: Serve) -> None:
    service, ran = Service("log"), asyncio.Event()
    contexts: list[Context] = []

    @service.method(no_reply=True)
    async def write(line: str, ctx: Context) -> None:
        contexts.append(ctx)
        ran.set()

    await serve(service)
    assert await client.notify("log.write", "a line") is None  # type: ignore[func-returns-value]
    await asyncio.wait_for(ran.wait(), 1)
    assert (contexts[0].caller, contexts[0].attempt) == ("", 1)


@pytest.mark.parametrize("method", ["write", ""])
@pytest.mark.parametrize("dialect", ["native", "plain"])
async def test_a_peer_is_notified_by_address_and_method_whatever_is_spoken(
    url: str, serve: Serve, dialect: str, method: str
) -> None:
    """A plain message names no method: its one is left out, and the only one is meant."""
    service, ran = Service("my.log"), asyncio.Event()
    lines: list[str] = []

    @service.method
    async def write(line: str) -> None:
        lines.append(line)
        ran.set()

    await serve(service)
    async with Client(url, dialect=dialect) as client:
        await client.at("my.log").using(timeout=1).notify(method, "a line")
        await asyncio.wait_for(ran.wait(), 1)
    assert lines == ["a line"]


async def test_a_notification_may_wait_for_its_server_and_outlive_the_broker(client: Client, serve: Serve) -> None:
    """`timeout` is the time until it is not worth beginning; `idempotent` asks the broker to keep it."""
    sent: list[Message] = []
    send = client.transport.send

    async def note(message: Message, **options: Any) -> None:
        sent.append(message)
        await send(message, **options)

    client.transport.send = note  # type: ignore[method-assign]
    await client.notify("log.write", 1, timeout=None, idempotent=True, no_server="wait")
    await client.notify("log.write", 2, no_server="wait")
    assert [(message.time_left_ms is None, message.persistent) for message in sent] == [(True, True), (False, False)]


async def test_notify_tells_when_nobody_serves(client: Client) -> None:
    with pytest.raises(NoResponder):
        await client.notify("nobody.write", "a line")


async def test_no_server_wait_queues_for_a_server_to_come(client: Client, serve: Serve) -> None:
    task = asyncio.ensure_future(client.call("desk.plus", 1, no_server="wait"))
    await asyncio.sleep(0)
    await serve(Desk().service)
    assert await task == 2


async def test_a_typed_client_refuses_what_the_method_does_not_promise(url: str, desk: Desk) -> None:
    from pydantic import TypeAdapter

    class DeskClient(TypedClient):
        address = "desk"

        async def plus(self, a: Any) -> int:
            return await self._call("plus", TypeAdapter(int), (a,))

        async def echo(self, value: Any) -> int:
            return await self._call("echo", TypeAdapter(int), (value,), idempotent=True)

    async with DeskClient(url) as typed:
        assert await typed.using(timeout=1).plus(1) == 2
        with pytest.raises(BadReply, match=r"desk\.echo returned something else"):
            await typed.echo("text")


@pytest.mark.parametrize("options", [{"timeout": float("inf")}, {"headers": {"user": 7}}])
async def test_options_that_cannot_be_are_refused_before_anything_is_sent(
    options: dict[str, Any], client: Client, desk: Desk
) -> None:
    with pytest.raises(UsageError):
        await client.call("desk.idle", **options)
    assert client.pending == 0


def test_settings_and_overrides_cannot_both_be_given(url: str) -> None:
    with pytest.raises(UsageError, match="both given"):
        Client(url, settings=Settings(), timeout=3)


# -- every call ends ------------------------------------------------------------------------------


async def test_nobody_serving_is_known_at_once(client: Client) -> None:
    with pytest.raises(NoResponder, match="nobody serves 'nobody'"):
        await client.call("nobody.fib", 30)
    assert client.pending == 0


async def test_the_deadline_ends_a_call(client: Client, desk: Desk) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.call("desk.hold", timeout=BRIEF)
    assert client.pending == 0


async def test_a_deadline_already_past_ends_a_call(client: Client, desk: Desk) -> None:
    with pytest.raises(RpcError):
        await client.call("desk.hold", timeout=-1)
    assert client.pending == 0


async def test_reply_after_the_deadline_is_counted_not_raised(client: Client, serve: Serve) -> None:
    service, go_on = Service("late"), asyncio.Event()

    @service.method
    async def stubborn() -> int:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass
        await go_on.wait()
        return 1

    await serve(service)
    with pytest.raises(DeadlineExceeded):
        await client.call("late.stubborn", timeout=0.02)
    go_on.set()
    await until(lambda: client.late_replies == 1)


async def test_reply_after_cancel_is_counted_not_raised(client: Client, serve: Serve) -> None:
    service, begun = Service("late"), asyncio.Event()

    @service.method
    async def stubborn() -> int:
        begun.set()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass
        return 1

    await serve(service)
    task = asyncio.ensure_future(client.call("late.stubborn"))
    await begun.wait()
    task.cancel()
    assert isinstance(await settled(task), asyncio.CancelledError)
    await until(lambda: client.late_replies == 1)
    assert client.pending == 0


async def test_cancelling_a_call_cancels_the_work(client: Client, desk: Desk) -> None:
    task = asyncio.ensure_future(client.call("desk.hold"))
    await desk.begun.wait()
    task.cancel()
    assert isinstance(await settled(task), asyncio.CancelledError)
    assert client.pending == 0
    await until(lambda: desk.cancelled == 1)


async def test_wait_for_around_a_call_cancels_the_work(client: Client, desk: Desk) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.call("desk.hold"), 0.03)
    await until(lambda: desk.cancelled == 1)


async def test_a_full_table_makes_calls_wait_then_not_sent(url: str, desk: Desk) -> None:
    async with Client(url, max_pending=1, send_wait=BRIEF) as client:
        first = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        with pytest.raises(NotSent, match="1 calls are already pending; raise max_pending"):
            await client.call("desk.plus", 1)
        desk.go_on.set()
        assert await first == 1


async def test_who_waited_for_room_in_vain_is_told_so_though_another_gets_some_just_then(url: str) -> None:
    async with Client(url, max_pending=1) as client:
        connecting, now = client._connecting, asyncio.get_running_loop().time()
        with pytest.raises(NotSent, match="1 calls are already pending; raise max_pending"):
            await connecting.gate.wait(now, connecting._not_ready)


async def test_a_call_waiting_for_room_goes_as_soon_as_there_is_some(url: str, desk: Desk) -> None:
    async with Client(url, max_pending=1) as client:
        first = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        waiting = [asyncio.ensure_future(client.call("desk.plus", n)) for n in range(3)]
        await asyncio.sleep(0)
        desk.go_on.set()
        assert await asyncio.gather(first, *waiting) == [1, 1, 2, 3]


async def test_what_takes_no_room_passes_it_on(url: str, desk: Desk) -> None:
    """A call that is refused once it was let through has no reply whose coming would let the next one through."""
    async with Client(url, max_pending=1, send_wait=1, max_body=64) as client:
        first = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        refused = asyncio.ensure_future(client.call("desk.echo", "x" * 65))
        await asyncio.sleep(0)
        behind = asyncio.ensure_future(client.call("desk.plus", 1))
        await asyncio.sleep(0)
        desk.go_on.set()
        await first
        with pytest.raises(UsageError, match="over max_body"):
            await refused
        assert await behind == 2


async def test_what_takes_no_room_does_not_wait_for_any(url: str, desk: Desk) -> None:
    async with Client(url, max_pending=1, send_wait=BRIEF) as client:
        first = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        await client.notify("desk.idle")
        await client.emit("desk.news")
        await client.survey("ping", wait=BRIEF)
        await client.wait_ready(BRIEF)
        desk.go_on.set()
        assert await first == 1


async def test_a_call_cancelled_while_it_waits_for_room_leaves_the_room_to_others(url: str, desk: Desk) -> None:
    async with Client(url, max_pending=1) as client:
        first = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        gone, other = (asyncio.ensure_future(client.call("desk.plus", n)) for n in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        desk.go_on.set()
        assert await other == 3
        assert await first == 1
        assert isinstance(await settled(gone), asyncio.CancelledError)


async def test_a_call_waiting_for_room_ends_by_its_own_deadline(url: str, desk: Desk) -> None:
    async with Client(url, max_pending=1) as client:
        first = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        with pytest.raises(NotSent):
            await client.call("desk.plus", 1, timeout=BRIEF)
        desk.go_on.set()
        await first


@pytest.mark.parametrize("state", ["dropped", "blocked"])
async def test_a_call_without_a_connection_waits_then_is_not_sent(url: str, desk: Desk, state: str) -> None:
    async with Client(url, send_wait=BRIEF) as client:
        memory(client).drop() if state == "dropped" else memory(client).block()
        with pytest.raises(NotSent, match="reconnecting" if state == "dropped" else "blocked"):
            await client.call("desk.plus", 1)
        later = asyncio.ensure_future(client.call("desk.plus", 1))
        await asyncio.sleep(0)
        memory(client).restore()
        assert await later == 2


async def test_closing_ends_what_is_pending_and_what_comes_later(url: str, desk: Desk) -> None:
    client = Client(url)
    pending = asyncio.ensure_future(client.call("desk.hold"))
    await desk.begun.wait()
    await client.close()
    await client.close()
    assert isinstance(await settled(pending), ConnectionLost)
    with pytest.raises(NotSent, match="closed"):
        await client.call("desk.plus", 1)
    assert client.state is State.CLOSED


async def test_closing_ends_a_call_that_waits_for_a_connection(url: str) -> None:
    client = Client(url)
    await client.connect()
    memory(client).drop()
    waiting = asyncio.ensure_future(client.call("desk.plus", 1))
    await asyncio.sleep(0)
    await client.close()
    assert isinstance(await settled(waiting), NotSent)


async def test_a_body_over_the_limit_is_not_sent(url: str, desk: Desk) -> None:
    async with Client(url, max_body=100) as client:
        with pytest.raises(UsageError, match=r"over max_body \(100\)"):
            await client.call("desk.echo", "x" * 200)
        assert client.pending == 0


async def test_a_reply_over_the_limit_is_a_bad_reply(url: str, serve: Serve) -> None:
    service = Service("big")

    @service.method
    async def big() -> str:
        return "x" * 200

    await serve(service)
    async with Client(url, max_body=100) as client:
        with pytest.raises(BadReply, match=r"over max_body \(100\)"):
            await client.call("big.big")


async def test_a_reply_that_cannot_be_read_is_a_bad_reply(client: Client, serve: Serve) -> None:
    service = Service("odd")

    @service.method
    async def odd() -> None: ...

    server = await serve(service)
    (link,) = server._dispatcher.links  # type: ignore[union-attr]
    transport = link.transport
    assert isinstance(transport, MemoryTransport)
    route = transport.route_reply

    def garble(message: Message) -> None:
        message.body = b"\xc1"
        route(message)

    transport.route_reply = garble  # type: ignore[method-assign]
    with pytest.raises(BadReply):
        await client.call("odd.odd")


# -- lost connections -----------------------------------------------------------------------------


async def test_a_lost_connection_ends_calls_that_may_not_run_twice(client: Client, desk: Desk) -> None:
    task = asyncio.ensure_future(client.call("desk.hold"))
    await desk.begun.wait()
    memory(client).drop("the cable was pulled")
    error = await settled(task)
    assert isinstance(error, ConnectionLost)
    assert "the cable was pulled" in str(error)
    assert client.pending == 0


async def test_each_caller_of_a_lost_connection_gets_an_error_of_its_own(client: Client, desk: Desk) -> None:
    tasks = [asyncio.ensure_future(client.call("desk.hold")) for _ in range(3)]
    await desk.begun.wait()
    memory(client).drop()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, ConnectionLost) for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_an_idempotent_call_is_sent_again_after_a_lost_connection(client: Client, desk: Desk) -> None:
    task = asyncio.ensure_future(client.call("desk.hold", idempotent=True))
    await desk.begun.wait()
    memory(client).drop()
    memory(client).restore()
    desk.go_on.set()
    assert await task == 2
    first, second = desk.seen
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.message_id == second.message_id
    assert first.correlation_id != second.correlation_id
    assert first.caller != second.caller


async def test_from_the_second_attempt_on_no_responder_is_outcome_unknown(
    client: Client, serve: Serve, desk: Desk
) -> None:
    task = asyncio.ensure_future(client.call("desk.hold", idempotent=True))
    await desk.begun.wait()
    memory(client).drop()
    desk.go_on.set()
    for receiver in list(memory(client).broker.queue("desk").receivers):
        await receiver.stop()
    memory(client).restore()
    error = await settled(task)
    assert type(error) is OutcomeUnknown
    assert "this attempt did not run, but an earlier one may have: nobody serves" in str(error)


async def test_a_first_attempt_that_did_not_run_is_told_as_it_is(client: Client) -> None:
    with pytest.raises(NoResponder):
        await client.call("nobody.fib", idempotent=True)


async def test_a_lost_connection_that_stays_away_ends_an_idempotent_call(url: str, desk: Desk) -> None:
    async with Client(url, send_wait=BRIEF) as client:
        task = asyncio.ensure_future(client.call("desk.hold", idempotent=True, timeout=5 * BRIEF))
        began = asyncio.get_running_loop().time()
        await desk.begun.wait()
        memory(client).drop()
        assert type(await settled(task)) is OutcomeUnknown
        assert asyncio.get_running_loop().time() - began >= 4 * BRIEF  # its own time, not `send_wait`


# -- middleware -----------------------------------------------------------------------------------


async def test_middleware_may_retry_with_the_same_message_id_and_the_next_attempt(url: str, desk: Desk) -> None:
    async def twice(call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        await call_next(call)
        return await call_next(call)

    async with Client(url, middleware=[twice]) as client:
        assert await client.call("desk.echo", "hi") == "hi"
    first, second = desk.seen
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.message_id == second.message_id
    assert first.correlation_id != second.correlation_id


async def test_a_retry_of_middleware_keeps_the_first_attempts_doubt(url: str, desk: Desk) -> None:
    async def retry(call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        try:
            return await call_next(call)
        except ConnectionLost:
            call.address = "nobody"
            return await call_next(call)

    async with Client(url, middleware=[retry]) as client:
        task = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
        memory(client).drop()
        memory(client).restore()
        assert type(await settled(task)) is OutcomeUnknown


async def test_middleware_sees_and_changes_headers_and_results(url: str, desk: Desk) -> None:
    async def stamp(call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        call.headers["trace"] = f"{call.address}.{call.method}"
        return [await call_next(call)]

    async with Client(url, middleware=[stamp]) as client:
        assert await client.call("desk.echo", 1) == [1]
    assert desk.seen[0].headers == {"trace": "desk.echo"}


# -- event loops ----------------------------------------------------------------------------------


class SlowInbox(MemoryTransport):
    """Is connected for a while before it can hear replies, as a broker's transport is."""

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        await asyncio.sleep(0.002)
        await super().open_inbox(on_message, pending)


class CountingTransport(MemoryTransport):
    """Looks at what is pending, as a transport that divides what it writes by that."""

    pending: Sized = ()

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        self.pending = pending
        await super().open_inbox(on_message, pending)


class UnwillingTransport(MemoryTransport):
    """Connects at the third attempt."""

    attempts = 0

    async def connect(self, *, serve: bool = False) -> None:
        self.attempts += 1
        if self.attempts < 3:
            raise NotSent("no route to the broker")
        await super().connect(serve=serve)


class DeskClient(TypedClient):
    address = "desk"


class RefusedTransport(MemoryTransport):
    async def connect(self, *, serve: bool = False) -> None:
        raise UsageError("no such user")


class HeldTransport(MemoryTransport):
    """Each attempt to connect ends as the test says: with an error, or well."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def connect(self, *, serve: bool = False) -> None:
        outcome = await self.outcomes.get()
        if outcome is not None:
            raise outcome
        await super().connect(serve=serve)


class UnservingTransport(MemoryTransport):
    """Has sessions, and nothing can be served on them."""

    capabilities = replace(CAPABILITIES, sessions=True)

    async def receive(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError("one address too many")


@pytest.fixture
def held(url: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of a `HeldTransport`."""
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: HeldTransport)
    return Client(url)


def tell(client: Client, *outcomes: Exception | None) -> None:
    """How the next attempts to connect end."""
    assert isinstance(client.transport, HeldTransport)
    for outcome in outcomes:
        client.transport.outcomes.put_nowait(outcome)


async def test_a_call_waits_until_its_reply_can_be_heard(url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: SlowInbox)
    client = Client(url, timeout=1)
    assert await asyncio.gather(*(client.call("desk.plus", n) for n in range(3))) == [1, 2, 3]
    await client.close()


async def test_a_client_without_async_with_keeps_trying_to_connect(
    url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: UnwillingTransport)
    monkeypatch.setattr("rpckit.connecting.random.random", lambda: 0.99)
    monkeypatch.setattr("rpckit.connecting.Backoff.delay", lambda *_: 0.001)
    client = Client(url)
    assert await client.call("desk.plus", 1) == 2
    await client.close()


async def test_a_client_that_was_not_entered_leaves_nothing_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that came later would belong to nobody."""
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: SlowInbox)
    for entered in (Client(url), DeskClient(url)):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), entered:
                raise AssertionError("it connects slowly")
        client = entered if isinstance(entered, Client) else entered.client
        assert client.state is State.CLOSED
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), "3"])
async def test_waiting_to_be_ready_takes_seconds(url: str, timeout: Any) -> None:
    async with Client(url) as client:
        with pytest.raises(UsageError, match="timeout is in seconds, or None to wait for ever"):
            await client.wait_ready(timeout)
        await client.wait_ready(None)


async def test_a_call_that_finds_no_connection_names_the_place_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: UnwillingTransport)
    async with asyncio.timeout(5):
        client = Client(url, send_wait=0.01)
        with pytest.raises(NotSent) as told:
            await client.call("desk.plus", 1)
        await client.close()
    assert str(told.value) == "no route to the broker"


async def test_the_transport_is_told_how_many_calls_are_pending(
    url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: CountingTransport)
    async with Client(url) as client:
        counting = cast(CountingTransport, client.transport)
        call = asyncio.ensure_future(client.call("desk.plus", 1))
        await asyncio.sleep(0)
        assert len(counting.pending) == client.pending == 1
        assert await call == 2
        assert len(counting.pending) == 0


async def test_connect_fails_at_once_and_can_be_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: UnwillingTransport)
    client = Client(url)
    for _ in range(2):
        with pytest.raises(NotSent, match="no route"):
            await client.connect()
    await client.connect()
    assert client.state is State.CONNECTED
    await client.close()


async def test_a_refusal_for_good_ends_waiting_calls_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: RefusedTransport)
    client = Client(url)
    for _ in range(2):
        with pytest.raises(UsageError, match="no such user"):
            await client.call("desk.plus", 1)
    await client.close()


@pytest.mark.parametrize("change", [MemoryTransport.drop, MemoryTransport.block])
async def test_what_the_transport_tells_while_the_client_connects_stays_so(
    url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch, change: Callable[[MemoryTransport], None]
) -> None:
    class Changing(MemoryTransport):
        async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
            await super().open_inbox(on_message, pending)
            change(self)

    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: Changing)
    client = Client(url)
    call = asyncio.ensure_future(client.call("desk.plus", 1))
    await asyncio.sleep(BRIEF)
    assert client.state is (State.BLOCKED if change is MemoryTransport.block else State.RECONNECTING)
    assert not call.done()
    memory(client).restore()
    assert await call == 2
    await client.close()


async def test_connect_tells_that_the_connection_was_lost_meanwhile(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(MemoryTransport):
        async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
            self.drop("lost on the way")
            raise ConnectionLost("lost on the way")

    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: Lost)
    client = Client(url)
    with pytest.raises(NotSent, match="lost on the way"):
        await client.connect()
    await client.close()


async def test_a_client_that_cannot_serve_does_not_connect(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: UnservingTransport)
    client = Client(url, expose=Desk().service)
    for _ in range(2):
        with pytest.raises(UsageError, match="one address too many"):
            await client.connect()
    await client.close()


async def test_a_call_that_joined_a_connect_that_fails_is_tried_for(desk: Desk, held: Client) -> None:
    connecting = asyncio.ensure_future(held.connect())
    await asyncio.sleep(0)
    call = asyncio.ensure_future(held.call("desk.plus", 1))
    await asyncio.sleep(0)
    tell(held, NotSent("no route"), None)
    assert isinstance(await settled(connecting), NotSent)
    assert await call == 2
    await held.close()


async def test_connect_fails_at_once_also_beside_somebody_who_waits(held: Client) -> None:
    waiting = asyncio.ensure_future(held.wait_ready(None))
    await asyncio.sleep(0)
    connecting = asyncio.ensure_future(held.connect())
    tell(held, NotSent("no route"))
    assert isinstance(await settled(connecting), NotSent)
    assert not waiting.done()
    tell(held, None)
    await waiting
    await held.close()


async def test_what_nobody_expected_of_connecting_is_logged_and_told_to_all_who_wait(
    held: Client, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = [asyncio.ensure_future(held.wait_ready(None)) for _ in range(2)]
    tell(held, UnicodeError("label empty"))
    for each in waiting:
        with pytest.raises(NotSent, match="label empty"):
            await each
    assert "label empty" in caplog.text
    await held.close()


if sys.version_info >= (3, 12):

    async def test_a_call_in_an_eager_task_finds_the_connection_that_it_made(url: str, desk: Desk) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        client = Client(url)
        assert await client.call("desk.plus", 1) == 2
        await client.close()

    async def test_connecting_that_fails_in_an_eager_task_can_be_tried_again(
        url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rpckit.registry.load_transport", lambda scheme: UnwillingTransport)
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        client = Client(url)
        with pytest.raises(NotSent, match="no route"):
            await client.connect()
        assert await client.call("desk.plus", 1) == 2
        await client.close()


def test_a_client_used_in_two_event_loops_in_turn_works(url: str, broker: MemoryBroker) -> None:
    client = Client(url)

    async def work() -> int:
        service = Service("s")

        @service.method
        async def plus(a: int) -> int:
            return a + 1

        async with Server(service, url=url):
            result: int = await client.call("s.plus", 1)
            return result

    assert [asyncio.run(work()), asyncio.run(work())] == [2, 2]


async def test_a_call_cancelled_together_with_its_client_cancels_its_work(serve: Serve, url: str) -> None:
    """The cancel leaves before the connection does; that the caller is gone would be found out later."""
    begun, cancelled, service = asyncio.Event(), asyncio.Event(), Service("numbers")

    @service.method
    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def use() -> None:
        async with Client(url) as client:
            await client.call("numbers.wait")

    await serve(service)
    using = asyncio.create_task(use())
    await begun.wait()
    using.cancel()
    await asyncio.wait([using])
    async with asyncio.timeout(5):
        await cancelled.wait()


# -- closing ----------------------------------------------------------------------------------------


async def test_a_client_that_is_closed_cancels_its_work(url: str, desk: Desk) -> None:
    async with Client(url) as client:
        call = asyncio.ensure_future(client.call("desk.hold"))
        await desk.begun.wait()
    assert isinstance(await settled(call), ConnectionLost)
    await until(lambda: desk.cancelled == 1)


async def test_closing_that_is_cancelled_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ended, close = asyncio.Event(), asyncio.Event(), MemoryTransport.close

    async def slowly(self: MemoryTransport) -> None:
        await go_on.wait()
        await close(self)
        ended.set()

    monkeypatch.setattr(MemoryTransport, "close", slowly)
    client = Client(url)
    await client.connect()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.close(), BRIEF)
    go_on.set()
    await client.close()
    assert ended.is_set()


async def test_a_closed_client_says_so(url: str, desk: Desk) -> None:
    client = Client(url)
    await client.connect()
    await client.close()
    with pytest.raises(NotSent, match="the client is closed"):
        await client.call("desk.plus", 1)


async def test_connecting_that_closing_ends_is_not_sent(held: Client) -> None:
    connecting = asyncio.ensure_future(held.connect())
    await asyncio.sleep(BRIEF)
    await held.close()
    error = await settled(connecting)
    assert isinstance(error, NotSent)
    assert "the client is closed" in str(error)


async def test_connecting_that_ends_just_as_the_client_closes_leaves_it_closed(url: str, desk: Desk) -> None:
    client = Client(url)
    closing = asyncio.ensure_future(client.close())
    late = [asyncio.ensure_future(client.connect()), asyncio.ensure_future(client.call("desk.hold", timeout=None))]
    await closing
    assert client.state is State.CLOSED
    for each in late:
        assert isinstance(await settled(each), NotSent)


def test_a_client_closed_before_it_connected_opens_only_in_another_event_loop(url: str, broker: MemoryBroker) -> None:
    client = Client(url)

    async def close_first() -> None:
        await client.close()
        with pytest.raises(NotSent, match="the client is closed"):
            await client.connect()

    async def connect() -> None:
        async with client:
            assert client.state is State.CONNECTED

    asyncio.run(close_first())
    asyncio.run(connect())


async def test_a_client_of_an_event_loop_that_runs_is_refused_in_another_thread(client: Client, desk: Desk) -> None:
    """It started over there, with the connection and the calls of the first loop left to nobody."""
    assert await client.call("desk.plus", 1, 1) == 2
    transport = client.transport
    for use in (client.connect(), client.close(), client.call("desk.plus", 1, 1)):
        with pytest.raises(UsageError, match="runs in another thread"):
            await asyncio.to_thread(asyncio.run, use)
    assert await client.call("desk.plus", 1, 1) == 2
    assert client.transport is transport


# -- what cannot be ---------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
async def test_a_call_without_any_time_is_refused(url: str, desk: Desk, timeout: float) -> None:
    async with Client(url) as client:
        for send in (client.call, client.notify):
            with pytest.raises(UsageError, match="timeout is more than 0 seconds"):
                await send("desk.idle", timeout=timeout)


async def test_what_is_no_target_and_what_are_no_headers_is_said(url: str) -> None:
    given: Any = 3
    async with Client(url) as client:
        with pytest.raises(UsageError, match=r'a target is "address.method", not 3'):
            await client.call(given)
        with pytest.raises(UsageError, match="headers are a mapping of strings, not 3"):
            await client.call("desk.plus", headers=given)
    with pytest.raises(UsageError, match="a URL is text, not int"):
        Client(given)


@pytest.mark.parametrize("layer", [3, lambda call: call, dict])
def test_what_cannot_be_middleware_is_refused(url: str, layer: Any) -> None:
    with pytest.raises(UsageError, match=r"middleware is `async def m\(context, call_next\)`"):
        Client(url, middleware=[layer])
