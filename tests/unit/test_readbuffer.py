"""What comes in reaches `data_received` as bytes of its own, through whichever loop reads it."""

from __future__ import annotations

import asyncio

from rpckit.readbuffer import READ_MAX, ReadBuffer


class Reader(ReadBuffer):
    def __init__(self) -> None:
        super().__init__()
        self.came: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.came.append(data)


def feed(reader: Reader, data: bytes) -> None:
    """As a loop does."""
    reader.get_buffer(-1)[: len(data)] = data
    reader.buffer_updated(len(data))


def test_what_came_stays_as_it_was_when_more_comes() -> None:
    reader = Reader()
    feed(reader, b"first")
    feed(reader, b"2nd")
    assert reader.came == [b"first", b"2nd"]
    assert [type(data) for data in reader.came] == [bytes, bytes]


def test_each_connection_has_a_buffer_of_its_own() -> None:
    one, other = Reader(), Reader()
    assert one.get_buffer(-1) is not other.get_buffer(-1)
    assert len(one.get_buffer(-1)) == READ_MAX


def test_there_is_room_for_all_that_tls_has() -> None:
    """What it has to leave for later is lost when the connection ends."""
    reader = Reader()
    feed(reader, b"first")
    assert len(reader.get_buffer(READ_MAX + 1)) == READ_MAX + 1
    feed(reader, b"2" * (READ_MAX + 1))
    assert reader.came == [b"first", b"2" * (READ_MAX + 1)]


def test_to_asyncio_it_is_buffered_and_to_uvloop_a_protocol() -> None:
    assert isinstance(Reader(), asyncio.BufferedProtocol)
    assert isinstance(Reader(), asyncio.Protocol)
