"""A Redis of our own can be killed, restarted, frozen and ended, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rpckit._redis_server import find_redis_server
from rpckit.testing import Redis
from rpckit.testing import redis as redis_module
from rpckit.testing.brokers import BrokerError, BrokerMissing

READY = 10.0  # seconds
KEY = "test.redis"


@pytest.fixture
def broker(own_redis: Redis) -> Iterator[Redis]:
    yield own_redis
    own_redis.thaw()
    if not own_redis.running():
        own_redis.start()


def eventually(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it ends in this moment, and the next look tells
        pass
    return False


def scratch_of(broker: Redis) -> Path:
    home = broker._home
    assert home is not None
    return home


def test_ctl_runs_commands_and_reads_every_kind_of_reply(broker: Redis) -> None:
    assert broker.ctl("SET", KEY, "grün\r\n") == "OK"
    assert broker.ctl("GET", KEY) == "grün\r\n"
    assert broker.ctl("DEL", KEY) == 1
    assert broker.ctl("GET", KEY) is None
    assert broker.ctl("RPUSH", KEY, "a", "b") == 2
    assert broker.ctl("LRANGE", KEY, "0", "-1") == ["a", "b"]
    assert broker.ctl("COMMAND", "INFO", "no-such") == [None]
    broker.ctl("DEL", KEY)


def test_ctl_failure_says_why(broker: Redis) -> None:
    with pytest.raises(BrokerError, match="unknown command"):
        broker.ctl("NO-SUCH-COMMAND")


def test_the_url_is_for_any_driver(broker: Redis) -> None:
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(broker.url) as driver:
        assert driver.ping()


def test_it_listens_on_loopback_only(broker: Redis) -> None:
    assert broker.url == f"redis://127.0.0.1:{broker.port}"
    assert broker.ctl("CONFIG", "GET", "bind") == ["bind", "127.0.0.1"]


def test_kill_ends_it_at_once_and_its_data_is_gone(broker: Redis) -> None:
    broker.ctl("SET", KEY, "1")
    started = time.monotonic()
    broker.kill()
    assert time.monotonic() - started < 1
    assert not broker.running()
    assert refuses(broker.port)
    broker.start()
    assert broker.ctl("GET", KEY) is None


def test_with_an_append_only_file_its_data_stays_over_a_kill() -> None:
    with Redis(config={"appendonly": "yes", "appendfsync": "always"}) as broker:
        url = broker.url
        broker.ctl("SET", KEY, "1")
        broker.kill()
        broker.start()
        assert broker.url == url
        assert broker.ctl("GET", KEY) == "1"


def test_a_frozen_one_keeps_connections_and_is_silent_until_thawed(broker: Redis) -> None:
    broker.freeze()
    with pytest.raises(BrokerError, match="took more than"):
        broker.ctl("PING", timeout=0.1)
    assert broker.running()
    broker.thaw()
    broker.wait_ready(READY)


def test_a_frozen_one_can_be_killed_and_shut_down(broker: Redis) -> None:
    broker.freeze()
    broker.kill()
    assert refuses(broker.port)
    broker.start()
    broker.freeze()
    broker.shutdown()
    assert refuses(broker.port)


def test_a_password_is_asked_for_and_stands_in_the_url() -> None:
    password = 'a "b\\c/é:@'
    with Redis(password=password) as broker:
        assert broker.ctl("PING") == "PONG"
        assert password not in broker.url
        stranger = Redis()
        stranger.port = broker.port
        with pytest.raises(BrokerError, match="NOAUTH"):
            stranger.ctl("PING")
        redis = pytest.importorskip("redis")
        with redis.Redis.from_url(broker.url) as driver:
            assert driver.ping()


def test_another_program_can_be_named() -> None:
    found = find_redis_server()
    assert found
    with Redis(program=found) as broker:
        assert broker.ctl("PING") == "PONG"
    with pytest.raises(BrokerMissing, match="no-such-server was not found"):
        Redis(program="no-such-server").start()


async def test_stop_leaves_no_process_and_no_file() -> None:
    async with Redis() as broker:
        scratch = scratch_of(broker)
        assert scratch.exists()
        assert broker.pids()
    assert refuses(broker.port)
    assert not scratch.exists()


async def test_cancelling_a_start_leaves_nothing() -> None:
    broker = Redis()
    task = asyncio.create_task(broker.__aenter__())
    await asyncio.sleep(0)
    scratch = scratch_of(broker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert refuses(broker.port)
    assert not scratch.exists()


def test_stop_twice_and_without_start_does_nothing() -> None:
    broker = Redis()
    broker.stop()
    broker.stop()
    assert not broker.running()


def test_a_second_start_is_refused(broker: Redis) -> None:
    with pytest.raises(BrokerError, match="already running"):
        broker.start()
    assert broker.running()


def test_a_failed_start_shows_the_log_and_leaves_nothing() -> None:
    broker = Redis(config={"no-such-setting": "1"})
    with pytest.raises(BrokerError, match="no-such-setting"):
        broker.start()
    assert broker.pids() == []


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "find_redis_server", lambda: None)
    assert not Redis.installed()
    with pytest.raises(BrokerMissing, match="apt-get install redis-server"):
        Redis().start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_does_not_outlive_a_killed_owner(number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout is not None
    port, scratch = int(owner.stdout.readline()), Path(owner.stdout.readline().strip())
    assert not refuses(port)
    owner.send_signal(number)
    owner.communicate(timeout=10)
    assert eventually(lambda: refuses(port))
    assert eventually(lambda: not scratch.exists())


OWNER = """
import time
from rpckit.testing import Redis
broker = Redis()
broker.start()
print(broker.port, broker._home, sep="\\n", flush=True)
time.sleep(60)
"""
