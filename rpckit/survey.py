"""Asking every instance at once: a query goes out, and the answers of some moments are collected."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import get_args

from rpckit.bodies import write_arguments
from rpckit.codec import CodecError
from rpckit.contract import check_address
from rpckit.errors import ConnectionLost, NotSent, UsageError
from rpckit.ids import new_id
from rpckit.message import NATIVE, Kind, Message
from rpckit.queries import TOPIC, Answer, Query, read_answer
from rpckit.transport import Transport

__all__ = ["MAX_SURVEYS", "Surveys", "check_survey"]

log = logging.getLogger(__name__)

MAX_SURVEYS = 64  # under way at once
MAX_WAIT_S = 86_400  # seconds, a day: more is a mistake
MAX_BYTES = 64 * 1024 * 1024  # of the answers of one
ANSWER_BYTES = 1024  # what the smallest takes in memory


class Surveys:
    """The surveys of a client that are under way, each for its own time. What comes later is unknown here."""

    def __init__(self) -> None:
        self._under_way: dict[str, _Survey] = {}

    def take(self, message: Message) -> bool:
        """Whether it belongs to a survey. Runs in a transport's reader."""
        survey = self._under_way.get(message.correlation_id)
        if survey is None:
            return False
        survey.collect(message)
        return True

    async def run(self, transport: Transport, query: Query, address: str, wait: float, *, first: bool) -> list[Answer]:
        """Ask, and collect for `wait` seconds, or until the `first` answer. Cancelling is safe.

        Raises `NotSent`, and `ConnectionLost` when the connection goes while nobody has answered.
        """
        if len(self._under_way) >= MAX_SURVEYS:
            raise NotSent(f"{MAX_SURVEYS} surveys are under way already")
        message = _query(query, address, wait, transport.inbox)
        survey = self._under_way[message.correlation_id] = _Survey(first)
        asked = False
        try:
            async with asyncio.timeout(wait):
                await transport.publish(TOPIC, message)
                asked = True
                await survey.enough.wait()
        except TimeoutError:
            if not asked:
                raise NotSent(f"{query} could not be asked within {wait:g} s") from None
        finally:
            del self._under_way[message.correlation_id]
        if not survey.answers and (survey.lost or transport.inbox != message.reply_to):
            raise ConnectionLost(f"the connection was lost while answers to {query} were collected")
        return list(survey.answers.values())

    def lose(self) -> None:
        """The connection is gone, and with it the inbox: no more answers come."""
        for survey in self._under_way.values():
            survey.lost = True
            survey.enough.set()


class _Survey:
    """The answers to one query, by instance: who serves on two transports of one broker answers on both."""

    def __init__(self, first: bool) -> None:
        self.answers: dict[str, Answer] = {}
        self.enough = asyncio.Event()
        self.lost = False
        self._first = first
        self._bytes = 0
        self._asked_at = time.perf_counter()  # finer than the clock of every event loop

    def collect(self, message: Message) -> None:
        self._bytes += len(message.body) + ANSWER_BYTES
        if self._bytes > MAX_BYTES:
            self.enough.set()
            log.warning("a survey ends early: over %d bytes of answers", MAX_BYTES)
            return
        try:
            answer = read_answer(message, time.perf_counter() - self._asked_at)
        except CodecError as error:
            log.warning("an answer to a query cannot be read: %s", error)
            return
        if answer is not None:
            self.answers.setdefault(answer.instance.id, answer)
            if self._first:
                self.enough.set()


def check_survey(query: str, address: str, wait: object) -> None:
    """Raises `UsageError` for what nobody would answer, and for a survey without an end."""
    if query not in get_args(Query):
        raise UsageError(f"there is no query {query!r:.60}; there are {', '.join(get_args(Query))}")
    if address:
        check_address(address)
    if not (isinstance(wait, int | float) and 0 < wait < MAX_WAIT_S):
        limits = f"more than 0 and less than {MAX_WAIT_S}"
        raise UsageError(f"wait is in seconds, {limits}, for a survey has no other end; not {wait!r:.60}")


def _query(query: Query, address: str, wait: float, reply_to: str) -> Message:
    """As a native request; what nobody has read when the survey is over need not be kept."""
    body, content_type = write_arguments(NATIVE, "", (), {"address": address} if address else {})
    return Message(
        Kind.REQUEST,
        TOPIC,
        query,
        message_id=new_id(),
        correlation_id=new_id(),
        reply_to=reply_to,
        content_type=content_type,
        time_left_ms=max(1, round(wait * 1000)),
        body=body,
    )
