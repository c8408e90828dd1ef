"""Sessions that break: killed and restarted servers, half-open links, slow and rude peers, storms of cancels."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from rpckit import (
    Client,
    ConnectionLost,
    Context,
    DeadlineExceeded,
    NoResponder,
    NotSent,
    RemoteError,
    Server,
    Service,
    UsageError,
)
from rpckit.answering import MAX_ANSWERS
from rpckit.peers import RemotePeer
from rpckit.testing import FaultProxy
from rpckit.testing._ports import free_port
from rpckit_websocket._dialect import Pong
from rpckit_websocket._link import Link
from rpckit_websocket._session import Fact
from tests.interop.processes import rpckit, running

from .world import eventually

HEARTBEAT = 0.4  # seconds
CALLS = 10_000
AT_ONCE = 200

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/ws"


def work() -> Service:
    service = Service("work")
    service.method(add)
    service.method(nap)
    service.method(down)
    service.method(burden)
    return service


async def add(a: int, b: int) -> int:
    return a + b


async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def down(n: int, context: Context) -> int:
    """Each side calls the other, `n` deep."""
    return 0 if n == 0 else 1 + int(await context.other.down(n - 1))


async def burden(size: int) -> bytes:
    return bytes(size)


def own() -> Service:
    service = Service("own")
    service.method(down)
    service.method(add)
    return service


@pytest.fixture
async def server(url: str) -> AsyncIterator[Server]:
    async with Server(work(), url=f"{url}?heartbeat={HEARTBEAT}") as server:
        yield server


async def test_a_start_cancelled_at_any_moment_does_not_go_on_listening(port: int, url: str) -> None:
    for turns in range(100):
        server = Server(work(), url=url)
        starting = asyncio.ensure_future(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        if starting.done():
            break
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    await server.stop()


async def test_a_session_lost_in_the_read_that_opened_it_is_not_taken_for_open(
    server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Link._act

    def lose(link: Link, fact: Fact) -> None:
        act(link, fact)
        if isinstance(fact.what, Pong):
            link.lose("lost by a frame after the pong")

    monkeypatch.setattr(Link, "_act", lose)
    client = Client(url)
    with pytest.raises(NotSent, match="lost by a frame after the pong"):
        await client.connect()
    monkeypatch.undo()
    async with client:
        assert await client.call("work.add", 1, 2) == 3


async def test_five_calls_on_one_connection_run_at_once(server: Server, url: str) -> None:
    async with Client(url) as client:
        began = time.monotonic()
        assert await asyncio.gather(*(client.other.nap(0.2) for _ in range(5))) == [0.2] * 5
        assert time.monotonic() - began < 0.25 * 2


async def test_calls_nested_ten_deep_across_both_sides_return(url: str) -> None:
    """Also with one slot on each side, and one request of each peer at a time."""
    async with Server(work(), url=f"{url}?ordered=true", concurrency=1) as server:
        async with Client(f"{url}?ordered=true", expose=own(), concurrency=1) as client:
            assert await asyncio.wait_for(asyncio.gather(*(client.other.down(10) for _ in range(8))), 10) == [10] * 8
            await eventually(lambda: server.peers)
            (peer,) = server.peers.values()
            assert await peer.other.down(10) == 10


async def test_the_name_of_a_service_means_its_default_method(url: str) -> None:
    service = Service("solo")
    service.method(add)
    async with Server(service, url=url), Client(url) as client:
        assert (
            await client.call("solo", 1, 2) == await client.at("solo").call(1, 2) == await client.call("add", 1, 2) == 3
        )


async def test_ordered_requests_run_one_after_the_other(url: str) -> None:
    said: list[int] = []
    service = Service("diary")

    @service.method
    async def note(n: int) -> None:
        await asyncio.sleep(random.random() * 0.002)
        said.append(n)

    async with Server(service, url=f"{url}?ordered=true"), Client(url) as client:
        await asyncio.gather(*(client.other.note(n) for n in range(100)))
    assert said == list(range(100))


async def test_one_peer_does_not_take_all_slots(url: str) -> None:
    """With a limit for each peer, another one is served while the first floods."""
    async with Server(work(), url=f"{url}?peer_limit=5", concurrency=20):
        async with Client(url) as greedy, Client(url) as modest:
            flood = [asyncio.create_task(greedy.other.nap(0.2)) for _ in range(50)]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            assert await modest.other.add(1, 2) == 3
            assert time.monotonic() - began < 0.1
            for call in flood:
                call.cancel()
            await asyncio.gather(*flood, return_exceptions=True)


async def test_a_killed_server_comes_back_and_so_do_its_peers(port: int, url: str) -> None:
    """By themselves: the client is connected again, its hook runs again, and idempotent calls are sent again."""
    command = rpckit("serve", "tests.faults.test_websocket_faults:SERVED", "--url", url)
    connected = 0

    async def on_connect(peer: RemotePeer) -> None:
        nonlocal connected
        assert await peer.other.add(1, 1) == 2
        connected += 1

    with running(command, ready="serving") as first:
        client = Client(url, on_connect=on_connect)
        await client.wait_ready(5)
        await eventually(lambda: connected == 1)
        lost = asyncio.create_task(client.other.nap(30))
        again = asyncio.create_task(client.other.using(idempotent=True, timeout=20).nap(0.5))
        await asyncio.sleep(0.2)
        first.send(signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            await lost
    with running(command, ready="serving"):
        began = time.monotonic()
        assert await again == 0.5
        assert await client.call("work.add", 2, 3) == 5
        assert time.monotonic() - began < 2.5
        await eventually(lambda: connected == 2)
        await client.close()


async def test_sigterm_with_open_connections_ends_in_time(url: str) -> None:
    """What runs is finished, its reply arrives, and the process ends within its grace."""
    command = rpckit("serve", "tests.faults.test_websocket_faults:SERVED", "--url", url)
    with running(command, ready="serving") as program:
        async with Client(url) as client:
            idle = Client(url)
            await idle.connect()
            call = asyncio.create_task(client.other.nap(0.5))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            program.send(signal.SIGTERM)
            assert await call == 0.5
            assert await asyncio.to_thread(program.wait) == 0
            assert time.monotonic() - began < 5
            await idle.close()


@pytest.mark.parametrize("direction", ["both", "to_client", "to_server"])
async def test_a_half_open_link_is_found_on_both_sides(url: str, direction: Any) -> None:
    """Within two heartbeats, though no byte says so; then the client is back by itself."""
    gone: list[float] = []
    loop = asyncio.get_running_loop()

    async def on_disconnect(peer: RemotePeer) -> None:
        gone.append(loop.time())

    port = int(url.rpartition(":")[2].partition("/")[0])
    async with Server(work(), url=f"{url}?heartbeat={HEARTBEAT}", on_disconnect=on_disconnect) as server:
        async with FaultProxy("127.0.0.1", port) as proxy:
            async with Client(f"{proxy.url(url)}?heartbeat={HEARTBEAT}") as client:
                assert await client.other.add(1, 2) == 3
                call = asyncio.create_task(client.other.nap(30))
                await asyncio.sleep(0.1)
                began = loop.time()
                proxy.freeze(direction)
                with pytest.raises(ConnectionLost):
                    await call
                assert loop.time() - began < 2.2 * HEARTBEAT + 0.3
                await eventually(lambda: gone)
                assert gone[0] - began < 2.2 * HEARTBEAT + 0.3
                proxy.thaw(direction)
                proxy.reset()
                assert await client.other.using(timeout=5).add(2, 2) == 4
                assert len(server.peers) == 1


async def test_a_beating_link_is_left_alone(url: str) -> None:
    """Idle for many heartbeats, and its round trip is known."""
    async with Server(work(), url=f"{url}?heartbeat=0.1") as server, Client(f"{url}?heartbeat=0.1") as client:
        await eventually(lambda: server.peers)
        (peer,) = server.peers.values()
        await asyncio.sleep(1)
        assert (peer.id in server.peers, client.state) == (True, "connected")
        await eventually(lambda: peer.rtt is not None)
        assert 0 < (peer.rtt or 0) < 0.1


async def test_ten_thousand_cancelled_calls_leave_nothing(server: Server, url: str) -> None:
    async with Client(url) as client:
        assert await client.other.add(1, 2) == 3
        before = len(asyncio.all_tasks())
        answered = cancelled = 0

        async def storm(serials: range) -> None:
            nonlocal answered, cancelled
            for serial in serials:
                call = asyncio.create_task(client.other.nap(random.random() * 0.01))
                await asyncio.sleep(random.random() * 0.1)
                call.cancel()
                try:
                    await call
                    answered += 1
                except asyncio.CancelledError:
                    cancelled += 1
                assert serial >= 0

        await asyncio.gather(*(storm(range(n, CALLS, AT_ONCE)) for n in range(AT_ONCE)))
        assert answered + cancelled == CALLS
        assert min(answered, cancelled) > CALLS / 100
        await eventually(lambda: server.in_flight == 0)
        assert (client.pending, len(asyncio.all_tasks())) == (0, before)
        (link,) = client.transport.sessions.values()  # type: ignore[attr-defined]  # of a session transport
        assert not link.sent or await client.other.add(1, 2) == 3
        assert len(link.receipts) == 0


async def test_a_peer_that_does_not_read_is_dropped(url: str) -> None:
    """And nobody else notices: what waits for it is bounded."""
    async with Server(work(), url=f"{url}?max_unsent=300000") as server, Client(url) as good:
        port = int(url.rpartition(":")[2].partition("/")[0])
        async with FaultProxy("127.0.0.1", port) as proxy, Client(proxy.url(url)) as slow:
            assert await slow.other.add(1, 2) == 3
            proxy.freeze("to_client")
            calls = [asyncio.create_task(slow.other.using(timeout=20).burden(200_000)) for _ in range(60)]
            await eventually(lambda: len(server.peers) == 1)
            assert await good.other.add(1, 2) == 3
            proxy.reset()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ends} <= {ConnectionLost, bytes}
            assert ConnectionLost in {type(end) for end in ends}


async def test_rubbish_harms_only_its_sender(server: Server, url: str, port: int) -> None:
    """Bytes that are no WebSocket, frames that are no message, a message that is too large."""
    async with Client(url) as client:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"\x00\xff" * 1000)
        for frames in ([b"\xc1"], [b"\x93\x01\x02\x03"], ["text"], [b"\x00" * 3_000_000]):
            async with connect(url, subprotocols=[Subprotocol("rpckit.v1")], max_size=None) as rude:
                await rude.recv()  # its greeting
                with pytest.raises(ConnectionClosed):
                    await say(rude, frames)
        assert await client.other.add(1, 2) == 3


async def say(rude: ClientConnection, frames: list[Any]) -> None:
    """All of it, and wait for an answer."""
    for frame in frames:
        await rude.send(frame)
    await asyncio.wait_for(rude.recv(), 5)


async def test_a_server_that_accepts_and_drops_is_not_stormed(url: str) -> None:
    """The back-off goes on over sessions that do not last."""
    accepted = 0

    async def on_connect(peer: RemotePeer) -> None:
        nonlocal accepted
        accepted += 1
        peer.close("not you")

    async with Server(work(), url=url, on_connect=on_connect):
        client = Client(url)
        await client.connect()
        await asyncio.sleep(2)
        await client.close()
    assert 2 <= accepted < 20


async def test_a_session_ends_whatever_script_the_reason_is_in(server: Server, url: str) -> None:
    """A close frame holds 123 bytes, which are fewer characters."""
    async with connect(url) as theirs:
        await theirs.send(json.dumps({"jsonrpc": "2.0", "method": "rpc.ping", "id": 1}))
        await theirs.recv()
        (peer,) = server.peers.values()
        peer.close("é" * 100)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(theirs.recv(), 5)
        assert (theirs.close_code, theirs.close_reason) == (1000, "é" * 61)
        await eventually(lambda: not server.peers)


async def test_a_half_open_link_that_never_spoke_is_found(url: str, port: int) -> None:
    """Its dialect is not known, but ping frames need none."""
    async with Server(work(), url=f"{url}?heartbeat={HEARTBEAT}") as server:
        async with FaultProxy("127.0.0.1", port) as proxy:
            silent = await connect(proxy.url(url), ping_interval=None)
            (hub,) = [link.transport._hub for link in server._dispatcher.links]  # type: ignore[union-attr]
            assert len(hub.every) == 1
            proxy.freeze()
            began = time.monotonic()
            await eventually(lambda: not hub.every)
            assert time.monotonic() - began < 2.2 * HEARTBEAT + 0.3
            proxy.thaw()
            silent.transport.abort()


async def test_a_path_that_is_gone_for_a_while_is_tried_again(url: str, port: int) -> None:
    """As behind a proxy whose backend restarts: only a refusal is for good."""
    async with Server(work(), url=url):
        client = Client(url)
        await client.connect()
    async with Server(work(), url=url.replace("/ws", "/elsewhere")):
        await asyncio.sleep(0.7)
        assert client.state == "reconnecting"
    async with Server(work(), url=url):
        assert await client.other.add(1, 2) == 3
        await client.close()


async def test_a_stop_is_orderly_though_a_peer_does_not_read(url: str, port: int) -> None:
    """What it had waiting is refused into a full connection; everyone else's calls are finished."""
    async with Server(work(), url=f"{url}?max_unsent=300000&peer_limit=1") as server, Client(url) as good:
        async with FaultProxy("127.0.0.1", port) as proxy:
            async with Client(proxy.url(url)) as slow:
                assert await slow.other.add(1, 2) == 3
                proxy.freeze("to_client")
                calls = [asyncio.create_task(slow.other.burden(200_000)) for _ in range(60)]
                nap = asyncio.create_task(good.other.nap(0.3))
                await asyncio.sleep(0.1)
                await server.stop()
                assert await nap == 0.3
                proxy.reset()
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(end, ConnectionLost | NotSent | NoResponder | bytes) for end in ends)


async def test_calls_nobody_answers_leave_nothing(url: str) -> None:
    """Their time is up: they are forgotten on both sides, and a JSON-RPC peer is told."""
    heard: list[dict[str, Any]] = []

    async def on_connect(peer: RemotePeer) -> None:
        ends = await asyncio.gather(*(peer.other.using(timeout=0.1).ask(n) for n in range(50)), return_exceptions=True)
        assert {type(end) for end in ends} == {DeadlineExceeded}

    async with Server(work(), url=f"{url}?heartbeat=0.5", on_connect=on_connect) as server:
        async with connect(url) as silent:
            await silent.send(json.dumps({"jsonrpc": "2.0", "method": "rpc.ping", "id": 1}))
            await eventually(lambda: server.peers)
            (link,) = (link for each in server._dispatcher.links for link in each.transport.sessions.values())  # type: ignore[union-attr]
            async with asyncio.timeout(5):
                while len(heard) < 50:
                    message = json.loads(await silent.recv())
                    heard += [message] if message.get("method") == "$/cancelRequest" else []
            assert link.sent == {}


async def test_a_broadcast_waits_for_nobody(url: str) -> None:
    """Not for one that gives no receipts, nor for one whose dialect cannot carry it."""
    news: list[int] = []
    service = Service("reader")

    @service.method
    async def say(n: int) -> None:
        news.append(n)

    async with Server(work(), url=url) as server:
        async with Client(url, expose=service), Client(f"{url}?dialect=fastapi_websocket_rpc"), Client(url) as mute:
            assert mute.state == "connected"
            await eventually(lambda: len(server.peers) == 3)
            began = time.monotonic()
            assert await server.peers.broadcast("say", 1) == 2
            assert time.monotonic() - began < 0.5
            await eventually(lambda: news == [1])


async def test_a_stop_that_ends_in_an_error(url: str) -> None:
    """`attempts` bounds reconnecting; then calls are told at once why nothing is sent."""
    async with Server(work(), url=url) as server:
        client = Client(f"{url}?attempts=2")
        await client.connect()
        await server.stop()
        await eventually(lambda: client.state == "closed")
        began = time.monotonic()
        with pytest.raises(NotSent, match="cannot connect"):
            await client.other.add(1, 2)
        assert time.monotonic() - began < 0.5
        await client.close()


async def test_waiting_for_a_server_can_fail(url: str) -> None:
    client = Client(url)
    began = time.monotonic()
    with pytest.raises(NotSent):
        await client.wait_ready(0.3)
    assert time.monotonic() - began < 1
    async with Server(work(), url=url):
        await client.wait_ready(5)
        assert await client.other.add(1, 2) == 3
    await client.close()


async def test_a_wrong_path_and_a_wrong_form_say_what_to_do(server: Server, url: str) -> None:
    with pytest.raises(UsageError, match="404"):
        await Client(url.replace("/ws", "/nowhere")).connect()
    with pytest.raises(UsageError, match="expose, on_connect and other need a session"):
        Client("memory://x", expose=own())
    with pytest.raises(UsageError, match="unknown ws:// option 'heartbeet'"):
        Client(f"{url}?heartbeet=1")


SERVED = work()

if __name__ == "__main__":
    sys.exit("run by pytest")


async def test_an_error_too_large_for_a_session_still_ends_the_call(url: str) -> None:
    service = Service("work")

    @service.method
    async def refuse() -> None:
        raise RemoteError("no", details={"much": "x" * 50_000})

    async with Server(service, url=f"{url}?max_message=20000"), Client(url, timeout=5) as client:
        with pytest.raises(RemoteError, match="no"):
            await client.call("work.refuse")


async def test_a_call_whose_text_is_too_large_in_bytes_ends_alone(url: str) -> None:
    """It grows as it is laid out: under the limit as a body, and in characters."""
    service = Service("work")
    service.method(add)
    text = "\x01" * 250_000 + "漢" * 260_000
    async with Server(service, url=url), Client(url, dialect="jsonrpc") as client:
        session = client.transport.inbox
        with pytest.raises(UsageError, match="over max_message"):
            await client.call("work.add", text)
        assert await client.call("work.add", 1, 2) == 3
        assert client.transport.inbox == session


async def test_answers_too_large_for_a_session_leave_room_for_others(url: str) -> None:
    service = Service("work", doc="x" * 50_000)
    service.method(add)
    async with Server(service, url=f"{url}?max_message=20000"), Client(url) as client:
        for _ in range(MAX_ANSWERS + 1):
            with pytest.raises(RemoteError, match="cannot be sent"):
                await client.survey("schema", wait=5)
        assert len(await client.survey("stats", wait=5)) == 1


async def test_a_batch_is_answered_in_one_array_though_its_answers_are_too_large(url: str) -> None:
    service = Service("work")

    @service.method
    async def text(size: int) -> str:
        return "漢" * size

    asked = [{"jsonrpc": "2.0", "method": "work.text", "params": [1000], "id": n} for n in range(10)]
    async with Server(service, url=f"{url}?max_message=20000"), connect(url, max_size=20_000) as theirs:
        for _ in range(3):
            await theirs.send(json.dumps(asked))
            answers = json.loads(await asyncio.wait_for(theirs.recv(), 5))
            assert sorted(each["id"] for each in answers) == list(range(10))
            assert sum("result" in each for each in answers) == 6
