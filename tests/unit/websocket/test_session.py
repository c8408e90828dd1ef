"""One session: every move it can make, first words, dialects told by their first frame, bad frames and the end."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from rpckit.message import NATIVE, Kind, Message
from rpckit_websocket._dialect import Frame, Hello, Pong, Receipt, Subscribe, Undelivered, Unsubscribe
from rpckit_websocket._native import VERSION, Native
from rpckit_websocket._options import FASTAPI_RPC, JSONRPC
from rpckit_websocket._session import MAX_BAD_FRAMES, TRANSITIONS, Fact, Phase, Session, Told, told_by_first_frame

DIALECTS = (NATIVE, JSONRPC, FASTAPI_RPC)
NATIVE_REQUEST = Native().write(Message(Kind.REQUEST, "q", "fib", "m", "c", "r"))
JSON_REQUEST = '{"jsonrpc":"2.0","id":1,"method":"q.fib"}'
FASTAPI_REQUEST = '{"request":{"method":"fib","arguments":{},"call_id":"c"},"response":null}'
REQUESTS: dict[str, Frame] = {NATIVE: NATIVE_REQUEST, JSONRPC: JSON_REQUEST, FASTAPI_RPC: FASTAPI_REQUEST}
BAD: dict[str, Frame] = {NATIVE: b"\xc1", JSONRPC: "{", FASTAPI_RPC: "{"}
GREETING = '{"response":{"result":"pong","call_id":"rpckit-ping-hello"}}'


def packed(*fields: Any) -> bytes:
    data: bytes = msgpack.packb(fields)
    return data


def hello(session_id: str = "theirs", name: str = "") -> bytes:
    return packed(0, VERSION, session_id, name)


def begun(dialect: str, *, dialled: bool = False, name: str = "") -> Session:
    session = Session("ours", dialled=dialled, name=name)
    session.begin(dialect)
    return session


def opened(dialect: str, *, dialled: bool = False) -> Session:
    """Past the greetings, with nothing left to say."""
    session = begun(dialect, dialled=dialled)
    if session.phase is Phase.GREETING:
        session.receive(hello() if dialect == NATIVE else GREETING)
    assert session.phase is Phase.OPEN
    session.out.clear()
    return session


def said(session: Session) -> list[Any]:
    return [json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame) for frame in session.out]


# --- the table -----------------------------------------------------------------------------------

ALLOWED = {
    (Phase.UNKNOWN, Told.NAMED): Phase.GREETING,
    (Phase.UNKNOWN, Told.ENDED): Phase.CLOSED,
    (Phase.GREETING, Told.HEARD): Phase.OPEN,
    (Phase.GREETING, Told.ENDED): Phase.CLOSED,
    (Phase.OPEN, Told.HEARD): Phase.OPEN,
    (Phase.OPEN, Told.ENDED): Phase.CLOSED,
    (Phase.CLOSED, Told.ENDED): Phase.CLOSED,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("told", Told)
def test_every_pair_leads_where_it_should_or_nowhere(phase: Phase, told: Told) -> None:
    assert TRANSITIONS.get((phase, told)) == ALLOWED.get((phase, told))


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_end(phase: Phase) -> None:
    assert TRANSITIONS[phase, Told.ENDED] is Phase.CLOSED


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("dialled", [True, False])
def test_closed_is_final(dialect: str, dialled: bool) -> None:
    session = opened(dialect, dialled=dialled)
    session.end("enough")
    for frame in (REQUESTS[dialect], BAD[dialect], hello(), GREETING):
        assert not session.receive(frame)
    session.begin(JSONRPC)
    session.end("again")
    assert (session.phase, session.why, session.out) == (Phase.CLOSED, "enough", [])
    assert session.dialect is not None
    assert session.dialect.name == dialect


def test_a_session_that_ended_before_its_first_frame_gets_no_dialect() -> None:
    session = Session("ours", dialled=False)
    session.end("gone")
    assert not session.receive(JSON_REQUEST)
    session.begin(NATIVE)
    assert (session.phase, session.dialect, session.out) == (Phase.CLOSED, None, [])


# --- greetings -----------------------------------------------------------------------------------


def test_native_listening_tells_the_sessions_id_and_waits() -> None:
    session = begun(NATIVE, name="server")
    assert said(session) == [[0, VERSION, "ours", "server"]]
    assert session.phase is Phase.GREETING
    assert not session.receive(hello("unasked", "browser"))
    assert (session.phase, session.id, session.peer_name) == (Phase.OPEN, "ours", "browser")


def test_native_dialled_takes_the_id_that_it_is_told() -> None:
    session = begun(NATIVE, dialled=True, name="client")
    assert said(session) == [[0, VERSION, "", "client"]]
    assert session.phase is Phase.GREETING
    session.receive(hello("theirs", "server"))
    assert (session.phase, session.id, session.peer_name) == (Phase.OPEN, "theirs", "server")
    (request,) = session.receive(NATIVE_REQUEST)
    assert isinstance(request, Message)
    assert request.reply_to == "theirs"


def test_native_keeps_its_own_id_when_it_is_told_none() -> None:
    session = begun(NATIVE, dialled=True)
    session.receive(hello(""))
    assert (session.phase, session.id) == (Phase.OPEN, "ours")


@pytest.mark.parametrize("dialled", [True, False])
def test_jsonrpc_has_no_greeting_and_is_open_at_once(dialled: bool) -> None:
    session = begun(JSONRPC, dialled=dialled)
    assert (session.phase, session.out) == (Phase.OPEN, [])


def test_fastapi_listening_says_nothing_and_is_open_at_once() -> None:
    session = begun(FASTAPI_RPC)
    assert (session.phase, session.out) == (Phase.OPEN, [])


def test_fastapi_dialled_pings_and_waits_for_the_pong() -> None:
    session = begun(FASTAPI_RPC, dialled=True)
    assert session.phase is Phase.GREETING
    ((request),) = said(session)
    assert request["request"]["method"] == "_ping_"
    call_id = request["request"]["call_id"]
    assert not session.receive(json.dumps({"response": {"result": "pong", "call_id": call_id}}))
    assert (session.phase, session.id) == (Phase.OPEN, "ours")


def test_fastapi_dialled_is_open_when_the_other_side_calls_first() -> None:
    session = begun(FASTAPI_RPC, dialled=True)
    (request,) = session.receive(FASTAPI_REQUEST)
    assert isinstance(request, Message)
    assert (session.phase, request.method) == (Phase.OPEN, "fib")


@pytest.mark.parametrize("frame", [NATIVE_REQUEST, packed(11, "t"), packed(9, "topic")])
def test_a_native_first_word_that_is_no_greeting_ends_the_session(frame: bytes) -> None:
    session = begun(NATIVE)
    session.out.clear()
    assert not session.receive(frame)
    assert (session.phase, session.out) == (Phase.CLOSED, [])
    assert "not a greeting" in session.why


@pytest.mark.parametrize("dialled", [True, False])
def test_a_second_native_hello_ends_the_session(dialled: bool) -> None:
    session = opened(NATIVE, dialled=dialled)
    assert not session.receive(hello("other", "other"))
    assert (session.phase, session.why) == (Phase.CLOSED, "it greeted twice")
    assert session.id == ("theirs" if dialled else "ours")


@pytest.mark.parametrize("dialled", [True, False])
def test_a_second_fastapi_hello_is_nothing(dialled: bool) -> None:
    session = opened(FASTAPI_RPC, dialled=dialled)
    assert not session.receive(GREETING)
    assert (session.phase, session.id, session.out) == (Phase.OPEN, "ours", [])


def test_a_later_version_is_named_in_the_end() -> None:
    session = begun(NATIVE)
    session.receive(packed(0, 2, "theirs", "", "more"))
    assert session.phase is Phase.CLOSED
    assert "version 2" in session.why


def test_a_dialect_is_named_once() -> None:
    session = begun(NATIVE)
    session.begin(JSONRPC)
    assert session.dialect is not None
    assert (session.dialect.name, len(session.out)) == (NATIVE, 1)


# --- the first frame -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame, dialect",
    [
        ("[]", JSONRPC),
        (f"[{JSON_REQUEST}]", JSONRPC),
        (f"[{FASTAPI_REQUEST}]", JSONRPC),
        ("{", JSONRPC),
        ("", JSONRPC),
        (b"\x81\xff", JSONRPC),
        ("[" * 100_000, JSONRPC),
        ("{}", JSONRPC),
        ('{"method":"fib"}', JSONRPC),
        ("5", JSONRPC),
        ('"request"', JSONRPC),
        (JSON_REQUEST, JSONRPC),
        (JSON_REQUEST.encode(), JSONRPC),
        ('{"jsonrpc":"2.0","id":1,"method":"m","request":{}}', JSONRPC),
        (FASTAPI_REQUEST, FASTAPI_RPC),
        (FASTAPI_REQUEST.encode(), FASTAPI_RPC),
        ('{"request":null}', FASTAPI_RPC),
        ('{"response":{}}', FASTAPI_RPC),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_the_first_frame_tells_the_dialect(frame: Frame, dialect: str) -> None:
    assert told_by_first_frame(frame) == dialect
    session = Session("ours", dialled=False)
    session.receive(frame)
    assert session.dialect is not None
    assert (session.dialect.name, session.phase) == (dialect, Phase.OPEN)


@pytest.mark.parametrize("frame", [JSON_REQUEST, FASTAPI_REQUEST])
def test_the_first_frame_is_read_as_well(frame: Frame) -> None:
    session = Session("ours", dialled=False)
    (request,) = session.receive(frame)
    assert isinstance(request, Message)
    assert (request.method, request.reply_to) == ("fib", "ours")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("frame", ['{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}', '{"request":{"method":"_ping_"}}'])
def test_json_is_answered_in_the_kind_of_frame_it_came_in(frame: str, binary: bool) -> None:
    session = Session("ours", dialled=False)
    session.receive(frame.encode() if binary else frame)
    assert [type(each) for each in session.out] == [bytes if binary else str]


# --- pings and facts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dialect, ping, pong",
    [
        (NATIVE, packed(11, "t"), [12, "t"]),
        (JSONRPC, '{"jsonrpc":"2.0","id":"p","method":"rpc.ping"}', {"jsonrpc": "2.0", "id": "p", "result": "pong"}),
        (
            FASTAPI_RPC,
            '{"request":{"method":"_ping_","arguments":{},"call_id":"p"}}',
            {"request": None, "response": {"result": "pong", "result_type": "str", "call_id": "p"}},
        ),
        (
            FASTAPI_RPC,
            '{"request":{"method":"_get_channel_id_","arguments":{},"call_id":"p"}}',
            {"request": None, "response": {"result": "ours", "result_type": "str", "call_id": "p"}},
        ),
    ],
)
def test_a_ping_is_answered_by_the_session_itself(dialect: str, ping: Frame, pong: Any) -> None:
    session = opened(dialect)
    assert list(session.receive(ping)) == []
    assert said(session) == [pong]


def test_a_ping_that_wants_no_answer_gets_none() -> None:
    session = opened(JSONRPC)
    assert list(session.receive('{"jsonrpc":"2.0","method":"rpc.ping"}')) == []
    assert session.out == []


@pytest.mark.parametrize(
    "frame, fact",
    [
        (packed(9, "topic"), Subscribe("topic")),
        (packed(10, "topic"), Unsubscribe("topic")),
        (packed(12, "t"), Pong("t")),
        (packed(13, "m", "no"), Receipt("m", "no")),
        (packed(14, "c", "why"), Undelivered("c", "why")),
    ],
)
def test_what_the_shell_must_act_on_is_a_fact(frame: bytes, fact: Any) -> None:
    session = opened(NATIVE)
    assert session.receive(frame) == [Fact(fact)]
    assert session.out == []


def test_a_batch_gives_its_requests_and_its_pong() -> None:
    session = opened(JSONRPC)
    items = session.receive(f'[{JSON_REQUEST},{{"jsonrpc":"2.0","method":"rpc.subscribe","params":["t"]}}]')
    assert [type(item) for item in items] == [Message, Fact]


# --- bad frames ----------------------------------------------------------------------------------


def test_a_bad_native_frame_ends_the_session() -> None:
    session = opened(NATIVE)
    assert not session.receive(b"\xc1")
    assert (session.phase, session.out) == (Phase.CLOSED, [])
    assert "cannot be read" in session.why


def test_a_bad_jsonrpc_frame_is_answered_and_the_next_is_read() -> None:
    session = opened(JSONRPC)
    assert not session.receive("{")
    assert said(session) == [{"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}}]
    assert session.phase is Phase.OPEN
    assert len(session.receive(JSON_REQUEST)) == 1


def test_a_bad_fastapi_frame_is_passed_over_and_the_next_is_read() -> None:
    session = opened(FASTAPI_RPC)
    assert not session.receive("{")
    assert (session.phase, session.out) == (Phase.OPEN, [])
    assert len(session.receive(FASTAPI_REQUEST)) == 1


@pytest.mark.parametrize("dialect", [JSONRPC, FASTAPI_RPC])
def test_too_many_bad_frames_in_a_row_end_the_session(dialect: str) -> None:
    session = opened(dialect)
    for _ in range(MAX_BAD_FRAMES):
        session.receive("{")
    assert session.phase == "open"
    session.receive("{")
    assert session.phase == "closed"
    assert f"{MAX_BAD_FRAMES + 1} frames in a row" in session.why


@pytest.mark.parametrize("dialect", [JSONRPC, FASTAPI_RPC])
def test_a_good_frame_makes_up_for_the_bad_ones(dialect: str) -> None:
    session = opened(dialect)
    for _ in range(3):
        for _ in range(MAX_BAD_FRAMES):
            session.receive("{")
        session.receive(REQUESTS[dialect] if dialect == FASTAPI_RPC else '{"jsonrpc":"2.0","method":"note"}')
    assert session.phase is Phase.OPEN


def test_a_notification_beside_bad_requests_is_taken() -> None:
    session = opened(JSONRPC)
    (note,) = session.receive('[1,{"jsonrpc":"2.0","method":"note"}]')
    assert isinstance(note, Message)
    assert note.method == "note"
    assert [answer["error"]["code"] for answer in said(session)[0]] == [-32600]


def test_the_frame_that_ends_a_session_gives_nothing_more() -> None:
    session = opened(JSONRPC)
    for _ in range(MAX_BAD_FRAMES):
        session.receive("{")
    assert not session.receive('[1,{"jsonrpc":"2.0","method":"note"}]')
    assert session.phase is Phase.CLOSED


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_reply_is_written_in_the_dialect_of_the_session(dialect: str) -> None:
    session = opened(dialect)
    (request,) = session.receive(REQUESTS[dialect])
    assert isinstance(request, Message)
    frame = session.write(request.reply(Kind.REPLY, b"5", "application/json"))
    assert isinstance(frame, bytes if dialect == NATIVE else str)
    assert frame is not None
    answer = msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)
    expected = {
        NATIVE: [2, "c", "", "", "application/json", None, b"5"],
        JSONRPC: {"jsonrpc": "2.0", "id": 1, "result": 5},
        FASTAPI_RPC: {"request": None, "response": {"result": 5, "result_type": "int", "call_id": "c"}},
    }
    assert answer == expected[dialect]


def test_a_hello_is_equal_to_what_was_read_of_it() -> None:
    assert Native().read(hello("id", "n" * 300)) == (Hello("id", "n" * 200),)
