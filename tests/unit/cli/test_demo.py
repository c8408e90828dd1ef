"""`rpckit demo`: its table, and which broker it takes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from rpckit import Server
from rpckit.cli import demo
from rpckit.cli.demo import Broken, Row, Unavailable, rows_table
from rpckit.cli.demo_worker import Measured
from rpckit.demo import FibonacciRpcClient, service
from rpckit.errors import InvalidArgument
from rpckit.testing.brokers import RabbitMq

GOOD = Measured(832_040, 0.5, 12_345.6)
Rpckit = Callable[..., Any]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Measured | Exception]:
    """A machine without brokers: outcomes by URL."""
    outcomes: dict[str, Measured | Exception] = {}

    async def pair(url: str) -> Measured:
        outcome = outcomes.get(url, Unavailable("connection refused"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def alone() -> Measured:
        return GOOD

    monkeypatch.setattr(demo, "_measure_pair", pair)
    monkeypatch.setattr(demo, "_measure_alone", alone)
    monkeypatch.setattr(demo, "_driver_installed", lambda scheme: True)
    monkeypatch.setattr("rpckit.testing._ports.free_port", lambda: 20_000)
    monkeypatch.setattr(demo, "find_redis_server", lambda: None)
    monkeypatch.setattr(RabbitMq, "installed", staticmethod(lambda: False))
    return outcomes


def shown(*rows: Row) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(rows_table(list(rows)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_shows_figures() -> None:
    text = shown(Row("amqp", "two processes", GOOD))
    assert all(part in text for part in ("amqp", "two processes", "832040", "0.50", "12,346"))


def test_table_says_why_not_in_words_that_may_hold_brackets() -> None:
    assert "not run: pip install rpckit[amqp]" in shown(Row("amqp", "pip install rpckit[amqp]"))


def test_broker_of_the_settings_is_used(rpckit: Rpckit, machine: dict[str, Any]) -> None:
    machine["amqp://localhost"] = GOOD
    ran = rpckit("demo")
    assert ran.code == 0
    assert "two processes, over amqp://localhost" in ran.out


def test_without_any_broker_it_says_what_to_install(rpckit: Rpckit) -> None:
    ran = rpckit("demo")
    assert ran.code == 0
    assert "connection refused, and no rabbitmq-server is installed" in " ".join(ran.out.split())
    assert "apt-get install rabbitmq-server" in ran.out


def test_broker_named_and_not_reachable_is_exit_code_1(rpckit: Rpckit) -> None:
    ran = rpckit("demo", "--url", "amqp://u:s3cret@elsewhere")
    assert ran.code == 1
    assert "not run: connection refused" in ran.out
    assert "s3cret" not in ran.out


def test_wrong_result_is_exit_code_1(rpckit: Rpckit, machine: dict[str, Any]) -> None:
    machine["amqp://localhost"] = Measured(7, 0.5, 1.0)
    assert rpckit("demo").code == 1


def test_broker_that_fails_midway_is_exit_code_1_and_not_replaced(rpckit: Rpckit, machine: dict[str, Any]) -> None:
    machine["amqp://localhost"] = Broken("no reply")
    ran = rpckit("demo")
    assert ran.code == 1
    assert "failed: no reply" in ran.out


def test_redis_is_shown_on_the_embedded_one_over_each_kind(
    rpckit: Rpckit, machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "find_redis_server", lambda: "/usr/bin/redis-server")
    machine.update(dict.fromkeys(demo.EMBEDDED_URLS, GOOD))
    ran = rpckit("demo")
    assert ran.code == 0
    for scheme in ("redis+stream", "redis+list", "redis+pubsub"):
        assert f"two processes, over {scheme}://embedded" in ran.out


def test_without_a_redis_server_it_says_what_to_install_once(rpckit: Rpckit) -> None:
    ran = rpckit("demo")
    assert ran.code == 0
    assert " ".join(ran.out.split()).count('no redis-server is installed: pip install "rpckit[embedded]"') == 1


def test_only_the_transport_named_runs_beside_memory(rpckit: Rpckit, machine: dict[str, Any]) -> None:
    machine["redis+list://redis.local"] = GOOD
    ran = rpckit("demo", "--url", "redis+list://redis.local")
    assert ran.code == 0
    assert "two processes, over redis+list://redis.local" in ran.out
    assert not any(other in ran.out for other in ("amqp", "redis+stream", "redis+pubsub"))


# --- what it runs ----------------------------------------------------------------------------


async def test_bundled_client_calls_bundled_service() -> None:
    async with Server(service, url="memory://fib"), FibonacciRpcClient("memory://fib") as fibonacci_rpc:
        assert await fibonacci_rpc.call(4) == 3
        assert await fibonacci_rpc.fib(30) == 832_040
        assert [await fibonacci_rpc.fib(n) for n in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]


async def test_bundled_client_works_without_being_entered() -> None:
    async with Server(service, url="memory://fib"):
        fibonacci_rpc = FibonacciRpcClient("memory://fib", timeout=3)
        assert await fibonacci_rpc.call(4) == 3
        await fibonacci_rpc.close()


@pytest.mark.parametrize("n", [-1, 10_001])
async def test_numbers_out_of_range_are_refused_clearly(n: int) -> None:
    async with Server(service, url="memory://fib"), FibonacciRpcClient("memory://fib") as fibonacci_rpc:
        with pytest.raises(InvalidArgument, match=rf"n must be 0 to 10,000, not {n:,}"):
            await fibonacci_rpc.fib(n)
