"""rpckit.js in Chromium, on a page that imports it as a module: calls both ways, events, and a connection that is cut.

The page comes from FastAPI through a proxy, so that its WebSocket goes the same way and can be cut there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rpckit.testing import FaultProxy
from tests.interop.processes import running
from tests.tutorials.browser import Browser, Page, browser, find_chromium

SERVER = Path(__file__).parent / "peers" / "rpckit_js_server.py"
CONNECT = """
globalThis.until = async (condition) => { while (!condition()) await new Promise((go) => setTimeout(go, 5)) };
globalThis.failure = (promise) => promise.then((value) => `no error: ${value}`, ({ name }) => name);
globalThis.told = [];
globalThis.client = new rpckit.Client(URL_OF_WS, {
  timeout: 5_000,
  methods: {
    double: (n) => 2 * n,
    async patient() {
      await until(() => this.signal.aborted);
      told.push("cancelled");
    },
  },
  onConnect: () => told.push("on"),
  onDisconnect: () => told.push("off"),
});
client.state
"""
SOON_MS = 1_000  # far above what an answer takes, far below what `slow` is asked for

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """host:port of the page and its endpoint."""
    _check_installed()
    with running([sys.executable, str(SERVER), "endpoint"], ready="/ws\n") as server:
        yield urlsplit(server.output.split()[-1]).netloc


@pytest.fixture
async def cable(site: str) -> AsyncIterator[FaultProxy]:
    host, port = site.split(":")
    async with FaultProxy(host, int(port)) as cable:
        yield cable


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as chromium:
        yield chromium
        assert chromium.said == []


@pytest.fixture
async def page(chromium: Browser, cable: FaultProxy) -> Page:
    """With a `client` of the page's own server, connected."""
    page = await _open(chromium, f"{cable.host}:{cable.port}")
    await page.js("client.ready()")
    return page


async def test_a_page_calls_and_is_called(page: Page) -> None:
    assert await page.js("client.at('js').add(2, 3)") == 5
    assert await page.js("client.call('js.add', { a: 4, b: 5 })") == 9
    assert await page.js("client.at('js').echo({ text: 'Grüße 👋', list: [1, null, [true]] })") == {
        "text": "Grüße 👋",
        "list": [1, None, [True]],
    }
    assert await page.js("client.at('js').call_back('double', 21)") == 42
    assert await page.js("failure(client.at('js').boom())") == "RpcError"
    assert await page.js("failure(client.at('js').no_such_method())") == "RpcError"
    assert await page.js("failure(client.at('js').call_back('no_such_method', 1))") == "RpcError"
    assert await page.js("Promise.all(Array.from({ length: 200 }, (_, n) => client.at('js').echo(n)))") == [*range(200)]


async def test_a_page_cancels_and_gives_up(page: Page) -> None:
    """The work ends with the call, on either side: what answers then is counted as late, at once."""
    cancelled = """(async () => {
      const began = performance.now();
      const error = await failure(client.call("js.slow", [10], { signal: AbortSignal.timeout(50) }));
      const late = await failure(client.call("js.slow", [10], { timeout: 50 }));
      await until(() => client.lateReplies === 2);
      return [error, late, client.pending, performance.now() - began];
    })()"""
    *outcome, took = await page.js(cancelled)
    assert outcome == ["TimeoutError", "DeadlineExceeded", 0]
    assert took < SOON_MS
    patient = 'client.call("js.call_back", ["patient", 0], { timeout: 100 })'
    assert await page.js(f"failure({patient})") == "DeadlineExceeded"  # and the server cancels what it asked the page
    await page.until("told.includes('cancelled')")


async def test_a_page_notifies_and_hears(chromium: Browser, page: Page, site: str) -> None:
    """Events that it made the server publish, and those that another page emits; until it stops listening."""
    other = await _open(chromium, site)
    await page.js("globalThis.heard = []; globalThis.stop = client.on('news', (...news) => heard.push(news)); 0")
    assert await page.js("client.notify('js.tell', ['news', 1])") is None
    await page.until("heard.length === 1")
    await other.js("client.emit('news', 'two', { of: 'two' })")
    await page.until("heard.length === 2")
    assert await page.js("heard") == [[1], ["two", {"of": "two"}]]
    await page.js("stop()")
    await other.js("client.emit('news', 'three')")
    assert await page.js("client.at('js').echo('after it')") == "after it"
    assert await page.js("heard.length") == 2


@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_a_page_comes_back_after_its_connection_was_cut(page: Page, cable: FaultProxy, how: str) -> None:
    await page.js("globalThis.heard = []; client.on('news', (news) => heard.push(news)); 0")
    await page.js("globalThis.lost = failure(client.call('js.slow', [10])); 0")
    await page.until("client.pending === 1")
    getattr(cable, how)()
    assert await page.js("lost") == "ConnectionLost"
    assert await page.js("client.at('js').add(1, 1)") == 2  # waits for the connection
    assert await page.js("client.at('js').call_back('double', 2)") == 4
    await page.js("client.at('js').tell('news', 'again')")
    await page.until("heard.length === 1")
    assert await page.js("told") == ["on", "off", "on"]
    assert await page.js("client.close().then(() => client.state)") == "closed"


async def test_a_page_of_another_site_is_refused_unless_it_is_named(chromium: Browser, site: str) -> None:
    for options, outcome in (([], "NotSent"), ([f"origins=http://{site}"], "no error: 3")):
        with running([sys.executable, str(SERVER), "listening", *options], ready="/ws\n") as server:
            page = await _open(chromium, site, server.output.split()[-1])
            assert await page.js("failure(client.call('js.add', [1, 2], { timeout: 1_500 }))") == outcome
            await page.js("client.close()")


async def _open(chromium: Browser, place: str, websocket: str = "") -> Page:
    """A page with a `client`."""
    page = await chromium.page(f"http://{place}/")
    await page.until("globalThis.rpckit !== undefined")
    state: Any = await page.js(CONNECT.replace("URL_OF_WS", json.dumps(websocket or f"ws://{place}/ws")))
    assert state == "connecting"
    return page


def _check_installed() -> None:
    """Skip at a desk, fail in CI."""
    missing = [] if find_chromium() else ["chromium is not installed: scripts/browser"]
    missing += [] if find_spec("fastapi") else ["fastapi is not installed: pip install fastapi"]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing[0], pytrace=False)
    if missing:
        pytest.skip(missing[0])
