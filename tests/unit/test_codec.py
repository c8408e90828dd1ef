"""Content types: four of them, and one kind of error."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import threading
import uuid
from typing import Annotated, Any

import msgpack
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, TypeAdapter

from rpckit import codec
from rpckit.codec import BYTES, JSON, MSGPACK, TEXT, CodecError

CONTENT_TYPES = [MSGPACK, JSON, TEXT, BYTES]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
plain_data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    raw: bytes


class Model(BaseModel):
    at: datetime.date
    raw: bytes


@dataclasses.dataclass(repr=False)
class Broken:
    """Raises when it is read."""

    x: int

    def __post_init__(self) -> None:
        del self.x


@given(plain_data)
def test_plain_data_survives_msgpack(value: Any) -> None:
    assert codec.decode(MSGPACK, codec.encode(MSGPACK, value)) == value


@given(plain_data)
def test_plain_data_survives_json(value: Any) -> None:
    try:
        body = codec.encode(JSON, value)
    except CodecError:  # infinite floats have no JSON
        return
    assert codec.decode(JSON, body) == value


@given(st.text())
def test_any_text_comes_back_as_it_was(value: str) -> None:
    assert codec.decode(TEXT, codec.encode(TEXT, value)) == value


@given(st.binary())
def test_bytes_are_left_as_they_are(value: bytes) -> None:
    assert codec.encode(BYTES, value) == value
    assert codec.decode(BYTES, value) == value
    assert codec.decode(MSGPACK, codec.encode(MSGPACK, value)) == value


@given(st.sampled_from([*CONTENT_TYPES, "application/pickle", ""]) | st.text(max_size=10), st.binary(max_size=60))
def test_decoding_any_bytes_raises_only_codec_errors(content_type: str, body: bytes) -> None:
    for function in (codec.decode, codec.decode_guess):
        try:
            function(content_type, body)
        except CodecError:
            pass


@given(st.binary(max_size=60))
def test_guessing_without_a_content_type_never_fails(body: bytes) -> None:
    codec.decode_guess("", body)


@pytest.mark.parametrize("depth", [5_000, 200_000])
@pytest.mark.parametrize("content_type, opening", [(MSGPACK, b"\x91"), (JSON, b"[")])
def test_bodies_nested_too_deeply_are_codec_errors(content_type: str, opening: bytes, depth: int) -> None:
    with pytest.raises(CodecError):
        codec.decode(content_type, opening * depth)


def test_values_nested_too_deeply_are_codec_errors() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    for content_type in (MSGPACK, JSON):
        with pytest.raises(CodecError):
            codec.encode(content_type, value)


@pytest.mark.parametrize(
    "content_type, value",
    [
        (MSGPACK, object()),
        (MSGPACK, Broken(1)),
        (MSGPACK, "\ud800"),
        (JSON, [Broken(1)]),
        (JSON, float("nan")),
        (JSON, {"a": "\ud800"}),
        (JSON, {(1, 2): 3}),
        (TEXT, 30),
        (TEXT, "\ud800"),
        (BYTES, "text"),
        ("application/pickle", 1),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() else type(value).__name__,
)
def test_what_cannot_be_encoded_is_a_codec_error(content_type: str, value: Any) -> None:
    with pytest.raises(CodecError):
        codec.encode(content_type, value)


def test_an_unknown_content_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CodecError, match=r"'application/x-python-pickle'; known: application/msgpack, .*text/plain"):
        codec.decode("application/x-python-pickle", b"\x80\x04N.")


def test_errors_are_short_whatever_the_content_type() -> None:
    with pytest.raises(CodecError) as caught:
        codec.decode("x" * 100_000, b"")
    assert len(str(caught.value)) < 400


def test_parameters_and_case_of_a_content_type_do_not_matter() -> None:
    assert codec.decode("Application/JSON; charset=utf-8", b"[1]") == [1]
    assert codec.decode_guess("text/plain; charset=utf-8", b"30") == "30"


def test_a_failed_encoding_leaves_nothing_for_the_next_one() -> None:
    with pytest.raises(CodecError):
        codec.encode(MSGPACK, [1, 2, 3, object()])
    assert codec.decode(MSGPACK, codec.encode(MSGPACK, "next")) == "next"


@pytest.mark.parametrize("content_type", [MSGPACK, JSON])
@pytest.mark.parametrize(
    "value, plain",
    [
        (Colour.RED, "red"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (frozenset({7}), [7]),
        ((1, 2), [1, 2]),
        ({"at": datetime.date(2026, 1, 2)}, {"at": "2026-01-02"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_python_types_travel_as_plain_data(content_type: str, value: Any, plain: Any) -> None:
    assert codec.decode(content_type, codec.encode(content_type, value)) == plain


def test_bytes_inside_models_and_dataclasses_stay_bytes_in_msgpack() -> None:
    model = Model(at=datetime.date(2026, 1, 2), raw=b"\xff")
    assert codec.decode(MSGPACK, codec.encode(MSGPACK, [Point(1, b"\xff"), model])) == [
        {"x": 1, "raw": b"\xff"},
        {"at": "2026-01-02", "raw": b"\xff"},
    ]


def test_json_is_compact_and_readable() -> None:
    assert codec.encode(JSON, {"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 2**2000, -(2**2000)], ids=int.bit_length)
def test_integers_of_any_size_survive_msgpack(value: int) -> None:
    assert codec.decode(MSGPACK, codec.encode(MSGPACK, {"n": [value]})) == {"n": [value]}


def test_unknown_msgpack_extensions_are_codec_errors() -> None:
    with pytest.raises(CodecError, match="unknown msgpack extension 5"):
        codec.decode(MSGPACK, msgpack.packb(msgpack.ExtType(5, b"x")))


def test_msgpack_maps_may_have_any_keys() -> None:
    assert codec.decode(MSGPACK, codec.encode(MSGPACK, {1: "a", b"b": 2})) == {1: "a", b"b": 2}


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, (b"", "")),
        (b"\xff", (b"\xff", "")),
        (bytearray(b"ab"), (b"ab", "")),
        ("Hi!", (b"Hi!", TEXT)),
        (30, (b"30", JSON)),
        ({"a": 1}, (b'{"a":1}', JSON)),
    ],
)
def test_guessed_encoding_is_what_message_programs_write(value: Any, expected: tuple[bytes, str]) -> None:
    assert codec.encode_guess(value) == expected


@pytest.mark.parametrize("value", ["\ud800", object()], ids=["surrogate", "object"])
def test_guessed_encoding_fails_with_a_codec_error(value: Any) -> None:
    with pytest.raises(CodecError):
        codec.encode_guess(value)


@pytest.mark.parametrize(
    "body, value",
    [(b"30", 30), (b"Hi!", "Hi!"), (b"\xff\xfe\xff", b"\xff\xfe\xff"), (b'"a"', "a"), (b"", "")],
)
def test_guessed_decoding_is_json_then_text_then_bytes(body: bytes, value: Any) -> None:
    assert codec.decode_guess("", body) == value
    assert codec.decode_guess("application/vnd.unknown", body) == value


def test_guessed_decoding_believes_a_known_content_type() -> None:
    with pytest.raises(CodecError):
        codec.decode_guess(JSON, b"not json")
    assert codec.decode_guess(MSGPACK, msgpack.packb(30)) == 30


def test_threads_do_not_share_a_packer() -> None:
    results: list[Any] = []

    def work(number: int) -> None:
        value = [number] * 500
        results.append(all(codec.decode(MSGPACK, codec.encode(MSGPACK, value)) == value for _ in range(20)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_nothing_is_ever_unpickled() -> None:
    import pickle

    body = pickle.dumps({"a": 1})
    for content_type in CONTENT_TYPES[:2]:
        with pytest.raises(CodecError):
            codec.decode(content_type, body)
    assert codec.decode_guess("application/python-pickle", json.dumps(1).encode()) == 1


@dataclasses.dataclass
class Sparse:
    name: str
    note: str = codec.OMITTED


class Aliased(BaseModel):
    origin: str = Field(alias="from")


@dataclasses.dataclass
class AliasedField:
    origin: str = Field(alias="from")


@pydantic.dataclasses.dataclass
class PydanticField:
    origin: Annotated[str, Field(alias="from")]


Numbers = RootModel[list[int]]


@pytest.mark.parametrize("kind", [AliasedField, PydanticField])
def test_a_dataclass_is_read_again_as_it_was_sent(kind: Any) -> None:
    there = TypeAdapter(kind).validate_python({"from": "here"})
    sent = codec.decode(codec.MSGPACK, codec.encode(codec.MSGPACK, there))
    assert sent == {"from": "here"}
    assert TypeAdapter(kind).validate_python(sent) == there


def test_a_root_model_is_its_root() -> None:
    assert codec.decode(codec.MSGPACK, codec.encode(codec.MSGPACK, Numbers([1, 2]))) == [1, 2]


def test_what_is_omitted_is_not_sent() -> None:
    assert codec.decode(codec.MSGPACK, codec.encode(codec.MSGPACK, Sparse("tea"))) == {"name": "tea"}


@pytest.mark.parametrize("content_type", [codec.MSGPACK, codec.JSON])
def test_a_field_travels_under_the_name_by_which_it_is_read(content_type: str) -> None:
    body = codec.encode(content_type, Aliased.model_validate({"from": "here"}))
    assert codec.decode(content_type, body) == {"from": "here"}
