"""What changes when a service moves from one transport to another, promise by promise. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rpckit.contract import Service
from rpckit.serving import problems
from rpckit.transport import Capabilities

__all__ = ["gained", "lost", "refusals", "warnings"]


def lost(before: Capabilities, after: Capabilities, promises: Mapping[str, str]) -> list[str]:
    """What `before` promises and `after` does not, in the words of `promises`."""
    sentences = [promise for field, promise in promises.items() if getattr(before, field) and not getattr(after, field)]
    if after.max_body is not None and (before.max_body is None or after.max_body < before.max_body):
        sentences.append(f"bodies of more than {after.max_body:,} bytes")
    return sentences


def gained(before: Capabilities, after: Capabilities, promises: Mapping[str, str]) -> list[str]:
    return lost(after, before, promises)


def refusals(after: Capabilities, services: Sequence[Service]) -> list[str]:
    """Why `after` does not serve the services at all: each method and event that needs what it cannot do."""
    return list(problems(after, services))


def warnings(before: Capabilities, after: Capabilities, services: Sequence[Service]) -> Iterator[str]:
    """What is served on both, and promises less on `after`."""
    for service in services:
        idempotent = [spec for spec in service.methods.values() if spec.idempotent]
        if before.redelivers and not after.redelivers:
            yield from (
                f"{service.name}.{spec.name} is idempotent, and no longer redelivered: what a dead server "
                "left is run again only if its caller sends it again"
                for spec in idempotent
                if spec.delivery != "at_least_once"
            )
        elif before.keeps_unbegun and after.settles and not after.keeps_unbegun and service.methods and not idempotent:
            yield (
                f"{service.name}: requests that a killed server has popped and not begun are lost, "
                "as none of its methods is idempotent"
            )
