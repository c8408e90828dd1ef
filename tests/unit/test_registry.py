"""URL scheme → transport, and what is said when there is none."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from pydantic import Field

from rpckit import registry
from rpckit.errors import UsageError
from rpckit.memory import MemoryTransport
from rpckit.registry import known_schemes, load_transport, open_transport, transport_options
from rpckit.transport import TransportOptions
from rpckit.url import Url


class Options(TransportOptions):
    heartbeat: int = Field(10, ge=1)


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """The entry points that are installed, as far as the registry can see."""
    points: dict[str, EntryPoint] = {}
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    return points


def test_our_own_transports_are_found_as_a_third_partys_would_be() -> None:
    assert {"memory", "amqp", "amqps"} <= set(known_schemes())
    assert isinstance(open_transport("memory://x"), MemoryTransport)


def test_a_third_partys_transport_is_found_by_its_entry_point(entry_points: dict[str, EntryPoint]) -> None:
    entry_points["carrier"] = EntryPoint("carrier", "rpckit.memory:MemoryTransport", registry.GROUP)
    assert isinstance(open_transport(Url.parse("carrier://pigeon")), MemoryTransport)


def test_an_unknown_scheme_names_the_known_ones(entry_points: dict[str, EntryPoint]) -> None:
    entry_points["memory"] = EntryPoint("memory", "rpckit.memory:MemoryTransport", registry.GROUP)
    with pytest.raises(UsageError, match=r"no transport for kafka://\. Known: memory://$"):
        load_transport("kafka")


@pytest.mark.parametrize("scheme, meant", [("redis+streams", "redis+stream"), ("http", "ws"), ("rabbitmq", "amqp")])
def test_a_misspelt_scheme_is_answered_with_the_one_that_is_meant(scheme: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_transport(scheme)
    assert f"no transport for {scheme}://. Did you mean {meant}://? Known: " in str(caught.value)
    assert "pip install" not in str(caught.value)  # it is installed


@pytest.mark.parametrize(
    "scheme, extra",
    [("amqps", "amqp"), ("redis+stream", "redis"), ("rediss+list", "redis"), ("ws", "websocket")],
)
def test_a_scheme_of_ours_that_is_not_installed_names_its_extra(
    scheme: str, extra: str, entry_points: dict[str, EntryPoint]
) -> None:
    with pytest.raises(UsageError) as caught:
        load_transport(scheme)
    assert f'pip install "rpckit[{extra}]"' in str(caught.value)


def test_a_missing_driver_names_its_extra(entry_points: dict[str, EntryPoint]) -> None:
    entry_points["redis+stream"] = EntryPoint("redis+stream", "no_such_driver:Transport", registry.GROUP)
    with pytest.raises(UsageError) as caught:
        load_transport("redis+stream")
    assert "'no_such_driver'" in str(caught.value)
    assert 'pip install "rpckit[redis]"' in str(caught.value)


def test_a_third_partys_missing_driver_is_named(entry_points: dict[str, EntryPoint]) -> None:
    entry_points["carrier"] = EntryPoint("carrier", "no_such_driver:Transport", registry.GROUP)
    with pytest.raises(UsageError, match="install what 'no_such_driver:Transport' needs"):
        load_transport("carrier")


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        transport_options(Url.parse("amqp://h?hartbeat=5"), Options, {})
    assert str(caught.value) == (
        "unknown amqp:// option 'hartbeat'. Did you mean heartbeat? Known: connect_timeout, dialect, heartbeat"
    )


def test_an_option_that_does_not_fit_is_named_without_its_value() -> None:
    with pytest.raises(UsageError) as caught:
        transport_options(Url.parse("amqp://h?heartbeat=secret"), Options, {})
    assert "amqp:// option 'heartbeat'" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_url_wins_over_the_settings() -> None:
    options = transport_options(Url.parse("amqp://h?heartbeat=5"), Options, {"heartbeat": 7})
    assert isinstance(options, Options)
    assert options.heartbeat == 5
    defaulted = transport_options(Url.parse("amqp://h"), Options, {"heartbeat": 7})
    assert isinstance(defaulted, Options)
    assert defaulted.heartbeat == 7
