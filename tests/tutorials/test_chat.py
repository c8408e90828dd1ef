"""The chat holds: pages in a real browser, the terminal, the old client, two processes joined through Redis."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

from rpckit import Client, InvalidArgument, Service
from rpckit.testing import Redis
from rpckit.testing._ports import free_port
from tests.interop.processes import ROOT, Program, clean_env, running
from tests.tutorials.browser import browser

CHAT = ROOT / "tutorials" / "chat"
SHOT = CHAT / "screenshot.png"

pytestmark = pytest.mark.timeout(90)


@contextmanager
def chat(redis: str = "", port: int | None = None) -> Iterator[tuple[str, Program]]:
    """A server process; the host and port it listens on."""
    port = port or free_port()
    argv = [sys.executable, str(CHAT / "server.py"), "--port", str(port), "--redis", redis]
    with running(argv, ready="open http://", env=clean_env()) as program:
        _wait_for_port(port)
        yield f"127.0.0.1:{port}", program


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the chat does not listen"
            time.sleep(0.05)


class Person:
    """Somebody in the chat, by rpckit's own client."""

    def __init__(self, place: str, dialect: str = "native") -> None:
        self.said: list[dict[str, Any]] = []
        self.names: list[str] = []
        service = Service("person")

        @service.method
        async def said(id: str, room: str, nickname: str, text: str, at: float) -> None:
            self.said.append({"nickname": nickname, "text": text})

        @service.method
        async def who(room: str, names: list[str]) -> None:
            self.names = names

        self.client = Client(f"ws://{place}/ws?dialect={dialect}", expose=service)

    async def join(self, nickname: str, room: str = "lobby", since: str = "") -> dict[str, Any]:
        joined: dict[str, Any] = await self.client.other.join(nickname=nickname, room=room, since=since)
        return joined

    @property
    def texts(self) -> list[str]:
        return [line["text"] for line in self.said]


async def until(condition: Any, what: str = "it") -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{what} did not come")


async def test_a_page_types_sees_and_reconnects(tmp_path: Path) -> None:
    """In Chromium: two people talk, the server is killed and comes back, what was said meanwhile arrives."""
    port = free_port()
    async with browser() as chromium:
        with chat(port=port) as (place, program):
            ada, bob = await chromium.page(f"http://{place}/"), await chromium.page(f"http://{place}/")
            for page, name in ((ada, "ada"), (bob, "bob")):
                await page.type("#nickname", name, enter=True)
                await page.until("!document.querySelector('#chat').hidden")
            await ada.type("#text", "hello <b>bob</b> ✓", enter=True)
            await bob.until("document.querySelector('#lines').innerText.includes('hello <b>bob</b> ✓')")
            await bob.type("#text", "hello ada, this page has no build step", enter=True)
            await ada.until("document.querySelectorAll('#lines li').length === 2")
            await ada.until("document.querySelector('#names').innerText === 'ada\\nbob'")
            await ada.screenshot(SHOT if os.environ.get("RPCKIT_TEST_SCREENSHOTS") else tmp_path / SHOT.name)
            program.send(signal.SIGKILL)
            await ada.until("document.querySelector('#state').classList.contains('lost')")
        with chat(port=port) as (place, program):
            for page, name in ((ada, "ada"), (bob, "bob")):
                await page.until(f"document.querySelector('#state').innerText === 'you are {name}'")
            await bob.type("#text", "back again", enter=True)
            await ada.until("document.querySelector('#lines').innerText.includes('back again')")
            assert await ada.js("document.querySelectorAll('#lines li').length") == 3
        assert chromium.said == []


async def test_a_message_crosses_two_processes_and_the_history_survives(own_redis: Redis) -> None:
    """Joined through Redis: names and lines of both, and a process that starts later learns what was said."""
    with chat(own_redis.url.removeprefix("redis://")) as (one, first):
        with chat(own_redis.url.removeprefix("redis://")) as (other, _):
            ada, bob = Person(one), Person(other, "jsonrpc")
            async with ada.client, bob.client:
                assert (await ada.join("ada"))["who"] == ["ada"]
                await until(lambda: True)
                joined = await bob.join("bob")
                assert joined["nickname"] == "bob"
                await until(lambda: ada.names == ["ada", "bob"], "bob, at ada's")
                await ada.client.other.say(text="from one process")
                await until(lambda: bob.texts == ["from one process"], "ada's line")
                await bob.client.other.say(text="to the other")
                await until(lambda: ada.texts == ["from one process", "to the other"], "bob's line")
                with chat(own_redis.url.removeprefix("redis://")) as (third, _):
                    late = Person(third)
                    async with late.client:
                        history = (await late.join("eve"))["history"]
                        assert [line["text"] for line in history] == ["from one process", "to the other"]
                        since = await late.join("eve", since=history[0]["id"])
                        assert [line["text"] for line in since["history"]] == ["to the other"]
                        await until(lambda: ada.names == ["ada", "bob", "eve"], "eve")
                    await until(lambda: ada.names == ["ada", "bob"], "eve's leaving")
        await asyncio.sleep(0)
        assert first.code is None


async def test_the_embedded_redis_joins_processes_too() -> None:
    """The first one starts it, and needs nothing of one's own."""
    with chat("embedded") as (one, _), chat("embedded") as (other, _):
        ada, bob = Person(one), Person(other)
        async with ada.client, bob.client:
            await ada.join("ada")
            await bob.join("bob")
            await ada.client.other.say(text="hello")
            await until(lambda: bob.texts == ["hello"], "ada's line")


async def test_one_redis_connection_however_many_clients(own_redis: Redis) -> None:
    with chat(own_redis.url.removeprefix("redis://")) as (place, _):
        before = _redis_clients(own_redis)
        people = [Person(place) for _ in range(30)]
        async with AsyncExitStack() as stack:
            for number, person in enumerate(people):
                await stack.enter_async_context(person.client)
                await person.join(f"p{number}")
            assert _redis_clients(own_redis) == before == 1


def _redis_clients(redis: Redis) -> int:
    return sum("name=rpckit" in line for line in str(redis.ctl("CLIENT", "LIST")).splitlines())


async def test_the_old_client_still_works() -> None:
    """`/chat/{nickname}`: its frames reach the others, a bad one is answered to its sender, names are the session's."""
    with chat() as (place, _):
        async with connect(f"ws://{place}/chat/ada") as ada, connect(f"ws://{place}/chat/bob") as bob:
            await ada.send("this is not JSON")
            assert "error" in json.loads(await asyncio.wait_for(ada.recv(), 5))
            await ada.send(json.dumps({"nickname": "somebody else", "message": "hello"}))
            heard = json.loads(await asyncio.wait_for(bob.recv(), 5))
            assert (heard["nickname"], heard["message"]) == ("ada", "hello")
            eve = Person(place)
            async with eve.client:
                joined = await eve.join("eve", room="global_room")
                assert joined["who"] == ["ada", "bob", "eve"]
                await eve.client.other.say(text="from the new page")
                assert json.loads(await asyncio.wait_for(bob.recv(), 5))["nickname"] == "eve"
                await bob.send(json.dumps({"nickname": "bob", "message": "good"}))
                await until(lambda: eve.texts[-1:] == ["good"], "bob's line")


async def test_names_and_lines_are_checked() -> None:
    with chat() as (place, _):
        ada, other = Person(place), Person(place)
        async with ada.client, other.client:
            with pytest.raises(InvalidArgument):
                await ada.client.other.say("before joining")
            with pytest.raises(InvalidArgument):
                await ada.join(" ")
            await ada.join("ada")
            assert (await other.join("ada"))["nickname"] == "ada (2)"
            for text in ("", "x" * 2001):
                with pytest.raises(InvalidArgument):
                    await ada.client.other.say(text)
            await ada.client.other.say("x" * 2000)
            await until(lambda: len(other.said) == 1, "the line")


async def test_a_hundred_idle_clients_cost_next_to_nothing() -> None:
    """Under 1 % of a core."""
    with chat() as (place, program):
        people = [Person(place, "jsonrpc" if n % 2 else "native") for n in range(100)]
        async with AsyncExitStack() as stack:
            for number, person in enumerate(people):
                await stack.enter_async_context(person.client)
                await person.join(f"p{number}", room=f"room {number % 10}")
            await asyncio.sleep(1)
            used = await asyncio.to_thread(_cpu_share, program, 6.0)
    assert used < 0.01, f"{used:.2%} of a core"


def _cpu_share(program: Program, seconds: float) -> float:
    process = psutil.Process(program.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds


async def test_nothing_grows_over_a_thousand_connects() -> None:
    """Open files, and memory, once every room has its whole history."""
    with chat() as (place, program):
        process = psutil.Process(program.pid)

        async def come_and_go(number: int) -> None:
            person = Person(place, "jsonrpc" if number % 2 else "native")
            async with person.client:
                await person.join(f"p{number}", room=f"room {number % 5}")
                await person.client.other.say(text="hello and goodbye")

        async def wave(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, 10):
                await asyncio.gather(*(come_and_go(n) for n in range(start, start + 10)))

        await wave(range(1000))
        await asyncio.sleep(0.5)
        files, memory = process.num_fds(), process.memory_info().rss
        await wave(range(1000, 2000))
        await asyncio.sleep(0.5)
        gc.collect()
        assert process.num_fds() <= files
        assert process.memory_info().rss - memory < 2_000_000


async def test_the_terminal_reads_while_it_writes() -> None:
    with chat() as (place, _):
        ada = Person(place)
        async with ada.client:
            await ada.join("ada")
            terminal = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CHAT / "terminal.py"), "--url", f"ws://{place}/ws", "--nickname", "bob"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=clean_env(),
            )
            assert terminal.stdin is not None
            assert terminal.stdout is not None
            try:
                await until(lambda: ada.names == ["ada", "bob"], "bob")
                await ada.client.other.say(text="can you hear me?")
                terminal.stdin.write(b"I can\n")
                await until(lambda: ada.texts == ["can you hear me?", "I can"], "his answer")
                terminal.stdin.close()
                said = (await asyncio.wait_for(terminal.stdout.read(), 10)).decode()
                assert "ada: can you hear me?" in said
                assert await asyncio.wait_for(terminal.wait(), 10) == 0
            finally:
                if terminal.returncode is None:
                    terminal.kill()


def test_the_readme_shows_the_page() -> None:
    assert "screenshot.png" in (CHAT / "README.md").read_text()
    assert Path(SHOT).is_file()
