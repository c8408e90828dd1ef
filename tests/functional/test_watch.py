"""The watch that names whoever blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rpckit import watch
from rpckit.watch import LoopWatch

BLOCK_S = 0.03  # four times what is tolerated here

NameOf = Callable[[asyncio.Task[object] | None], str | None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BLOCKED_S", 0.005)
    monkeypatch.setattr(watch, "BEAT_S", 0.002)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "rpckit.watch")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def make() -> Iterator[Callable[[NameOf], LoopWatch]]:
    made: list[LoopWatch] = []

    def make(name_of: NameOf) -> LoopWatch:
        made.append(LoopWatch(name_of))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()
        each._thread.join(1)
        assert not each._thread.is_alive()


async def test_a_blocking_task_is_named_with_the_line_it_stands_at_once(
    make: Callable[[NameOf], LoopWatch], warnings: Callable[[], list[str]]
) -> None:
    make(lambda task: "service.slow")
    await asyncio.sleep(0.002)
    time.sleep(BLOCK_S)  # noqa: ASYNC251  # it is what the watch is for
    await asyncio.sleep(0.002)
    (told,) = [each for each in warnings() if "time.sleep(BLOCK_S)" in each]
    assert "service.slow blocks the event loop" in told
    assert "make it a plain def" in told


async def test_each_block_is_told_of(make: Callable[[NameOf], LoopWatch], warnings: Callable[[], list[str]]) -> None:
    make(lambda task: "service.slow")
    for _ in range(2):
        await asyncio.sleep(0.004)
        time.sleep(BLOCK_S)  # noqa: ASYNC251
    assert len([each for each in warnings() if "time.sleep(BLOCK_S)" in each]) == 2


async def test_a_task_without_a_method_is_called_by_its_own_name(
    make: Callable[[NameOf], LoopWatch], warnings: Callable[[], list[str]]
) -> None:
    make(lambda task: None)

    async def block() -> None:
        time.sleep(BLOCK_S)  # noqa: ASYNC251

    await asyncio.create_task(block(), name="somebody else")
    assert [each for each in warnings() if each.startswith("somebody else blocks")]
    assert "make it a plain def" not in warnings()[-1]  # that is for handlers


async def test_a_loop_that_keeps_its_beat_is_left_alone(
    make: Callable[[NameOf], LoopWatch],
    warnings: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "BLOCKED_S", 5.0)
    make(lambda task: "service.quick")
    await asyncio.sleep(0.01)
    assert warnings() == []


async def test_stop_ends_its_thread_and_its_beat() -> None:
    watching = LoopWatch(lambda task: None)
    before = threading.active_count()
    watching.start()
    assert threading.active_count() == before + 1
    watching.stop()
    watching._thread.join(1)
    assert threading.active_count() == before
