"""The server's call table: duplicates, cancels that come early, expiry and drain."""

from __future__ import annotations

import pytest

from rpckit.inflight import MAX_TOMBSTONES, TOMBSTONE_S, Admission, CallKey, InFlight


def key(number: int, caller: str = "inbox.1") -> CallKey:
    return ("0", caller, f"c{number}")


@pytest.fixture
def table() -> InFlight[str]:
    return InFlight()


def test_an_admitted_call_is_found_until_it_is_taken_out(table: InFlight[str]) -> None:
    assert table.admit(key(1), "job", deadline=None) is Admission.ADMITTED
    assert table.get(key(1)) == "job"
    assert table.pop(key(1)) == "job"
    assert table.get(key(1)) is None
    assert table.pop(key(1)) is None


def test_a_job_discards_its_own_entry_and_not_that_of_its_redelivery(table: InFlight[str]) -> None:
    table.admit(key(1), "first", deadline=1.0)
    table.cancel(key(1), now=0.0)
    table.admit(key(1), "second", deadline=2.0)
    table.discard(key(1), "first")
    assert table.get(key(1)) == "second"
    table.discard(key(1), "second")
    assert len(table) == 0
    assert table.expire(9.0) == []


def test_the_same_attempt_again_is_a_duplicate_and_the_first_stays(table: InFlight[str]) -> None:
    table.admit(key(1), "first", deadline=None)
    assert table.admit(key(1), "second", deadline=None) is Admission.DUPLICATE
    assert table.get(key(1)) == "first"


def test_one_correlation_id_of_two_callers_is_two_calls(table: InFlight[str]) -> None:
    table.admit(key(1, "inbox.1"), "one", deadline=None)
    assert table.admit(key(1, "inbox.2"), "two", deadline=None) is Admission.ADMITTED


def test_cancel_takes_a_call_out(table: InFlight[str]) -> None:
    table.admit(key(1), "job", deadline=1.0)
    assert table.cancel(key(1), now=0.0) == "job"
    assert len(table) == 0
    assert table.tombstones == 0
    assert table.expire(9.0) == []


def test_a_cancel_that_overtakes_its_request_refuses_it_once(table: InFlight[str]) -> None:
    assert table.cancel(key(1), now=0.0) is None
    assert table.admit(key(1), "job", deadline=None) is Admission.CANCELLED
    assert table.admit(key(1), "job", deadline=None) is Admission.ADMITTED


def test_tombstones_expire_as_newer_ones_come(table: InFlight[str]) -> None:
    table.cancel(key(1), now=0.0)
    table.cancel(key(2), now=TOMBSTONE_S + 0.1)
    assert table.tombstones == 1
    assert table.admit(key(1), "job", deadline=None) is Admission.ADMITTED


def test_tombstones_are_bounded_and_the_oldest_leave(table: InFlight[str]) -> None:
    for number in range(MAX_TOMBSTONES + 5):
        table.cancel(key(number), now=0.0)
    assert table.tombstones == MAX_TOMBSTONES
    assert table.admit(key(0), "job", deadline=None) is Admission.ADMITTED
    assert table.admit(key(5), "job", deadline=None) is Admission.CANCELLED


def test_expire_takes_out_what_is_due(table: InFlight[str]) -> None:
    table.admit(key(1), "late", deadline=1.0)
    table.admit(key(2), "in time", deadline=3.0)
    table.admit(key(3), "for ever", deadline=None)
    assert table.expire(2.0) == [(key(1), "late")]
    assert table.next_deadline() == 3.0
    assert len(table) == 2


def test_a_shortened_call_expires_at_its_earlier_moment_once(table: InFlight[str]) -> None:
    table.admit(key(1), "job", deadline=5.0)
    table.shorten(key(1), 2.0)
    assert table.next_deadline() == 2.0
    assert table.expire(9.0) == [(key(1), "job")]
    assert table.expire(9.0) == []


def test_a_call_that_has_left_cannot_be_shortened(table: InFlight[str]) -> None:
    table.shorten(key(1), 2.0)
    assert table.next_deadline() is None


def test_calls_of_one_caller_are_listed_and_left_in_place(table: InFlight[str]) -> None:
    table.admit(key(1, "inbox.1"), "one", deadline=None)
    table.admit(key(2, "inbox.2"), "two", deadline=None)
    assert table.of_caller("0", "inbox.2") == [(key(2, "inbox.2"), "two")]
    assert table.of_caller("1", "inbox.2") == []
    assert len(table) == 2


def test_drain_gives_all_in_the_order_of_arrival(table: InFlight[str]) -> None:
    for number in (3, 1, 2):
        table.admit(key(number), f"job {number}", deadline=None)
    assert [job for _, job in table.drain()] == ["job 3", "job 1", "job 2"]
    assert len(table) == 0


def test_an_id_used_again_keeps_no_deadline_of_the_call_before(table: InFlight[str]) -> None:
    key = ("amqp", "inbox", "always the same")
    table.admit(key, "first", deadline=1.0)
    table.pop(key)
    table.admit(key, "second", deadline=5.0)
    assert table.expire(2.0) == []
    assert table.expire(5.0) == [(key, "second")]
