"""The replying half of the serving role: replies, and requests handed back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from rpckit.errors import Code, NotSent, RpcError, UsageError
from rpckit.fault import Fault, fault_message
from rpckit.message import Message
from rpckit.transport import OnGone

from ._connection import Session
from ._copies import for_a_copy
from ._frames import FrameError, ReturnMethod
from ._publisher import Confirmed, Express, Publication
from ._queues import may_be_mandatory

if TYPE_CHECKING:
    from ._receiver import AmqpDelivery

__all__ = ["Replier"]

log = logging.getLogger(__name__)

REPLY_KEPT_S = 30.0  # seconds a reply is kept for a caller that set no deadline


class Replier:
    """Answers deliveries and settles them."""

    def __init__(self, express: Express, confirmed: Confirmed, *, on_gone: OnGone) -> None:
        self._express = express
        self._confirmed = confirmed
        self._on_gone = on_gone
        self._session: Session | None = None

    def attach(self, session: Session | None) -> None:
        self._session = session

    def reply(self, message: Message, delivery: AmqpDelivery, *, confirmed: bool) -> None:
        """Express and settled at once, or settled when the broker has it.

        Replies are mandatory: a returned one means that the caller is gone.
        """
        left = delivery.message.time_left_ms
        until = delivery.arrived_at + (REPLY_KEPT_S if left is None else left / 1000)
        if not confirmed and self._express.reply(message, until):
            delivery.settle()
            return
        data = self._confirmed.framing.lay_out(message, mandatory=may_be_mandatory(self._session, message.address))
        publication = Publication(data, message, self._done, delivery)
        publication.until = until
        self._confirmed.publish(publication)

    def hand_back(self, delivery: AmqpDelivery, properties: bytes) -> None:
        """Hand a request back as a copy; only once that is safe is the original settled."""
        message = delivery.message
        try:
            kept = for_a_copy(properties)
            data = self._confirmed.framing.around(message.address, kept, message.body, mandatory=True)
            self._confirmed.publish(Publication(data, message, _settle_original, delivery))
        except (NotSent, UsageError, FrameError) as error:  # also if it is larger than what the broker takes by now
            log.info("a request is requeued, and not handed back as a copy: %s", error)
            delivery.requeue()

    def _done(self, publication: Publication, error: RpcError | None, returned: ReturnMethod | None) -> None:
        delivery = cast("AmqpDelivery", publication.owner)
        if isinstance(error, UsageError):
            self._tell_refused(delivery, error)
            return
        if error is not None:
            log.warning("a reply was not taken: %s", error)
        delivery.settle()
        if returned is not None:
            self._on_gone(publication.routing_key)

    def _tell_refused(self, delivery: AmqpDelivery, error: UsageError) -> None:
        """The broker took no answer of that size: its caller learns why. If not even that can be sent, nobody does."""
        request = delivery.message
        text = f"the answer of {request.method or request.address} cannot be sent: {error}"
        log.error("%s", text)
        try:
            self.reply(fault_message(request, Fault(Code.DATA_LOSS, text)), delivery, confirmed=False)
        except UsageError:
            delivery.settle()


def _settle_original(publication: Publication, error: RpcError | None, returned: ReturnMethod | None) -> None:
    delivery = cast("AmqpDelivery", publication.owner)
    if error is None and returned is None:
        delivery.settle()
    else:
        delivery.requeue()
