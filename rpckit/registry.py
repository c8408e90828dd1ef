"""URL scheme → transport, through entry points of the group `rpckit.transports`.

A transport of ours is found exactly as a third party's would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rpckit.errors import UsageError
from rpckit.spelling import did_you_mean
from rpckit.transport import Transport, TransportFactory
from rpckit.url import Url

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rpckit.transport import TransportOptions

__all__ = ["known_schemes", "load_transport", "open_transport", "transport_options"]

GROUP = "rpckit.transports"
_EXTRAS = {
    "amqp": "amqp",
    "amqps": "amqp",
    "redis": "redis",
    "rediss": "redis",
    "ws": "websocket",
    "wss": "websocket",
}
_OFTEN_MEANT = {"http": "ws", "https": "wss", "rabbitmq": "amqp"}


def open_transport(url: str | Url, defaults: Mapping[str, Any] | None = None) -> Transport:
    """The transport for a URL, not yet connected. `defaults` are options below those of the URL's query."""
    parsed = url if isinstance(url, Url) else Url.parse(url)
    factory = load_transport(parsed.scheme)
    return factory(parsed, transport_options(parsed, factory.options_model, defaults or {}))


def transport_options(url: Url, model: type[TransportOptions], defaults: Mapping[str, Any]) -> TransportOptions:
    """Options from the settings and the URL, checked. An unknown one is an error that lists the known ones."""
    try:
        return model.model_validate({**defaults, **url.query})
    except ValidationError as error:
        raise UsageError(_explain(error, model, url.scheme)) from None


def load_transport(scheme: str) -> TransportFactory:
    """The factory behind a scheme. Raises `UsageError` that says what to install or which schemes are known."""
    found = _entry_points().get(scheme)
    if found is None:
        raise UsageError(_unknown_scheme(scheme))
    try:
        factory: TransportFactory = found.load()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(scheme.partition("+")[0])
        advice = f'pip install "rpckit[{extra}]"' if extra else f"install what {found.value!r} needs"
        raise UsageError(f"{scheme}:// needs the package {error.name!r}: {advice}") from error
    return factory


def known_schemes() -> list[str]:
    return sorted(_entry_points())


@cache
def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # with all of the email package behind it

    return {point.name: point for point in entry_points(group=GROUP)}


def _unknown_scheme(scheme: str) -> str:
    known = known_schemes()
    meant = did_you_mean(_OFTEN_MEANT.get(scheme, scheme), known, "{}://".format)
    family = scheme.partition("+")[0]
    missing = family in _EXTRAS and not any(name.partition("+")[0] == family for name in known)
    advice = f'; pip install "rpckit[{_EXTRAS[family]}]"' if missing else ""
    return f"no transport for {scheme[:40]}://.{meant} Known: {', '.join(f'{name}://' for name in known)}{advice}"


def _explain(error: ValidationError, model: type[TransportOptions], scheme: str) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted(model.model_fields)
        return f"unknown {scheme}:// option {name!r:.60}.{did_you_mean(name, known)} Known: {', '.join(known)}"
    return f"{scheme}:// option {name!r:.60}: {problem['msg']}"
