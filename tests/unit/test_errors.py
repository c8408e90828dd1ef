"""The error tree: what each error says about whether the call ran."""

from __future__ import annotations

import pytest

from rpckit import errors
from rpckit.errors import (
    DID_NOT_RUN,
    ConnectionLost,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    RemoteError,
    RpcError,
)


def test_every_public_exception_is_an_rpc_error() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    exceptions = [each for each in public if isinstance(each, type) and issubclass(each, Exception)]
    assert len(exceptions) == 17
    assert all(issubclass(each, RpcError) for each in exceptions)


def test_deadline_exceeded_is_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        raise DeadlineExceeded("late")


@pytest.mark.parametrize("error_class", [OutcomeUnknown, ConnectionLost, DeadlineExceeded, RemoteError])
def test_errors_of_calls_that_may_have_run_are_not_among_those_that_did_not(
    error_class: type[RpcError],
) -> None:
    assert not issubclass(error_class, DID_NOT_RUN)


def test_did_not_run_names_the_four_errors_after_which_sending_again_is_safe() -> None:
    assert [each.__name__ for each in DID_NOT_RUN] == ["NotSent", "NoResponder", "Overloaded", "Expired"]


def test_remote_errors_have_codes_of_their_own() -> None:
    classes = [each for each in RemoteError.__subclasses__() if each.__module__ == errors.__name__]
    assert len({each.default_code for each in classes}) == len(classes) == 6


def test_remote_error_shows_its_code_message_and_error_id() -> None:
    assert str(InvalidArgument("n is negative")) == "INVALID_ARGUMENT: n is negative"
    assert str(InternalError("oops", error_id="e1")) == "INTERNAL: oops (error id e1)"


def test_remote_error_is_named_after_its_class_unless_told_otherwise() -> None:
    assert InvalidArgument("x").type == "InvalidArgument"
    assert RemoteError("x", type="KeyError", code="NOT_FOUND").type == "KeyError"


def test_remote_error_made_of_another_exception_carries_its_text() -> None:
    assert InvalidArgument(ValueError("bad")).message == "bad"  # type: ignore[arg-type]


def test_overloaded_without_a_time_has_no_retry_after() -> None:
    assert Overloaded("full").retry_after is None
    assert Overloaded("full", retry_after=0.5).retry_after == 0.5


def test_a_fault_of_the_services_own_kind_says_its_name_once() -> None:
    """A client without its class has a `RemoteError`, of which a traceback shows no more than this text."""
    assert str(RemoteError("no milk left", type="OutOfStock")) == "OutOfStock (UNKNOWN): no milk left"
    assert str(InvalidArgument("no", type="BadItem", error_id="7")) == "BadItem (INVALID_ARGUMENT): no (error id 7)"
    assert str(RemoteError("own")) == "UNKNOWN: own"
    assert str(RemoteError("own", type="not a name")) == "UNKNOWN: own"
