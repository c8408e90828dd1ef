"""The porting tutorials hold: each README as its reader would run it, old programs and new side by side."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pika
import pytest

from rpckit import Server
from rpckit.testing._ports import free_port
from tests.interop.processes import ROOT, clean_env, finish, rpckit, running
from tests.tutorials.keys import delete_keys
from tests.tutorials.readme import Command, Excerpt, Printed, Stop, read_steps
from tests.tutorials.session import Session, stands_in_its_file

PORTING = ROOT / "tutorials" / "porting"
TUTORIALS = ("hello", "work_queues", "publish_subscribe", "routing", "topics", "rpc", "publisher_confirms")
PAGES = sorted(PORTING.glob("from_*.md"))
READMES = [PORTING / name / "README.md" for name in TUTORIALS]
EXCERPTS = [step for page in (*READMES, *PAGES) for step in read_steps(page) if isinstance(step, Excerpt)]
QUEUES = ("hello", "task_queue", "rpc_queue", "confirms", "greeting_service")
EXCHANGES = ("logs", "direct_logs", "topic_logs")
REDIS_KINDS = ("stream", "list", "pubsub")


@pytest.fixture
def broker(amqp_url: str) -> Iterator[str]:
    """The broker's URL, without the tutorials' queues and exchanges before and after."""
    _forget(amqp_url)
    yield amqp_url
    _forget(amqp_url)


@pytest.fixture
def redis(redis_url: str) -> Iterator[str]:
    """The same of Redis."""
    delete_keys(redis_url, *QUEUES)
    yield redis_url
    delete_keys(redis_url, *QUEUES)


def _forget(url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for queue in QUEUES:
        channel.queue_delete(queue)
    for exchange in EXCHANGES:
        channel.exchange_delete(exchange)
    connection.close()


def of_kind(redis_url: str, kind: str) -> str:
    return redis_url.replace("redis://", f"redis+{kind}://")


@pytest.mark.parametrize("excerpt", EXCERPTS, ids=lambda excerpt: excerpt.path)
def test_each_excerpt_stands_in_its_file(excerpt: Excerpt) -> None:
    assert stands_in_its_file(excerpt)


def test_every_tutorial_is_in_the_table_and_shows_all_kinds_of_steps() -> None:
    table = (PORTING / "README.md").read_text()
    assert all(f"]({name}/README.md)" in table for name in TUTORIALS)
    assert all(f"]({page.name})" in table for page in PAGES)
    assert len(PAGES) == 6
    for readme in READMES:
        assert {Command, Excerpt, Printed, Stop} <= {type(step) for step in read_steps(readme)}, readme


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", [*READMES, *PAGES], ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_from_top_to_bottom(broker: str, redis: str, page: Path) -> None:
    brokers = {"amqp://localhost": broker, "ws://localhost:9000": f"ws://127.0.0.1:{free_port()}"}
    brokers |= {f"redis+{kind}://localhost": of_kind(redis, kind) for kind in REDIS_KINDS}
    brokers |= {"redis://localhost": redis}
    with Session(brokers) as reader:
        for step in read_steps(page):
            reader.play(step)


def test_a_killed_workers_task_goes_to_another(broker: str) -> None:
    """Whoever dies, an old worker's task is done by a new one, and the other way round."""
    new = ["rpckit", "serve", "tutorials.porting.work_queues.worker:service", "--concurrency", "1"]
    old = [sys.executable, str(PORTING / "work_queues/old/worker.py"), broker]
    env = clean_env(RPCKIT_URL=broker, RPCKIT_PREFETCH_AHEAD="0")
    for first, first_ready, second, second_ready in (
        (old, "[*] Waiting", new, "serving tasks"),
        (new, "serving tasks", old, "[*] Waiting"),
    ):
        with running(first, ready=first_ready, env=env) as dying:
            give = [sys.executable, str(PORTING / "work_queues/new_task.py"), "long" + 3 * "."]
            assert finish(give, env={**env, "RPCKIT_URL": f"{broker}?dialect=plain"}).code == 0
            dying.wait_for("Received long")
            with running(second, ready=second_ready, env=env) as other:
                dying.send(signal.SIGKILL)
                other.wait_for("Done long")


def test_a_worker_with_a_long_task_takes_none_that_another_could_do(broker: str) -> None:
    command = rpckit("serve", "tutorials.porting.work_queues.worker:service", "--concurrency", "1")
    env = clean_env(RPCKIT_URL=broker, RPCKIT_PREFETCH_AHEAD="0")
    with running(command, ready="serving tasks", env=env) as one, running(command, ready="serving", env=env) as other:
        long, short = "long" + 8 * ".", [f"short{number}" for number in range(6)]
        give = [sys.executable, str(PORTING / "work_queues/new_task.py")]
        assert finish([*give, long, *short], env=env).code == 0
        busy, free = (one, other) if _received(one, "long") else (other, one)
        free.wait_for("Done short5")
        assert all(f"Done {task}" in free.output for task in short)
        assert "short" not in busy.output


def _received(worker: Any, task: str) -> bool:
    return f"Received {task}" in worker.output


@pytest.mark.parametrize("url", ["redis+pubsub", "ws"])
def test_what_keeps_no_task_is_refused_a_worker(redis: str, url: str) -> None:
    where = of_kind(redis, "pubsub") if url == "redis+pubsub" else f"ws://127.0.0.1:{free_port()}/ws"
    ran = finish(rpckit("serve", "tutorials.porting.work_queues.worker:service", "--url", where))
    assert ran.code == 2
    assert 'demands delivery="at_least_once"' in ran.err


# --- the same programs, wherever the table says that they run --------------------------------------

TRANSPORTS = ("memory", *REDIS_KINDS, "ws")
KEEPING = ("memory", "stream", "list")
RUNS: list[tuple[str, str, str, list[str], str]] = [
    ("hello", "receive", "send", [], " [x] Received Hello World!"),
    ("work_queues", "worker", "new_task", ["a task"], " [x] Done a task"),
    ("publish_subscribe", "receive_logs", "emit_log", ["a line"], " [x] a line"),
    ("routing", "receive_logs_direct", "emit_log_direct", ["error", "a line"], " [x] error:a line"),
    ("topics", "receive_logs_topic", "emit_log_topic", ["kern.info", "a line"], " [x] kern.info:a line"),
    ("rpc", "rpc_server", "rpc_client", [], " [.] Got 832040"),
    ("publisher_confirms", "count", "publish", [], " [x] 1000 messages have come"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name, receiver, sender, words, printed", RUNS, ids=TUTORIALS)
async def test_the_new_programs_run_on_every_transport_of_the_table(
    name: str,
    receiver: str,
    sender: str,
    words: list[str],
    printed: str,
    transport: str,
    redis: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one process, as memory does not leave it."""
    if name in ("work_queues", "publisher_confirms") and transport not in KEEPING:
        return  # refused, as the tests and READMEs above say
    urls = {"memory": "memory://porting", "ws": f"ws://127.0.0.1:{free_port()}/ws"}
    monkeypatch.setenv("RPCKIT_URL", urls.get(transport) or of_kind(redis, transport))
    monkeypatch.setenv("LOGS", "logs" if name == "publish_subscribe" else "logs.")
    monkeypatch.syspath_prepend(str(ROOT))
    service = _fresh(f"tutorials.porting.{name}.{receiver}").service
    main = _fresh(f"tutorials.porting.{name}.{sender}").main
    shown = ""
    async with Server(service), asyncio.timeout(20):
        await (main(words) if name == "work_queues" else main(*words))
        while printed not in shown:
            await asyncio.sleep(0.01)
            shown += capsys.readouterr().out


def _fresh(module: str) -> ModuleType:
    """Its topics are read from the environment as it is imported."""
    sys.modules.pop(module, None)
    return importlib.import_module(module)
