"""The bodies of requests and replies: how arguments and results are written and read in each form. Pure.

Native: a map of both kinds of arguments, and the result itself. Plain: the body is the argument, or what the content
type and the annotation of the parameter make of it.
"""

from __future__ import annotations

from typing import Any

from rpckit import codec
from rpckit.contract import Arguments, MethodSpec
from rpckit.errors import InvalidArgument, UsageError
from rpckit.message import NATIVE, Message

__all__ = ["read_arguments", "write_arguments", "write_result"]

_SEQUENCES = (list, tuple)  # `list | tuple` would be made anew each call


def write_arguments(
    dialect: str, content_type: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bytes, str]:
    """Body and content type of a call's arguments. Raises `UsageError` when they cannot be sent."""
    try:
        if dialect == NATIVE:
            content_type = content_type or codec.MSGPACK
            return codec.encode(content_type, {"args": args, "kwargs": kwargs}), content_type
        return _write_foreign(content_type, args, kwargs), content_type
    except codec.CodecError as error:
        raise UsageError(f"the arguments cannot be sent: {error}") from error


def read_arguments(message: Message, spec: MethodSpec) -> Arguments:
    """A request's arguments, not yet checked. Raises `InvalidArgument` when the body cannot be read."""
    try:
        if message.dialect == NATIVE:
            return _native_arguments(codec.decode(message.content_type, message.body))
        return _foreign_arguments(message, spec)
    except codec.CodecError as error:
        raise InvalidArgument(f"{spec.name}: {error}") from error


def write_result(request: Message, value: Any) -> tuple[bytes, str]:
    """Body and content type of a result, mirroring its request. Raises `CodecError`."""
    content_type = request.content_type
    if request.dialect == NATIVE:
        return codec.encode(content_type, value), content_type
    if content_type.startswith(codec.JSON):
        return codec.encode(codec.JSON, value), codec.JSON
    if content_type.startswith(codec.MSGPACK) and not isinstance(value, bytes | str):
        return codec.encode(codec.MSGPACK, value), codec.MSGPACK
    body, guessed = codec.encode_guess(value)
    return body, guessed if content_type else ""


def _write_foreign(content_type: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    if len(args) + bool(kwargs) > 1:
        raise UsageError("a plain peer takes one argument, or keyword arguments only: its body is the argument")
    value = args[0] if args else kwargs or None
    return codec.encode(content_type, value) if content_type else codec.encode_guess(value)[0]


def _native_arguments(body: Any) -> Arguments:
    args, kwargs = (body.get("args", ()), body.get("kwargs", {})) if isinstance(body, dict) else (None, None)
    if not isinstance(args, _SEQUENCES) or not isinstance(kwargs, dict):
        raise codec.CodecError('the body must be {"args": […], "kwargs": {…}}')
    if kwargs and not all(type(name) is str for name in kwargs):
        raise codec.CodecError("keyword arguments have names that are strings")
    return args, kwargs


def _foreign_arguments(message: Message, spec: MethodSpec) -> Arguments:
    """The body is the single argument, or the keyword arguments when it is an object and the method takes several."""
    if not spec.parameters:
        return (), {}
    value = _foreign_value(message, spec)
    if len(spec.parameters) > 1 and isinstance(value, dict) and all(type(key) is str for key in value):
        return (), value
    return (value,), {}


def _foreign_value(message: Message, spec: MethodSpec) -> Any:
    """By content type; without one, as the parameter is annotated: bytes as they are, str as UTF-8, otherwise JSON.

    A method of several may get its keyword arguments as a JSON object, or its first one alone.
    """
    if message.content_type:
        return codec.decode_guess(message.content_type, message.body)
    wanted = next(iter(spec.parameters.values())).annotation
    guess = codec.decode_guess("", message.body) if len(spec.parameters) > 1 or wanted is Any else None
    if isinstance(guess, dict) or wanted is Any:
        return guess
    if wanted is bytes:
        return message.body
    return codec.decode(codec.TEXT if wanted is str else codec.JSON, message.body)
