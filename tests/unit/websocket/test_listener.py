"""Which pages may connect."""

from __future__ import annotations

import pytest

from rpckit_websocket._listener import allowed_origin

HOST = "example.com:8000"


@pytest.mark.parametrize("allowed", ["", "*", "https://other.example"])
def test_a_program_sends_no_origin_and_may(allowed: str) -> None:
    assert allowed_origin(None, HOST, allowed)


@pytest.mark.parametrize("origin", ["http://example.com:8000", "https://example.com:8000"])
def test_a_page_of_the_same_host_may(origin: str) -> None:
    assert allowed_origin(origin, HOST, "")
    assert allowed_origin(origin, HOST, "https://other.example")


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "https://example.com:8001",
        "https://sub.example.com:8000",
        "https://example.com:8000.evil.example",
        "https://evil.example/example.com:8000",
        "https://evil.example",
        "example.com:8000",
        "null",
        "",
        "http://[",
        "http://[::1",
    ],
)
def test_a_page_of_another_host_may_not(origin: str) -> None:
    assert not allowed_origin(origin, HOST, "")
    assert not allowed_origin(origin, HOST, "https://other.example")


@pytest.mark.parametrize("origin", ["null", "", "file://"])
def test_an_origin_without_a_host_is_not_that_of_a_request_without_one(origin: str) -> None:
    assert not allowed_origin(origin, "", "")


def test_those_named_may_exactly_as_they_are_named() -> None:
    allowed = "https://one.example, https://two.example:81,null"
    assert all(allowed_origin(origin, HOST, allowed) for origin in ("https://one.example", "https://two.example:81"))
    assert allowed_origin("null", HOST, allowed)
    others = ("http://one.example", "https://one.example:443", "https://one.example.evil", "https://two.example")
    assert not any(allowed_origin(origin, HOST, allowed) for origin in others)


def test_a_star_is_all_when_it_stands_alone() -> None:
    assert allowed_origin("https://evil.example", HOST, "*")
    assert not allowed_origin("https://evil.example", HOST, "https://one.example,*.example")
