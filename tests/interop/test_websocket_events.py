"""Events from one peer to the others, through either of rpckit's WebSocket servers, in the dialects that have them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from rpckit import Client, Server, Service
from rpckit.testing._ports import LOOPBACK, free_port
from tests.interop.processes import running

pytest.importorskip("fastapi", reason="pip install rpckit[fastapi]")

SERVER = Path(__file__).parent / "peers" / "rpckit_js_server.py"
DIALECTS = ("native", "jsonrpc")
SOON = 5.0  # seconds in which what must happen has happened

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(scope="module", params=["listening", "endpoint"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with running([sys.executable, str(SERVER), request.param], ready="/ws\n") as program:
        yield program.output.split()[-1]


class Listener:
    """A client that keeps what it hears on the topic `news`."""

    def __init__(self, url: str, dialect: str) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        service = Service("listener")
        service.on("news")(self._hear)
        self.client = Client(f"{url}?dialect={dialect}", expose=service)

    async def _hear(self, text: str) -> None:
        self.heard.put_nowait(text)

    async def hears(self) -> str:
        return await asyncio.wait_for(self.heard.get(), SOON)


@pytest.mark.parametrize("speaks, listens", list(product(DIALECTS, DIALECTS)))
async def test_what_one_peer_emits_each_other_hears_once(url: str, speaks: str, listens: str) -> None:
    first, second = Listener(url, listens), Listener(url, listens)
    async with first.client, second.client, Client(f"{url}?dialect={speaks}") as speaker:
        for listener in (first, second):  # its subscription was written before this call
            assert await listener.client.at("js").echo("subscribed") == "subscribed"
        await speaker.emit("news", "one")
        await speaker.emit("weather", "rain")
        await speaker.emit("news", text="two")
        for listener in (first, second):
            assert [await listener.hears(), await listener.hears()] == ["one", "two"]
        await first.client.emit("news", "three")
        assert await second.hears() == "three"
        assert await speaker.at("js").echo("still there") == "still there"
        assert first.heard.empty()  # nobody is told by the server what it said itself


async def test_a_server_that_hears_a_topic_itself_asks_no_peer_for_it() -> None:
    """It is the peers that subscribe; a bare JSON-RPC program would be asked for a method it has not."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    service = Service("js")

    @service.on("news")
    async def hear(text: str) -> None:
        heard.put_nowait(text)

    url = f"ws://{LOOPBACK}:{free_port()}/ws"
    async with Server(service, url=url), connect(url) as program:
        await program.send('{"jsonrpc":"2.0","method":"rpc.emit","params":{"topic":"news","params":["one"]}}')
        await program.send('{"jsonrpc":"2.0","method":"rpc.ping","id":1}')
        assert json.loads(await asyncio.wait_for(program.recv(), SOON)) == {"jsonrpc": "2.0", "id": 1, "result": "pong"}
        assert await asyncio.wait_for(heard.get(), SOON) == "one"
