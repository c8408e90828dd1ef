"""How words of a command line become values."""

from __future__ import annotations

from typing import Any

import pytest

from rpckit.cli import options
from rpckit.errors import UsageError


@pytest.mark.parametrize(
    "text,value",
    [
        ("30", 30),
        ("-5", -5),
        ("-.5x", "-.5x"),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("hello", "hello"),
        ('"30"', "30"),
        ('"-x"', "-x"),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("{a: 1}", "{a: 1}"),
        ("", ""),
    ],
)
def test_argument_is_json_or_else_a_string(text: str, value: Any) -> None:
    assert options.read_argument(text) == value


def test_misspelt_option_is_not_taken_for_an_argument() -> None:
    with pytest.raises(UsageError, match="no option --timeot here"):
        options.read_argument("--timeot=3")


def test_a_misspelt_option_is_answered_with_the_one_that_is_meant() -> None:
    with pytest.raises(UsageError, match=r"no option --timout here\. Did you mean --timeout\? A string"):
        options.read_argument("--timout")


@pytest.mark.parametrize(
    "text,said",
    [
        ('{"tea": "assam"', "is not JSON, and was sent as a string"),
        ("[1, 2", "is not JSON"),
        ("n=30", "was sent as a string by position: a keyword argument is --kw n=30"),
    ],
)
def test_an_argument_that_looks_like_something_else_than_a_string_is_noted(text: str, said: str) -> None:
    assert said in "".join(options.misread([text], None))


def test_nothing_is_noted_of_what_was_read_as_it_looks() -> None:
    words = ['{"a": 1}', "[1]", '"30"', "30", "hello", "a b=c"]
    assert list(options.misread(words, [f"x{n}={word}" for n, word in enumerate(words)])) == []
    assert "is not JSON" in "".join(options.misread(None, ["x={"]))


def test_keywords_keep_what_stands_behind_the_first_equals_sign() -> None:
    assert options.read_keywords(["n=30", "text=a=b", "empty="]) == {"n": 30, "text": "a=b", "empty": ""}


def test_a_keyword_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="--kw n= is given twice"):
        options.read_keywords(["n=1", "m=1", "n=2"])


def test_headers_are_strings() -> None:
    assert options.read_headers(["user=7"]) == {"user": "7"}


@pytest.mark.parametrize("pair", ["user", "=7", ""])
def test_pair_without_a_name_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="--header takes NAME=VALUE"):
        options.read_headers([pair])


@pytest.mark.parametrize("text,seconds", [("3", 3.0), ("0.5", 0.5), ("none", None), ("NONE", None)])
def test_timeout_is_seconds_or_none(text: str, seconds: float | None) -> None:
    assert options.read_timeout(text) == seconds


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan", ""])
def test_timeout_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout takes seconds"):
        options.read_timeout(text)


def test_options_not_given_override_no_setting() -> None:
    assert options.client_settings() == {}
    assert options.client_settings("none", wait=True) == {"timeout": None, "no_server": "wait"}
