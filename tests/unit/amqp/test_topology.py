"""Queues and exchanges as data."""

from __future__ import annotations

import pytest

from rpckit.errors import UsageError
from rpckit_amqp._topology import Declare, QueueSpec, events_queue, reply_queue, request_queue


@pytest.mark.parametrize(
    "declare, spec",
    [
        ("classic", QueueSpec("q", durable=True)),
        ("quorum", QueueSpec("q", durable=True, arguments={"x-queue-type": "quorum"})),
        ("transient", QueueSpec("q", durable=False)),
    ],
)
def test_a_request_queue_is_shared_and_outlives_its_server(declare: Declare, spec: QueueSpec) -> None:
    assert request_queue("q", declare) == spec
    assert not spec.exclusive
    assert not spec.auto_delete


def test_declare_never_creates_nothing() -> None:
    with pytest.raises(UsageError, match="'q' does not exist, and declare=never"):
        request_queue("q", "never")


@pytest.mark.parametrize("spec", [reply_queue("1f"), events_queue("1f")])
def test_queues_of_one_process_end_with_its_connection(spec: QueueSpec) -> None:
    assert spec.exclusive
    assert not spec.durable
    assert spec.name.startswith("rpckit.")
    assert spec.name.endswith(".1f")


def test_reply_and_events_queues_do_not_collide() -> None:
    assert reply_queue("1f").name != events_queue("1f").name


def test_specs_do_not_share_their_arguments() -> None:
    assert reply_queue("1").arguments is not reply_queue("2").arguments
