"""From a delivery to its reply: each is settled once, with what its caller is owed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from pydantic import BaseModel, field_validator

from rpckit import (
    CallLogFilter,
    Client,
    Context,
    DeadlineExceeded,
    Expired,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RemoteCancelled,
    RemoteError,
    Response,
    RpcError,
    Server,
    Service,
    UnencodableResult,
    UsageError,
    current_context,
)
from rpckit.bodies import write_arguments
from rpckit.call import cancel_topic, read_error, read_value
from rpckit.context import MAX_DEPTH
from rpckit.dispatch import OTHERS_FIRST_S
from rpckit.events import EventDelivery
from rpckit.memory import CAPABILITIES, MemoryBroker, MemoryTransport, _MemoryDelivery
from rpckit.message import CONTRACT_HEADER, NATIVE, PLAIN, Kind, Message
from rpckit.schema import contract_of, method_fingerprint
from rpckit.threads import MAX_THREADS
from rpckit.transport import OnBegun, TransportOptions
from rpckit.url import Url

OPTIONS = TransportOptions.model_validate({})
Serve = Callable[..., Awaitable[Server]]
BRIEF = 0.01  # seconds: enough for a memory broker


class Wire:
    """A caller that writes its own envelopes, and keeps what comes back."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.replies: list[Message] = []
        self.came = asyncio.Event()

    async def send(self, target: str, *args: Any, **fields: Any) -> Message:
        address, _, method = target.rpartition(".")
        body, content_type = write_arguments(NATIVE, "", args, {})
        message = Message(Kind.REQUEST, address, method, "m-1", "c-1", self.transport.inbox, content_type, body=body)
        for name, value in fields.items():
            setattr(message, name, value)
        await self.transport.send(message)
        return message

    async def reply(self) -> Message:
        await asyncio.wait_for(self.came.wait(), 1)
        self.came.clear()
        return self.replies[-1]

    async def cancel(self, request: Message) -> None:
        cancel = Message(Kind.CANCEL, request.address)
        cancel.correlation_id, cancel.reply_to = request.correlation_id, request.reply_to
        await self.transport.publish(cancel_topic(request.address), cancel)

    def take(self, message: Message) -> None:
        self.replies.append(message)
        self.came.set()


@pytest.fixture
async def wire(url: str, broker: MemoryBroker) -> AsyncIterator[Wire]:
    transport = MemoryTransport(Url.parse(url), OPTIONS)
    await transport.connect()
    wire = Wire(transport)
    await transport.open_inbox(wire.take)
    yield wire
    await transport.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other side is about to do."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.001)


def unsettled(server: Server) -> int:
    """Deliveries the broker still waits for."""
    assert server._dispatcher is not None
    return sum(len(cast(Any, receiver).unsettled) for receiver in server._dispatcher.links[0].receivers)


def service_of(*methods: Any, name: str = "s", **options: Any) -> Service:
    service = Service(name)
    for method in methods:
        service.method(**options)(method)
    return service


# -- the errors -------------------------------------------------------------------------------------


async def fib(n: int) -> int:
    return n


async def fail() -> None:
    raise KeyError("the secret inside")


async def unencodable() -> object:
    return object()


async def slow() -> None:
    await asyncio.sleep(10)


async def test_six_things_that_go_wrong_are_six_different_errors(client: Client, serve: Serve) -> None:
    await serve(service_of(fib, fail, unencodable, slow))
    errors = [
        await asyncio.gather(call, return_exceptions=True)
        for call in (
            client.call("s.unknown", 30),
            client.call("s.fib", "thirty"),
            client.call("s.fail"),
            client.call("s.unencodable"),
            client.call("nobody.fib", 30),
            client.call("s.slow", timeout=BRIEF),
        )
    ]
    assert [type(error) for (error,) in errors] == [
        MethodNotFound,
        InvalidArgument,
        InternalError,
        UnencodableResult,
        NoResponder,
        DeadlineExceeded,
    ]


async def test_an_unknown_method_names_those_there_are(client: Client, serve: Serve) -> None:
    await serve(service_of(fib, fail))
    with pytest.raises(MethodNotFound, match="has no method 'fob'; it has fib, fail"):
        await client.call("s.fob")
    with pytest.raises(MethodNotFound, match="name one of fib, fail"):
        await client.at("s").call(30)


@pytest.mark.parametrize("debug", [False, True])
async def test_only_debug_shows_what_a_handler_raised(debug: bool, client: Client, serve: Serve, caplog: Any) -> None:
    await serve(service_of(fail), debug=debug)
    with caplog.at_level(logging.CRITICAL), pytest.raises(InternalError) as caught:
        await client.call("s.fail")
    shown = f"{caught.value} {caught.value.details}"
    assert ("the secret inside" in shown) is debug
    assert ("Traceback" in shown) is debug
    assert caught.value.type == ("KeyError" if debug else "InternalError")


async def test_the_log_has_the_cause_and_the_error_id_the_caller_was_given(
    client: Client, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    await serve(service_of(fail))
    with pytest.raises(InternalError) as caught:
        await client.call("s.fail")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert caught.value.error_id
    assert caught.value.error_id in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert vars(record)["rpc_method"] == "s.fail"


@pytest.mark.parametrize(
    "error",
    [
        PermissionDenied("not you"),
        RemoteError("gone", code="NOT_FOUND", details={"id": 7}),
        RemoteError("busy", retryable=True),
    ],
)
async def test_an_error_raised_on_purpose_reaches_the_caller_as_it_is(
    error: RemoteError, client: Client, serve: Serve
) -> None:
    async def refuse() -> None:
        raise error

    await serve(service_of(refuse))
    with pytest.raises(type(error)) as caught:
        await client.call("s.refuse")
    assert (caught.value.code, caught.value.message) == (error.code, error.message)
    assert (caught.value.details, caught.value.retryable) == (error.details, error.retryable)
    assert caught.value.error_id is None


class InsufficientFunds(Exception):
    """A class of the service's own."""


class WellInsufficient(InsufficientFunds): ...


class Frozen(RemoteError):
    default_code = "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    "error, code, name",
    [
        (InsufficientFunds("7 missing"), "UNKNOWN", "InsufficientFunds"),
        (WellInsufficient("7 missing"), "UNKNOWN", "InsufficientFunds"),
        (Frozen("7 missing", details={"since": 1}), "FAILED_PRECONDITION", "Frozen"),
    ],
)
async def test_a_declared_error_travels_with_its_text_under_its_declared_name(
    client: Client, serve: Serve, error: Exception, code: str, name: str
) -> None:
    service = Service("bank")

    @service.method(raises=[InsufficientFunds, Frozen])
    async def pay() -> None:
        raise error

    await serve(service)
    with pytest.raises(RemoteError, match="7 missing") as raised:
        await client.call("bank.pay")
    assert (raised.value.code, raised.value.type, raised.value.error_id) == (code, name, None)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument(ValueError("x")),  # type: ignore[arg-type]
        RemoteError("x", details={"lock": threading.Lock()}),
        RemoteError("\ud800"),
        RemoteError("x", code="\ud800"),
        RemoteError("x", details={"much": "x" * 2_000_000}),
        RemoteError("x", type="x" * 2_000_000),
    ],
    ids=["made of an exception", "details", "message", "code", "large details", "a large type"],
)
async def test_an_error_that_does_not_fit_the_wire_still_ends_the_call(
    error: RemoteError, client: Client, serve: Serve, wire: Wire
) -> None:
    async def refuse() -> None:
        raise error

    await serve(service_of(refuse))
    with pytest.raises(RemoteError):
        await client.call("s.refuse", timeout=1)
    await wire.send("s.refuse", dialect=PLAIN)
    assert (await wire.reply()).kind is Kind.FAULT


async def test_surrogates_in_a_strangers_json_end_in_an_answer(wire: Wire, serve: Serve) -> None:
    await serve(service_of(fib))
    await wire.send("s.fib", content_type="application/json", body=b'{"args":[],"kwargs":{"\\ud800":1}}')
    assert isinstance(read_error(await wire.reply()), InvalidArgument)


async def test_a_handler_that_cancels_itself_is_cancelled_for_its_caller(client: Client, serve: Serve) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    await serve(service_of(give_up))
    with pytest.raises(RemoteCancelled):
        await client.call("s.give_up")


async def test_a_result_over_the_limit_is_unencodable(client: Client, serve: Serve) -> None:
    async def big() -> str:
        return "x" * 200

    await serve(service_of(big), max_body=100)
    with pytest.raises(UnencodableResult, match=r"ran, but .* over max_body \(100\)"):
        await client.call("s.big")


async def test_a_request_over_the_limit_is_refused_before_decoding(client: Client, serve: Serve) -> None:
    await serve(service_of(fib), max_body=100)
    with pytest.raises(InvalidArgument, match=r"over max_body \(100\)"):
        await client.call("s.fib", "x" * 200)


async def test_an_event_over_the_limit_is_not_sent(serve: Serve) -> None:
    server = await serve(service_of(fib), max_body=100)
    with pytest.raises(UsageError, match=r"over max_body \(100\)"):
        await server.emit("said", "x" * 200)


async def test_a_server_whose_handlers_all_wait_for_nested_calls_takes_only_these(
    wire: Wire, client: Client, serve: Serve
) -> None:
    server = await serve(service_of(fib))
    server._dispatcher.lending.most = 0  # type: ignore[union-attr]
    with pytest.raises(Overloaded, match="0 handlers wait for nested calls here"):
        await client.call("s.fib", 1)
    await wire.send("s.fib", 1, depth=1)
    assert (await wire.reply()).kind is Kind.REPLY


async def test_nested_calls_that_find_no_room_to_wait_in_end_those_that_wait_for_them(
    client: Client, serve: Serve
) -> None:
    async def nest(depth: int) -> int:
        return 1 + await client.call("s.nest", depth - 1) if depth else 0

    server = await serve(service_of(nest), concurrency=1)
    server._dispatcher.lending.most = server._dispatcher.lending.most_nested = 5  # type: ignore[union-attr]
    assert await client.call("s.nest", 4) == 4
    with pytest.raises(RemoteError, match=r"RESOURCE_EXHAUSTED.*: 5 handlers wait for nested calls here"):
        await client.call("s.nest", 5)
    assert await client.call("s.nest", 4) == 4


async def test_only_a_server_that_claims_what_it_refuses_says_so_and_others_come_first(
    client: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, balances=False))
    claimed_at: list[float] = []
    begin = _MemoryDelivery.begin

    def noted(self: _MemoryDelivery, told: OnBegun, *, again: bool = False) -> None:
        claimed_at.append(asyncio.get_running_loop().time())
        begin(self, told, again=again)

    monkeypatch.setattr(_MemoryDelivery, "begin", noted)
    await serve(service_of(fib))
    sent_at = asyncio.get_running_loop().time()
    with pytest.raises(MethodNotFound):
        await client.call("s.unknown")
    assert claimed_at == [pytest.approx(sent_at + OTHERS_FIRST_S)]


async def test_a_refusal_that_cannot_be_claimed_is_answered_all_the_same(
    client: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, balances=False))
    monkeypatch.setattr(_MemoryDelivery, "begin", lambda self, told, *, again=False: told(Overloaded("no memory")))
    server = await serve(service_of(fib))
    with pytest.raises(Overloaded, match="no memory"):
        await client.call("s.unknown")
    assert unsettled(server) == 0


async def test_no_more_plain_functions_run_at_once_than_there_are_threads(client: Client, serve: Serve) -> None:
    running = threading.Semaphore(0)
    go_on = threading.Event()

    def work() -> None:
        running.release()
        go_on.wait()

    await serve(service_of(work), concurrency=MAX_THREADS + 2)
    calls = [asyncio.ensure_future(client.call("s.work")) for _ in range(MAX_THREADS + 2)]
    try:
        for _ in range(MAX_THREADS):
            await asyncio.to_thread(running.acquire)
        assert not running.acquire(timeout=BRIEF)
    finally:
        go_on.set()
    await asyncio.gather(*calls)


async def test_what_is_no_request_is_refused(wire: Wire, serve: Serve) -> None:
    await serve(service_of(fib))
    await wire.send("s.fib", 1, kind=Kind.REPLY)
    assert "a reply is not a request" in str(read_error(await wire.reply()))


async def test_errors_of_nested_calls_keep_their_meaning(client: Client, serve: Serve) -> None:
    async def ask_nobody() -> None:
        await client.call("nobody.fib")

    async def run_out_of_time() -> None:
        await client.call("s.slow", timeout=0.005)

    async def come_too_late() -> None:
        raise Expired("found too late")

    await serve(service_of(ask_nobody, run_out_of_time, come_too_late, slow))
    with pytest.raises(RemoteError, match="nobody serves") as unavailable:
        await client.call("s.ask_nobody")
    assert unavailable.value.code == "UNAVAILABLE"
    for method in ("run_out_of_time", "come_too_late"):
        with pytest.raises(DeadlineExceeded):
            await client.call(f"s.{method}")


# -- nested calls -----------------------------------------------------------------------------------


async def test_nested_calls_do_not_deadlock_at_any_concurrency(client: Client, serve: Serve) -> None:
    most = running = 0

    async def nest(depth: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        running -= 1
        return 1 + await client.call("s.nest", depth - 1) if depth else 0

    asyncio.get_running_loop().set_debug(False)  # it would keep a traceback for each of these calls
    server = await serve(service_of(nest), concurrency=4)
    results = await asyncio.gather(*(client.call("s.nest", 10) for _ in range(64)))
    assert results == [10] * 64
    assert most <= 4
    dispatcher = server._dispatcher
    assert dispatcher is not None
    assert (dispatcher.slots.taken, dispatcher.lending.prefetch) == (0, 4 + 32)


async def test_no_more_handlers_run_than_the_concurrency(client: Client, serve: Serve) -> None:
    running, most = 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await serve(service_of(work), concurrency=3)
    await asyncio.gather(*(client.call("s.work") for _ in range(20)))
    assert most == 3


async def test_a_service_that_calls_itself_in_a_circle_is_stopped_at_depth_32(client: Client, serve: Serve) -> None:
    deepest = 0

    async def around(ctx: Context) -> None:
        nonlocal deepest
        deepest = max(deepest, ctx.depth)
        await client.call("s.around")

    await serve(service_of(around))
    with pytest.raises(InternalError, match="nested 32 deep"):
        await client.call("s.around")
    assert deepest == MAX_DEPTH == 32


async def test_nested_calls_inherit_the_sooner_deadline(client: Client, serve: Serve) -> None:
    async def left(ctx: Context) -> float | None:
        return ctx.time_left()

    async def outer(timeout: float | None) -> float | None:
        result: float | None = await client.call("s.left", timeout=timeout)
        return result

    await serve(service_of(left, outer))
    assert await client.call("s.outer", None, timeout=2) == pytest.approx(2, abs=0.5)
    assert await client.call("s.outer", 1, timeout=2) == pytest.approx(1, abs=0.5)
    assert await client.call("s.outer", 3, timeout=None) == pytest.approx(3, abs=0.5)
    assert await client.call("s.outer", None, timeout=None) is None


# -- time and cancel --------------------------------------------------------------------------------


async def test_the_deadline_stops_the_handler(client: Client, serve: Serve) -> None:
    stopped = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            stopped.set()

    server = await serve(service_of(work))
    with pytest.raises(DeadlineExceeded):
        await client.call("s.work", timeout=0.1)
    await asyncio.wait_for(stopped.wait(), 1)
    await until(lambda: server.in_flight == unsettled(server) == 0)


async def test_a_methods_own_time_limit_stops_it_whatever_its_caller_allows(client: Client, serve: Serve) -> None:
    service = service_of(slow, timeout=BRIEF)
    await serve(service)
    with pytest.raises(DeadlineExceeded, match=r"s\.slow was stopped: its time was up"):
        await client.call("s.slow", timeout=None)


async def test_expired_work_is_not_begun(wire: Wire, serve: Serve) -> None:
    ran: list[int] = []

    async def work(n: int) -> None:
        ran.append(n)

    await serve(service_of(work))
    past = int((time.time() - 1) * 1000)
    await wire.send("s.work", 1, time_left_ms=5_000, deadline_ms=past)
    assert isinstance(read_error(await wire.reply()), Expired)
    assert ran == []


async def test_work_that_expires_while_it_waits_for_a_slot_is_not_begun(client: Client, serve: Serve) -> None:
    ran: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(name: str) -> None:
        ran.append(name)
        begun.set()
        await go_on.wait()

    await serve(service_of(work), concurrency=1)
    first = asyncio.ensure_future(client.call("s.work", "first"))
    await begun.wait()
    with pytest.raises((DeadlineExceeded, Expired)):
        await client.call("s.work", "late", timeout=BRIEF)
    go_on.set()
    await first
    assert ran == ["first"]


async def test_whoever_cannot_claim_expired_work_does_not_say_that_it_never_ran(
    wire: Wire, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server, which heard it as well, may be running it."""
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, balances=False))
    begin = _MemoryDelivery.begin

    def lose_all_but_the_first(self: _MemoryDelivery, told: OnBegun, *, again: bool = False) -> None:
        if self.message.correlation_id == "c-1":
            begin(self, told, again=again)
        else:
            told(False)

    monkeypatch.setattr(_MemoryDelivery, "begin", lose_all_but_the_first)
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()

    server = await serve(service_of(work), concurrency=1)
    await wire.send("s.work")
    await wire.send("s.work", correlation_id="c-2", time_left_ms=10)
    await until(lambda: server.in_flight == 2)
    await until(lambda: server.in_flight == 1)
    go_on.set()
    await until(lambda: unsettled(server) == 0)
    assert [reply.correlation_id for reply in wire.replies] == ["c-1"]


async def test_cancel_stops_the_handler_and_sends_no_reply(wire: Wire, serve: Serve) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(10)
        finally:
            cancelled.set()

    server = await serve(service_of(work))
    request = await wire.send("s.work")
    await begun.wait()
    await wire.cancel(request)
    await asyncio.wait_for(cancelled.wait(), 1)
    await until(lambda: server.in_flight == unsettled(server) == 0)
    await asyncio.sleep(BRIEF)
    assert wire.replies == []


async def test_a_cancel_that_overtakes_its_request_leaves_a_tombstone(wire: Wire, serve: Serve) -> None:
    ran: list[int] = []

    async def work(n: int) -> None:
        ran.append(n)

    server = await serve(service_of(work))
    assert server._dispatcher is not None
    early = Message(Kind.REQUEST, "s", correlation_id="c-1", reply_to=wire.transport.inbox)
    await wire.cancel(early)
    await asyncio.sleep(0)
    assert server._dispatcher.inflight.tombstones == 1
    await wire.send("s.work", 1, correlation_id="c-1")
    await wire.send("s.work", 2, correlation_id="c-2")
    await wire.reply()
    assert ran == [2]
    assert server._dispatcher.inflight.tombstones == 0


async def test_a_call_cancelled_before_it_has_a_slot_is_never_begun(client: Client, serve: Serve) -> None:
    ran: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(name: str) -> None:
        ran.append(name)
        begun.set()
        await go_on.wait()

    server = await serve(service_of(work), concurrency=1)
    first = asyncio.ensure_future(client.call("s.work", "first"))
    await begun.wait()
    second = asyncio.ensure_future(client.call("s.work", "second"))
    await until(lambda: server.in_flight == 2)
    second.cancel()
    await until(lambda: server.in_flight == unsettled(server) == 1)
    go_on.set()
    await first
    assert ran == ["first"]


async def test_work_of_a_caller_that_has_left_is_stopped(wire: Wire, serve: Serve) -> None:
    stopped = asyncio.Event()
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(10)
        finally:
            stopped.set()

    await serve(service_of(work, fib))
    await wire.send("s.work", correlation_id="c-1")
    await begun.wait()
    await wire.send("s.fib", 1, correlation_id="c-2")
    wire.transport.drop()
    await asyncio.wait_for(stopped.wait(), 1)


# -- at most once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"user": "7"}], ids=["", "another contract"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("idempotent", [False, True])
async def test_redelivered_work_runs_again_only_if_it_may(
    idempotent: bool,
    full: bool,
    headers: dict[str, str],
    client: Client,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server of another contract does not say either that nothing ran, nor one whose handlers all wait."""
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, claims=False))
    ran: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    def server(name: str) -> Service:
        async def work() -> str:
            ran.append(name)
            begun.set()
            if name == "first":
                await go_on.wait()
            return name

        return service_of(work, idempotent=idempotent)

    known = method_fingerprint(contract_of(server("first")), "work")
    first = await serve(server("first"))
    call = asyncio.ensure_future(client.call("s.work", headers={**headers, CONTRACT_HEADER: known} if headers else {}))
    await begun.wait()
    changed = server("second")
    if headers:
        changed.methods["work"] = replace(changed.methods["work"], no_reply=True)  # type: ignore[index]
    second = await serve(changed)
    if full:
        second._dispatcher.lending.most = 0  # type: ignore[union-attr]
    first._dispatcher.links[0].transport.drop()  # type: ignore[union-attr]
    if idempotent and headers:
        with pytest.raises(RemoteError, match="another contract"):
            await call
    elif idempotent:
        assert await call == "second"
        assert ran == ["first", "second"]
    else:
        with pytest.raises(OutcomeUnknown, match="was delivered before and may have run"):
            await call
        assert ran == ["first"]


async def test_redelivered_work_is_begun_again_only_with_a_slot(
    client: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a server that dies while it waits for one has not died over it."""
    asked: list[tuple[str, bool]] = []
    begin = _MemoryDelivery.begin

    def noted(self: _MemoryDelivery, told: OnBegun, *, again: bool = False) -> None:
        asked.append((self.message.method, again))
        begin(self, told, again=again)

    monkeypatch.setattr(_MemoryDelivery, "begin", noted)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()

    first = await serve(service_of(work, idempotent=True))
    calls = [asyncio.ensure_future(client.call("s.work"))]
    await begun.wait()
    other = await serve(service_of(work, idempotent=True), service_of(work, name="busy"), concurrency=1)
    calls.append(asyncio.ensure_future(client.call("busy.work")))
    await until(lambda: asked == [("work", False)])
    first._dispatcher.links[0].transport.drop()  # type: ignore[union-attr]
    await until(lambda: other.in_flight == 2)
    assert asked == [("work", False)]
    go_on.set()
    await asyncio.gather(*calls)
    assert asked == [("work", False), ("work", True)]


async def test_redelivered_work_that_cannot_be_begun_may_have_run(
    client: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    first = await serve(service_of(work, idempotent=True))
    call = asyncio.ensure_future(client.call("s.work"))
    await begun.wait()
    monkeypatch.setattr(_MemoryDelivery, "begin", lambda self, told, *, again=False: told(NotSent("no replicas")))
    await serve(service_of(work, idempotent=True))
    first._dispatcher.links[0].transport.drop()  # type: ignore[union-attr]
    with pytest.raises(OutcomeUnknown, match="no replicas"):
        await call


class Redelivered(EventDelivery):
    """What another server had; notes how it ends here."""

    redelivered = True

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.ends: list[str] = []

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        self.ends.append(str(read_error(message)))

    def hand_back(self) -> None:
        self.ends.append("handed back")


@pytest.mark.parametrize("idempotent", [False, True])
async def test_what_may_have_run_is_not_handed_back_as_if_it_had_not(
    idempotent: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while a server drains whose broker is slow to hear that it takes no more."""
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, claims=False))
    service = service_of(slow, idempotent=idempotent)
    dispatcher = (await serve(service))._dispatcher
    assert dispatcher is not None
    await dispatcher.drain(0)
    delivery = Redelivered(Message(Kind.REQUEST, "s", "slow", "m-1", "c-1", "inbox"))
    dispatcher.accept(dispatcher.links[0], service, delivery)
    assert delivery.ends == [
        "handed back" if idempotent else "s.slow was delivered before and may have run; it is not idempotent"
    ]


async def test_where_beginning_is_a_claim_begun_work_is_not_run_elsewhere(client: Client, serve: Serve) -> None:
    ran: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        ran.append("run")
        begun.set()
        await go_on.wait()
        return "done"

    first = await serve(service_of(work))
    call = asyncio.ensure_future(client.call("s.work"))
    await begun.wait()
    await serve(service_of(work))
    first._dispatcher.links[0].transport.drop()  # type: ignore[union-attr]
    await asyncio.sleep(BRIEF)
    go_on.set()
    assert await call == "done"
    assert ran == ["run"]


async def test_the_same_attempt_delivered_twice_runs_once(wire: Wire, serve: Serve) -> None:
    ran: list[int] = []
    go_on = asyncio.Event()

    async def work(n: int) -> int:
        ran.append(n)
        await go_on.wait()
        return n

    server = await serve(service_of(work, idempotent=True))
    await wire.send("s.work", 1)
    await until(lambda: ran == [1])
    await wire.send("s.work", 1)
    await asyncio.sleep(BRIEF)
    assert server.in_flight == 1
    go_on.set()
    assert read_value(await wire.reply()) == 1
    await asyncio.sleep(BRIEF)
    assert (ran, len(wire.replies), unsettled(server)) == ([1], 1, 0)


async def test_plain_requests_are_never_taken_for_duplicates(wire: Wire, serve: Serve) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    await serve(service_of(double))
    for body in (b"1", b"2"):
        await wire.send("s.", dialect=PLAIN, content_type="", body=body)
    await until(lambda: len(wire.replies) == 2)
    assert sorted(reply.body for reply in wire.replies) == [b"2", b"4"]


# -- handlers -----------------------------------------------------------------------------------------


async def test_a_plain_def_that_stops_an_iteration_has_failed(client: Client, serve: Serve) -> None:
    """Its future cannot take the exception, and would never be done."""
    service = Service("s")

    @service.method
    def first(values: list[int]) -> int:
        return next(iter(values))

    await serve(service)
    assert await client.call("s.first", [1, 2]) == 1
    with pytest.raises(InternalError):
        await client.call("s.first", [], timeout=5)


class Mute(Exception):
    def __str__(self) -> str:
        raise KeyError("text")


async def test_an_error_that_cannot_say_itself_is_an_answer_all_the_same(client: Client, serve: Serve) -> None:
    service = Service("s")

    @service.method(raises=[Mute])
    async def refuse() -> None:
        raise Mute

    await serve(service)
    with pytest.raises(RemoteError, match=r"KeyError in Mute\.__str__") as raised:
        await client.call("s.refuse", timeout=5)
    assert raised.value.type == "Mute"


async def test_a_plain_def_runs_in_a_thread_and_keeps_contextvars(client: Client, serve: Serve) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="lost")

    async def set_it(context: Context, call_next: Callable[[Context], Awaitable[Any]]) -> Any:
        variable.set("kept")
        return await call_next(context)

    def work(n: int) -> list[Any]:
        ctx = current_context()
        return [n, variable.get(), threading.current_thread().name, ctx.method if ctx else None]

    await serve(service_of(work), middleware=[set_it])
    number, value, thread, method = await client.call("s.work", 7)
    assert (number, value, method) == (7, "kept", "work")
    assert thread.startswith("rpckit-handler")


async def test_a_plain_def_may_ask_for_the_time_left_and_log(client: Client, serve: Serve) -> None:
    def work(ctx: Context) -> bool:
        ctx.log.info("in a thread")
        left = ctx.time_left()
        return left is not None and left > 0

    await serve(service_of(work))
    assert await client.call("s.work", timeout=5) is True


@pytest.mark.parametrize("args, kwargs", [((7,), {}), ((), {"n": 7})])
async def test_the_context_may_be_the_first_parameter(
    args: tuple[int, ...], kwargs: dict[str, Any], client: Client, serve: Serve
) -> None:
    async def work(ctx: Context, n: int) -> list[Any]:
        return [ctx.method, n]

    await serve(service_of(work))
    assert await client.call("s.work", *args, **kwargs) == ["work", 7]


async def test_server_middleware_runs_around_the_handler_and_may_answer_for_it(client: Client, serve: Serve) -> None:
    told: list[str] = []

    async def outer(context: Context, call_next: Callable[[Context], Awaitable[Any]]) -> Any:
        told.append(f"{context.service}.{context.method} {context.arguments[0]}")
        if context.headers.get("token") != "t":
            raise PermissionDenied("no token")
        return [await call_next(context)]

    await serve(service_of(fib), middleware=[outer])
    with pytest.raises(PermissionDenied):
        await client.call("s.fib", 1)
    assert await client.call("s.fib", 2, headers={"token": "t"}) == [2]
    assert told == ["s.fib (1,)", "s.fib (2,)"]


async def test_log_records_carry_correlation_id_and_deadline(
    client: Client, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(stamp := CallLogFilter())
    ids: list[str] = []

    async def work(ctx: Context) -> None:
        ids.append(ctx.correlation_id)
        ctx.log.info("by the context")
        logging.getLogger("library").info("by any logger")

    await serve(service_of(work))
    with caplog.at_level(logging.INFO):
        await client.call("s.work", timeout=5)
    caplog.handler.removeFilter(stamp)
    records = {record.getMessage(): vars(record) for record in caplog.records}
    for text in ("by the context", "by any logger"):
        assert records[text]["correlation_id"] == ids[0]
        assert records[text]["rpc_method"] == "s.work"
        assert records[text]["deadline"] == pytest.approx(time.time() + 5, abs=1)


async def test_response_headers_that_are_not_strings_become_strings(wire: Wire, serve: Serve) -> None:
    async def work() -> Response:
        return Response("done", headers={"count": 7}, correlation_id="own")  # type: ignore[dict-item]

    await serve(service_of(work))
    await wire.send("s.work")
    reply = await wire.reply()
    assert reply.headers == {"count": "7", "x-correlation-id": "own"}
    assert reply.correlation_id == "c-1"


async def test_a_no_reply_method_never_answers(wire: Wire, serve: Serve) -> None:
    server = await serve(service_of(fib, fail, no_reply=True))
    await wire.send("s.fib", 1, correlation_id="c-1")
    await wire.send("s.fail", correlation_id="c-2")
    await until(lambda: server.in_flight == unsettled(server) == 0)
    assert wire.replies == []


async def test_without_a_reply_to_there_is_no_reply_and_nothing_is_left(wire: Wire, serve: Serve) -> None:
    server = await serve(service_of(fib, fail))
    await wire.send("s.fib", 1, reply_to="", correlation_id="c-1")
    await wire.send("s.fail", reply_to="", correlation_id="c-2")
    await wire.send("s.unknown", reply_to="", correlation_id="c-3")
    await until(lambda: server.in_flight == unsettled(server) == 0)
    assert wire.replies == []


async def test_a_plain_peer_calls_the_only_method_and_gets_plain_replies(wire: Wire, serve: Serve) -> None:
    await serve(service_of(fib))
    await wire.send("s.", dialect=PLAIN, content_type="", body=b"30")
    reply = await wire.reply()
    assert (reply.body, reply.content_type, reply.kind) == (b"30", "", Kind.REPLY)
    await wire.send("s.", dialect=PLAIN, content_type="", body=b"thirty")
    reply = await wire.reply()
    assert reply.kind is Kind.FAULT
    assert reply.body.startswith(b"INVALID_ARGUMENT: fib:")


async def test_clocks_far_apart_are_logged_once_and_the_absolute_deadline_ignored(
    wire: Wire, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    await serve(service_of(fib))
    for number in range(2):
        await wire.send("s.fib", number, correlation_id=f"c-{number}", time_left_ms=5_000, deadline_ms=1)
        assert read_value(await wire.reply()) == number
    warned = [record for record in caplog.records if "clock" in record.getMessage()]
    assert len(warned) == 1


async def test_every_delivery_is_settled_once_whatever_happens_to_it(client: Client, serve: Serve) -> None:
    async def work(kind: str) -> str:
        await asyncio.sleep(0)
        if kind == "raise":
            raise ValueError(kind)
        if kind == "wait":
            await asyncio.sleep(10)
        return kind

    server = await serve(service_of(work), concurrency=3)
    kinds = ["return", "raise", "wait", "cancel"] * 8
    tasks = [
        asyncio.ensure_future(client.call("s.work", "wait" if kind == "cancel" else kind, timeout=0.03))
        for kind in kinds
    ]
    await asyncio.sleep(0.005)
    for task, kind in zip(tasks, kinds, strict=True):
        if kind == "cancel":
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: server.in_flight == unsettled(server) == 0)
    assert all(isinstance(result, str | RpcError | asyncio.CancelledError) for result in results)
    assert client.pending == 0
    assert server._dispatcher is not None
    assert server._dispatcher.slots.taken == 0


async def test_a_few_nested_calls_leave_the_prefetch_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("nest")
    asked: list[int] = []

    @service.method
    async def down(n: int) -> int:
        return 0 if n == 0 else 1 + await client.call("nest.down", n - 1)

    async with Server(service, url=url, concurrency=4) as server, Client(url) as client:
        assert server._dispatcher is not None
        for receiver in server._dispatcher.links[0].receivers:
            monkeypatch.setattr(receiver, "set_prefetch", asked.append)
        for _ in range(3):
            assert await client.call("nest.down", 3) == 3
    assert asked == []


class Even(BaseModel):
    """Looks at the running call while it is checked."""

    n: int

    @field_validator("n")
    @classmethod
    def note_who_asks(cls, n: int) -> int:
        assert current_context() is not None
        return n


async def test_a_validator_may_look_at_the_running_call(url: str, broker: MemoryBroker) -> None:
    seen: list[Any] = []

    async def passing(ctx: Context, call_next: Callable[[Context], Awaitable[Any]]) -> Any:
        seen.append(ctx.arguments[0])
        return await call_next(ctx)

    async def take(even: Even) -> int:
        return even.n

    async with Server(service_of(take), url=url, middleware=[passing]), Client(url) as client:
        assert await client.call("s.take", {"n": 4}) == 4
    assert [even.n for (even,) in seen] == [4]
