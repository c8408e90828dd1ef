"""Connection URLs, parsed by us: percent-decoding done right, and no password in any message.

Pure. `Url` hides its password from `repr` and `str`, so that it can be logged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

from rpckit.errors import UsageError

__all__ = ["Host", "Url"]

_EXAMPLE = "such as amqp://user:password@host:5672/vhost?heartbeat=10"
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    port: int | None = None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Url:
    """`scheme://user:password@host1:port,host2/path?option=value`, everything percent-decoded.

    path: without its leading slash; None when the URL has no slash after the host.
    query: options by name; given twice is an error.
    """

    scheme: str
    hosts: tuple[Host, ...] = ()
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    query: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises `UsageError`, which never shows what stands before the host."""
        if not isinstance(text, str):
            raise UsageError(f"a URL is text, not {type(text).__name__}")
        scheme, separator, rest = text.strip().partition("://")
        if not separator or not scheme.replace("+", "").isalnum():
            raise UsageError(f"a URL must begin with a scheme and ://, {_EXAMPLE}")
        rest, query = _split_query(rest)
        credentials, at, location = rest.rpartition("@")
        authority, slash, path = location.partition("/")
        username, colon, password = credentials.partition(":")
        return cls(
            scheme=scheme.lower(),
            hosts=_hosts(authority),
            username=unquote(username) if at else None,
            password=unquote(password) if colon else None,
            path=unquote(path) if slash else None,
            query=_options(query),
        )

    def __str__(self) -> str:
        """The URL with *** for its password."""
        login = "" if self.username is None else quote(self.username, safe="", errors="replace")
        secret = "" if self.password is None else ":***"
        path = "" if self.path is None else "/" + quote(self.path, safe="", errors="replace")
        at = "@" if login or secret else ""
        return f"{self.scheme}://{login}{secret}{at}{','.join(map(str, self.hosts))}{path}"


def _split_query(rest: str) -> tuple[str, str]:
    """At the first `?`; a password may hold one too, if what stands between it and the last `@` is no option."""
    before, _, query = rest.partition("?")
    if "@" not in query:
        return before, query
    if "=" in query.rpartition("@")[0]:
        raise UsageError("an @ behind the ? of a URL can be read in two ways: quote @ as %40, and ? as %3F")
    credentials, _, location = rest.rpartition("@")
    location, _, query = location.partition("?")
    return f"{credentials}@{location}", query


def _hosts(authority: str) -> tuple[Host, ...]:
    return tuple(_host(part) for part in authority.split(",") if part) if authority else ()


def _host(text: str) -> Host:
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"an IPv6 address in a URL stands in brackets, [::1]:5672; {_EXAMPLE}")
        port_text = rest[1:]
    else:
        name, _, port_text = text.partition(":")
    if port_text and not (port_text.isdecimal() and len(port_text) < 6 and 0 < int(port_text) <= _MAX_PORT):
        raise UsageError(
            f"the port in the URL must be 1 to {_MAX_PORT}; quote / # ? @ in a password as %2F %23 %3F %40"
        )
    return Host(unquote(name), int(port_text) if port_text else None)


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise UsageError(f"option {name!r:.60} is given twice in the URL")
        options[name] = value
    return options
