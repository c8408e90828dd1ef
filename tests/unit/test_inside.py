"""Unit tests stay in their process, and in its time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest


def listen() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))


def connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


def start() -> None:
    subprocess.run([sys.executable, "--version"], timeout=5)


@pytest.mark.parametrize("leave", [listen, connect, start])
def test_a_unit_test_that_leaves_its_process_fails(leave: Callable[[], None]) -> None:
    with pytest.raises(pytest.fail.Exception, match="tests/functional"):
        leave()


async def test_a_wait_takes_no_time() -> None:
    began = time.monotonic()
    await asyncio.sleep(60)
    assert time.monotonic() - began < 30
