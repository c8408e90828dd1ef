"""`rpckit call` and `rpckit request`: the result on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rpckit import Client, Context, Reply, Server, Service
from rpckit.cli import call, request
from rpckit.errors import DeadlineExceeded, InvalidArgument

URL = "memory://cli"
Rpckit = Callable[..., Any]


def answer(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, outcome: object) -> list[tuple[Any, ...]]:
    """Let a command's one call end in `outcome`; returns what it was called with."""
    seen: list[tuple[Any, ...]] = []

    async def once(*args: object) -> object:
        seen.append(args)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(module, name, once)
    return seen


def test_result_is_json_on_stdout(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answer(monkeypatch, call, "_call_once", {"n": 1, "s": "é"})
    ran = rpckit("call", "a.b", "30", "-5", "hello", "--kw", "x=[1]", "--header", "user=7", "--url", URL)
    assert (ran.code, ran.out, ran.err) == (0, '{"n":1,"s":"é"}\n', "")
    assert seen[0][1:] == (
        "a.b",
        [30, -5, "hello"],
        {"x": [1]},
        {"headers": {"user": "7"}, "idempotent": False},
    )


def test_options_override_settings(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answer(monkeypatch, call, "_call_once", None)
    assert rpckit("call", "a.b", "--url", URL, "--timeout", "3", "--wait", "--dialect", "plain").out == "null\n"
    client: Client = seen[0][0]
    assert (client.options.timeout, client.options.no_server) == (3.0, "wait")
    assert client.transport.options.dialect == "plain"


@pytest.mark.parametrize(
    "error,code,said",
    [
        (InvalidArgument("fib: n must be 0 to 10,000"), 1, "remote error: INVALID_ARGUMENT: fib: n must be"),
        (DeadlineExceeded("no reply in 3 s"), 4, "deadline exceeded: no reply in 3 s"),
    ],
    ids=["remote", "deadline"],
)
def test_error_has_its_exit_code_and_an_empty_stdout(
    rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    answer(monkeypatch, call, "_call_once", error)
    ran = rpckit("call", "a.b", "--url", URL)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_a_refused_argument_that_is_broken_json_is_told_so(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, call, "_call_once", InvalidArgument("price: order: Input should be a dictionary"))
    ran = rpckit("call", "a.b", '{"tea": 1', "--url", URL)
    assert (ran.code, ran.out) == (1, "")
    assert "Input should be a dictionary\n'{\"tea\": 1' is not JSON, and was sent as a string." in ran.err


def test_nobody_serves_is_exit_code_3(rpckit: Rpckit) -> None:
    ran = rpckit("call", "rpc_queue.fib", "30", "--url", URL)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "no responder: nobody serves 'rpc_queue' in this process\n"
        "memory:// is inside one process: no server of another one can be reached. Use a broker.\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("call",),
        ("call", "a.b", "--timeot", "3", "--url", URL),
        ("call", "a.b", "--timeout", "soon", "--url", URL),
        ("call", "a.1", "--url", URL),
        ("call", "a.b", "--url", "nosuch://"),
        ("call", "a.b", "--url", "localhost"),
        ("request", "a", "--url", URL),
        ("nosuch",),
    ],
    ids=" ".join,
)
def test_usage_errors_are_exit_code_2(rpckit: Rpckit, words: tuple[str, ...]) -> None:
    ran = rpckit(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_settings_errors_are_exit_code_2(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_TIMEOT", "3")
    ran = rpckit("call", "a.b", "--url", URL)
    assert ran.code == 2
    assert "Did you mean RPCKIT_TIMEOUT?" in ran.err


@pytest.mark.parametrize(
    "value,text",
    [
        (832040, "832040"),
        (b"\xff\x00", '"_wA="'),
        (float("inf"), "Infinity"),
        ({1: "a"}, '{"1":"a"}'),
        (None, "null"),
    ],
)
def test_every_result_can_be_shown(value: object, text: str) -> None:
    assert call.render(value) == text


async def test_calls_reach_methods_by_name_and_by_default() -> None:
    service = Service("calculator")

    @service.method(default=True)
    async def add(a: int, b: int, ctx: Context) -> list[object]:
        return [a + b, ctx.headers.get("user")]

    @service.method
    async def using(x: int) -> int:
        return -x

    using_7 = {"headers": {"user": "7"}, "idempotent": False}
    async with Server(service, url=URL):
        assert await call._call_once(Client(URL), "calculator.add", [1], {"b": 2}, using_7) == [3, "7"]
        assert await call._call_once(Client(URL), "calculator", [1, 2], {}, using_7) == [3, "7"]
        assert await call._call_once(Client(URL), "calculator.using", [1], {}, using_7) == -1


async def test_target_of_a_plain_peer_is_all_address() -> None:
    service = Service("double", address="a.b")

    @service.method
    async def double(n: int) -> int:
        return 2 * n

    using: dict[str, Any] = {"headers": {}, "idempotent": False}
    async with Server(service, url=URL):
        assert await call._call_once(Client(URL, dialect="plain"), "a.b", [21], {}, using) == 42


# --- request ---------------------------------------------------------------------------------


def test_request_prints_the_body_as_it_came(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    request._write(b"HI!\xff\n\x00")
    assert capsysbinary.readouterr().out == b"HI!\xff\n\x00"


def test_request_shows_headers_on_stderr(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, request, "_request_once", Reply(b"HI!", {"x-token": "t"}, "c-1", ""))
    ran = rpckit("request", "list:test", "Hi!", "--headers", "--url", URL)
    assert (ran.code, ran.out, ran.err) == (0, "HI!", "correlation_id: c-1\nx-token: t\n")


def test_request_reads_stdin_as_bytes(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answer(monkeypatch, request, "_request_once", Reply(b"", {}, "c-1", ""))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x00")))
    rpckit("request", "a", "-", "--header", "user=7", "--url", URL)
    assert seen[0][1:] == ("a", b"\xff\x00", {"user": "7"})


async def test_request_reaches_a_server() -> None:
    service = Service("echo")

    @service.method
    async def echo(text: str) -> str:
        return json.dumps([text])

    async with Server(service, url=URL):
        reply = await request._request_once(Client(URL), "echo", "Hi!", {})
    assert reply.body == b'["Hi!"]'
