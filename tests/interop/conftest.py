"""The queue `rpc_queue` for one test or module alone, and the programs on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

import pika
import pytest

from tests.interop.processes import Program, Ran, clean_env, finish, rpckit, running

HERE = Path(__file__).parent
QUEUE = "rpc_queue"
PACKAGES = ("pika", "aioamqp", "aio_pika", "faststream")  # the names of the peers begin with them

StartPeer = Callable[..., AbstractContextManager[Program]]
RunPeer = Callable[..., Ran]


def delete_queue(url: str, queue: str = QUEUE) -> None:
    """Queue types differ from peer to peer: each begins without one."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        connection.channel().queue_delete(queue)
    finally:
        connection.close()


@pytest.fixture
def no_queue(amqp_url: str) -> Iterator[str]:
    """The broker's URL; `rpc_queue` does not exist before and after."""
    delete_queue(amqp_url)
    yield amqp_url
    delete_queue(amqp_url)


@pytest.fixture(scope="module")
def served(amqp_url: str) -> Iterator[str]:
    """The broker's URL, with `rpckit serve` of the tutorial's service on a quorum queue: one for a module."""
    delete_queue(amqp_url)
    with serve(amqp_url):
        yield amqp_url
    delete_queue(amqp_url)


def serve(url: str, declare: str = "quorum") -> AbstractContextManager[Program]:
    command = rpckit("serve", "tutorials.fibonacci.service:service", "--url", f"{url}?declare={declare}")
    return running(command, ready="serving fibonacci")


@pytest.fixture
def start_server() -> StartPeer:
    """`rpckit serve` of the tutorial's service: start_server(url, declare)."""
    return serve


@pytest.fixture
def start_peer() -> StartPeer:
    """A peer that serves: start_peer("pika_server", url)."""
    return run_server


def run_server(name: str, url: str, *words: str) -> AbstractContextManager[Program]:
    return running(_command(name, [url, *words]), ready="ready")


@pytest.fixture
def run_peer() -> RunPeer:
    """A peer that calls, to its end: run_peer("pika_client", url, 30). Its failure is the test's."""

    def run(name: str, url: str, *words: object) -> Ran:
        ran = finish(_command(name, [url, *map(str, words)]), env=clean_env())
        assert ran.code == 0, ran.err
        return ran

    return run


def _command(name: str, words: Sequence[str]) -> list[str]:
    if name == "node":
        return [_node(), str(HERE / "node" / "client.js"), *words]
    package = next(each for each in PACKAGES if name.startswith(each))
    if find_spec(package) is None:
        _missing(f"{package} is not installed: pip install {package.replace('_', '-')}")
    return [sys.executable, str(HERE / "peers" / f"{name}.py"), *words]


def _node() -> str:
    node = shutil.which("node")
    if node is None or not (HERE / "node" / "node_modules" / "amqplib").is_dir():
        _missing("the Node.js peer is not installed: scripts/interop")
    assert node is not None
    return node


def _missing(reason: str) -> None:
    """Skip at a desk, fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
