"""Clients that know nothing of rpckit, against `rpckit serve tutorials.fibonacci.service:service`.

Each is a program of its own, written after its project's tutorial; the server is one for all of them.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

import pika
import pytest

from rpckit import Client, Server, Service
from rpckit.demo import FibonacciRpcClient
from tests.interop.conftest import RunPeer, delete_queue

FIB_30 = 832040
MILLISECONDS = 0.5  # seconds: far above what an answer takes, far below any timeout
NOT_A_NUMBER = "thirty"


class Answer(NamedTuple):
    """A reply as pika shows it, and the seconds it took."""

    properties: pika.BasicProperties
    body: bytes
    seconds: float


def ask(url: str, queue: str, body: bytes, **properties: Any) -> Answer:
    """A request as any plain program would send it. Raises AssertionError when no reply comes in 5 s."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        callback_queue = channel.queue_declare("", exclusive=True).method.queue
        wanted = {"reply_to": callback_queue, "correlation_id": "c-1", **properties}
        sent = time.perf_counter()
        channel.basic_publish("", queue, body, pika.BasicProperties(**wanted))
        for _, props, reply in channel.consume(callback_queue, auto_ack=True, inactivity_timeout=5):
            assert props is not None, "silence"
            assert props.correlation_id == "c-1"
            return Answer(props, reply, time.perf_counter() - sent)
    finally:
        connection.close()
    raise AssertionError("the connection ended")


@pytest.mark.parametrize("client", ["pika_client", "aioamqp_client", "aio_pika_client"])
def test_a_tutorial_client_gets_its_numbers(served: str, run_peer: RunPeer, client: str) -> None:
    assert run_peer(client, served, 30, 0, 1, 10).out.split() == [str(FIB_30), "0", "1", "55"]


@pytest.mark.parametrize("way", ["direct", "queue"])
def test_a_node_client_gets_results_and_faults(served: str, run_peer: RunPeer, way: str) -> None:
    out = run_peer("node", served, way, 30, NOT_A_NUMBER, 4).out
    first, fault, last = [json.loads(line) for line in out.splitlines()]
    assert (first["body"], last["body"]) == (str(FIB_30), "3")
    assert first.get("type") is None
    assert fault["type"] == "fault"
    assert fault["headers"]["x-rpckit-status"] == "INVALID_ARGUMENT"


def test_a_faststream_client_gets_results_and_faults(served: str, run_peer: RunPeer) -> None:
    first, fault, last = run_peer("faststream_client", served, 30, NOT_A_NUMBER, 4).out.splitlines()
    assert (first, last) == (f"OK {FIB_30}", "OK 3")
    assert fault.startswith("INVALID_ARGUMENT INVALID_ARGUMENT: ")


def test_a_result_for_a_plain_caller_is_its_text_and_nothing_else(served: str) -> None:
    answer = ask(served, "rpc_queue", b"30")
    assert answer.body == b"832040"
    assert answer.properties.type is None
    assert answer.properties.app_id is None
    assert not answer.properties.headers


@pytest.mark.parametrize(
    "body", [b"thirty", b"", b"\xff\xfe", b"3.5", b'"x"', b"-1", b"99999999", b"[1, 2]", b'{"n": 1}']
)
def test_a_wrong_argument_is_a_fault_in_milliseconds(served: str, body: bytes) -> None:
    answer = ask(served, "rpc_queue", body)
    assert answer.seconds < MILLISECONDS
    assert answer.properties.type == "fault"
    assert answer.properties.headers["x-rpckit-status"] == "INVALID_ARGUMENT"
    assert answer.properties.headers["x-rpckit-message"]
    assert answer.body.startswith(b"INVALID_ARGUMENT: ")


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-python-serialize", "no type at all"]
)
def test_a_content_type_is_read_or_refused_and_never_met_with_silence(served: str, content_type: str) -> None:
    answer = ask(served, "rpc_queue", b"30", content_type=content_type)
    assert answer.seconds < MILLISECONDS
    assert answer.body == b"832040"


def test_headers_of_any_kind_are_taken(served: str) -> None:
    headers = {"deep": {"er": [1, {"est": None}]}, "number": 2**60, "flag": True}
    assert ask(served, "rpc_queue", b"4", headers=headers, priority=3, timestamp=1, type="x").body == b"3"


async def test_a_server_answers_native_and_plain_callers_without_being_told(served: str) -> None:
    async with (
        FibonacciRpcClient(served) as native,
        FibonacciRpcClient(served, dialect="plain") as plain,
        Client(served) as raw,
    ):
        for n, expected in ((30, FIB_30), (0, 0), (4, 3)):
            assert await native.fib(n) == expected
            assert await plain.fib(n) == expected
            assert await plain.call(n) == expected
            assert (await raw.request("rpc_queue", str(n))).body == str(expected).encode()


async def test_a_raising_handler_is_a_fault_in_milliseconds_and_tells_no_secret(amqp_url: str) -> None:
    service = Service("broken", address="test.interop.broken")

    @service.method
    def divide(n: int) -> float:
        return 1 / n

    async with Server(service, url=f"{amqp_url}?declare=quorum"):
        answer = await asyncio.to_thread(ask, amqp_url, service.address, b"0")
    delete_queue(amqp_url, service.address)
    assert answer.seconds < MILLISECONDS
    assert answer.properties.type == "fault"
    assert answer.properties.headers["x-rpckit-status"] == "INTERNAL"
    assert answer.body == b"INTERNAL: internal error"
