"""The concurrency limit: never more than it, resuming handlers first, nobody forgotten."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rpckit.slots import Slots


def request(slots: Slots, key: Hashable, start: Callable[[], None]) -> None:
    """As a server does for what comes in."""
    if slots.take():
        start()
    else:
        slots.wait(key, start)


def requested(slots: Slots, *keys: str) -> list[str]:
    """The starts, as they come."""
    started: list[str] = []
    for key in keys:
        request(slots, key, partial(started.append, key))
    return started


def test_starts_beyond_the_limit_wait_in_order() -> None:
    slots = Slots(2)
    started = requested(slots, "a", "b", "c", "d")
    assert started == ["a", "b"]
    assert slots.waiting == 2
    slots.release()
    slots.release()
    assert started == ["a", "b", "c", "d"]
    assert slots.taken == 2


def test_a_withdrawn_start_is_never_called() -> None:
    slots = Slots(1)
    started = requested(slots, "a", "b", "c")
    slots.withdraw("b")
    slots.withdraw("nobody")
    slots.release()
    assert started == ["a", "c"]


def test_resuming_goes_before_what_has_not_begun() -> None:
    slots = Slots(1)
    started = requested(slots, "a", "b")
    slots.resume(partial(started.append, "resumed"))
    slots.release()
    assert started == ["a", "resumed"]
    slots.release()
    assert started == ["a", "resumed", "b"]


def test_a_slot_taken_beyond_the_limit_is_paid_back() -> None:
    slots = Slots(1)
    started = requested(slots, "a", "b")
    slots.take_now()
    assert slots.taken == 2
    slots.release()
    assert started == ["a"]
    slots.release()
    assert started == ["a", "b"]


def test_starts_that_give_their_slot_back_at_once_do_not_recurse() -> None:
    slots = Slots(1)
    slots.take_now()
    started = 0

    def start() -> None:
        nonlocal started
        started += 1
        slots.release()

    for key in range(5_000):
        request(slots, key, start)
    slots.release()
    assert (started, slots.taken, slots.waiting) == (5_000, 0, 0)


class SlotsMachine(RuleBasedStateMachine):
    """Requests, lends, resumes, withdrawals and ends in any order: the limit holds and nobody is lost."""

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.slots = Slots(limit)
        self.serial = 0
        self.waiting: list[int] = []
        self.running: list[int] = []
        self.lent: list[int] = []
        self.resuming: list[int] = []
        self.left: list[int] = []

    def on_start(self, number: int) -> None:
        assert not self.resuming, "work that has not begun went before a resuming handler"
        assert self.waiting.pop(0) == number
        self.running.append(number)

    def on_resume(self, number: int) -> None:
        assert self.resuming.pop(0) == number
        self.running.append(number)

    @rule()
    def request(self) -> None:
        self.serial += 1
        self.waiting.append(self.serial)
        request(self.slots, self.serial, partial(self.on_start, self.serial))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(number)
        self.left.append(number)
        self.slots.withdraw(number)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.running))
        self.running.remove(number)
        self.left.append(number)
        self.slots.release()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def lend(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.running))
        self.running.remove(number)
        self.lent.append(number)
        self.slots.release()

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.lent))
        self.lent.remove(number)
        self.resuming.append(number)
        self.slots.resume(partial(self.on_resume, number))

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def stop_a_lender(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.lent))
        self.lent.remove(number)
        self.running.append(number)
        self.slots.take_now()

    @invariant()
    def taken_slots_are_the_running_handlers(self) -> None:
        if hasattr(self, "slots"):
            assert self.slots.taken == len(self.running)

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        if hasattr(self, "slots") and self.slots.taken < self.slots.limit:
            assert not self.waiting
            assert not self.resuming

    @invariant()
    def each_is_in_one_place(self) -> None:
        if hasattr(self, "slots"):
            everyone = self.waiting + self.running + self.lent + self.resuming + self.left
            assert sorted(everyone) == list(range(1, self.serial + 1))
            assert self.slots.waiting == len(self.waiting)


TestSlotsMachine = SlotsMachine.TestCase


@pytest.mark.parametrize("limit", [1, 3])
def test_only_stopped_handlers_exceed_the_limit(limit: int) -> None:
    slots = Slots(limit)
    requested(slots, *"abcdef")
    assert slots.taken == limit
    for _ in range(6):
        slots.release()
        assert slots.taken <= limit
