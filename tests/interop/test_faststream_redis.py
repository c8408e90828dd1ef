"""FastStream on Redis, unmodified: its programs call our handlers, and our clients its subscribers.

Their servers and clients are processes of their own. What its page promises is compared with what it does.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
import redis
from redis.asyncio import Redis

from rpckit import (
    Client,
    Context,
    DeadlineExceeded,
    NoResponder,
    PermissionDenied,
    RemoteError,
    Response,
    Server,
    Service,
)
from rpckit.ids import new_id
from rpckit_redis import RedisResponse
from tests.interop.conftest import RunPeer, run_server
from tests.interop.processes import Program, clean_env, finish, rpckit

KINDS = ("channel", "list", "stream")
MILLISECONDS = 0.5  # seconds: far above what an answer takes, far below any timeout
MANY = 40  # requests of a FastStream client at once: each takes two connections, and it has 100
TOKEN = {"x-token": "some-token"}
NOT_ASCII = "grüße, 世界 🐇"
VALUES = [{"a": [1, None, "ü"], "b": {"c": 0.5}}, [1, 2], "ünï", "", 7, 0.5, True, None]

Answer = dict[str, Any]
Ask = Callable[..., Awaitable[list[Any]]]


class Place(NamedTuple):
    """A Redis, and what names begin with there."""

    url: str
    prefix: str

    def at(self, kind: str, name: str = "") -> str:
        """`list:t-1234-name`; by its kind's own name, as on FastStream's page, if no other is given."""
        return f"{kind}:{self.prefix}-{name or kind}"

    def key(self, address: str) -> dict[str, str]:
        """As FastStream names it: `list="t-1234-name"`."""
        kind, _, name = address.partition(":")
        return {kind: name}


def new_place(url: str) -> Iterator[Place]:
    """Names nobody else has, of which no key is left."""
    place = Place(url, f"t-{new_id()[:8]}")
    yield place
    with redis.Redis.from_url(url) as server:
        for key in server.scan_iter(f"*{place.prefix}*"):
            server.delete(key)


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    yield from new_place(redis_url)


@pytest.fixture(scope="module")
def quiet_theirs(redis_url: str) -> Iterator[tuple[Place, Program]]:
    for place in new_place(redis_url):
        with run_server("faststream_redis_server", place.url, place.prefix) as server:
            asyncio.run(wake(place, "stream"))
            asyncio.run(wake(place, "stream", "redis-response"))
            yield place, server


@pytest.fixture
def theirs(quiet_theirs: tuple[Place, Program]) -> Place:
    """Where a FastStream server serves: one for the module."""
    return quiet_theirs[0]


async def wake(place: Place, kind: str, name: str = "") -> None:
    """FastStream reads a stream from `$` on until it has read something, and misses what comes between two reads."""
    async with Client(place.url) as client:
        for _ in range(10):
            try:
                await client.request(place.at(kind, name), "awake?", timeout=0.5)
                return
            except DeadlineExceeded:
                continue
    raise AssertionError("FastStream does not answer")


@pytest.fixture
def ask(run_peer: RunPeer) -> Ask:
    """A FastStream client: await ask(url, {"message": "Hi!", "list": "test-list"}, …), the answers in their order."""

    async def run(url: str, *requests: dict[str, Any]) -> list[Any]:
        ran = await asyncio.to_thread(run_peer, "faststream_redis_client", url, *map(json.dumps, requests))
        return [json.loads(line) for line in ran.out.splitlines()]

    return run


@pytest.fixture
async def ours(place: Place) -> AsyncIterator[Place]:
    """Where handlers of ours serve that do what those of `faststream_redis_server.py` do."""
    server = Server(url=place.url)

    for kind in KINDS:

        @server.handler(place.at(kind))
        async def handle(msg: str, ctx: Context) -> str:
            ctx.log.info("%s", msg)
            return msg

    for kind in KINDS:

        @server.handler(place.at(kind, f"{kind}-response"))
        async def respond(msg: str) -> Response:
            return Response(f"Processed: {msg}", headers=TOKEN, correlation_id="some-correlation-id")

    @server.handler(place.at("stream", "redis-response"))
    async def respond_from_stream(msg: str) -> Response:
        return RedisResponse(f"Processed: {msg}", headers=TOKEN, maxlen=1000)

    @server.handler(place.at("channel", "any"))
    async def give_back(msg: Any) -> Any:
        return msg

    @server.handler(place.at("channel", "bytes"))
    async def give_bytes_back(msg: bytes) -> bytes:
        return msg

    @server.handler(place.at("channel", "headers"))
    async def hear(ctx: Context) -> Response:
        return Response("heard", headers={"x-heard": ctx.headers["x-said"], "x-after": "plain"})

    @server.handler(place.at("list", "no-reply"), no_reply=True)
    async def keep_to_itself(msg: str) -> str:
        return msg

    async with server:
        yield place


# --- FastStream calls us ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_faststream_caller_gets_its_answer(ours: Place, ask: Ask, kind: str) -> None:
    address = ours.key(ours.at(kind))
    first, second = await ask(
        ours.url, {"message": "Hi!", **address}, {"message": "Hi", "correlation_id": "c", **address}
    )
    assert first["decoded"] == "Hi!"
    assert first["seconds"] < MILLISECONDS
    assert (second["decoded"], second["correlation_id"]) == ("Hi", "c")


async def test_our_answers_are_those_of_a_faststream_server(ours: Place, theirs: Place, ask: Ask) -> None:
    """Body, headers, correlation id and content type: nothing is missing, and nothing of ours is added."""
    bodies: list[dict[str, Any]] = [
        *({"message": value} for value in VALUES),
        {"base64": base64.b64encode(b"\xff\0").decode()},
    ]
    cases = [
        *[("channel:any", body) for body in bodies],
        ("channel:bytes", {"base64": base64.b64encode(bytes(range(256))).decode()}),
        ("channel:channel", {"message": "Hi!", "correlation_id": "its own"}),
        ("list:list", {"message": "Hi!"}),
        ("stream:stream", {"message": "Hi!", "headers": {"user": "7"}}),
        ("channel:channel-response", {"message": "Hi!"}),
        ("stream:redis-response", {"message": "Hi!"}),
        ("channel:headers", {"message": "Hi!", "headers": {"x-said": "plain"}}),
    ]

    def requests(place: Place) -> list[dict[str, Any]]:
        named = [(place.at(*address.split(":")), request) for address, request in cases]
        return [{"correlation_id": "c-1", **request, **place.key(address)} for address, request in named]

    answers = [await ask(place.url, *requests(place)) for place in (ours, theirs)]
    for answer in answers[0] + answers[1]:
        assert answer.pop("seconds") < MILLISECONDS
    for case, our, their in zip(cases, *answers, strict=True):
        assert our == their, case


@pytest.mark.parametrize("kind", KINDS)
async def test_a_response_is_as_on_faststreams_page(ours: Place, ask: Ask, kind: str) -> None:
    """But that the page leaves out the correlation id and content type, which FastStream puts among the headers."""
    (answer,) = await ask(ours.url, {"message": "Hi!", **ours.key(ours.at(kind, f"{kind}-response"))})
    correlation_id = "some-correlation-id"
    assert answer["decoded"] == "Processed: Hi!"
    assert answer["correlation_id"] == correlation_id
    assert answer["headers"] == {"correlation_id": correlation_id, "content-type": "text/plain", **TOKEN}


async def test_headers_of_any_language_come_through(ours: Place, theirs: Place, ask: Ask) -> None:
    """FastStream counts characters where it reads bytes: its own server is silent."""
    said = {"message": "Hi!", "headers": {"x-said": NOT_ASCII}, "timeout": 1.0}
    (answer,) = await ask(ours.url, {**said, **ours.key(ours.at("channel", "headers"))})
    assert answer["headers"]["x-heard"] == NOT_ASCII
    assert answer["headers"]["x-after"] == "plain"
    (answer,) = await ask(theirs.url, {**said, **theirs.key(theirs.at("channel", "headers"))})
    assert "silence" in answer


async def test_a_service_at_such_an_address_has_both_kinds_of_callers(place: Place, ask: Ask) -> None:
    service = Service("shouter", address=place.at("list", "shouts"))

    @service.method(default=True)
    async def shout(text: str) -> str:
        return text.upper()

    @service.method
    async def add(a: int, b: int = 0) -> int:
        return a + b

    async with Server(service, url=place.url), Client(place.url) as client:
        (answer,) = await ask(place.url, {"message": "Hi!", **place.key(service.address)})
        assert answer["decoded"] == "HI!"
        assert await client.call(f"{service.address}.shout", "Hi!") == "HI!"
        assert await client.call(f"{service.address}.add", 1, b=2) == 3


async def test_keyword_arguments_come_as_a_json_object(place: Place, ask: Ask) -> None:
    server = Server(url=place.url)

    @server.handler(place.at("list", "sum"))
    async def add(a: int, b: int = 10) -> dict[str, int]:
        return {"sum": a + b}

    async with server:
        both, one = await ask(
            place.url,
            {"message": {"a": 1, "b": 2}, **place.key(place.at("list", "sum"))},
            {"message": {"a": 1}, **place.key(place.at("list", "sum"))},
        )
    assert (both["decoded"], one["decoded"]) == ({"sum": 3}, {"sum": 11})


@pytest.mark.parametrize("kind", KINDS)
async def test_what_goes_wrong_here_is_told_there_in_milliseconds(place: Place, ask: Ask, kind: str) -> None:
    server = Server(url=place.url)

    @server.handler(place.at(kind, "divide"))
    async def divide(n: int) -> float:
        if n < 0:
            raise PermissionDenied("n must not be negative: ä")
        return 1 / n

    request = place.key(place.at(kind, "divide"))
    async with server:
        refused, failed, wrong, right = await ask(place.url, *[{"message": n, **request} for n in (-1, 0, "one", 2)])
    statuses = [answer["headers"].get("x-rpckit-status") for answer in (refused, failed, wrong, right)]
    assert statuses == ["PERMISSION_DENIED", "INTERNAL", "INVALID_ARGUMENT", None]
    assert refused["decoded"] == "PERMISSION_DENIED: n must not be negative: ä"
    assert refused["headers"]["x-rpckit-message"] == "n must not be negative: ä"
    assert failed["decoded"] == "INTERNAL: internal error"
    assert failed["headers"]["x-rpckit-message"] == "internal error"
    assert wrong["decoded"].startswith("INVALID_ARGUMENT: divide: n: ")
    assert right["decoded"] == 0.5
    assert max(answer["seconds"] for answer in (refused, failed, wrong)) < MILLISECONDS


async def test_a_service_without_a_default_method_says_so(place: Place, ask: Ask) -> None:
    service = Service("two", address=place.at("stream", "two"))
    service.method(_one)
    service.method(_other)
    async with Server(service, url=place.url):
        (answer,) = await ask(place.url, {"message": "Hi!", **place.key(service.address)})
    assert answer["headers"]["x-rpckit-status"] == "UNIMPLEMENTED"
    assert answer["decoded"].startswith("UNIMPLEMENTED: ")


async def _one() -> None: ...
async def _other() -> None: ...


async def test_without_a_reply_there_is_silence(ours: Place, ask: Ask) -> None:
    (answer,) = await ask(ours.url, {"message": "Hi!", "timeout": 0.5, **ours.key(ours.at("list", "no-reply"))})
    assert answer == {"silence": pytest.approx(0.5, abs=0.3)}


@pytest.mark.parametrize("kind", KINDS)
async def test_many_faststream_callers_at_once_each_get_their_own(ours: Place, ask: Ask, kind: str) -> None:
    (answers,) = await ask(ours.url, {"message": "number", "times": MANY, **ours.key(ours.at(kind))})
    assert [answer["decoded"] for answer in answers] == [f"number {n}" for n in range(MANY)]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_older_json_envelope_is_answered_in_kind(ours: Place, kind: str) -> None:
    """As FastStream wrote it before 0.7, by hand."""
    headers = {"correlation_id": "c-1", "content-type": "text/plain", "x-said": NOT_ASCII}
    reply = await _ask_by_hand(ours, ours.at(kind, f"{kind}-response"), {"data": "Hi!", "headers": headers})
    assert reply["data"] == "Processed: Hi!"
    assert reply["headers"] == {"correlation_id": "some-correlation-id", "content-type": "text/plain", **TOKEN}


async def test_a_fault_in_the_older_envelope(place: Place) -> None:
    server = Server(url=place.url)

    @server.handler(place.at("list", "divide"))
    async def divide(n: int) -> float:
        return 1 / n

    async with server:
        reply = await _ask_by_hand(place, place.at("list", "divide"), {"data": "0", "headers": {}})
    assert reply["data"] == "INTERNAL: internal error"
    assert reply["headers"]["x-rpckit-status"] == "INTERNAL"


async def _ask_by_hand(place: Place, address: str, envelope: dict[str, Any]) -> Any:
    """What comes back on a channel of its own; AssertionError when nothing does in 2 s."""
    kind, _, key = address.partition(":")
    reply_to = f"{place.prefix}-reply"
    data = json.dumps({**envelope, "headers": {**envelope["headers"], "reply_to": reply_to}})
    async with Redis.from_url(place.url) as server, server.pubsub() as replies:
        await replies.subscribe(reply_to)
        if kind == "stream":
            await server.xadd(key, {"__data__": data})
        else:
            await (server.publish(key, data) if kind == "channel" else server.rpush(key, data))
        async with asyncio.timeout(2):
            async for message in replies.listen():
                if message["type"] == "message":
                    return json.loads(message["data"])
    raise AssertionError("silence")


# --- we call FastStream ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_raw_request_reaches_a_faststream_subscriber(theirs: Place, kind: str) -> None:
    async with Client(theirs.url) as client:
        reply = await client.request(theirs.at(kind), "Hi!", timeout=3.0)
        assert (reply.decode(), reply.body, reply.content_type) == ("Hi!", b"Hi!", "text/plain")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ["faststream", "plain"])
async def test_a_call_in_its_dialect_names_an_address_alone(theirs: Place, kind: str, dialect: str) -> None:
    async with Client(f"{theirs.url}?dialect={dialect}") as client:
        assert await client.call(theirs.at(kind), "Hi!", timeout=3.0) == "Hi!"
        assert await client.at(theirs.at(kind)).using(timeout=3.0).call("Hi!") == "Hi!"


async def test_the_kind_may_come_from_the_url(theirs: Place) -> None:
    """The prefix of an address goes before the scheme of the URL."""
    for kind in ("list", "pubsub", "stream"):
        async with Client(theirs.url.replace("redis://", f"redis+{kind}://")) as client:
            assert (await client.request(theirs.at("list"), "Hi!", timeout=3.0)).decode() == "Hi!"


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_values_come_back_from_a_faststream_server(theirs: Place, value: Any) -> None:
    async with Client(f"{theirs.url}?dialect=faststream") as client:
        reply = await client.request(theirs.at("channel", "any"), value, timeout=3.0)
        nothing = value in (None, "")
        assert reply.decode() == ("" if nothing else value)
        assert await client.call(theirs.at("channel", "any"), value, timeout=3.0) == ("" if nothing else value)


async def test_bytes_come_back_from_a_faststream_server(theirs: Place) -> None:
    body = bytes(range(256)) * 100
    async with Client(theirs.url) as client:
        reply = await client.request(theirs.at("channel", "bytes"), body, timeout=3.0)
        assert (reply.body, reply.decode()) == (body, body)


async def test_its_headers_are_ours_to_read(theirs: Place) -> None:
    async with Client(theirs.url) as client:
        reply = await client.request(theirs.at("stream", "redis-response"), "Hi!", timeout=3.0)
    assert (reply.decode(), dict(reply.headers)) == ("Processed: Hi!", TOKEN)
    assert reply.correlation_id


async def test_a_correlation_id_of_its_own_reaches_us(theirs: Place) -> None:
    """The reply's channel tells whose it is, as with FastStream's own client."""
    async with Client(theirs.url) as client:
        address = theirs.at("channel", "channel-response")
        replies = await asyncio.gather(*[client.request(address, str(n), timeout=3.0) for n in range(20)])
    assert [reply.decode() for reply in replies] == [f"Processed: {n}" for n in range(20)]
    assert {reply.correlation_id for reply in replies} == {"some-correlation-id"}


async def test_headers_of_any_language_come_back(theirs: Place) -> None:
    """FastStream's writer counts the characters of the reply's headers; ours counted bytes in the request's."""
    async with Client(theirs.url) as client:
        address, headers = theirs.at("channel", "headers"), {"x-said": NOT_ASCII}
        reply = await client.request(address, "Hi!", headers=headers, timeout=3.0)
    assert dict(reply.headers) == {"x-heard": NOT_ASCII, "x-after": "plain"}
    assert reply.decode() == "heard"


@pytest.mark.parametrize("kind", KINDS)
async def test_many_calls_to_a_faststream_server_at_once(theirs: Place, kind: str) -> None:
    async with Client(theirs.url) as client:
        replies = await asyncio.gather(
            *[client.request(theirs.at(kind), f"number {n}", timeout=20.0) for n in range(200)]
        )
    assert [reply.decode() for reply in replies] == [f"number {n}" for n in range(200)]


async def test_its_silence_ends_in_a_deadline(quiet_theirs: tuple[Place, Program]) -> None:
    """A handler that raises never answers, nor does one without a reply: it has run all the same."""
    theirs, server = quiet_theirs
    async with Client(theirs.url) as client:
        for address in (theirs.at("channel", "raises"), theirs.at("list", "no-reply")):
            with pytest.raises(DeadlineExceeded):
                await client.request(address, "Hi!", timeout=0.3)
        assert (await client.request(theirs.at("list"), "Hi!", timeout=3.0)).decode() == "Hi!"
    await asyncio.to_thread(server.wait_for, "heard Hi!")


async def test_a_channel_that_nobody_hears_is_no_responder(place: Place) -> None:
    async with Client(place.url) as client:
        with pytest.raises(NoResponder):
            await client.request(place.at("channel", "nobody"), "Hi!", timeout=3.0)


def test_the_command_line_speaks_to_a_faststream_server(theirs: Place) -> None:
    env = clean_env(RPCKIT_URL=theirs.url)
    for kind in KINDS:
        ran = finish(rpckit("request", theirs.at(kind), "Hi!", "--timeout", "3"), env=env)
        assert ran == (0, "Hi!", "")
    assert finish(rpckit("call", theirs.at("list"), "Hi!", "--dialect", "faststream"), env=env) == (0, '"Hi!"\n', "")


# --- both on one key, and our own client in the dialect -----------------------------------------------


async def test_old_and_new_servers_share_a_list(place: Place, ask: Ask) -> None:
    """Callers, old and new, get their answers from whichever is free; both servers get work."""
    server, ran = Server(url=place.url, concurrency=1), []

    @server.handler(place.at("list"))
    async def handle(msg: str) -> str:
        ran.append(msg)
        await asyncio.sleep(0.02)
        return msg

    with run_server("faststream_redis_server", place.url, place.prefix) as old:
        async with server, Client(place.url) as client:
            for n in range(40):
                reply = await client.request(place.at("list"), f"new {n}", timeout=3.0)
                assert reply.decode() == f"new {n}"
            (answers,) = await ask(place.url, {"message": "old", "times": 40, **place.key(place.at("list"))})
            assert [answer["decoded"] for answer in answers] == [f"old {n}" for n in range(40)]
        there = old.output.count("ran ")
    assert 0 < len(ran) < 80
    assert there + len(ran) == 80


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ["native", "faststream"])
async def test_our_own_client_sees_the_same_response_in_either_dialect(ours: Place, dialect: str, kind: str) -> None:
    """Its inbox is for many calls: the wire's id finds the call, the response's own is the reply's."""
    async with Client(ours.url, dialect=dialect) as client:
        replies = await asyncio.gather(
            *[client.request(ours.at(kind, f"{kind}-response"), str(n), timeout=3.0) for n in range(20)]
        )
        assert client.late_replies == 0
    assert [reply.decode() for reply in replies] == [f"Processed: {n}" for n in range(20)]
    assert {reply.correlation_id for reply in replies} == {"some-correlation-id"}
    assert {reply.headers["x-token"] for reply in replies} == {"some-token"}


async def test_our_own_client_is_told_of_faults_in_the_dialect(place: Place) -> None:
    server = Server(url=place.url)

    @server.handler(place.at("stream", "refuse"))
    async def refuse(msg: str) -> None:
        raise PermissionDenied("never: ä")

    async with server, Client(place.url, dialect="faststream") as client:
        with pytest.raises(PermissionDenied, match="never: ä"):
            await client.call(place.at("stream", "refuse"), "Hi!", timeout=3.0)
        with pytest.raises(RemoteError, match="never: ä"):
            await client.request(place.at("stream", "refuse"), "Hi!", timeout=3.0)
