"""Answers that the broker does not take, and requests handed back: each delivery ends once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pamqp import commands

from rpckit.codec import decode
from rpckit.errors import RpcError, UsageError
from rpckit.message import Kind, Message
from rpckit_amqp._errors import too_large
from rpckit_amqp._frames import F_HEADERS
from rpckit_amqp._framing import Framing
from rpckit_amqp._mapping import lay_out
from rpckit_amqp._publisher import Confirmed, Express, Publication
from rpckit_amqp._receiver import AmqpDelivery
from rpckit_amqp._replier import Replier


class Delivered:
    """A delivery, and how it ended."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.arrived_at = 0.0
        self.ended: list[str] = []

    def settle(self) -> None:
        self.ended.append("settled")

    def requeue(self) -> None:
        self.ended.append("requeued")


class Publishers:
    """Express and confirmed in one, which keep what they are given."""

    def __init__(self) -> None:
        self.framing = Framing()
        self.replies: list[Message] = []
        self.published: list[Publication] = []
        self.refused: RpcError | None = None

    def reply(self, message: Message, until: float) -> bool:
        if self.refused is not None:
            raise self.refused
        self.replies.append(message)
        return True

    def publish(self, publication: Publication) -> None:
        self.published.append(publication)


@pytest.fixture
def publishers() -> Publishers:
    publishers = Publishers()
    publishers.framing.attach(cast(Any, SimpleNamespace(channel_id=2, protocol=SimpleNamespace(server_frame_max=0))))
    return publishers


@pytest.fixture
def replier(publishers: Publishers) -> Replier:
    return Replier(cast(Express, publishers), cast(Confirmed, publishers), on_gone=lambda _: None)


def delivered(**fields: Any) -> Any:
    return Delivered(Message(Kind.REQUEST, "q", "work", correlation_id="c", reply_to="inbox", **fields))


def answer(replier: Replier, delivery: AmqpDelivery) -> None:
    replier.reply(Message(Kind.REPLY, "inbox", correlation_id="c", body=bytes(9)), delivery, confirmed=True)


def test_an_answer_the_broker_does_not_take_becomes_a_fault_that_says_so(
    replier: Replier, publishers: Publishers
) -> None:
    delivery = delivered()
    answer(replier, delivery)
    (publication,) = publishers.published
    publication.done(publication, too_large(9, 5), None)
    (fault,) = publishers.replies
    assert (fault.kind, fault.address, fault.correlation_id) == (Kind.FAULT, "inbox", "c")
    content = cast(dict[str, Any], decode(fault.content_type, fault.body))
    assert content["code"] == "DATA_LOSS"
    assert "the answer of work cannot be sent" in content["message"]
    assert delivery.ended == ["settled"]


def test_a_fault_that_the_broker_does_not_take_either_settles_its_request(
    replier: Replier, publishers: Publishers
) -> None:
    delivery = delivered()
    answer(replier, delivery)
    publishers.refused = UsageError("too large too")
    publication = publishers.published[0]
    publication.done(publication, too_large(9, 5), None)
    assert delivery.ended == ["settled"]


def test_a_request_larger_than_the_broker_takes_by_now_is_requeued(replier: Replier, publishers: Publishers) -> None:
    delivery = delivered(body=bytes(9))
    publishers.framing.limit(5)
    replier.hand_back(delivery, lay_out(delivery.message))
    assert publishers.published == []
    assert delivery.ended == ["requeued"]


def test_a_request_is_handed_back_without_what_only_its_sender_may_say(
    replier: Replier, publishers: Publishers
) -> None:
    delivery = delivered(body=b"7")
    said = commands.Basic.Properties(user_id="somebody", headers={"CC": ["audit"]}, reply_to="inbox").marshal()
    replier.hand_back(delivery, said)
    (publication,) = publishers.published
    assert b"inbox" in publication.data
    assert b"somebody" not in publication.data
    assert b"audit" not in publication.data
    publication.done(publication, None, None)
    assert delivery.ended == ["settled"]


def test_a_request_whose_copy_cannot_be_made_is_requeued_alone(replier: Replier, publishers: Publishers) -> None:
    delivery = delivered(body=b"7")
    table = b"\x02CCQ"
    replier.hand_back(delivery, F_HEADERS.to_bytes(2, "big") + len(table).to_bytes(4, "big") + table)
    assert publishers.published == []
    assert delivery.ended == ["requeued"]
