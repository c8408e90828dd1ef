"""The fewest acks: they cover exactly what is settled, in whatever order that was."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rpckit_amqp._acks import AckBook


def book_of(*tags: int) -> AckBook:
    book = AckBook()
    for tag in tags:
        book.add(tag)
    return book


def test_contiguous_settles_are_one_ack() -> None:
    book = book_of(1, 2, 3, 4)
    for tag in (2, 1, 3):
        assert book.settle(tag)
    assert book.take() == (3, [])
    assert len(book.outstanding) == 1


def test_what_is_settled_beyond_a_gap_is_acked_singly() -> None:
    book = book_of(1, 2, 3, 4)
    for tag in (4, 1, 3):
        book.settle(tag)
    assert book.take() == (1, [3, 4])
    book.settle(2)
    assert book.take() == (2, [])
    assert len(book.outstanding) == 0


def test_nothing_settled_is_nothing_to_ack() -> None:
    assert AckBook().take() == (None, [])
    assert book_of(1).take() == (None, [])


def test_settling_twice_or_a_stranger_is_refused() -> None:
    book = book_of(1)
    assert book.settle(1)
    assert not book.settle(1)
    assert not book.settle(7)
    book.take()
    assert not book.settle(1)


def test_a_dropped_tag_is_never_acked_singly_and_leaves_no_gap() -> None:
    book = book_of(1, 2, 3)
    assert book.drop(1)
    assert not book.drop(1)
    assert not book.settle(1)
    book.settle(2)
    assert not book.drop(2)
    assert book.take() == (2, [])


class AckMachine(RuleBasedStateMachine):
    """A broker beside the book: it must consider settled what was settled, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.book = AckBook()
        self.next_tag = 0
        self.outstanding: set[int] = set()  # at the broker
        self.settled: set[int] = set()  # here, not yet acked
        self.left: list[int] = []

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.next_tag += 1
            self.book.add(self.next_tag)
            self.outstanding.add(self.next_tag)

    @precondition(lambda self: self.next_tag)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        tag = data.draw(st.integers(1, self.next_tag))
        fresh = tag in self.outstanding - self.settled
        assert self.book.settle(tag) is fresh
        if fresh:
            self.settled.add(tag)

    @precondition(lambda self: self.next_tag)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        tag = data.draw(st.integers(1, self.next_tag))
        fresh = tag in self.outstanding - self.settled
        assert self.book.drop(tag) is fresh
        if fresh:
            self.leave({tag})

    @rule()
    def ack(self) -> None:
        upto, singles = self.book.take()
        acked = {tag for tag in self.outstanding if upto is not None and tag <= upto} | set(singles)
        assert acked == self.settled
        assert upto is None or upto in self.settled
        assert singles == sorted(singles)
        assert not any(upto is not None and tag <= upto for tag in singles)
        self.settled.clear()
        self.leave(acked)

    def leave(self, tags: set[int]) -> None:
        self.outstanding -= tags
        self.left += tags

    @invariant()
    def each_leaves_exactly_once(self) -> None:
        assert len(self.book.outstanding) == len(self.outstanding)
        assert sorted([*self.left, *self.outstanding]) == list(range(1, self.next_tag + 1))


TestAckMachine = AckMachine.TestCase
