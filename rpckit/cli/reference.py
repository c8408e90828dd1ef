"""Every setting: what holds here and where it was said, and the reference of all that can be said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from rpckit.registry import known_schemes, load_transport
from rpckit.settings import PREFIX, Settings, family_of, load_settings, where_said
from rpckit.transport import TransportOptions
from rpckit.url import Url

__all__ = ["markdown", "rows"]

_ELSEWHERE = {"transports"}  # shown as the tables of the families
_TITLES = {"amqp": "RabbitMQ", "redis": "Redis", "websocket": "WebSocket"}
_SCHEMES = {"amqp": "`amqp://` `amqps://`", "redis": "`redis+…://` `rediss+…://`", "websocket": "`ws://` `wss://`"}


def markdown() -> str:
    """The tables as the README shows them."""
    parts = [_table("setting", "variable", ((name, f"{PREFIX}{name.upper()}", field) for name, field in _fields()))]
    for family, model in _families():
        fields = model.model_fields.items()
        options = ((name, f"{PREFIX}{family}_{name}".upper(), field) for name, field in fields if not field.exclude)
        heading = f"{_TITLES.get(family, family)}: {_SCHEMES.get(family, f'`{family}://`')}, the section `[{family}]`"
        parts.append(f"{heading}\n\n{_table('option', 'variable', options)}")
    return "\n\n".join(parts)


def rows() -> Iterator[tuple[str, Any, str]]:
    """Name, value and place. A password is never shown."""
    held, said = load_settings(), where_said()
    for name, _ in _fields():
        value = str(Url.parse(held.url)) if name == "url" else getattr(held, name)
        yield name, value, said.get(name, "the defaults")
    for family, options in held.transports.items():
        for option, value in options.items():
            shown = "…" if "password" in option else value
            yield f"{family}.{option}", shown, said.get(f"{family}.{option}", "the defaults")


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in Settings.model_fields.items() if name not in _ELSEWHERE)


def _families() -> Iterator[tuple[str, type[TransportOptions]]]:
    """Each family once, with its options; that of memory has none of its own."""
    seen = {"memory"}
    for scheme in known_schemes():
        family = family_of(scheme)
        if family not in seen:
            seen.add(family)
            yield family, load_transport(scheme).options_model


def _table(first: str, second: str, rows: Iterator[tuple[str, str, FieldInfo]]) -> str:
    lines = [(first, second, "default", "meaning"), ("---",) * 4]
    lines += [(f"`{name}`", f"`{variable}`", _default(field), _meaning(field)) for name, variable, field in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", {}):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    """Its description, and the values to choose from where they are few."""
    choices = getattr(field.annotation, "__args__", ())
    words = [each for each in choices if isinstance(each, str)]
    listed = f" ({', '.join(f'`{word}`' for word in words)})" if words else ""
    return f"{field.description or ''}{listed}".replace("|", "\\|")
