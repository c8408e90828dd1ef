"""The client's call table: each call leaves exactly once."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from rpckit.pending import PendingCalls

LIMIT = 6


def table_of(**deadlines: float | None) -> PendingCalls[str]:
    table: PendingCalls[str] = PendingCalls(limit=10)
    for correlation_id, deadline in deadlines.items():
        table.add(correlation_id, correlation_id.upper(), deadline=deadline)
    return table


def test_settle_takes_a_call_out_once() -> None:
    table = table_of(a=None)
    assert table.settle("a") == "A"
    assert table.settle("a") is None
    assert len(table) == 0


def test_unknown_id_settles_nothing() -> None:
    table = table_of(a=1.0)
    assert table.settle("b") is None
    assert len(table) == 1


def test_an_id_already_pending_is_refused_and_its_call_kept() -> None:
    table = table_of(a=None)
    with pytest.raises(ValueError, match="already pending"):
        table.add("a", "other", deadline=None)
    assert table.settle("a") == "A"


def test_a_full_table_refuses() -> None:
    table: PendingCalls[str] = PendingCalls(limit=1)
    table.add("a", "A", deadline=None)
    assert table.full()
    with pytest.raises(OverflowError, match="1 calls"):
        table.add("b", "B", deadline=None)
    table.settle("a")
    assert not table.full()


def test_expire_takes_out_what_is_due_soonest_first() -> None:
    table = table_of(a=3.0, b=1.0, c=2.0, d=None)
    assert table.expire(2.0) == [("b", "B"), ("c", "C")]
    assert table.next_deadline() == 3.0
    assert len(table) == 2


def test_a_settled_call_does_not_expire_later() -> None:
    table = table_of(a=1.0)
    table.settle("a")
    assert table.expire(9.0) == []
    assert table.next_deadline() is None


def test_drain_takes_out_all_and_their_deadlines() -> None:
    table = table_of(a=1.0, b=None)
    assert table.drain() == [("a", "A"), ("b", "B")]
    assert table.drain() == []
    assert table.expire(9.0) == []
    assert table.next_deadline() is None


class PendingMachine(RuleBasedStateMachine):
    """Adds, settles, expires and drains in any order, beside a plain dictionary."""

    calls: Bundle[str] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.table: PendingCalls[str] = PendingCalls(LIMIT)
        self.model: dict[str, float | None] = {}
        self.left: list[str] = []
        self.now = 0.0
        self.serial = 0

    @precondition(lambda self: len(self.model) < LIMIT)
    @rule(target=calls, wait=st.none() | st.floats(0, 5))
    def add(self, wait: float | None) -> str:
        self.serial += 1
        correlation_id = f"c{self.serial}"
        at = None if wait is None else self.now + wait
        self.table.add(correlation_id, correlation_id, deadline=at)
        self.model[correlation_id] = at
        return correlation_id

    @precondition(lambda self: len(self.model) == LIMIT)
    @rule()
    def add_to_a_full_table(self) -> None:
        with pytest.raises(OverflowError):
            self.table.add("one more", "one more", deadline=None)

    @rule(correlation_id=consumes(calls))
    def settle(self, correlation_id: str) -> None:
        expected = correlation_id if correlation_id in self.model else None
        assert self.table.settle(correlation_id) == expected
        self.leave([correlation_id] if expected else [])

    @rule(step=st.floats(0, 3))
    def expire(self, step: float) -> None:
        self.now += step
        due = self.table.expire(self.now)
        wanted = {each for each, at in self.model.items() if at is not None and at <= self.now}
        assert {each for each, _ in due} == wanted
        self.leave([each for each, _ in due])

    @rule()
    def drain(self) -> None:
        drained = [each for each, _ in self.table.drain()]
        assert drained == list(self.model)
        self.leave(drained)

    def leave(self, gone: list[str]) -> None:
        for each in gone:
            del self.model[each]
        self.left += gone

    @invariant()
    def each_call_is_in_the_table_or_left_once(self) -> None:
        assert len(self.table) == len(self.model)
        assert self.table.full() == (len(self.model) == LIMIT)
        assert len(self.left) == len(set(self.left)) == self.serial - len(self.model)

    @invariant()
    def next_deadline_is_the_soonest(self) -> None:
        moments = [at for at in self.model.values() if at is not None]
        assert self.table.next_deadline() == min(moments, default=None)


TestPendingMachine = PendingMachine.TestCase
