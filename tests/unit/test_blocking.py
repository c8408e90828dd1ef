"""The clients that wait are the asyncio clients, errors and all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter

from rpckit import (
    BadReply,
    BlockingClient,
    BlockingTypedClient,
    ConnectionLost,
    Context,
    DeadlineExceeded,
    InvalidArgument,
    MethodNotFound,
    NoResponder,
    NotSent,
    RemoteError,
    Server,
    Service,
    UsageError,
)
from rpckit.memory import MemoryBroker, MemoryTransport
from rpckit.schema import compact, contract_of
from rpckit.transport import State

SOON = 5.0  # seconds: a generous limit for what takes milliseconds
INT, STR = TypeAdapter(int), TypeAdapter(str)


class OddNumber(RemoteError): ...


class Numbers:
    """A service that notes what happens to it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def double(self, n: int) -> int:
        return 2 * n

    async def note(self, what: Any) -> None:
        self.heard.append(what)

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def halve(self, n: int) -> int:
        if n % 2:
            raise OddNumber(f"{n} is odd")
        return n // 2

    async def header(self, *, ctx: Context) -> str:
        return ctx.headers["user"]


class Echo:
    async def say(self, what: Any) -> Any:
        return what


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def client(numbers: Numbers, url: str, broker: MemoryBroker) -> Iterator[BlockingClient]:
    with BlockingClient(url, timeout=SOON) as client:
        client.enter(Server(Service.from_object(numbers, name="numbers"), url=url, grace=0))
        yield client


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# -- calling ------------------------------------------------------------------------------------


def test_calls_return_what_the_method_returns(client: BlockingClient) -> None:
    assert client.state is State.CONNECTED
    assert client.call("numbers.double", 21) == 42
    assert client.call("numbers.double", n="21", timeout=3) == 42
    assert client.call("numbers.header", headers={"user": "7"}) == "7"


def test_raw_requests_get_raw_replies(client: BlockingClient, url: str) -> None:
    client.enter(Server(Service.from_object(Echo(), name="echo"), url=url))
    assert client.request("echo", "30", timeout=3).decode() == "30"


def test_errors_are_those_of_the_asyncio_client_and_name_the_callers_line(client: BlockingClient) -> None:
    with pytest.raises(InvalidArgument) as raised:
        client.call("numbers.double", "two")
    assert Path(raised.traceback[0].path).name == "test_blocking.py"
    with pytest.raises(MethodNotFound):
        client.call("numbers.third", 3)
    with pytest.raises(NoResponder):
        client.call("letters.upper", "a")
    with pytest.raises(DeadlineExceeded, match=r"numbers\.wait within 0.01 s"):
        client.call("numbers.wait", timeout=0.01)


def test_notifications_and_events_arrive(client: BlockingClient, numbers: Numbers) -> None:
    client.notify("numbers.note", "notified")
    client.emit("nobody.listens", 1)
    client.call("numbers.note", "called")
    assert numbers.heard == ["notified", "called"]


def test_what_a_transport_cannot_do_is_refused_here_too(client: BlockingClient) -> None:
    with pytest.raises(UsageError, match="stores no replies"):
        client.collect("list:x")


def test_several_threads_share_a_client(client: BlockingClient) -> None:
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: client.call("numbers.double", n), range(200)))
    assert results == [2 * n for n in range(200)]


def test_it_works_without_with_and_connects_on_first_use(url: str) -> None:
    other = BlockingClient(url)
    assert other.state is State.CONNECTING
    with pytest.raises(NoResponder):
        other.call("letters.upper", "a")
    other.close()


def test_a_bad_url_is_told_when_it_is_made() -> None:
    with pytest.raises(UsageError, match="no transport"):
        BlockingClient("nosuch://x")


def test_a_connection_that_fails_leaves_no_thread(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise NotSent("refused by the test")

    monkeypatch.setattr(MemoryTransport, "connect", refuse)
    with pytest.raises(NotSent, match="refused by the test"), BlockingClient(url):
        pass
    assert not [thread for thread in threading.enumerate() if url in thread.name]


def test_two_loops_on_one_memory_broker_are_refused(client: BlockingClient, url: str) -> None:
    """They would not wake each other: each call would take until its deadline."""
    with pytest.raises(UsageError, match="another thread's event loop"), BlockingClient(url) as other:
        other.call("numbers.double", 1)
    assert client.call("numbers.double", 2) == 4


# -- ending -------------------------------------------------------------------------------------


def test_after_close_nothing_is_sent(client: BlockingClient) -> None:
    client.close()
    client.close()
    with pytest.raises(NotSent, match="closed"):
        client.call("numbers.double", 1)
    assert client.state is State.CLOSED


def test_closing_ends_the_calls_of_other_threads(client: BlockingClient, numbers: Numbers) -> None:
    told: list[BaseException] = []

    def call() -> None:
        with pytest.raises((ConnectionLost, NotSent)) as raised:
            client.call("numbers.wait")
        told.append(raised.value)

    other = BlockingClient(str(client.url))
    waiting = in_thread(call)
    assert numbers.begun.wait(SOON)
    client.run(client.client.close)
    waiting.join(SOON)
    assert isinstance(told[0], ConnectionLost)
    other.close()


def test_an_exception_in_the_waiting_thread_cancels_the_work(
    client: BlockingClient, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        assert numbers.begun.wait(SOON)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("concurrent.futures.Future.result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.call("numbers.wait", timeout=None)
    assert numbers.cancelled.wait(SOON)


async def test_in_an_event_loop_it_says_what_to_use(client: BlockingClient) -> None:
    with pytest.raises(UsageError, match="await the calls of a Client"):
        client.call("numbers.double", 1)


# -- in a handler ---------------------------------------------------------------------------------


def test_a_plain_handler_may_call_on_with_it_and_its_call_inherits_the_deadline(
    client: BlockingClient, url: str
) -> None:
    service = Service("outer")

    @service.method
    def twice(n: int) -> int:
        result: int = client.call("numbers.double", n)
        return result

    @service.method
    def wait() -> None:
        client.call("numbers.wait", timeout=None)

    client.enter(Server(service, url=url, grace=0))
    assert client.call("outer.twice", 21) == 42
    with pytest.raises(DeadlineExceeded):
        client.call("outer.wait", timeout=0.05)


# -- typed --------------------------------------------------------------------------------------


class Odd(RemoteError):
    """It cannot be halved."""


class NumbersClient(BlockingTypedClient):
    address = "numbers"
    errors: ClassVar = {"OddNumber": Odd}

    def halve(self, n: int) -> int:
        return self._call("halve", INT, (n,))

    def note(self, what: str) -> None:
        self._notify("note", (what,))

    def double(self, n: int) -> int:
        return self._call("double", INT, (n,), idempotent=True)

    def double_in_words(self, n: int) -> str:
        return self._call("double", STR, (n,))

    def header(self) -> str:
        return self._call("header", STR)


def test_a_typed_client_shares_a_client(client: BlockingClient) -> None:
    with NumbersClient(client=client) as numbers:
        assert numbers.double(4) == 8
        assert numbers.using(headers={"user": "7"}).header() == "7"
        with pytest.raises(BadReply, match=r"numbers\.double returned something else"):
            numbers.double_in_words(4)
    assert client.state is State.CONNECTED


def test_a_declared_error_is_raised_as_itself(client: BlockingClient) -> None:
    with pytest.raises(Odd, match="3"):
        NumbersClient(client=client).halve(3)


def test_a_typed_client_notifies(client: BlockingClient, numbers: Numbers) -> None:
    NumbersClient(client=client).note("typed")
    client.call("numbers.note", "called")
    assert numbers.heard == ["typed", "called"]


def test_a_changed_contract_is_told_under_the_name_of_the_class(client: BlockingClient, url: str) -> None:
    promised, kept = Service("promise"), Service("promise")

    @promised.method
    async def double(n: int) -> int:
        return n

    @kept.method(name="double")
    async def double_of(text: str) -> int:
        return len(text)

    class PromiseClient(BlockingTypedClient):
        address = "promise"

        def double(self, n: int) -> int:
            return self._call("double", INT, (n,))

    PromiseClient.contract = json.dumps(compact(contract_of(promised)))  # as generated files do
    client.enter(Server(kept, url=url))
    with pytest.raises(UsageError, match="since PromiseClient was generated"):
        PromiseClient(client=client).double(1)


def test_a_typed_client_owns_the_one_it_makes(url: str) -> None:
    numbers = NumbersClient(url, timeout=3)
    numbers.client.connect()
    shared = numbers.using(timeout=1)
    shared.close()
    states = [numbers.client.state]
    numbers.close()
    states.append(numbers.client.state)
    assert states == [State.CONNECTED, State.CLOSED]
