"""Several results for one inbox in one message: what costs a broker most is not bytes, it is messages.

A bundle is for transports alone: they make one of what a server answers to one client in one tick, and take it
apart again, so that nobody above them sees it. Only an inbox that says by its name that it takes bundles gets one.

Its body is, for each reply: the correlation id (32 characters), the size of the result (4 bytes, big-endian) and
the result. They have one content type, which is the bundle's, and its correlation id is that of the first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from rpckit.message import BUNDLE, NATIVE, REPLY, Message
from rpckit.tickwriter import Batch, TickWriter

__all__ = ["MAX_BUNDLED", "MAX_READ", "BundleError", "Bundles", "bundled", "fits", "unbundled"]

MAX_INBOXES = 1024  # remembered; then forgotten all at once
MAX_NAMES = 256  # characters of an inbox and a content type together: strangers choose theirs
MAX_READ = 1024  # replies in one bundle; far fewer are written: as many as leave together
MAX_BUNDLED = 512  # bytes of a result that may travel with others: copying a larger one costs more than it spares
_ID = 32  # characters
_HEAD = struct.Struct(f">{_ID}sI")
_head, _read_head, _HEAD_SIZE = _HEAD.pack, _HEAD.unpack_from, _HEAD.size


W = TypeVar("W", bound=TickWriter)


class BundleError(ValueError):
    """The body is no bundle."""


def fits(reply: Message) -> bool:
    """Whether it may travel in a bundle, and loses nothing there."""
    return (
        reply.kind is REPLY
        and len(reply.body) <= MAX_BUNDLED
        and len(reply.correlation_id) == _ID
        and not reply.headers
        and reply.dialect == NATIVE
        and reply.correlation_id.isascii()
    )


def bundled(replies: Sequence[Message]) -> Message:
    """One message of replies that fit, all to one inbox and of one content type. A single one stays as it is."""
    first = replies[0]
    if len(replies) == 1:
        return first
    parts: list[bytes] = []
    for reply in replies:
        parts += _head(reply.correlation_id.encode(), len(reply.body)), reply.body
    return Message(
        BUNDLE,
        first.address,
        correlation_id=first.correlation_id,
        content_type=first.content_type,
        body=b"".join(parts),
    )


def unbundled(message: Message) -> Sequence[Message]:
    """The replies of a bundle, in order; what is none stays as it is.

    Raises `BundleError` for one that is malformed or too much: then there are none.
    """
    if message.kind is not BUNDLE:
        return (message,)
    body, address, content_type = message.body, message.address, message.content_type
    replies: list[Message] = []
    at, end = 0, len(body)
    try:
        while at < end:
            if len(replies) == MAX_READ:
                raise BundleError(f"a bundle has over {MAX_READ} replies")
            name, size = _read_head(body, at)
            start = at + _HEAD_SIZE
            at = start + size
            replies.append(
                Message(
                    REPLY,
                    address,
                    "",
                    "",
                    name.decode("ascii"),
                    "",
                    content_type,
                    None,
                    None,
                    1,
                    0,
                    {},
                    body[start:at],
                )
            )
    except (struct.error, UnicodeDecodeError) as error:
        raise BundleError(f"a bundle of replies is malformed: {error}") from error
    if at > end:
        raise BundleError(f"a bundle of replies is malformed: it ends {at - end} bytes too soon")
    return replies


class Bundles(Generic[W]):
    """The replies of one tick to each inbox whose name begins with `prefix`, as one message each.

    They leave by `write(writer, message, until)`: the moment when the last of their callers stops waiting.
    """

    def __init__(self, prefix: str, write: Callable[[W, Message, float], None]) -> None:
        self._prefix = prefix
        self._write = write
        self._batches: dict[tuple[str, str], Batch[W, tuple[Message, float]]] = {}  # by inbox and content type

    def take(self, writer: W, reply: Message, until: float) -> bool:
        """It leaves with others of this tick. False: the caller writes it, now."""
        if writer.leaves_at_once() or not fits(reply):
            return False
        batch = self._batches.get((reply.address, reply.content_type))
        if batch is None:
            if not reply.address.startswith(self._prefix) or len(reply.address) + len(reply.content_type) > MAX_NAMES:
                return False
            batch = self._remember(reply)
        writer.gather(batch, (reply, until))
        return True

    def _remember(self, sample: Message) -> Batch[W, tuple[Message, float]]:
        if len(self._batches) >= MAX_INBOXES:
            self._batches.clear()
        batch = Batch(self._leave, ahead=True)  # a reply is to leave before its request is settled
        self._batches[sample.address, sample.content_type] = batch
        return batch

    def _leave(self, writer: W, replies: list[tuple[Message, float]]) -> None:
        messages, ends = zip(*replies, strict=True)
        self._write(writer, bundled(messages), max(ends))
