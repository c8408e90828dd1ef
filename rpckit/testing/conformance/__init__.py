"""What every transport must pass: ours, and yours. Needs pytest and pytest-asyncio.

A test module of the transport subclasses the suite and says where to connect to; each test takes
addresses of its own there::

    class TestCarrierPigeon(TransportConformance):
        @pytest.fixture
        def url(self) -> str:
            return "pigeon://localhost"

    class TestCarrierPigeonReconnects(ReconnectConformance):       # if it has a connection to lose
        @pytest.fixture
        def url(self) -> str: ...
        async def cut(self, transport: Transport) -> None: ...

`Capabilities` select: a test of something the transport does not promise checks instead that it is
refused, or that it ends as declared. Nothing is skipped. A test's name and docstring say its promise.
"""

import pytest

_PARTS = (
    "_calls",
    "_deliveries",
    "_discovery",
    "_envelopes",
    "_events",
    "_generated",
    "_reconnect",
    "_rig",
    "_values",
    "_work",
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from rpckit.testing.conformance._calls import Absence, Errors, Results  # noqa: E402  # rewriting comes first
from rpckit.testing.conformance._deliveries import Deliveries, Losses, Receivers  # noqa: E402
from rpckit.testing.conformance._discovery import Discovering  # noqa: E402
from rpckit.testing.conformance._envelopes import Connections, Envelopes, Events, Routes  # noqa: E402
from rpckit.testing.conformance._events import Emitting  # noqa: E402
from rpckit.testing.conformance._generated import Generated  # noqa: E402
from rpckit.testing.conformance._reconnect import Reconnecting  # noqa: E402
from rpckit.testing.conformance._values import Values  # noqa: E402
from rpckit.testing.conformance._work import Cancelling, Draining, Limits  # noqa: E402

__all__ = ["CallConformance", "ReconnectConformance", "SeamConformance", "TransportConformance"]


@pytest.mark.asyncio(loop_scope="function")
class SeamConformance(Connections, Envelopes, Routes, Events, Receivers, Deliveries, Losses):
    """The seam itself, driven raw: `rpckit.transport`, promise by promise."""


@pytest.mark.asyncio(loop_scope="function")
class CallConformance(Results, Values, Generated, Errors, Absence, Limits, Cancelling, Draining, Emitting, Discovering):
    """Client and server through the transport: what a user sees."""


class TransportConformance(CallConformance, SeamConformance):
    """Both levels: what a transport must pass."""


@pytest.mark.asyncio(loop_scope="function")
class ReconnectConformance(Reconnecting):
    """A connection that breaks and comes back; for transports that have one. Give it `cut`."""
