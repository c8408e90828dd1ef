"""Batches of JSON-RPC: the answers to one array are held back until the last is there, then leave as one. Pure.

Invariant: every request of a batch that is admitted is answered in its array, and the array fits into a frame: room is
kept for an error that can take the place of an answer that is too large. What a session holds back is bounded.
"""

from __future__ import annotations

from rpckit.errors import Code
from rpckit.fault import JSONRPC_CODES

from ._dialect import frame_size
from ._jsonrpc_answers import error_text, id_text

__all__ = ["MAX_HELD_BACK", "BatchAnswers", "HeldBack"]

MAX_HELD_BACK = 1_000_000  # bytes of answers that wait for the others of their batches; or what one frame may have


class BatchAnswers:
    """The answers to one array.

    open: requests that are not answered yet.
    size: bytes of the answers that are here, and for each open request the room that is kept.
    """

    __slots__ = ("_answers", "open", "size")

    def __init__(self) -> None:
        self.open = 0
        self.size = 0
        self._answers: list[str] = []

    def expect(self, correlation_id: str) -> None:
        self.open += 1
        self.size += _room_kept(correlation_id)

    def add(self, answer: str) -> None:
        """To what is no request, so that none was expected."""
        self._answers.append(answer)
        self.size += _size(answer)

    def settle(self, correlation_id: str, answer: str) -> None:
        """Once for each that is expected."""
        self.open -= 1
        self.size -= _room_kept(correlation_id)
        self.add(answer)

    def array(self) -> str | None:
        """None while a request is open, and where nothing wants an answer."""
        return f"[{','.join(self._answers)}]" if self._answers and not self.open else None


class HeldBack:
    """The answers that one session holds back. size: bytes, those of its batches that have an open request.

    max_message: bytes of one frame, thus of the answers to one batch.
    """

    __slots__ = ("_max_answers", "limit", "size")

    def __init__(self, max_message: int) -> None:
        self.size = 0
        self.limit = max(MAX_HELD_BACK, max_message)
        self._max_answers = max_message - 1  # bytes: each answer is counted with a comma, so the brackets add one

    def admit(self, batch: BatchAnswers) -> bool:
        """Hold back what a batch has, and what it expects. False if not even errors would have room."""
        if self._has_no_room(batch.size, batch.size):
            return False
        if batch.open:
            self.size += batch.size
        return True

    def settle(self, batch: BatchAnswers, correlation_id: str, answer: str) -> str | None:
        """Take an answer, or an error instead if it has no room. The array, if it was the last of its batch."""
        more = _size(answer) - _room_kept(correlation_id)
        if self._has_no_room(batch.size + more, more if batch.open > 1 else 0):  # the last one does not wait
            answer, more = _too_large(correlation_id), 0
        batch.settle(correlation_id, answer)
        self.size += more
        if not batch.open:
            self.size -= batch.size
        return batch.array()

    def _has_no_room(self, size: int, more: int) -> bool:
        """For a batch of `size` bytes that is to wait with `more` than is counted of it."""
        return size > self._max_answers or self.size + more > self.limit


def _too_large(correlation_id: str) -> str:
    """Instead of an answer that does not fit in beside the others of its batch."""
    why = "the answers of its batch are too large; it may have run"
    return error_text(correlation_id, JSONRPC_CODES[Code.DATA_LOSS], why)


def _room_kept(correlation_id: str) -> int:
    """Bytes of that, with a comma."""
    return _ROOM_KEPT + len(id_text(correlation_id))


def _size(answer: str) -> int:
    """Bytes, with a comma."""
    return frame_size(answer) + 1


_ROOM_KEPT = _size(_too_large(""))  # bytes, to which those of the id come; an id is written in ASCII
