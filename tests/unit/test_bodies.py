"""The forms in which arguments and results travel."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit import codec
from rpckit.bodies import read_arguments, write_arguments, write_result
from rpckit.contract import MethodSpec, compile_method
from rpckit.errors import InvalidArgument, UsageError
from rpckit.message import NATIVE, PLAIN, Kind, Message


async def fib(n: int) -> int:
    """The n-th Fibonacci number."""
    return n


async def several(a: int, b: str = "b") -> str:
    return b * a


def spec_of(function: Any) -> MethodSpec:
    return compile_method(function)


def request(body: bytes, content_type: str = codec.MSGPACK, dialect: str = NATIVE) -> Message:
    return Message(Kind.REQUEST, "q", content_type=content_type, body=body, dialect=dialect)


# -- native bodies --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-9, 9), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(-9, 9), max_size=3),
    st.sampled_from(["", codec.MSGPACK, codec.JSON]),
)
def test_native_arguments_come_back_as_they_were(args: list[int], kwargs: dict[str, int], content_type: str) -> None:
    body, written = write_arguments(NATIVE, content_type, tuple(args), kwargs)
    assert written == (content_type or codec.MSGPACK)
    back_args, back_kwargs = read_arguments(request(body, written), spec_of(fib))
    assert (list(back_args), back_kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    "value", [None, [], 7, {"args": 1}, {"kwargs": []}, {"kwargs": {1: 2}}, {"args": {}, "kwargs": {}}]
)
def test_native_bodies_of_another_shape_are_invalid_arguments(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"the body must be|names that are strings"):
        read_arguments(request(codec.encode(codec.MSGPACK, value)), spec_of(fib))


@given(
    st.binary(max_size=40),
    st.sampled_from([NATIVE, PLAIN]),
    st.sampled_from([*"ab", "", codec.JSON, codec.MSGPACK]),
)
def test_any_body_is_read_or_is_an_invalid_argument(body: bytes, dialect: str, content_type: str) -> None:
    for function in (fib, several):
        spec = spec_of(function)
        try:
            spec.validate(read_arguments(request(body, content_type, dialect), spec))
        except InvalidArgument:
            pass


def test_arguments_that_cannot_be_sent_are_our_own_mistake() -> None:
    with pytest.raises(UsageError, match="cannot be sent"):
        write_arguments(NATIVE, "", (object(),), {})
    with pytest.raises(UsageError, match="cannot be sent"):
        write_arguments(PLAIN, "", ("\ud800",), {})


def test_native_results_mirror_the_content_type_of_their_request() -> None:
    assert write_result(request(b"", codec.JSON), [1]) == (b"[1]", codec.JSON)
    assert write_result(request(b""), [1]) == (b"\x91\x01", codec.MSGPACK)


# -- plain bodies -----------------------------------------------------------------------------------


async def takes_bytes(raw: bytes) -> None: ...


async def takes_text(text: str) -> None: ...


async def takes_anything(value) -> None: ...


async def takes_nothing() -> None: ...


@pytest.mark.parametrize(
    "function, body, content_type, expected",
    [
        (fib, b"30", "", ((30,), {})),
        (takes_bytes, b"\xff30", "", ((b"\xff30",), {})),
        (takes_text, b"30", "", (("30",), {})),
        (takes_text, b'"30"', codec.JSON, (("30",), {})),
        (takes_anything, b"30", "", ((30,), {})),
        (takes_anything, b"thirty", "", (("thirty",), {})),
        (takes_nothing, b"ignored", "", ((), {})),
        (several, b'{"a": 1, "b": "x"}', "", ((), {"a": 1, "b": "x"})),
        (several, b"7", "", ((7,), {})),
        (fib, b'{"n": 1}', "", (({"n": 1},), {})),
        (takes_text, b"Hi!", "text/plain; charset=utf-8", (("Hi!",), {})),
    ],
)
def test_a_plain_body_is_read_as_the_method_is_annotated(
    function: Any, body: bytes, content_type: str, expected: Any
) -> None:
    args, kwargs = read_arguments(request(body, content_type, PLAIN), spec_of(function))
    assert (tuple(args), kwargs) == expected


@pytest.mark.parametrize("function, body", [(fib, b"thirty"), (takes_text, b"\xff"), (fib, b"")])
def test_a_plain_body_that_cannot_be_read_is_an_invalid_argument(function: Any, body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_arguments(request(body, "", PLAIN), spec_of(function))


@pytest.mark.parametrize(
    "args, kwargs, body",
    [((30,), {}, b"30"), (("Hi!",), {}, b"Hi!"), ((), {}, b""), ((), {"a": 1}, b'{"a":1}')],
)
def test_plain_arguments_are_the_body_itself(args: tuple[Any, ...], kwargs: dict[str, Any], body: bytes) -> None:
    assert write_arguments(PLAIN, "", args, kwargs) == (body, "")


@pytest.mark.parametrize("args, kwargs", [((1, 2), {}), ((1,), {"a": 2})])
def test_a_plain_peer_takes_one_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="takes one argument"):
        write_arguments(PLAIN, "", args, kwargs)


@pytest.mark.parametrize(
    "content_type, value, expected",
    [
        ("", 832040, (b"832040", "")),
        ("", "Hi!", (b"Hi!", "")),
        ("", b"\xff", (b"\xff", "")),
        ("", None, (b"", "")),
        (codec.JSON, "Hi!", (b'"Hi!"', codec.JSON)),
        (codec.TEXT, "Hi!", (b"Hi!", codec.TEXT)),
        (codec.TEXT, 30, (b"30", codec.JSON)),
        (codec.MSGPACK, 30, (b"\x1e", codec.MSGPACK)),
    ],
)
def test_plain_results_go_back_the_way_the_request_came(
    content_type: str, value: Any, expected: tuple[bytes, str]
) -> None:
    assert write_result(request(b"", content_type, PLAIN), value) == expected


@pytest.mark.parametrize(
    "body, arguments",
    [
        (b"tea", (("tea",), {})),
        (b"30", (("30",), {})),
        (b'{"item": "tea", "count": 2}', ((), {"item": "tea", "count": 2})),
    ],
)
def test_a_plain_body_is_the_first_of_several_arguments_or_all_by_name(body: bytes, arguments: object) -> None:
    async def place(item: str, count: int = 1) -> str:
        return item * count

    spec = spec_of(place)
    assert read_arguments(Message(Kind.REQUEST, dialect=PLAIN, body=body), spec) == arguments
