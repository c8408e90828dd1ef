"""Each target in turn, and again until one answers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rpckit.errors import NotSent, UsageError
from rpckit.redial import CredentialsRefused, dial_in_turn, redial


class Answers:
    """Dials: each time the next of `what` is raised or returned."""

    def __init__(self, *what: str | Exception) -> None:
        self.left = list(what)
        self.dialled: list[str] = []

    async def dial(self, target: str) -> str:
        self.dialled.append(target)
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def connect(self) -> None:
        await self.dial("again")


async def test_the_first_target_that_answers_is_taken() -> None:
    answers = Answers(NotSent("a is down"), "session")
    assert await dial_in_turn(["a", "b", "c"], answers.dial) == ("session", "b")
    assert answers.dialled == ["a", "b"]


async def test_when_none_answers_all_are_told() -> None:
    with pytest.raises(NotSent, match="a is down; b is down"):
        await dial_in_turn(["a", "b"], Answers(NotSent("a is down"), NotSent("b is down")).dial)


async def test_when_one_refuses_for_good_and_none_answers_that_is_told() -> None:
    with pytest.raises(UsageError, match="no such vhost"):
        await dial_in_turn("ab", Answers(UsageError("no such vhost"), NotSent("b is down")).dial)


async def test_the_only_target_speaks_for_itself() -> None:
    error = NotSent("a is down")
    with pytest.raises(NotSent) as caught:
        await dial_in_turn(["a"], Answers(error).dial)
    assert caught.value is error


async def test_nothing_to_dial_is_not_sent() -> None:
    with pytest.raises(NotSent, match="there is nothing to dial"):
        await dial_in_turn([], Answers().dial)


async def test_it_goes_on_whatever_is_raised_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(NotSent("down"), UsageError("no such vhost"), RuntimeError("a fault"), "session")
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(redial(answers.connect), 10)
    assert len(answers.dialled) == 4
    assert [record.getMessage() for record in caplog.records] == ["attempt 1 to reconnect failed: down"]


async def test_what_nobody_expected_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.wait_for(redial(Answers(RuntimeError("a fault"), "session").connect), 10)
    assert caplog.records[0].exc_info is not None


async def test_refused_credentials_end_it() -> None:
    answers = Answers(NotSent("down"), CredentialsRefused("not you"))
    with pytest.raises(CredentialsRefused):
        await asyncio.wait_for(redial(answers.connect), 10)
