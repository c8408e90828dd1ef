"""What callers are answered: results, and faults where there are none."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from rpckit import codec
from rpckit.bodies import write_result
from rpckit.context import Response
from rpckit.errors import Code, UsageError
from rpckit.fault import Fault, brief, fault_message
from rpckit.ids import new_id
from rpckit.job import Job
from rpckit.message import REPLY, Message
from rpckit.refusals import response_headers
from rpckit.stats import CallStats
from rpckit.transport import Delivery

__all__ = ["Replies", "sent"]

log = logging.getLogger(__name__)


class Replies:
    """Ends deliveries, each once: whoever waits learns how it went, also where that cannot be told as it is."""

    def __init__(self, stats: CallStats, *, max_body: int, debug: bool) -> None:
        self._stats = stats
        self._max_body = max_body
        self._debug = debug

    def answer(self, job: Job, result: Any) -> None:
        """With what the handler returned; with a fault where that cannot be sent."""
        if job.settled:
            return
        request = job.message
        if job.spec.no_reply or not request.reply_to:
            self.settle(job)
            return
        response = result if isinstance(result, Response) else None
        try:
            body, content_type = write_result(request, result if response is None else response.body)
            if len(body) > self._max_body:
                raise codec.CodecError(f"{len(body)} bytes: over max_body ({self._max_body})")
            reply = request.reply(REPLY, body, content_type)
            if response is not None:
                reply.headers = response_headers(response)
                reply.maxlen = response.maxlen
            job.delivery.reply(reply, confirmed=job.spec.idempotent)
            job.settled = True
        except (codec.CodecError, UsageError) as error:
            log.error("the result of %s.%s cannot be sent: %s", job.service.name, job.spec.name, error)
            fault = Fault(Code.DATA_LOSS, f"{job.spec.name} ran, but its result cannot be sent: {error}")
            self.fail(job.delivery, fault, job)

    def fail(self, delivery: Delivery, fault: Fault, job: Job | None = None) -> None:
        """Instead of a result; without a job, to a call that was refused before it became one."""
        if job is not None:
            if job.settled:
                return
            job.settled = True
            self.count_failed(job, fault.code)
        if not delivery.message.reply_to or (job is not None and job.spec.no_reply):
            log.warning("a call without reply failed: %s: %s", fault.code, fault.message)
            delivery.settle()
            return
        reply = fault_message(delivery.message, fault)
        if len(reply.body) > self._max_body:
            log.error(
                "the details of a fault are not sent: %d bytes, over max_body (%d)", len(reply.body), self._max_body
            )
        elif sent(delivery, reply, "a fault"):
            return
        # whoever waits is to learn that it failed
        if not sent(delivery, fault_message(delivery.message, brief(fault)), "a fault"):
            delivery.settle()

    def count_failed(self, job: Job, code: str) -> None:
        stats = self._stats.of(job.spec)
        if job.started:  # counted as a call when it has ended
            stats.failed(code)
        else:
            stats.refused(code)

    def settle(self, job: Job) -> None:
        """Nobody waits."""
        job.settled = True
        job.delivery.settle()

    def internal(self, job: Job, error: Exception) -> Fault:
        """Of an error that nobody declared: the caller learns an id, the log the cause."""
        error_id = new_id()[:16]
        log.error(
            "%s.%s raised (error id %s)",
            job.service.name,
            job.spec.name,
            error_id,
            exc_info=error,
            extra=job.context.log_fields(),
        )
        if not self._debug:
            return Fault(Code.INTERNAL, "internal error", type="InternalError", error_id=error_id)
        details = {"traceback": "".join(traceback.format_exception(error))}
        return Fault(Code.INTERNAL, repr(error), type=type(error).__name__, details=details, error_id=error_id)


def sent(delivery: Delivery, reply: Message, what: str) -> bool:
    """Whether it could be sent; if not, `what` it was is logged with the cause, and the delivery is still open."""
    try:
        delivery.reply(reply)
    except UsageError as error:
        log.error("%s cannot be sent: %s", what, error)
        return False
    return True
