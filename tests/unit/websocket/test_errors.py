"""What `websockets` raises, as errors of ours."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.http11 import Response

from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit_websocket._errors import Refused, explain

WHERE = "ws://host/ws"


@pytest.mark.parametrize(
    "status, expected", [(401, Refused), (403, Refused), (404, UsageError), (500, NotSent), (503, NotSent)]
)
def test_a_status_says_whether_trying_again_can_help(status: int, expected: type[RpcError]) -> None:
    error = explain(InvalidStatus(Response(status, "said", Headers())), WHERE)
    assert type(error) is expected
    assert str(status) in str(error)


def test_a_url_that_cannot_be_dialled_is_not_repeated() -> None:
    """It may have a password in it."""
    error = explain(InvalidURI("ws://user:s3cret@host/#x", "a fragment is meaningless"), WHERE)
    assert isinstance(error, UsageError)
    assert "s3cret" not in str(error)
    assert "a fragment is meaningless" in str(error)


def test_an_error_of_ours_stays_as_it_is() -> None:
    error = NotSent("as it is")
    assert explain(error, WHERE) is error


def test_a_connection_lost_while_it_was_opened_sent_nothing() -> None:
    error = explain(ConnectionLost("the other side did not answer in time"), WHERE)
    assert type(error) is NotSent
    assert "did not answer" in str(error)
