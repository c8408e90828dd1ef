"""The URL of a Redis contender, `redis+KIND://…`, taken apart."""

__all__ = ["kind_and_url"]


def kind_and_url(url: str) -> tuple[str, str]:
    """The kind, and the URL as every Redis client reads it."""
    scheme, _, rest = url.partition("://")
    plain, _, kind = scheme.partition("+")
    return kind, f"{plain}://{rest}"
