"""What the broker says, as an error of ours that says what to do."""

from __future__ import annotations

import pytest

from rpckit.errors import NotSent, RpcError, UsageError
from rpckit_amqp._driver import CloseReason
from rpckit_amqp._errors import UNTOLD, Refused, refused_connection, told_limit, too_large

WHERE = "amqp://host:5672"


def refused(code: int, text: str = "said so") -> RpcError:
    reason = CloseReason(code, text)
    return refused_connection(WHERE, "guest", "/", reason, ConnectionResetError("reset"))


@pytest.mark.parametrize("code, words", [(403, "user and password in the URL"), (530, "no vhost '/'")])
def test_what_trying_again_cannot_help_is_a_usage_error(code: int, words: str) -> None:
    error = refused(code)
    assert isinstance(error, UsageError)
    assert words in str(error)
    assert "said so" in str(error)
    assert WHERE in str(error)


@pytest.mark.parametrize("code", [320, 501, 541])
def test_a_broker_that_goes_away_is_worth_another_try(code: int) -> None:
    error = refused(code)
    assert type(error) is NotSent
    assert f"{code} said so" in str(error)


def test_without_a_reason_the_cause_is_told() -> None:
    error = refused_connection(WHERE, "guest", "/", None, ConnectionRefusedError("connection refused"))
    assert type(error) is NotSent
    assert str(error) == f"cannot connect to {WHERE}: connection refused"
    silent = refused_connection(WHERE, "guest", "/", None, EOFError())
    assert str(silent).endswith("EOFError")
    told = refused_connection(WHERE, "guest", "/", CloseReason(0, "lost"), EOFError())
    assert str(told).endswith("lost")


@pytest.mark.parametrize(
    "code, advice", [(406, "rabbitmqctl delete_queue"), (403, "rabbitmqctl set_permissions"), (404, "")]
)
def test_a_refusal_names_what_was_asked_and_the_mending_command(code: int, advice: str) -> None:
    error = Refused(CloseReason(code, "NO"), "to declare the queue 'q'")
    assert error.code == code
    assert str(error).startswith(f"RabbitMQ refused to declare the queue 'q': {code} NO")
    assert advice in str(error)
    assert isinstance(error, UsageError)


def test_no_right_helps_with_a_queue_in_exclusive_use() -> None:
    text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
    assert str(Refused(CloseReason(403, text), "consuming")) == f"RabbitMQ refused consuming: 403 {text}"


def test_a_reason_shows_its_code_only_when_there_is_one() -> None:
    assert str(CloseReason(0, "lost")) == "lost"
    assert str(CloseReason(320, "shutdown")) == "320 shutdown"


def test_the_limit_of_bodies_is_read_from_the_refusal_of_one() -> None:
    said = "PRECONDITION_FAILED - message size 100005 is larger than configured max size 65536"
    assert told_limit(f"406 RabbitMQ closed the channel: 406 {said}") == 65_536


@pytest.mark.parametrize("why", ["the connection was lost", "406 PRECONDITION_FAILED - inequivalent arg 'durable'"])
def test_other_losses_tell_no_limit(why: str) -> None:
    assert told_limit(why) == UNTOLD


def test_who_sends_too_much_is_told_both_sizes_and_the_setting() -> None:
    error = too_large(100_005, 65_536)
    assert isinstance(error, UsageError)
    assert all(words in str(error) for words in ("100005 bytes", "takes 65536", "max_message_size", "send less"))
