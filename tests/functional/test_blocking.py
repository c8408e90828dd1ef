"""A script that uses the clients that wait."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
from rpckit import BlockingClient, Server, Service

service = Service("adder")

@service.method
async def add(a: int, b: int) -> int:
    return a + b

client = BlockingClient("memory://script")
client.enter(Server(service, url="memory://script"))
assert client.call("adder.add", 1, 2) == 3
"""


@pytest.mark.parametrize(
    "last_line,ends_with",
    [("print(client.call('adder.add', 1, 2))", ""), ("raise SystemExit(3)", ""), ("1 / 0", "ZeroDivisionError")],
)
def test_a_script_that_does_not_close_it_ends_silently(last_line: str, ends_with: str) -> None:
    script = SCRIPT + last_line
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if ends_with:
        assert done.stderr.splitlines()[-1].startswith(ends_with)
        assert done.stderr.count("Traceback") == 1
    else:
        assert done.stderr == ""
