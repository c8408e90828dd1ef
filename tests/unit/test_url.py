"""URLs: decoded once, and their password in no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.errors import UsageError
from rpckit.url import Host, Url

SECRET = "pA55w0rdPart"


def refusal(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        Url.parse(text)
    return str(caught.value)


def test_every_part_is_read() -> None:
    url = Url.parse("amqps://user:p%40ss@one:5671,two/v%2Fhost?heartbeat=5&name=a%20b")
    assert url.scheme == "amqps"
    assert url.hosts == (Host("one", 5671), Host("two"))
    assert (url.username, url.password) == ("user", "p@ss")
    assert url.path == "v/host"
    assert url.query == {"heartbeat": "5", "name": "a b"}


def test_what_is_left_out_is_none() -> None:
    url = Url.parse("memory://name")
    assert (url.username, url.password, url.path, url.query) == (None, None, None, {})


def test_a_slash_without_a_path_is_an_empty_path() -> None:
    assert Url.parse("amqp://h/").path == ""
    assert Url.parse("amqp://h").path is None


def test_an_empty_user_and_password_are_not_none() -> None:
    url = Url.parse("redis://:@h")
    assert (url.username, url.password) == ("", "")
    assert Url.parse("redis://user@h").password is None


def test_no_host_is_no_host() -> None:
    assert Url.parse("amqp://").hosts == ()


def test_scheme_and_spaces_around_are_forgiven() -> None:
    assert Url.parse("  REDIS+Stream://h \n").scheme == "redis+stream"


def test_ipv6_addresses_stand_in_brackets() -> None:
    assert Url.parse("amqp://[::1]:5673,[fe80::1]").hosts == (Host("::1", 5673), Host("fe80::1"))
    assert str(Host("::1", 5673)) == "[::1]:5673"


@pytest.mark.parametrize("character", ["@", "/", "?", ":", "#", "%25"])
def test_a_password_with_a_special_character_in_it_is_read_whole(character: str) -> None:
    url = Url.parse(f"amqp://user:a{character}b@host:5672/vhost?heartbeat=5")
    assert url.password == f"a{character.replace('%25', '%')}b"
    assert url.hosts == (Host("host", 5672),)
    assert (url.path, url.query) == ("vhost", {"heartbeat": "5"})


@pytest.mark.parametrize(
    "text", ["", "localhost", "//host", "am qp://host", "amqp:/host", "://host", "amqp//user:pw@host"]
)
def test_a_url_without_a_scheme_is_refused_with_an_example(text: str) -> None:
    assert "such as amqp://user:password@host:5672" in refusal(text)


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "9" * 5_000, "١٢٣٤٥٦"])
def test_a_port_that_cannot_be_is_refused(port: str) -> None:
    assert "1 to 65535" in refusal(f"amqp://host:{port}/")


@pytest.mark.parametrize("host", ["[::1", "[::1]5672"])
def test_a_broken_ipv6_address_is_refused(host: str) -> None:
    assert "[::1]:5672" in refusal(f"amqp://{host}")


def test_an_option_given_twice_is_refused() -> None:
    assert "'heartbeat' is given twice" in refusal("amqp://h?heartbeat=1&heartbeat=2")


def test_shown_urls_hide_the_password() -> None:
    url = Url.parse(f"amqp://user:{SECRET}@host:5672/v%2Fhost?heartbeat=5")
    assert str(url) == "amqp://user:***@host:5672/v%2Fhost"
    assert SECRET not in repr(url)


def test_lone_surrogates_from_the_environment_can_be_shown() -> None:
    assert str(Url.parse("amqp://\udcff@h/\udcff")) == "amqp://%3F@h/%3F"


@given(st.text(max_size=60))
def test_any_text_parses_or_is_a_usage_error(text: str) -> None:
    try:
        Url.parse(text)
    except UsageError:
        pass


@given(st.text("amqp:/@?[]&=#,%2F015678 ", max_size=40))
def test_anything_like_a_url_parses_or_is_a_usage_error(rest: str) -> None:
    try:
        str(Url.parse(f"amqp://{rest}"))
    except UsageError:
        pass


@given(st.text(max_size=8), st.text(max_size=8), st.text("ab:/@?[]&=#,%2F019", max_size=30))
def test_the_password_is_in_no_error_and_no_shown_url(before: str, after: str, rest: str) -> None:
    try:
        url = Url.parse(f"amqp://user:{before}{SECRET}{after}@{rest}")
        shown = str(url)
    except UsageError as error:
        shown = f"{error!s} {error!r} {error.__cause__!r}"
    assert SECRET not in shown


@given(
    st.text("abcxyz019-.", min_size=1, max_size=20),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.none() | st.integers(1, 65_535),
)
def test_quoted_parts_come_back_as_they_were(
    host: str, user: str | None, password: str | None, port: int | None
) -> None:
    from urllib.parse import quote

    login = "" if user is None else quote(user, safe="")
    secret = "" if password is None or user is None else ":" + quote(password, safe="")
    at = "" if user is None else "@"
    url = Url.parse(f"amqp://{login}{secret}{at}{Host(host, port)}")
    assert (url.username, url.hosts) == (user, (Host(host, port),))
    assert url.password == (password if user is not None else None)
