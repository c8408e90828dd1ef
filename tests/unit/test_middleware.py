"""Hooks around calls: outermost first, each may run the rest again or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rpckit.errors import UsageError
from rpckit.middleware import Middleware, compose

CallNext = Callable[[list[str]], Awaitable[object]]


def named(name: str) -> Middleware[list[str]]:
    async def layer(context: list[str], call_next: CallNext) -> object:
        context.append(f"{name} before")
        value = await call_next(context)
        context.append(f"{name} after")
        return value

    return layer


async def work(context: list[str]) -> str:
    context.append("work")
    return "done"


async def test_the_first_in_the_list_is_the_outermost() -> None:
    told: list[str] = []
    assert await compose([named("a"), named("b")], work)(told) == "done"
    assert told == ["a before", "b before", "work", "b after", "a after"]


def test_without_middleware_nothing_is_added() -> None:
    assert compose([], work) is work


async def test_a_layer_may_run_the_rest_twice() -> None:
    async def twice(context: list[str], call_next: CallNext) -> object:
        await call_next(context)
        return await call_next(context)

    told: list[str] = []
    await compose([twice, named("a")], work)(told)
    assert told.count("work") == 2


async def test_a_layer_may_answer_by_itself() -> None:
    async def cached(context: list[str], call_next: CallNext) -> object:
        return "cached"

    told: list[str] = []
    assert await compose([cached], work)(told) == "cached"
    assert told == []


async def test_a_layer_may_pass_on_another_context() -> None:
    async def other(context: list[str], call_next: CallNext) -> object:
        return await call_next(replacement)

    replacement: list[str] = []
    told: list[str] = []
    await compose([other], work)(told)
    assert (told, replacement) == ([], ["work"])


@pytest.mark.parametrize("middleware", [named("a"), 5, None])
def test_middleware_outside_a_list_is_refused(middleware: Any) -> None:
    with pytest.raises(UsageError, match=r"middleware is a list of `async def m.*is none"):
        compose(middleware, work)
