"""WIRE.md holds: each of its programs, which know nothing of rpckit, with rpckit at the other end."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpckit import Server, Service
from rpckit.testing._ports import free_port
from tests.interop.conftest import delete_queue
from tests.interop.processes import ROOT
from tests.tutorials.keys import delete_keys
from tests.tutorials.readme import Command, Saved, Stop, read_steps
from tests.tutorials.session import Session

STEPS = read_steps(ROOT / "WIRE.md")
ADDRESSES = ("rpc_queue", "wire")
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
    assert sum(isinstance(step, Command) for step in STEPS) >= 17
    assert sum(isinstance(step, Stop) for step in STEPS) == 4


@pytest.mark.timeout(120)
def test_the_page_from_top_to_bottom(brokers: dict[str, str], tmp_path: Path) -> None:
    if NODE is None and os.environ.get("CI") == "true":
        pytest.fail("no Node.js: apt-get install nodejs, 20.10 or newer", pytrace=False)
    with Session(brokers, tmp_path) as reader:
        for step in STEPS:
            if NODE is not None or not (isinstance(step, Command) and step.line.startswith("node ")):
                reader.play(step)


async def test_the_clients_time_is_up_and_the_work_of_rabbitmqs_is_cancelled(brokers: dict[str, str]) -> None:
    """The page's console shows only calls that are answered."""
    service, ended = Service("wire"), asyncio.Event()

    @service.method
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    async with Server(service, url=brokers["amqp://localhost"]):
        client = await asyncio.to_thread(client_of("amqp_client.py"), brokers["amqp://localhost"])
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(client.call, "wire", "slow", timeout=0.3)
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.to_thread(client.connection.close)
    ended.clear()
    async with Server(service, url=brokers["redis+stream://localhost"]):
        client = await asyncio.to_thread(client_of("redis_client.py"), brokers["redis://localhost"])
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(client.call, "wire", "slow", timeout=0.3)
        await asyncio.wait_for(ended.wait(), 10)  # by its deadline
        client.replies.close()
        client.redis.close()


async def test_the_clients_know_at_once_that_nobody_serves(brokers: dict[str, str]) -> None:
    rabbit = await asyncio.to_thread(client_of("amqp_client.py"), brokers["amqp://localhost"])
    with pytest.raises(Exception, match="1 unroutable"):  # pika's
        await asyncio.to_thread(rabbit.call, "wire", "slow")
    await asyncio.to_thread(rabbit.connection.close)
    redis = await asyncio.to_thread(client_of("redis_client.py"), brokers["redis://localhost"])
    with pytest.raises(LookupError, match="nobody serves wire"):
        await asyncio.to_thread(redis.call, "wire", "slow")
    redis.replies.close()
    redis.redis.close()


def client_of(name: str) -> Any:
    """The class `Client` of a program, without what it does then."""
    (text,) = (step.text for step in STEPS if isinstance(step, Saved) and step.name == name)
    names: dict[str, Any] = {}
    exec(text.partition("\n\nclient = ")[0], names)
    return names["Client"]
