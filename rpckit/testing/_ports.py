"""Ports for servers that come and go during a test.

Invariant: a port handed out lies below the range the kernel draws outgoing connections from. Above it, a
client that keeps dialling a closed port may take it, or even connect to itself, before the server is back.
"""

from __future__ import annotations

import random
import socket

__all__ = ["LOOPBACK", "free_port"]

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 20_000, 32_767  # Linux draws from 32768 up (ip_local_port_range), others from 49152
ATTEMPTS = 200


def free_port() -> int:
    """A loopback port nobody listens on now. Raises OSError when none of 200 tries was free."""
    for port in random.sample(range(FIRST_PORT, LAST_PORT + 1), ATTEMPTS):
        if _can_bind(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} between {FIRST_PORT} and {LAST_PORT}")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
