"""Content types: bytes to values and back. Nothing is ever unpickled.

The receiver knows four content types and chooses nothing else because a stranger says so.
Every failure, of whatever kind inside the codec, is a `CodecError`: a caller must never wait
because an exception was not foreseen. Sizes are checked by the shells before decoding; nesting ends
at msgpack's own limit (1024) and, for JSON, at the interpreter's recursion limit.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, TypeVar, get_type_hints

import msgpack
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

__all__ = [
    "BYTES",
    "JSON",
    "MSGPACK",
    "OMITTED",
    "TEXT",
    "CodecError",
    "decode",
    "decode_guess",
    "encode",
    "encode_guess",
]

MSGPACK = "application/msgpack"
JSON = "application/json"
TEXT = "text/plain"
BYTES = "application/octet-stream"
BIG_INT = 1  # msgpack extension: an integer over 64 bits, big-endian two's complement

F = TypeVar("F")


class _Omitted:
    def __repr__(self) -> str:
        return "<omitted>"


OMITTED: Any = _Omitted()  # an argument or a field that is not sent: the other side's default holds


class CodecError(ValueError):
    """The value or the bytes do not fit the content type."""


def encode(content_type: str, value: Any) -> bytes:
    """The body of `value` in one of the four content types."""
    function = _ENCODERS.get(content_type) or _find(_ENCODERS, content_type)
    try:
        return function(value)
    except Exception as error:
        raise _codec_error("encode", content_type, error) from error


def decode(content_type: str, body: bytes) -> Any:
    """The value of `body`; parameters of the content type (`; charset=…`) are ignored."""
    function = _DECODERS.get(content_type) or _find(_DECODERS, content_type)
    try:
        return function(body)
    except Exception as error:
        raise _codec_error("decode", content_type, error) from error


def encode_guess(value: Any) -> tuple[bytes, str]:
    """Body and content type as message programs write them: None is empty, bytes and str as they are, else JSON."""
    if value is None:
        return b"", ""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), ""
    if isinstance(value, str):
        return encode(TEXT, value), TEXT
    return encode(JSON, value), JSON


def decode_guess(content_type: str, body: bytes) -> Any:
    """What a body most likely means: by its content type, otherwise JSON, otherwise text, otherwise bytes."""
    if content_type.partition(";")[0].strip().lower() in _DECODERS:
        return decode(content_type, body)
    for attempt in (json.loads, bytes.decode):
        try:
            return attempt(body)
        except (ValueError, RecursionError):
            continue
    return body


def _find(table: Mapping[str, F], content_type: str) -> F:
    function = table.get(content_type.partition(";")[0].strip().lower())
    if function is None:
        raise CodecError(f"unknown content type {content_type[:100]!r}; known: {', '.join(table)}")
    return function


def _codec_error(verb: str, content_type: str, error: Exception) -> CodecError:
    """Codecs raise ValueError, TypeError, OverflowError, RecursionError and more: they all mean the same."""
    return error if isinstance(error, CodecError) else CodecError(f"cannot {verb} {content_type}: {error!s:.200}")


def _plain_data(value: Any) -> Any:
    """What msgpack does not know, one level at a time, so that bytes inside stay bytes."""
    if isinstance(value, BaseModel):
        if value.__pydantic_root_model__:
            return getattr(value, "root")  # noqa: B009  # of a RootModel, which takes long to import
        return {name: getattr(value, field) for field, name in _names_on_the_wire(type(value))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = ((name, getattr(value, field)) for field, name in _names_of_fields(type(value)))
        return {name: each for name, each in given if each is not OMITTED}
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, int):  # over 64 bits
        return msgpack.ExtType(BIG_INT, value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True))
    return to_jsonable_python(value)


@lru_cache(maxsize=1024)
def _names_on_the_wire(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Of each field its attribute, and the name by which it is read again."""
    fields = model.model_fields.items()
    return [(name, alias if isinstance(alias := field.validation_alias, str) else name) for name, field in fields]


@lru_cache(maxsize=1024)
def _names_of_fields(kind: type[Any]) -> list[tuple[str, str]]:
    """The same of a dataclass: an alias stands where pydantic looks for it."""
    from pydantic.fields import FieldInfo  # takes long to import

    names = []
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        infos = (field.default, *getattr(hints.get(field.name), "__metadata__", ()))
        aliases = (info.validation_alias for info in infos if isinstance(info, FieldInfo))
        known = getattr(kind, "__pydantic_fields__", {}).get(field.name)  # of pydantic's own dataclasses
        alias = known.validation_alias if known is not None else next(aliases, None)
        names.append((field.name, alias if isinstance(alias, str) else field.name))
    return names


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Of a class whose annotations can be resolved; what they name may be out of reach."""
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):
        return {}


class _Packers(threading.local):
    """One packer a thread: making one for each body costs more than the packing, and sharing one is unsafe."""

    def __init__(self) -> None:
        self.pack: Callable[[Any], bytes] = msgpack.Packer(default=_plain_data, autoreset=True).pack


def _dump_msgpack(value: Any) -> bytes:
    return _packers.pack(value)


def _read_extension(code: int, data: bytes) -> Any:
    if code != BIG_INT:
        raise CodecError(f"unknown msgpack extension {code}")
    return int.from_bytes(data, "big", signed=True)


def _dump_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain_data).encode()


def _dump_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise CodecError(f"text must be str, not {type(value).__name__}")
    return value.encode()


def _dump_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise CodecError(f"bytes expected, not {type(value).__name__}")
    return bytes(value)


_packers = _Packers()
_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    MSGPACK: _dump_msgpack,
    JSON: _dump_json,
    TEXT: _dump_text,
    BYTES: _dump_bytes,
}
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    MSGPACK: partial(msgpack.unpackb, strict_map_key=False, ext_hook=_read_extension),
    JSON: json.loads,
    TEXT: bytes.decode,
    BYTES: bytes,
}
