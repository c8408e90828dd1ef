"""WIRE.md holds: each of its programs, which know nothing of rpckit, with rpckit at the other end."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pika.exceptions
import pytest

from rpckit import Context, Server, Service
from rpckit.testing._ports import free_port
from tests.interop.conftest import delete_queue
from tests.interop.processes import ROOT
from tests.tutorials.keys import delete_keys
from tests.tutorials.readme import Command, Saved, Stop, read_steps
from tests.tutorials.session import Session

STEPS = read_steps(ROOT / "WIRE.md")
ADDRESSES = ("rpc_queue", "wire")
PATIENCE = 20.0  # seconds for what should happen in milliseconds
NODE = shutil.which("node")


@pytest.fixture
def brokers(amqp_url: str, redis_url: str) -> Iterator[dict[str, str]]:
    """Where the page's brokers and ports are here; without its queues and keys before and after."""
    served, serving = free_port(), free_port()
    for end in (False, True):
        for address in ADDRESSES:
            delete_queue(amqp_url, address)
        delete_keys(redis_url, *ADDRESSES)
        if not end:
            yield {
                "amqp://localhost": amqp_url,
                "redis://localhost": redis_url,
                "redis+stream://localhost": redis_url.replace("redis://", "redis+stream://"),
                "ws://localhost:9000": f"ws://localhost:{served}",
                "ws://localhost:9001": f"ws://localhost:{serving}",
                '"localhost", 9001': f'"localhost", {serving}',
            }


def test_the_page_shows_a_client_and_a_server_for_each_transport() -> None:
    """Should its form change, the test below must not become empty."""
    names = {step.name for step in STEPS if isinstance(step, Saved)}
    assert {f"{kind}_{role}.py" for kind in ("amqp", "redis", "websocket") for role in ("client", "server")} < names
    assert sum(isinstance(step, Command) for step in STEPS) >= 18
    assert sum(isinstance(step, Stop) for step in STEPS) == 4


@pytest.mark.timeout(120)
def test_the_page_from_top_to_bottom(brokers: dict[str, str], tmp_path: Path) -> None:
    if NODE is None and os.environ.get("CI") == "true":
        pytest.fail("no Node.js: apt-get install nodejs, 20.10 or newer", pytrace=False)
    with Session(brokers, tmp_path) as reader:
        for step in STEPS:
            if NODE is not None or not (isinstance(step, Command) and step.line.startswith("node ")):
                reader.play(step)


async def test_what_rabbitmqs_client_cancels_is_stopped(brokers: dict[str, str]) -> None:
    """The page's console shows only calls that are answered."""
    work = Work()
    async with Server(work.service, url=brokers["amqp://localhost"]), client_of("amqp_client.py", brokers) as client:
        calling = asyncio.create_task(asyncio.to_thread(client.call, "wire", "slow", timeout=30))
        await asyncio.wait_for(work.begun.wait(), PATIENCE)
        client.connection.add_callback_threadsafe(partial(client.cancel, "wire", work.correlation_id))
        await asyncio.wait_for(work.ended.wait(), PATIENCE)
        reply = {work.correlation_id: ("$reply", msgpack.packb("nobody sent this"))}  # so that the caller ends
        client.connection.add_callback_threadsafe(partial(client.replies.update, reply))
        assert await calling == "nobody sent this"


async def test_what_rediss_client_no_longer_waits_for_is_stopped(brokers: dict[str, str]) -> None:
    work = Work()
    url = brokers["redis+stream://localhost"]
    async with Server(work.service, url=url), client_of("redis_client.py", brokers) as client:
        with pytest.raises((TimeoutError, RuntimeError), match=r"may have run|DEADLINE_EXCEEDED"):  # whoever is first
            await asyncio.to_thread(client.call, "wire", "slow", timeout=2)
        await asyncio.wait_for(work.ended.wait(), PATIENCE)


async def test_the_clients_know_at_once_that_nobody_serves(brokers: dict[str, str]) -> None:
    async with client_of("amqp_client.py", brokers) as client:
        with pytest.raises(pika.exceptions.UnroutableError):
            await asyncio.to_thread(client.call, "wire", "slow")
    async with client_of("redis_client.py", brokers) as client:
        with pytest.raises(LookupError, match="nobody serves wire"):
            await asyncio.to_thread(client.call, "wire", "slow")


class Work:
    """A service whose method goes on until it is stopped."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.correlation_id = ""
        self.service = Service("wire")
        self.service.method(self.slow)

    async def slow(self, ctx: Context) -> None:
        self.correlation_id = ctx.correlation_id
        self.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.ended.set()


@asynccontextmanager
async def client_of(name: str, brokers: dict[str, str]) -> AsyncIterator[Any]:
    """The `Client` of a program, without what the program does with it."""
    (text,) = (step.text for step in STEPS if isinstance(step, Saved) and step.name == name)
    names: dict[str, Any] = {}
    exec(text.partition("\n\nclient = ")[0], names)
    url = brokers["amqp://localhost" if name.startswith("amqp") else "redis://localhost"]
    client = await asyncio.to_thread(names["Client"], url)
    try:
        yield client
    finally:
        ends = [client.connection] if name.startswith("amqp") else [client.replies, client.redis]
        for end in ends:
            await asyncio.to_thread(end.close)
