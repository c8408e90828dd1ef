"""WIRE.md holds: each of its programs, which know nothing of rpckit, with rpckit at the other end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

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
