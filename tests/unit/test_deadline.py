"""Deadlines in their two forms, and the heap that orders them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.deadline import COMPACT_AFTER, Deadline, DeadlineHeap, deadline_on_arrival

UNIX = 1_700_000_000.0


def test_what_remains_is_counted_from_now() -> None:
    deadline = Deadline(13.0)
    assert deadline.remaining(12.0) == 1.0
    assert deadline.remaining(14.0) == -1.0


@pytest.mark.parametrize("at, left", [(10.0, 1), (9.0, 1), (10.0004, 1), (10.0011, 2), (13.0, 3000)])
def test_time_left_is_whole_milliseconds_rounded_up_and_never_zero(at: float, left: int) -> None:
    assert Deadline(at).on_the_wire(10.0, UNIX)[0] == left


def test_unix_milliseconds_follow_the_wall_clock() -> None:
    assert Deadline(13.0).on_the_wire(10.0, UNIX)[1] == 1_700_000_003_000


def test_no_form_of_a_deadline_is_no_deadline() -> None:
    assert deadline_on_arrival(None, None, 10.0, UNIX) == (None, False)


def test_time_left_counts_from_arrival() -> None:
    assert deadline_on_arrival(2_000, None, 10.0, UNIX) == (Deadline(12.0), False)


def test_absolute_deadline_alone_is_taken_as_it_is() -> None:
    assert deadline_on_arrival(None, int((UNIX + 4) * 1000), 10.0, UNIX) == (Deadline(14.0), False)


def test_time_spent_in_a_queue_is_counted_through_the_absolute_deadline() -> None:
    waited = int((UNIX + 0.5) * 1000)
    assert deadline_on_arrival(2_000, waited, 10.0, UNIX) == (Deadline(10.5), False)


@pytest.mark.parametrize("apart", [-5.1, 7.1])
def test_absolute_deadline_of_a_skewed_clock_is_ignored(apart: float) -> None:
    deadline, skewed = deadline_on_arrival(2_000, int((UNIX + apart) * 1000), 10.0, UNIX)
    assert (deadline, skewed) == (Deadline(12.0), True)


@pytest.mark.parametrize("apart, disagree", [(-4.9, False), (-5.1, True), (6.9, False), (7.1, True)])
def test_clocks_disagree_beyond_five_seconds_of_what_is_possible(apart: float, disagree: bool) -> None:
    assert deadline_on_arrival(2_000, int((UNIX + apart) * 1000), 10.0, UNIX)[1] is disagree


@given(st.integers(1, 10**9), st.integers(0, 2**53), st.floats(0, 1e6), st.floats(0, 4e9))
def test_arrival_never_gives_more_than_the_time_left(left: int, absolute: int, now: float, unix: float) -> None:
    deadline, _ = deadline_on_arrival(left, absolute, now, unix)
    assert deadline is not None
    assert deadline.at <= now + left / 1000


def test_heap_gives_keys_soonest_first_and_once() -> None:
    heap: DeadlineHeap[str] = DeadlineHeap()
    for key, at in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        heap.push(key, at)
    assert heap.pop_due(0.5) == []
    assert heap.pop_due(2.0) == ["b", "c"]
    assert heap.pop_due(2.0) == []
    assert heap.next() == 3.0


def test_heap_skips_keys_that_have_left() -> None:
    heap: DeadlineHeap[str] = DeadlineHeap()
    gone, _ = heap.push("a", 1.0), heap.push("b", 2.0)
    heap.discard(gone)
    heap.discard(gone)
    assert heap.next() == 2.0
    assert heap.pop_due(5.0) == ["b"]
    assert heap.next() is None


def test_a_key_that_comes_again_has_a_new_moment() -> None:
    heap: DeadlineHeap[str] = DeadlineHeap()
    heap.discard(heap.push("a", 1.0))
    heap.push("a", 5.0)
    assert heap.pop_due(4.0) == []
    assert heap.pop_due(5.0) == ["a"]


@pytest.mark.parametrize("again", [False, True], ids=["new keys", "one key"])
def test_dead_entries_are_bounded_behind_one_living_call(again: bool) -> None:
    heap: DeadlineHeap[int] = DeadlineHeap()
    heap.push(0, 1e6)
    for number in range(1, 10_000):
        heap.discard(heap.push(0 if again else number, 1e6 + number))
    assert len(heap) <= 2 * 2 + COMPACT_AFTER
    assert heap.pop_due(1e9) == [0]
