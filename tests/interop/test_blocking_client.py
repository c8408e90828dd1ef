"""The client that waits, over real brokers: threads, Ctrl-C, and scripts that end without closing it."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rpckit import BlockingClient, DeadlineExceeded, Expired, MethodNotFound, NoResponder, Server, Service
from rpckit.ids import new_id
from tests.interop.processes import finish, running

SOON = 10.0  # seconds: a generous limit for what takes milliseconds

TRANSPORTS = ("amqp", "redis+stream", "redis+pubsub", "ws")


class Work:
    def __init__(self) -> None:
        self.cancelled = threading.Event()

    async def double(self, n: int) -> int:
        return 2 * n

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(params=TRANSPORTS)
def url(request: pytest.FixtureRequest, unused_tcp_port: int) -> str:
    if request.param == "amqp":
        found: str = request.getfixturevalue("amqp_url")
    elif request.param == "ws":
        found = f"ws://127.0.0.1:{unused_tcp_port}"
    else:
        found = request.getfixturevalue("redis_url").replace("redis", request.param, 1)
    return found


@pytest.fixture
def address(work: Work, url: str) -> Iterator[str]:
    """Where `work` is served, from another loop's thread."""
    address = f"blocking.{new_id()}"
    options = {"declare": "transient"} if url.startswith("amqp") else {}
    host = BlockingClient("memory://host")
    service = Service.from_object(work, name="work", address=address)
    host.enter(Server(service, url=url, grace=0, transport_options=options))
    yield address
    host.close()


def test_several_threads_share_a_client(url: str, address: str) -> None:
    with BlockingClient(url, timeout=SOON) as client, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: client.call(f"{address}.double", n), range(100)))
        assert results == [2 * n for n in range(100)]
        with pytest.raises((DeadlineExceeded, Expired)):  # the second where the machine stalls
            client.call(f"{address}.wait", timeout=0.2)
        with pytest.raises((NoResponder, MethodNotFound)):  # the second on a session
            client.call("blocking.nobody.double", 1)


def test_ctrl_c_in_the_waiting_thread_cancels_the_work(url: str, address: str, work: Work) -> None:
    with running([sys.executable, "-X", "dev", "-c", WAITS, url, address], ready="waiting") as script:
        script.send(signal.SIGINT)
        assert script.wait() != 0
        assert work.cancelled.wait(SOON)
    assert script.output.splitlines()[-1] == "KeyboardInterrupt"
    assert script.output.count("Traceback") == 1


def test_a_plain_handler_may_call_on_from_its_thread(url: str, address: str) -> None:
    """The nested call waits in another loop than the one that counts the handler's slot."""
    outer, inner = Service("outer", address=f"blocking.{new_id()}"), BlockingClient(url, timeout=SOON)

    @outer.method
    def twice(n: int) -> int:
        result: int = inner.call(f"{address}.double", n)
        return result

    options = {"declare": "transient"} if url.startswith("amqp") else {}
    outer_url = url if not url.startswith("ws") else "memory://outer"
    with BlockingClient(outer_url, timeout=SOON) as client, inner:
        client.enter(Server(outer, url=outer_url, concurrency=1, transport_options=options))
        assert [client.call(f"{outer.address}.twice", n) for n in range(3)] == [0, 2, 4]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda n: client.call(f"{outer.address}.twice", n), range(4))) == [0, 2, 4, 6]


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "with client: raise SystemExit(3)"])
def test_a_script_that_ends_without_closing_it_ends_silently(url: str, address: str, ending: str) -> None:
    ran = finish([sys.executable, "-X", "dev", "-W", "error", "-c", CALLS + ending, url, address])
    assert (ran.out, ran.err) == ("42\n", "")
    assert ran.code == (3 if ending else 0)


CALLS = """
import sys
from rpckit import BlockingClient

client = BlockingClient(sys.argv[1])
print(client.call(f"{sys.argv[2]}.double", 21))
"""

WAITS = """
import sys
import threading
from rpckit import BlockingClient

client = BlockingClient(sys.argv[1])
client.connect()
threading.Timer(0.3, print, ["waiting"], {"flush": True}).start()
client.call(f"{sys.argv[2]}.wait", timeout=60)
"""
