"""`--url redis+stream://embedded`: a server starts a Redis, other programs reach it, and it ends with its server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from rpckit._redis_server import INSTALL, find_redis_server
from tests.interop.processes import Program, Ran, clean_env, finish, rpckit, running

URL = "redis+stream://embedded"
TAKEN_OVER = 5.0  # seconds for the next owner to serve; it takes about 0.1

Command = Callable[..., Ran]
Serve = Callable[..., AbstractContextManager[Program]]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime directory for this test, its path as short as that of a socket must be; no server outlives it."""
    if find_redis_server() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(INSTALL, pytrace=False)
        pytest.skip(INSTALL)
    path = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
    yield path
    left = list(path.glob("rpckit/*.sock"))
    shutil.rmtree(path)
    assert not left


@pytest.fixture
def env(runtime: Path) -> dict[str, str]:
    return clean_env(XDG_RUNTIME_DIR=str(runtime), ADDRESS="cases", RPCKIT_URL=URL)


@pytest.fixture
def serve(env: dict[str, str], folder: Path) -> Serve:
    def start(url: str = URL) -> AbstractContextManager[Program]:
        command = rpckit("serve", "cases:service", "--url", url)
        return _ended_in_good_order(running(command, ready="serving cases", env=env, cwd=folder))

    return start


@pytest.fixture
def run(env: dict[str, str]) -> Command:
    def run(*words: str) -> Ran:
        return finish(rpckit(*words), env=env)

    return run


@contextlib.contextmanager
def _ended_in_good_order(program: AbstractContextManager[Program]) -> Iterator[Program]:
    with program as server:
        yield server
        if server.code is None:
            server.send(signal.SIGTERM)
        assert server.wait() == 0, server.output


@pytest.mark.parametrize("kind", ["stream", "list", "pubsub"])
def test_a_second_process_calls_the_server_over_it(serve: Serve, run: Command, kind: str) -> None:
    url = f"redis+{kind}://embedded"
    with serve(url):
        assert run("call", "cases.double", "21", "--url", url) == (0, "42\n", "")


def test_a_database_of_it_may_be_named(serve: Serve, run: Command) -> None:
    with serve(f"{URL}/1"):
        assert run("call", "cases.double", "21", "--url", f"{URL}/1").out == "42\n"
        assert run("call", "cases.nosuch", "--url", f"{URL}/1").code == 1


def test_a_call_without_a_server_says_how_to_start_one_and_starts_nothing(run: Command, runtime: Path) -> None:
    ran = run("call", "cases.double", "21")
    assert (ran.code, ran.out) == (5, "")
    assert "rpckit serve MODULE:SERVICE --url redis+stream://embedded" in ran.err
    assert list(runtime.glob("rpckit/*")) == []


def test_it_ends_with_its_server_after_the_last_reply(
    serve: Serve, run: Command, env: dict[str, str], runtime: Path
) -> None:
    with serve() as server:
        caller = Program(rpckit("call", "cases.sleep", "1"), env=env)
        try:
            server.wait_for("asleep")
            server.send(signal.SIGTERM)
            assert caller.wait() == 0, caller.output
        finally:
            caller.kill()
        assert server.wait() == 0
    assert not (runtime / "rpckit" / "redis.sock").exists()
    assert run("call", "cases.double", "21").code == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_when_its_owner_ends_the_other_server_starts_the_next(
    serve: Serve, run: Command, env: dict[str, str], folder: Path, number: signal.Signals
) -> None:
    with running(rpckit("serve", "cases:service"), ready="serving cases", env=env, cwd=folder) as owner, serve():
        owner.send(number)
        owner.wait()
        deadline = time.monotonic() + TAKEN_OVER
        while (ran := run("call", "cases.double", "21")).code:
            assert time.monotonic() < deadline, ran
            assert ran.code in (3, 5)
        assert ran.out == "42\n"
