"""Messages as the frames of one channel: what is the same in many of them is laid out once. Pure."""

from __future__ import annotations

from rpckit.errors import NotSent, RpcError
from rpckit.message import Message

from ._driver import FRAME_MAX, FastChannel
from ._errors import UNTOLD, too_large
from ._frames import OVERHEAD, addressed_to, body_size, content_frames, publish_frame
from ._mapping import lay_out
from ._templates import Templates
from ._topology import DIRECT_REPLY_TO

__all__ = ["MAX_PUBLISH_FRAMES", "Framing"]

MAX_PUBLISH_FRAMES = 4096  # remembered, one for each address; then forgotten all at once
_DIRECT = DIRECT_REPLY_TO.encode()


class Framing:
    """Of the channel it is attached to; what was laid out for another one is not for this."""

    __slots__ = ("_channel_id", "_frame_max", "_frames", "_most_body", "_templates", "broker_crashed")

    def __init__(self) -> None:
        self.broker_crashed = False  # and so ended the last connection
        self._frames: dict[tuple[str, str, bool], bytes] = {}
        self._most_body = UNTOLD
        self._reset(0, FRAME_MAX)

    def attach(self, channel: FastChannel) -> None:
        self._frames.clear()
        self._reset(channel.channel_id, channel.protocol.server_frame_max or FRAME_MAX)

    def _reset(self, channel_id: int, frame_max: int) -> None:
        self._channel_id = channel_id
        self._frame_max = frame_max
        self._templates = Templates(self._lay_out, min(frame_max - OVERHEAD, self._most_body))

    def limit(self, most_body: int) -> None:
        """A larger body is refused from now on; `UNTOLD`: none is. Before the next `attach`."""
        self._most_body = most_body

    def refusal(self, data: bytes) -> RpcError | None:
        """Of a message that was laid out before the last connection ended, if it may end the next one too."""
        if self.broker_crashed and addressed_to(data, _DIRECT):
            return NotSent("the broker crashed, perhaps over its reply_to: a direct one that no broker has made")
        if len(data) <= self._most_body or (size := body_size(data)) <= self._most_body:
            return None
        return too_large(size, self._most_body)

    def lay_out(self, message: Message, *, mandatory: bool) -> bytes:
        """All frames of a message. Raises `UsageError` for what does not fit."""
        return self._templates.fill(message, mandatory) or self._lay_out(message, mandatory)

    def _lay_out(self, message: Message, mandatory: bool) -> bytes:
        return self.around(message.address, lay_out(message), message.body, mandatory=mandatory)

    def around(self, address: str, properties: bytes, body: bytes, *, mandatory: bool, exchange: str = "") -> bytes:
        """As `lay_out`, with properties that are laid out already."""
        if len(body) > self._most_body:
            raise too_large(len(body), self._most_body)
        key = (exchange, address, mandatory)
        frame = self._frames.get(key)
        if frame is None:
            if len(self._frames) >= MAX_PUBLISH_FRAMES:
                self._frames.clear()
            frame = self._frames[key] = publish_frame(self._channel_id, exchange, address, mandatory=mandatory)
        return frame + content_frames(self._channel_id, properties, body, self._frame_max)
