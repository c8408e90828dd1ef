"""What is said instead of a result: which code an error travels under, and what a call that is not run is told."""

from __future__ import annotations

import pytest

from rpckit import Response, Service
from rpckit.call import CORRELATION_HEADER
from rpckit.errors import (
    BadReply,
    Code,
    ConnectionLost,
    DeadlineExceeded,
    Expired,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RemoteError,
    RpcError,
    UsageError,
)
from rpckit.refusals import declared_fault, fault_for, not_one, response_headers, unknown_method


def service(name: str, *methods: str) -> Service:
    made = Service(name)
    for method in methods:

        @made.method(name=method)
        async def work() -> None: ...

    return made


@pytest.mark.parametrize(
    "error, code",
    [
        (DeadlineExceeded("late"), Code.DEADLINE_EXCEEDED),
        (ConnectionLost("lost"), Code.ABORTED),
        (OutcomeUnknown("perhaps"), Code.ABORTED),
        (Expired("late"), Code.DEADLINE_EXCEEDED),
        (Overloaded("full"), Code.RESOURCE_EXHAUSTED),
        (NoResponder("nobody"), Code.UNAVAILABLE),
        (NotSent("no"), Code.UNAVAILABLE),
        (BadReply("what"), Code.INTERNAL),
        (UsageError("ours"), Code.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RpcError) else "",
)
def test_what_a_nested_call_ended_in_has_the_code_that_says_whether_it_ran(error: RpcError, code: Code) -> None:
    fault = fault_for(error)
    assert (fault.code, fault.message, fault.type) == (code, str(error), type(error).__name__)


def test_who_is_told_of_an_overload_may_know_when_to_come_again() -> None:
    assert fault_for(Overloaded("full", retry_after=2.5)).details == {"retry_after": 2.5}


def test_an_error_raised_on_purpose_travels_as_it_is() -> None:
    fault = fault_for(PermissionDenied("no", details={"n": 1}, retryable=True))
    assert (fault.code, fault.message, fault.details, fault.retryable) == ("PERMISSION_DENIED", "no", {"n": 1}, True)


class Sold(Exception):
    pass


class SoldOut(Sold):
    pass


class OutOfStock(RemoteError):
    default_code = "NOT_FOUND"


class OutOfTea(OutOfStock):
    pass


@pytest.mark.parametrize(
    "error, name, code", [(SoldOut("x"), "Sold", "UNKNOWN"), (OutOfTea("x"), "OutOfStock", "NOT_FOUND")]
)
def test_a_subclass_goes_by_the_name_that_callers_were_told(error: Exception, name: str, code: str) -> None:
    fault = declared_fault(error, [Sold, OutOfStock])
    assert (fault.type, fault.code, fault.message) == (name, code, "x")


def test_a_method_that_is_not_there_is_told_with_those_that_are() -> None:
    text = unknown_method(service("shop", "buy", "sell"), "by").message
    assert text == "shop has no method 'by'; it has buy, sell"


def test_no_name_where_there_are_several_is_told_so() -> None:
    text = unknown_method(service("shop", "buy", "sell"), "").message
    assert text == "shop has several methods and no default: name one of buy, sell"


def test_a_bare_name_that_several_services_have_is_told_where() -> None:
    shop, bar = service("shop", "buy"), service("bar", "buy")
    assert not_one([shop, bar], [shop, bar], "buy").message.endswith("is at shop, bar: call it as ADDRESS.METHOD")
    assert not_one([shop, bar], [], "by").message == "nothing here answers 'by'; there are buy, buy"
    assert not_one([], [], "by").message == "nothing here answers 'by'; there are no methods"


def test_a_responses_own_correlation_id_is_a_header_and_headers_are_strings() -> None:
    assert response_headers(Response(1, headers={"n": 7})) == {"n": "7"}  # type: ignore[dict-item]
    assert response_headers(Response(1, correlation_id="mine")) == {CORRELATION_HEADER: "mine"}
