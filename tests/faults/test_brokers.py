"""A RabbitMq of our own can be killed, restarted, frozen and ended, and leaves nothing behind.

Killing is at the heart of the other tests here, so it is tested itself, with pika as the witness.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from rpckit.testing import RabbitMq
from rpckit.testing import brokers as brokers_module
from rpckit.testing.brokers import BrokerError, BrokerMissing

READY = 30.0  # seconds
QUEUE = "test.brokers"


@pytest.fixture
def broker(own_rabbitmq: RabbitMq) -> Iterator[RabbitMq]:
    yield own_rabbitmq
    own_rabbitmq.thaw()
    if not own_rabbitmq.running():
        own_rabbitmq.start()


def connect(broker: RabbitMq) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(broker.url))


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie nobody has asked for is over."""
    listing = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True)
    return bool(listing.stdout.strip()) and not listing.stdout.startswith("Z")


def eventually(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def scratch_of(broker: RabbitMq) -> Path:
    home = broker._home
    assert home is not None
    return home


def started_from(scratch: Path) -> list[str]:
    """Every process that was given this broker's environment, wherever it has gone since."""
    mark, found = os.fsencode(scratch), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environ.read_bytes():
                found.append(environ.parent.name)
    return found


def test_a_started_broker_takes_messages(broker: RabbitMq) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, exclusive=True)
        channel.basic_publish("", QUEUE, b"hello")
        assert channel.basic_get(QUEUE, auto_ack=True)[2] == b"hello"


def test_ctl_asks_this_broker(broker: RabbitMq) -> None:
    assert str(broker.port) in broker.ctl("eval", "node().")


def test_ctl_failure_says_why(broker: RabbitMq) -> None:
    with pytest.raises(BrokerError, match="no_such_command"):
        broker.ctl("no_such_command")


def test_it_listens_on_loopback_only_and_starts_no_name_server(broker: RabbitMq) -> None:
    interfaces = broker.ctl("eval", "[element(2, inet:sockname(P)) || P <- erlang:ports(), is_port(P)].")
    assert "{0,0,0,0}" not in interfaces
    assert "{127,0,0,1}" in interfaces


def test_kill_ends_every_process_at_once(broker: RabbitMq) -> None:
    pids = broker.pids()
    assert len(pids) > 1
    started = time.monotonic()
    broker.kill()
    assert time.monotonic() - started < 2
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port), 1)


def test_after_a_kill_it_starts_on_the_same_port_with_its_data(broker: RabbitMq) -> None:
    url = broker.url
    with connect(broker) as connection:
        connection.channel().queue_declare(QUEUE, durable=True)
    broker.flush()
    broker.kill()
    broker.start()
    assert broker.url == url
    with connect(broker) as connection:
        connection.channel().queue_declare(QUEUE, passive=True)
        connection.channel().queue_delete(QUEUE)


def test_a_frozen_broker_keeps_connections_and_is_silent_until_thawed(broker: RabbitMq) -> None:
    broker.freeze()
    with pytest.raises(BrokerError, match="no answer"):
        broker.wait_ready(0.2)
    assert broker.running()
    broker.thaw()
    broker.wait_ready(READY)


def test_a_frozen_broker_can_be_killed(broker: RabbitMq) -> None:
    pids = broker.pids()
    broker.freeze()
    broker.kill()
    assert not any(alive(pid) for pid in pids)


def test_shutdown_tells_the_clients(broker: RabbitMq) -> None:
    connection = connect(broker)
    broker.shutdown()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connection.process_data_events(READY)
    assert caught.value.reply_code == 320


async def test_stop_leaves_no_process_and_no_file() -> None:
    async with RabbitMq() as broker:
        scratch = scratch_of(broker)
        assert scratch.exists()
        assert len(started_from(scratch)) > 1
    assert started_from(scratch) == []
    assert not scratch.exists()


async def test_cancelling_a_start_leaves_nothing() -> None:
    broker = RabbitMq()
    task = asyncio.create_task(broker.__aenter__())
    await asyncio.sleep(0.3)
    pids, scratch = broker.pids(), scratch_of(broker)
    assert pids
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(alive(pid) for pid in pids)
    assert not scratch.exists()


def test_stop_twice_and_without_start_does_nothing() -> None:
    broker = RabbitMq()
    broker.stop()
    broker.stop()
    assert not broker.running()


def test_a_second_start_is_refused(broker: RabbitMq) -> None:
    with pytest.raises(BrokerError, match="already running"):
        broker.start()
    assert broker.running()


def test_a_failed_start_shows_the_log_and_leaves_nothing() -> None:
    broker = RabbitMq(config={"no_such_setting": "1"})
    with pytest.raises(BrokerError, match="no_such_setting"):
        broker.start()
    assert broker.pids() == []


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers_module, "_find", lambda name: None)
    assert not RabbitMq.installed()
    with pytest.raises(BrokerMissing, match="apt-get install rabbitmq-server"):
        RabbitMq().start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_does_not_outlive_a_killed_owner(number: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids, scratch = (
        [int(pid) for pid in owner.stdout.readline().split()],
        Path(owner.stdout.readline().strip()),
    )
    assert pids
    assert scratch.exists()
    os.kill(owner.pid, number)
    owner.communicate(timeout=10)
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert eventually(lambda: not scratch.exists())


OWNER = """
import time
from rpckit.testing import RabbitMq
broker = RabbitMq()
broker._launch()
time.sleep(0.5)
print(*broker.pids(), flush=True)
print(broker._home, flush=True)
time.sleep(60)
"""
