"""What the tests of a program that uses rpckit need: a server and a client in one process, brokers of one's
own, bad networks, a clock that obeys. The suite for transports, `rpckit.testing.conformance`, needs pytest.

Invariant: standard library and rpckit only, so that it can stand in the wheel and in anybody's tests.
"""

from rpckit.testing.brokers import RabbitMq
from rpckit.testing.clock import FakeClock
from rpckit.testing.pair import blocking_pair, memory_pair
from rpckit.testing.proxy import FaultProxy
from rpckit.testing.redis import Redis
from rpckit.testing.virtual import Deadlock, VirtualTimeLoop, virtual_time

__all__ = [
    "Deadlock",
    "FakeClock",
    "FaultProxy",
    "RabbitMq",
    "Redis",
    "VirtualTimeLoop",
    "blocking_pair",
    "memory_pair",
    "virtual_time",
]
