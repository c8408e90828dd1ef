"""What the tests of a program that uses rpckit need: brokers of one's own, bad networks, a clock that obeys.

Invariant: standard library and rpckit only, so that it can stand in the wheel and in anybody's tests.
"""

from rpckit.testing.brokers import RabbitMq
from rpckit.testing.clock import FakeClock
from rpckit.testing.proxy import FaultProxy

__all__ = ["FakeClock", "FaultProxy", "RabbitMq"]
