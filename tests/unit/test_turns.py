"""Jobs that never wait share a task; to each it looks like one of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from rpckit.turns import Turns

Body = Callable[[], Awaitable[Any]]
current: ContextVar[int] = ContextVar("current", default=-1)
mark: ContextVar[Any] = ContextVar("mark", default=None)


class Runs:
    """What ran, in which order and in which task."""

    def __init__(self) -> None:
        self.turns: Turns[tuple[int, Body]] = Turns(asyncio.get_running_loop(), _enter, self._run)
        self.added = 0
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.tasks: dict[int, str] = {}  # their names: who keeps a task keeps others out of it

    def add(self, *bodies: Body) -> None:
        for body in bodies:
            self.turns.add((self.added, body))
            self.added += 1

    async def _run(self, job: tuple[int, Body], task: asyncio.Task[Any]) -> None:
        number, body = job
        assert task is asyncio.current_task()
        self.tasks[number] = task.get_name()
        self.begun.append(number)
        try:
            await body()
        except asyncio.CancelledError:
            pass
        finally:
            assert current.get() == number
            self.ended.append(number)

    async def until_ended(self, count: int) -> None:
        async with asyncio.timeout(2):
            while len(self.ended) < count:
                await asyncio.sleep(0.001)


def _enter(job: tuple[int, Body]) -> None:
    current.set(job[0])


async def through() -> None:
    pass


async def waits() -> None:
    await asyncio.sleep(0.001)


async def test_jobs_that_never_wait_share_a_task_and_end_in_the_next_turn() -> None:
    runs = Runs()
    runs.add(*[through] * 5)
    assert runs.begun == []
    await asyncio.sleep(0)
    assert runs.ended == [0, 1, 2, 3, 4]
    assert len(set(runs.tasks.values())) == 1


async def test_a_job_that_waits_keeps_its_task_and_holds_nobody_up() -> None:
    runs = Runs()
    go = asyncio.Event()
    runs.add(through, go.wait, through, waits, through)
    await runs.until_ended(4)
    assert runs.begun == [0, 1, 2, 3, 4]
    assert 1 not in runs.ended
    assert runs.tasks[1] == runs.tasks[0]
    assert len({runs.tasks[number] for number in (1, 2, 3, 4)}) == 4
    go.set()
    await runs.until_ended(5)


async def test_where_jobs_wait_the_next_turn_gives_each_a_task_at_once() -> None:
    runs = Runs()
    runs.add(waits)
    await runs.until_ended(1)
    runs.add(*[waits] * 20)
    await asyncio.sleep(0)
    assert runs.begun == list(range(21))
    await runs.until_ended(21)
    assert len(set(runs.tasks.values())) == 21


async def test_where_they_no_longer_wait_they_share_again() -> None:
    runs = Runs()
    runs.add(waits, waits)
    await runs.until_ended(2)
    runs.add(through)
    await runs.until_ended(3)
    await asyncio.sleep(0)
    runs.add(*[through] * 5)
    await runs.until_ended(8)
    assert len({runs.tasks[number] for number in range(3, 8)}) == 1


@pytest.mark.parametrize("value", [1, type("Odd", (), {"__eq__": lambda *_: 1 / 0, "__hash__": None})()])
async def test_a_job_never_sees_what_another_left_in_a_context_variable(value: Any) -> None:
    seen: list[Any] = []

    async def leave() -> None:
        seen.append(mark.get())
        mark.set(value)

    runs = Runs()
    runs.add(*[leave] * 4)
    await runs.until_ended(4)
    assert seen == [None] * 4


async def test_a_variable_that_was_set_and_reset_is_nothing_left() -> None:
    async def visit() -> None:
        mark.reset(mark.set(1))

    runs = Runs()
    runs.add(*[visit] * 4)
    await asyncio.sleep(0)
    assert runs.ended == [0, 1, 2, 3]


async def test_a_cancel_hits_the_job_that_waits_and_no_other() -> None:
    runs, never = Runs(), asyncio.Event()  # held: a task and what it waits for alone are garbage
    runs.add(through, never.wait, through)
    await asyncio.sleep(0)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == runs.tasks[1]]
    task.cancel()
    await runs.until_ended(3)
    assert sorted(runs.ended) == [0, 1, 2]


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancel_itself_and_think_again() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    task.uncancel()


async def ask_to_be_told() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda _: None)


kept: list[Any] = []


async def keep() -> None:
    kept.append(asyncio.current_task())


LEAVING = [cancel_itself, ask_to_be_told, keep]
if sys.version_info < (3, 13):  # from then on nothing is left of a cancel that is taken back
    LEAVING.append(cancel_itself_and_think_again)


@pytest.mark.parametrize("leave", LEAVING)
async def test_a_task_with_which_something_is_left_is_no_other_jobs(leave: Body) -> None:
    waited: list[int] = []

    async def wait() -> None:
        await asyncio.sleep(0)
        waited.append(1)

    runs = Runs()
    runs.add(leave, wait, wait)
    await runs.until_ended(3)
    kept.clear()
    assert waited == [1, 1]
    assert runs.tasks[1] != runs.tasks[0]


async def test_jobs_begin_with_the_variables_of_who_made_the_turns() -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append(mark.get())

    async def add_another() -> None:
        mark.set("mine")
        runs.add(look)

    runs = Runs()
    mark.set("of whoever adds")
    runs.add(add_another, look)
    await runs.until_ended(3)
    assert seen == [None, None]


if sys.version_info >= (3, 12):  # eager tasks

    async def test_an_eager_task_that_waited_a_turn_and_was_kept_is_not_shared() -> None:
        kept: list[object] = []

        async def keep() -> None:
            kept.append(asyncio.current_task())
            await asyncio.sleep(0)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]  # of Python 3.12
        try:
            runs = Runs()
            runs.add(through, keep, through)
            await runs.until_ended(3)
        finally:
            loop.set_task_factory(None)
        assert runs.tasks[1] != runs.tasks[2]


async def test_what_is_left_is_seen_though_it_is_equal() -> None:
    async def leave() -> None:
        mark.set({})

    mark.set({})
    runs = Runs()
    runs.add(leave, through)
    await runs.until_ended(2)
    assert runs.tasks[0] != runs.tasks[1]


async def test_jobs_added_by_jobs_have_the_next_turn() -> None:
    runs = Runs()

    async def again() -> None:
        if runs.added < 1_000:
            runs.add(again)

    turns = 0
    runs.add(again)
    async with asyncio.timeout(2):
        while len(runs.ended) < 1_000:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 500
