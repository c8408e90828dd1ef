"""A service with every kind of end, served by `rpckit serve` from a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pika
import pytest

from rpckit.ids import new_id
from tests.interop.processes import Program, Ran, clean_env, finish, rpckit, running

SERVICE = """
import asyncio
import os
import time

from rpckit import PermissionDenied, Service

service = Service("cases", address=os.environ["ADDRESS"])


@service.method
async def double(n: int) -> int:
    return 2 * n


@service.method
async def refuse() -> None:
    raise PermissionDenied("not you")


@service.method
async def fail() -> None:
    raise KeyError("a secret")


@service.method
async def sleep(seconds: float) -> float:
    print("asleep", flush=True)
    await asyncio.sleep(seconds)
    return seconds


@service.method(idempotent=True)
async def pid() -> int:
    return os.getpid()


@service.method
def block(seconds: float) -> None:
    print("blocking", flush=True)
    time.sleep(seconds)
"""

Command = Callable[..., Ran]
Serve = Callable[..., AbstractContextManager[Program]]


@pytest.fixture(scope="module")
def address(amqp_url: str) -> Iterator[str]:
    """A queue of this module's own."""
    name = f"test.cli.{new_id()}"
    yield name
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    connection.channel().queue_delete(name)
    connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the commands, with the service in `cases.py`."""
    path = tmp_path_factory.mktemp("cli")
    (path / "cases.py").write_text(SERVICE)
    return path


@pytest.fixture(scope="module")
def serve(amqp_url: str, address: str, folder: Path) -> Serve:
    """`rpckit serve cases:service`, ready."""

    def start(*options: str) -> AbstractContextManager[Program]:
        env = clean_env(ADDRESS=address, RPCKIT_URL=amqp_url)
        return running(rpckit("serve", "cases:service", *options), ready="serving cases", env=env, cwd=folder)

    return start


@pytest.fixture
def run(amqp_url: str, folder: Path) -> Command:
    """Any other command to its end; the broker is in RPCKIT_URL."""

    def run(*words: str, url: str = amqp_url, stdin: str = "", **env: str) -> Ran:
        return finish(rpckit(*words), env=clean_env(RPCKIT_URL=url, **env), cwd=folder, stdin=stdin)

    return run


@pytest.fixture
def start(amqp_url: str, folder: Path) -> Callable[..., Program]:
    """A command that is left running; the test ends it."""

    def start(*words: str) -> Program:
        return Program(rpckit(*words), env=clean_env(RPCKIT_URL=amqp_url), cwd=folder)

    return start
