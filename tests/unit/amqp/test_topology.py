"""Queues and exchanges as data."""

from __future__ import annotations

import pytest

from rpckit.errors import UsageError
from rpckit_amqp._topology import (
    EVENTS,
    Declare,
    ExchangeSpec,
    QueueSpec,
    Route,
    events_queue,
    group_queue,
    reply_queue,
    request_queue,
)


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


def test_a_groups_queue_is_shared_and_expires_when_its_members_are_gone() -> None:
    spec = group_queue("rpckit.event.user.created", "billing")
    assert spec.name == "rpckit.group.7.billing.rpckit.event.user.created"
    assert spec.durable  # RabbitMQ 4.3 refuses transient queues that are shared
    assert not spec.exclusive
    assert not spec.auto_delete
    assert spec.arguments == {"x-expires": 10_000}


def test_no_two_groups_share_a_queue() -> None:
    long = "x" * 240
    pairs = [("a", "b.c"), ("a", "b"), ("b.c", "a"), ("a.b", "c"), ("1.a", "b"), (long, "a"), (long, "b"), ("a", long)]
    names = {group_queue(topic, group).name for topic, group in pairs}
    assert len(names) == len(pairs)
    assert all(len(name) <= 255 for name in names)


def test_a_pattern_names_no_queue() -> None:
    """Client libraries refuse a star there."""
    star, other = group_queue("rpckit.event.user.*", "mail"), group_queue("rpckit.event.user.#", "mail")
    assert star.name.startswith("rpckit.group.")
    assert "*" not in star.name
    assert star.name != other.name


def test_events_of_ours_go_through_one_exchange() -> None:
    route = Route.of("rpckit.event.user.*")
    assert (route.exchange, route.key) == (EVENTS, "rpckit.event.user.*")
    assert (EVENTS.name, EVENTS.type, EVENTS.durable) == ("rpckit.events", "topic", True)
    assert route.topic("rpckit.event.user.created") == "rpckit.event.user.created"


@pytest.mark.parametrize(
    "topic, exchange, key, heard",
    [
        ("fanout:logs", ExchangeSpec("logs", "fanout"), "", "fanout:logs"),
        ("direct:logs/info", ExchangeSpec("logs", "direct"), "info", "direct:logs/anything"),
        ("topic:my.logs/kern.*", ExchangeSpec("my.logs", "topic"), "kern.*", "topic:my.logs/anything"),
    ],
)
def test_a_foreign_topic_is_an_exchange_as_the_tutorials_declare_it(
    topic: str, exchange: ExchangeSpec, key: str, heard: str
) -> None:
    route = Route.of(topic)
    assert (route.exchange, route.key, route.exchange.durable) == (exchange, key, False)
    assert route.topic("anything") == heard


def test_specs_do_not_share_their_arguments() -> None:
    assert reply_queue("1").arguments is not reply_queue("2").arguments
