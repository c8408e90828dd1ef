"""`rpckit serve --reload`: the files change, and what is served with them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rpckit.ids import new_id
from tests.interop.processes import Program, clean_env, finish, rpckit, running

pytest.importorskip("watchfiles")

SERVICE = """
import asyncio
from rpckit import Service

service = Service("changing", address="{address}")


@service.method
async def version() -> int:
    return {version}


@service.method
async def sleep(seconds: float) -> float:
    print("asleep", flush=True)
    await asyncio.sleep(seconds)
    return seconds
"""

Write = Callable[..., None]


@pytest.fixture
def env(redis_url: str) -> dict[str, str]:
    return clean_env(RPCKIT_URL=redis_url.replace("redis://", "redis+pubsub://"))


@pytest.fixture
def address() -> str:
    return f"test.reload.{new_id()}"


@pytest.fixture
def write(tmp_path: Path, address: str) -> Write:
    def write(version: object) -> None:
        (tmp_path / "changing.py").write_text(SERVICE.format(address=address, version=version))

    write(1)
    return write


@pytest.fixture
def server(write: Write, env: dict[str, str], tmp_path: Path) -> Iterator[Program]:
    with running(rpckit("serve", "changing:service", "--reload"), ready="serving", env=env, cwd=tmp_path) as program:
        time.sleep(0.5)  # files are watched from about now on
        yield program
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.output


def served(server: Program, times: int) -> None:
    """Until it has been ready so often."""
    deadline = time.monotonic() + 15
    while server.output.count("serving changing") < times:
        assert time.monotonic() < deadline, server.output
        time.sleep(0.05)


def test_a_changed_module_is_served(server: Program, write: Write, env: dict[str, str], address: str) -> None:
    assert finish(rpckit("call", f"{address}.version"), env=env).out == "1\n"
    write(2)
    server.wait_for("changing.py changed; starting over")
    served(server, 2)
    assert finish(rpckit("call", f"{address}.version"), env=env).out == "2\n"


def test_a_module_that_does_not_import_is_said_and_the_next_change_mends_it(
    server: Program, write: Write, env: dict[str, str], address: str
) -> None:
    write("1 / ")
    server.wait_for("changing cannot be imported: SyntaxError")
    server.wait_for("changing.py, line 10")
    server.wait_for("the changed code cannot be served: the old code still is")
    assert finish(rpckit("call", f"{address}.version"), env=env).out == "1\n"
    write("1\n\n1 / 0")
    server.wait_for("changing cannot be imported: ZeroDivisionError: division by zero (changing.py, line 12)")
    assert finish(rpckit("call", f"{address}.version"), env=env).out == "1\n"
    write(3)
    served(server, 2)
    assert finish(rpckit("call", f"{address}.version"), env=env).out == "3\n"


def test_a_worker_that_ends_by_itself_is_said_and_the_next_change_starts_another(
    server: Program, write: Write, env: dict[str, str], address: str
) -> None:
    (worker,) = psutil.Process(server.pid).children()
    worker.kill()
    server.wait_for("ended with exit code -9; waiting for a change of the files")
    write(2)
    served(server, 2)
    assert finish(rpckit("call", f"{address}.version"), env=env).out == "2\n"


def test_changed_settings_count_too(server: Program, tmp_path: Path) -> None:
    (tmp_path / "rpckit.toml").write_text("concurrency = 0\n")
    server.wait_for("rpckit.toml changed; starting over")
    server.wait_for("usage: concurrency in rpckit.toml: should be greater than 0")
    (tmp_path / "rpckit.toml").write_text("concurrency = 1\n")
    served(server, 2)


def test_what_runs_is_drained_before_it_starts_over(
    server: Program, write: Write, env: dict[str, str], address: str
) -> None:
    caller = Program(rpckit("call", f"{address}.sleep", "1.5"), env=env)
    try:
        server.wait_for("asleep")
        write(2)
        assert caller.wait() == 0, caller.output
    finally:
        caller.kill()
    served(server, 2)


def test_files_of_other_kinds_change_nothing(server: Program, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    time.sleep(1)
    assert server.output.count("serving changing") == 1
