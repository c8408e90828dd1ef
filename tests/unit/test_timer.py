"""One timer for a table: set for the soonest moment, and for the next after it fired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from rpckit.timer import TableTimer


class Handle:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Remembers what was asked of it; `run_to` moves its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Callable[[], None]) -> Handle:
        self.handles.append(Handle(at, callback))
        return self.handles[-1]

    @property
    def active(self) -> list[float]:
        return [handle.at for handle in self.handles if not handle.cancelled]

    def run_to(self, now: float) -> None:
        self.now = now
        for handle in [each for each in self.handles if not each.cancelled and each.at <= now]:
            handle.cancelled = True
            handle.callback()


class Table:
    def __init__(self) -> None:
        self.moments: list[float] = []
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired += [at for at in self.moments if at <= now]
        self.moments = [at for at in self.moments if at > now]

    def next_deadline(self) -> float | None:
        return min(self.moments, default=None)


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def timer(loop: FakeLoop, table: Table) -> TableTimer:
    return TableTimer(cast(asyncio.AbstractEventLoop, loop), table.expire, table.next_deadline)


def add(timer: TableTimer, table: Table, at: float) -> None:
    table.moments.append(at)
    timer.cover(at)


def test_later_deadlines_cost_no_timer(loop: FakeLoop, table: Table, timer: TableTimer) -> None:
    for at in (101.0, 102.0, 103.0):
        add(timer, table, at)
    assert len(loop.handles) == 1


def test_a_sooner_deadline_moves_the_timer(loop: FakeLoop, table: Table, timer: TableTimer) -> None:
    add(timer, table, 105.0)
    add(timer, table, 101.0)
    assert loop.active == [101.0]


def test_after_firing_it_waits_for_the_next_deadline(loop: FakeLoop, table: Table, timer: TableTimer) -> None:
    add(timer, table, 101.0)
    add(timer, table, 104.0)
    loop.run_to(101.0)
    assert table.expired == [101.0]
    assert loop.active == [104.0]


def test_an_empty_table_needs_no_timer(loop: FakeLoop, table: Table, timer: TableTimer) -> None:
    add(timer, table, 101.0)
    table.moments.clear()
    loop.run_to(101.0)
    assert loop.active == []
    add(timer, table, 102.0)
    assert loop.active == [102.0]


def test_a_timer_that_fires_a_little_early_still_expires(loop: FakeLoop, table: Table, timer: TableTimer) -> None:
    add(timer, table, 101.0)
    loop.now = 100.9995
    loop.handles[-1].callback()
    assert table.expired == [101.0]


def test_a_deadline_added_while_it_fires_is_covered(loop: FakeLoop, table: Table) -> None:
    def expire(now: float) -> None:
        table.expire(now)
        if not table.moments:
            add(own, table, 103.0)

    own = TableTimer(cast(asyncio.AbstractEventLoop, loop), expire, table.next_deadline)
    add(own, table, 101.0)
    loop.run_to(101.0)
    assert loop.active == [103.0]


def test_stop_cancels_and_cover_starts_anew(loop: FakeLoop, table: Table, timer: TableTimer) -> None:
    add(timer, table, 101.0)
    timer.stop()
    assert loop.active == []
    timer.cover(102.0)
    assert loop.active == [102.0]
