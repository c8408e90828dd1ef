"""The commands as programs, against a RabbitMQ: what they print, and their exit codes 0 to 6."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpckit.testing._ports import LOOPBACK, free_port
from tests.cli.conftest import Command, Serve
from tests.interop.processes import Program, clean_env, rpckit, running


@pytest.fixture(scope="module", autouse=True)
def _served(serve: Serve) -> Iterator[None]:
    with serve():
        yield


@pytest.mark.parametrize(
    "command", ["", "serve", "call", "request", "bench", "demo", "services", "describe", "stats", "ping", "version"]
)
def test_every_command_has_help(run: Command, command: str) -> None:
    ran = run(*command.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: rpckit" in ran.out


def test_a_result_is_json_on_stdout_and_exit_code_0(run: Command, address: str) -> None:
    assert run("call", f"{address}.double", "21") == (0, "42\n", "")
    assert run("call", f"{address}.double", "--kw", "n=21") == (0, "42\n", "")
    assert run("call", f"{address}.double", "-3") == (0, "-6\n", "")


def test_a_raw_reply_is_its_bytes_and_exit_code_0(run: Command, served_fib: str) -> None:
    assert run("request", served_fib, "30") == (0, "832040", "")
    assert run("request", served_fib, "-", stdin="30").out == "832040"


@pytest.mark.parametrize(
    "words,said",
    [
        (("refuse",), "PERMISSION_DENIED: not you"),
        (("fail",), "INTERNAL: internal error (error id "),
        (("double", "many"), "INVALID_ARGUMENT: "),
        (("double", "1", "2"), "INVALID_ARGUMENT: "),
        (("nosuch",), "UNIMPLEMENTED: "),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_remote_error_is_exit_code_1(run: Command, address: str, words: tuple[str, ...], said: str) -> None:
    method, *args = words
    ran = run("call", f"{address}.{method}", *args)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("remote error: ")
    assert said in ran.err
    assert "secret" not in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("call", "no-method", "--timeout", "soon"),
        ("call", "a.b", "--url", "nosuch://localhost"),
        ("call", "a.b", "--url", "amqp://localhost?hartbeat=3"),
        ("call", "a.b", "--dialect", "klingon"),
        ("serve", "cases"),
        ("serve", "nosuch:service"),
        ("serve", "rpckit:Client"),
        ("nosuch",),
    ],
    ids=" ".join,
)
def test_a_usage_error_is_exit_code_2(run: Command, words: tuple[str, ...]) -> None:
    ran = run(*words, ADDRESS="unused")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", [("call", "test.nobody.here"), ("request", "test.nobody", "x")])
def test_nobody_serves_is_exit_code_3_at_once(run: Command, command: tuple[str, ...]) -> None:
    ran = run(*command)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("no responder: ")


def test_a_deadline_is_exit_code_4(run: Command, address: str) -> None:
    ran = run("call", f"{address}.sleep", "30", "--timeout", "0.3")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("deadline exceeded: ")


@pytest.mark.parametrize("command", [("call", "a.b"), ("request", "a", "x"), ("bench", "a.b")])
def test_no_connection_is_exit_code_5(run: Command, command: tuple[str, ...]) -> None:
    ran = run(*command, url=f"amqp://u:s3cret@127.0.0.1:{free_port()}")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err.startswith("not sent: ")
    assert "s3cret" not in ran.err


def test_serving_without_a_broker_is_exit_code_5(run: Command) -> None:
    ran = run("serve", "cases:service", url=f"amqp://127.0.0.1:{free_port()}", ADDRESS="unused")
    assert ran.code == 5
    assert ran.err.startswith("not sent: ")


def test_a_connection_lost_during_a_call_is_exit_code_6(folder: Path) -> None:
    url = f"ws://{LOOPBACK}:{free_port()}/"
    env = clean_env(ADDRESS="cases", RPCKIT_URL=url)
    with running(rpckit("serve", "cases:service"), ready="serving cases", env=env, cwd=folder) as server:
        client = Program(rpckit("call", "cases.sleep", "30"), env=env, cwd=folder)
        try:
            server.wait_for("asleep")
            server.send(signal.SIGKILL)
            assert client.wait() == 6
            client.wait_for("connection lost: ")
        finally:
            client.kill()


def test_wrong_credentials_are_a_usage_error_that_keeps_the_password(run: Command, amqp_url: str) -> None:
    host = amqp_url.partition("@")[2]
    ran = run("call", "a.b", url=f"amqp://guest:s3cret@{host}")
    assert ran.code == 2
    assert "guest" in ran.err
    assert "s3cret" not in ran.err


def test_bench_prints_figures(run: Command, address: str) -> None:
    ran = run("bench", f"{address}.double", "21", "--duration", "0.5", "-c", "8", "--json")
    assert (ran.code, ran.err) == (0, "")
    figures = json.loads(ran.out)
    assert figures["calls"] > 0
    assert figures["errors"] == {}


def test_bench_says_at_once_what_cannot_work(run: Command, address: str) -> None:
    assert run("bench", f"{address}.nosuch", "--duration", "5").code == 1


def test_demo_runs_on_the_broker_named(run: Command, amqp_url: str) -> None:
    ran = run("demo", "--url", amqp_url)
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.count("832040") == 2
    assert os.linesep * 3 not in ran.out


@pytest.fixture
def served_fib(amqp_url: str, folder: object) -> Iterator[str]:
    """A service that plain callers can reach, because it has one method."""
    from tests.interop.conftest import delete_queue, serve

    delete_queue(amqp_url)
    with serve(amqp_url):
        yield "rpc_queue"
    delete_queue(amqp_url)
