"""Batches of JSON-RPC: one array is answered by one, which fits into a frame; what is held back is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit import codec
from rpckit.errors import Code
from rpckit.fault import Fault, fault_message
from rpckit.message import Kind, Message
from rpckit_websocket import _jsonrpc_batches
from rpckit_websocket._dialect import (
    BadFrame,
    Frame,
    Ping,
    Pong,
    Settled,
    Undelivered,
)
from rpckit_websocket._jsonrpc import MAX_BATCH, JsonRpc
from tests.unit.websocket.jsonrpc_words import (
    PEER,
    asked,
    loaded,
    message_of,
    note,
    read,
    refused,
    reply,
)


@pytest.fixture
def rpc() -> JsonRpc:
    return JsonRpc(PEER)


def test_a_batch_is_answered_when_its_last_answer_is_there(rpc: JsonRpc) -> None:
    one, _, three = read(rpc, asked(1), note(), asked(2), batch=True)
    assert isinstance(one, Message)
    assert isinstance(three, Message)
    assert rpc.write(reply(three, "b")) is None
    assert loaded(rpc.write(reply(one, "a"))) == [
        {"jsonrpc": "2.0", "id": 2, "result": "b"},
        {"jsonrpc": "2.0", "id": 1, "result": "a"},
    ]


def test_errors_of_a_batch_are_answered_with_the_rest(rpc: JsonRpc) -> None:
    (only,) = read(rpc, 5, asked(1), {"id": 2}, batch=True)
    assert isinstance(only, Message)
    answers = loaded(rpc.write(reply(only, "a")))
    assert [(each["id"], "error" in each) for each in answers] == [(None, True), (2, True), (1, False)]


def test_two_of_one_id_in_a_batch_are_one_call_and_one_error(rpc: JsonRpc) -> None:
    (only,) = read(rpc, asked(1), asked(1), batch=True)
    assert isinstance(only, Message)
    answers = loaded(rpc.write(reply(only, "a")))
    assert [("error" in each, each["id"]) for each in answers] == [(True, 1), (False, 1)]


def test_an_id_of_an_unanswered_batch_is_refused_outside_of_it(rpc: JsonRpc) -> None:
    read(rpc, asked(1), asked(2), batch=True)
    assert refused(rpc, asked(2))["error"]["code"] == -32600


def test_notifications_alone_are_not_answered(rpc: JsonRpc) -> None:
    assert len(read(rpc, note(), note(), batch=True)) == 2


def test_nothing_readable_is_answered_at_once_and_notifications_run_all_the_same(rpc: JsonRpc) -> None:
    with pytest.raises(BadFrame) as caught:
        read(rpc, 1, note(), 2, batch=True)
    assert [each["error"]["code"] for each in loaded(caught.value.answer)] == [-32600, -32600]
    (kept,) = caught.value.rest
    assert isinstance(kept, Message)
    assert kept.method == "fib"


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
def test_a_batch_that_is_empty_or_too_long_is_refused(rpc: JsonRpc, size: int) -> None:
    assert refused(rpc, *[note()] * size, batch=True)["error"]["code"] == -32600
    assert len(read(rpc, *[note()] * MAX_BATCH, batch=True)) == MAX_BATCH


def test_a_ping_in_a_batch_is_answered_in_it(rpc: JsonRpc) -> None:
    ping, only = read(rpc, asked(1, "rpc.ping"), asked(2), batch=True)
    assert ping == Ping("1")
    assert isinstance(only, Message)
    assert rpc.write_control(Pong("1")) is None
    assert [each["id"] for each in loaded(rpc.write(reply(only, 0)))] == [1, 2]


def test_a_fault_and_an_undelivered_and_a_cancelled_request_complete_a_batch(rpc: JsonRpc) -> None:
    items = read(rpc, asked(1), asked(2), asked(3), note("$/cancelRequest", params={"id": 3}), batch=True)
    assert rpc.write(fault_message(message_of(items[0]), Fault(Code.NOT_FOUND, "no"))) is None
    assert rpc.write_control(Undelivered("2", "nobody")) is None
    answers = loaded(rpc.write_control(Settled("3")))
    assert [(each["id"], each["error"]["code"]) for each in answers] == [(1, -32006), (2, -32601), (3, -32800)]


# --- the room they have ----------------------------------------------------------------------------


def batch(rpc: JsonRpc, *ids: Any) -> list[Message]:
    return [message_of(item) for item in read(rpc, *map(asked, ids), batch=True)]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("character, fit", [("x", 4), ("漢", 1)])
def test_answers_too_large_for_one_frame_are_errors_in_the_array(binary: bool, character: str, fit: int) -> None:
    rpc = JsonRpc(PEER, binary=binary, max_message=3000)
    *before, last = [rpc.write(reply_text(each, character * 600)) for each in batch(rpc, 1, 2, 3, 4, 5, 6)]
    assert before == [None] * 5
    assert last is not None
    assert len(last if isinstance(last, bytes) else last.encode()) <= 3000
    codes = [each.get("error", {}).get("code") for each in loaded(last)]
    assert codes == [None] * fit + [-32007] * (6 - fit)


def test_the_last_answer_is_an_error_in_the_array_if_it_alone_is_too_much() -> None:
    rpc = JsonRpc(PEER, max_message=2000)
    one, two = batch(rpc, 1, 2)
    assert rpc.write(reply_text(one, "x" * 1000)) is None
    answers = loaded(rpc.write(reply_text(two, "x" * 1000)))
    assert [(each["id"], "error" in each) for each in answers] == [(1, False), (2, True)]
    assert "may have run" in answers[1]["error"]["message"]


def test_an_answer_that_fits_to_the_byte_is_given() -> None:
    expected = '[{"jsonrpc":"2.0","id":1,"result":"xx"},{"jsonrpc":"2.0","id":2,"result":"%s"}]'
    rpc = JsonRpc(PEER, max_message=len(expected % ("é" * 200)) + 200)
    one, two = batch(rpc, 1, 2)
    assert rpc.write(reply_text(one, "xx")) is None
    assert rpc.write(reply_text(two, "é" * 200)) == expected % ("é" * 200)
    one, two = batch(rpc, 1, 2)
    assert rpc.write(reply_text(one, "xxx")) is None
    assert "error" in loaded(rpc.write(reply_text(two, "é" * 200)))[1]


def test_a_batch_is_refused_before_it_runs_where_not_even_errors_have_room() -> None:
    rpc = JsonRpc(PEER, max_message=3000)
    for many in ([asked(n) for n in range(40)], [asked("x" * 3000)], [1] * 40):
        answer = refused(rpc, note(), *many, batch=True)
        assert (answer["id"], answer["error"]["code"]) == (None, -32002)
        assert "no request of this batch ran" in answer["error"]["message"]
    with pytest.raises(BadFrame) as caught:
        read(rpc, note(), *[asked(n) for n in range(40)], note("$/cancelRequest", params={"id": 1}), batch=True)
    assert [message_of(item).correlation_id for item in caught.value.rest] == ["", "1"], "these want no answer"
    one, _ = batch(rpc, 1, 2)
    assert rpc.write(reply(one, 5)) is None
    assert loaded(rpc.write_control(Settled("2")))[1] == {"jsonrpc": "2.0", "id": 2, "result": None}, "not cancelled"
    assert len(read(rpc, *[note()] * 500, batch=True)) == 500


def test_what_waits_is_bounded_over_all_batches_and_each_caller_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jsonrpc_batches, "MAX_HELD_BACK", 4000)
    rpc = JsonRpc(PEER, max_message=3000)
    one, two, three = batch(rpc, 1, 2), batch(rpc, 3, 4), batch(rpc, 5, 6)
    assert [rpc.write(reply_text(each, "x" * 1800)) for each in (one[0], two[0])] == [None, None]
    answers = loaded(rpc.write(reply(two[1], 5)))
    assert [(each["id"], "error" in each) for each in answers] == [(3, True), (4, False)]
    assert rpc.write(reply_text(three[0], "x" * 300)) is None
    answers = loaded(rpc.write(reply_text(three[1], "x" * 2400)))
    assert [(each["id"], "error" in each) for each in answers] == [(5, False), (6, False)], "the last does not wait"
    assert [each["id"] for each in loaded(rpc.write(reply(one[1], 5)))] == [1, 2]
    assert rpc._held_back.size == 0


def test_a_peer_cannot_talk_the_bound_away_with_invalid_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their errors were added to what waits, and leave it with the rest of their batch."""
    monkeypatch.setattr(_jsonrpc_batches, "MAX_HELD_BACK", 6000)
    rpc = JsonRpc(PEER, max_message=3000)
    waiting = []
    for n in range(5):
        first, last = batch(rpc, f"first-{n}", f"last-{n}")
        assert rpc.write(reply_text(first, "x" * 1500)) is None
        waiting.append(last)
        (only,) = read(rpc, 1, 2, 3, asked("only"), batch=True)
        assert len(loaded(rpc.write(reply(message_of(only), 5)))) == 4
    results = [loaded(rpc.write(reply(each, 5)))[0] for each in waiting]
    assert ["result" in each for each in results] == [True, True, True, False, False]


def member(kind: str, id_: str) -> Any:
    return {"request": asked(id_), "invalid": 5, "note": note()}[kind]


members = st.lists(st.sampled_from(["request", "invalid", "note"]), min_size=1, max_size=6)


@given(st.lists(members, max_size=6), st.lists(st.integers(0, 900), min_size=36, max_size=36), st.randoms())
def test_each_request_of_every_batch_is_answered_once_in_a_frame_that_fits(
    batches: list[list[str]], sizes: list[int], chance: Any
) -> None:
    rpc = JsonRpc(PEER, max_message=1500)
    rpc._held_back.limit = 2000
    frames: list[Frame | None] = []
    waiting: list[Message] = []
    for n, kinds in enumerate(batches):
        try:
            items = read(rpc, *(member(kind, f"{n}-{k}") for k, kind in enumerate(kinds)), batch=True)
        except BadFrame as error:
            frames.append(error.answer)
        else:
            waiting += [item for item in map(message_of, items) if item.correlation_id]
        assert rpc._held_back.size <= 2000
    chance.shuffle(waiting)
    for message, size in zip(waiting, sizes, strict=False):
        frames.append(rpc.write(reply_text(message, "é" * size)))
        assert 0 <= rpc._held_back.size <= 2000
    said = [str(frame) for frame in frames if frame is not None]
    assert all(len(text.encode()) <= 1500 for text in said)
    arrays = [array for array in map(json.loads, said) if isinstance(array, list)]
    answered = [json.dumps(each["id"]) for array in arrays for each in array if each["id"] is not None]
    assert sorted(answered) == sorted(each.correlation_id for each in waiting)
    assert rpc._held_back.size == 0


def reply_text(request: Message, text: str) -> Message:
    return request.reply(Kind.REPLY, json.dumps(text, ensure_ascii=False).encode(), codec.JSON)
