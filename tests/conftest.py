"""What every test may ask for: either event loop, brokers, and the promise that nothing is left running.

Invariant: a test that needs a broker gets one or fails; brokers of this session end with it, also on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, NamedTuple

import pytest

from rpckit.testing import RabbitMq

collect_ignore = ["benchmarks"]

AMQP_URL = "RPCKIT_TEST_AMQP_URL"
RABBITMQ_IMAGE = "rabbitmq:4.2"
DOCKER_TIMEOUT = 10  # seconds for an engine to answer
INSTALL_RABBITMQ = f"apt-get install rabbitmq-server, or set {AMQP_URL}, or start Docker"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class BrokerAt(NamedTuple):
    """A broker somebody else runs: there is only its address."""

    url: str


# --- the event loop ----------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--event-loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="event loop of the asynchronous tests",
    )


def pytest_asyncio_loop_factories(config: pytest.Config) -> Mapping[str, LoopFactory]:
    kind: Literal["asyncio", "uvloop"] = config.getoption("--event-loop")
    if kind == "asyncio":
        return {kind: asyncio.new_event_loop}
    import uvloop

    return {kind: uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _clean_loop(request: pytest.FixtureRequest) -> None:
    """Set up first and so torn down last: after the fixtures of the test have closed what they opened."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_task_left")


@pytest.fixture
async def _no_task_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_debug(_is_unit_test(request))
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)  # a task that has just ended still counts until its callbacks ran
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"{len(left)} tasks outlived the test: {left}"


def _is_unit_test(request: pytest.FixtureRequest) -> bool:
    return "unit" in request.path.relative_to(request.config.rootpath).parts


# --- brokers -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMq | BrokerAt]:
    """The RabbitMQ all tests share; nobody may stop it or fill it."""
    with find_rabbitmq() as broker:
        yield broker


@pytest.fixture(scope="session")
def amqp_url(rabbitmq: RabbitMq | BrokerAt) -> str:
    return rabbitmq.url


@pytest.fixture(scope="module")
def own_rabbitmq() -> Iterator[RabbitMq]:
    """A RabbitMQ for the tests of one module, to be killed and frozen. They leave it running."""
    if not RabbitMq.installed():
        _without_rabbitmq("killing a broker needs a rabbitmq-server on the PATH: apt-get install rabbitmq-server")
    with RabbitMq() as broker:
        yield broker


def find_rabbitmq() -> AbstractContextManager[RabbitMq | BrokerAt]:
    """The one named in the environment, else one started here, else one in Docker; else the test fails."""
    if url := os.environ.get(AMQP_URL):
        return _named(url)
    if RabbitMq.installed():
        return RabbitMq()
    if docker_answers():
        return _rabbitmq_in_docker()
    pytest.fail(f"no RabbitMQ: {INSTALL_RABBITMQ}", pytrace=False)


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=DOCKER_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _without_rabbitmq(reason: str) -> None:
    """Skip at a desk that has a broker of another kind; fail in CI, and where there is none at all."""
    at_a_desk = os.environ.get("CI") != "true"
    if at_a_desk and (os.environ.get(AMQP_URL) or docker_answers()):
        pytest.skip(reason)
    pytest.fail(reason, pytrace=False)


@contextmanager
def _named(url: str) -> Iterator[BrokerAt]:
    yield BrokerAt(url)


@contextmanager
def _rabbitmq_in_docker() -> Iterator[BrokerAt]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # testcontainers' own, on import
        from testcontainers.rabbitmq import RabbitMqContainer
    with RabbitMqContainer(RABBITMQ_IMAGE) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
        yield BrokerAt(f"amqp://guest:guest@{host}:{port}/")
