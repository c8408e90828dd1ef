"""The requests of a peer that wait for their turn: in order, nested ones apart, each leaves once, within bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.message import Kind, Message
from rpckit_websocket import _held
from rpckit_websocket._held import HeldRequests


def request(id_: str = "", *, depth: int = 0, address: str = "q", body: bytes = b"") -> Message:
    return Message(Kind.REQUEST, address, "fib", correlation_id=id_, depth=depth, body=body)


@pytest.fixture
def held() -> HeldRequests:
    return HeldRequests()


def taken(held: HeldRequests, *, nested: bool = False) -> list[str]:
    ids = []
    while held.first(nested=nested) is not None:
        ids.append(held.take_first(nested=nested).correlation_id)
    return ids


def test_they_leave_in_the_order_they_came(held: HeldRequests) -> None:
    for id_ in "abc":
        assert held.hold(request(id_))
    assert taken(held) == ["a", "b", "c"]


def test_nested_ones_stand_apart(held: HeldRequests) -> None:
    for id_, depth in (("a", 0), ("b", 1), ("c", 0), ("d", 2)):
        held.hold(request(id_, depth=depth))
    assert taken(held, nested=True) == ["b", "d"]
    assert taken(held) == ["a", "c"]


def test_looking_at_the_first_one_leaves_it_in_place(held: HeldRequests) -> None:
    held.hold(request("a"))
    assert held.first(nested=False) is held.first(nested=False) is not None
    assert len(held) == 1


def test_notifications_and_ids_that_come_twice_are_requests_of_their_own(held: HeldRequests) -> None:
    for id_ in ("", "a", "", "a"):
        held.hold(request(id_))
    assert taken(held) == ["", "a", "", "a"]


@pytest.mark.parametrize("depth", [0, 1])
def test_a_cancelled_one_is_dropped_once_wherever_it_stands(held: HeldRequests, depth: int) -> None:
    held.hold(request("a", depth=depth))
    held.hold(request("b", depth=depth))
    assert held.drop("a")
    assert not held.drop("a")
    assert taken(held, nested=depth > 0) == ["b"]
    assert held._bytes == 0


def test_what_waits_for_an_address_that_is_served_no_more_is_given_back(held: HeldRequests) -> None:
    for id_, depth, address in (("a", 0, "gone"), ("b", 0, "q"), ("c", 1, "gone")):
        held.hold(request(id_, depth=depth, address=address))
    assert [each.correlation_id for each in held.drop_address("gone")] == ["a", "c"]
    assert taken(held) == ["b"]
    assert not held.drop_address("gone")
    assert held._bytes == 0


def test_there_is_room_for_so_many(held: HeldRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_held, "MAX_WAITING", 2)
    assert [held.hold(request(id_, depth=depth)) for id_, depth in (("a", 0), ("b", 1), ("c", 0))] == [
        True,
        True,
        False,
    ]
    held.take_first(nested=True)
    assert held.hold(request("c"))


@pytest.mark.parametrize("fat", [{"body": b"x" * 600}, {"address": "x" * 600}, {"id_": "x" * 600}])
def test_there_is_room_for_so_many_bytes_whatever_they_are_of(
    held: HeldRequests, monkeypatch: pytest.MonkeyPatch, fat: dict[str, Any]
) -> None:
    monkeypatch.setattr(_held, "MAX_WAITING_BYTES", 1000)
    assert held.hold(request(**fat))
    assert not held.hold(request(**fat))
    held.take_first(nested=False)
    assert held.hold(request(**fat))
    held.clear()
    assert held.hold(request(**fat))


steps = st.one_of(
    st.tuples(st.just("hold"), st.sampled_from(["", "a", "b", "c"]), st.integers(0, 1), st.sampled_from(["q", "r"])),
    st.tuples(st.just("take"), st.booleans()),
    st.tuples(st.just("drop"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("forget"), st.sampled_from(["q", "r"])),
)


@given(st.lists(steps, max_size=30))
def test_each_leaves_once_and_takes_its_bytes_along(plan: list[tuple[object, ...]]) -> None:
    held, came, left = HeldRequests(), 0, 0
    for what, *with_ in plan:
        match what, with_:
            case "hold", [str(id_), int(depth), str(address)]:
                came += held.hold(request(id_, depth=depth, address=address, body=b"x" * came))
            case "take", [bool(nested)]:
                if held.first(nested=nested) is not None:
                    held.take_first(nested=nested)
                    left += 1
            case "drop", [str(id_)]:
                left += held.drop(id_)
            case "forget", [str(address)]:
                left += len(held.drop_address(address))
        assert len(held) == came - left
    assert len(taken(held)) + len(taken(held, nested=True)) == came - left
    assert held._bytes == 0
