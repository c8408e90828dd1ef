"""The receiving side of a connection: all that comes in passes through one buffer.

asyncio reads into 256 KiB of fresh memory each time, which the system maps before the read and unmaps
after it: dearer than everything else in reading a message.
"""

from __future__ import annotations

import asyncio

__all__ = ["READ_MAX", "ReadBuffer"]

READ_MAX = 64 * 1024  # bytes of one read from a socket


class ReadBuffer(asyncio.BufferedProtocol, asyncio.Protocol):
    """Mixed into a protocol, behind its own base: what comes in goes to `data_received`, as ever.

    Only asyncio asks for the buffer. uvloop has one of its own, and uses `data_received` of whatever is an
    `asyncio.Protocol` too.
    """

    _read_buffer: memoryview | None = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """TLS knows how much there is, and would leave for later what does not fit: too late at the end."""
        if self._read_buffer is None or len(self._read_buffer) < sizehint:
            self._read_buffer = memoryview(bytearray(max(sizehint, READ_MAX)))
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.get_buffer(nbytes)[:nbytes]))
