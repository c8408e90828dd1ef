"""`rpckit generate` as a program: from source and from running servers, and what a changed contract says."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rpckit.ids import new_id
from rpckit.testing._ports import LOOPBACK, free_port
from tests.interop.processes import clean_env, finish, rpckit, running

Urls = Callable[[str], str]

SERVICE = """
from dataclasses import dataclass
from decimal import Decimal

from rpckit import Service


@dataclass
class Item:
    name: str
    price: Decimal


service = Service("orders", address="ADDRESS", version="2")


@service.method
async def place(item: Item, count: int = 1) -> Decimal:
    '''The price of an order.'''
    return item.price * count
"""

PROGRAM = """
import asyncio
from decimal import Decimal

from orders_client import Item, OrdersRpcClient


async def main() -> None:
    async with OrdersRpcClient() as orders_rpc:
        print(await orders_rpc.place(Item("tea", Decimal("3.10")), 2))


asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a service, in a module of its own, at an address of its own."""
    (tmp_path / "orders.py").write_text(SERVICE.replace("ADDRESS", f"test-orders-{new_id()}"))
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture(params=["amqp", "redis+stream", "ws"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "amqp":
        return f"{request.getfixturevalue('amqp_url')}?declare=transient"
    if request.param == "redis+stream":
        return str(request.getfixturevalue("redis_url").replace("redis://", "redis+stream://"))
    return f"ws://{LOOPBACK}:{free_port()}/"


def run(folder: Path, url: str, *words: str) -> tuple[int, str]:
    ran = finish(rpckit(*words), env=clean_env(RPCKIT_URL=url), cwd=folder)
    return ran.code, ran.out + ran.err


def address_in(folder: Path) -> str:
    return (folder / "orders.py").read_text().partition('address="')[2].partition('"')[0]


def test_from_source_and_from_a_running_server_it_is_the_same_file(folder: Path, url: str) -> None:
    """And it calls that server, until a change breaks it: then it names the field, and nothing runs."""
    assert run(folder, url, "generate", "orders:service", "--out", "orders_client.py") == (
        0,
        "wrote orders_client.py\n",
    )
    source = (folder / "orders_client.py").read_text()
    serving = rpckit("serve", "orders:service", "--url", url)
    with running(serving, ready="serving orders", env=clean_env(), cwd=folder) as server:
        there = ("generate", address_in(folder), "--url", url, "--out", "orders_client.py")
        assert run(folder, url, *there, "--check") == (0, "")
        assert run(folder, url, *there)[0] == 0
        assert (folder / "orders_client.py").read_text() == source
        assert call(folder, url) == "6.20\n"
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    changed = (folder / "orders.py").read_text().replace("    price: Decimal", "    price: Decimal\n    currency: str")
    (folder / "orders.py").write_text(changed)
    with running(serving, ready="serving orders", env=clean_env(), cwd=folder):
        said = call(folder, url)
        assert "place(item.currency): is required now" in said
        assert "Nothing ran" in said
        assert run(folder, url, *there, "--check")[0] == 1


def call(folder: Path, url: str) -> str:
    ran = finish([sys.executable, "-W", "error", "program.py"], env=clean_env(RPCKIT_URL=url), cwd=folder)
    return ran.out or ran.err


def test_an_address_that_nobody_serves_is_told(folder: Path, redis_url: str) -> None:
    code, said = run(folder, redis_url, "generate", "nobody-there")
    assert code == 3
    assert "nobody who serves 'nobody-there' answered" in said
