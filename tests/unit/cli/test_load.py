"""Load: figures that add up, and errors that are counted and not repeated in a busy loop."""

from __future__ import annotations

import asyncio
import math
from array import array
from types import SimpleNamespace

import pytest

from rpckit.cli import load
from rpckit.cli.bench import figures_table
from rpckit.cli.load import Figures, run_load
from rpckit.errors import NotSent


@pytest.fixture
def _clock_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "time", SimpleNamespace(perf_counter=lambda: asyncio.get_running_loop().time()))


def test_percentiles_are_nearest_ranks_in_milliseconds() -> None:
    figures = Figures(latencies=array("d", [n / 1000 for n in range(100, 0, -1)]))
    assert figures.percentiles_ms(0.5, 0.95, 0.99, 1) == pytest.approx([50, 95, 99, 100])


def test_no_calls_have_no_latencies() -> None:
    assert math.isnan(Figures().percentiles_ms(0.5)[0])
    assert Figures().as_dict() == {
        "calls": 0,
        "seconds": 0.0,
        "calls_per_second": 0.0,
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "max_ms": None,
        "errors": {},
    }


@pytest.mark.usefixtures("_clock_of_the_loop")
async def test_load_runs_as_many_callers_as_asked() -> None:
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    figures = await run_load(call, Figures(), concurrency=8, duration=0.02)
    assert most == 8
    assert figures.calls >= 8
    assert figures.seconds >= 0.02
    assert figures.rate == pytest.approx(figures.calls / figures.seconds)


@pytest.mark.usefixtures("_clock_of_the_loop")
async def test_errors_are_counted_by_type_and_slow_their_caller_down() -> None:
    async def call() -> None:
        raise NotSent("x")

    figures = await run_load(call, Figures(), concurrency=2, duration=0.1)
    assert figures.calls == 0
    assert 2 <= figures.errors["NotSent"] <= 8


def test_table_has_one_row() -> None:
    table = figures_table(Figures(latencies=array("d", [0.001]), seconds=0.5))
    assert table.row_count == 1
