"""Each error has its exit code, and says what failed and what to do, on stderr and without a traceback."""

from __future__ import annotations

import pytest
import typer

from rpckit import errors
from rpckit.cli.failures import describe, exit_code, reported, show

CODES = [
    (errors.RemoteError("x"), 1),
    (errors.InternalError("x", error_id="e1"), 1),
    (errors.InvalidArgument("x"), 1),
    (errors.Overloaded("x"), 1),
    (errors.BadReply("x"), 1),
    (errors.UsageError("x"), 2),
    (errors.NoResponder("x"), 3),
    (errors.DeadlineExceeded("x"), 4),
    (errors.Expired("x"), 4),
    (errors.NotSent("x"), 5),
    (errors.ConnectionLost("x"), 6),
    (errors.OutcomeUnknown("x"), 6),
]


@pytest.mark.parametrize("error,code", CODES, ids=lambda value: type(value).__name__)
def test_exit_code_of_each_error(error: errors.RpcError, code: int) -> None:
    assert exit_code(error) == code


def test_every_class_of_the_error_tree_is_described() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    for kind in classes:
        if issubclass(kind, errors.RpcError):
            assert describe(kind("x")).label


def test_error_is_a_sentence_and_advice_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise errors.NoResponder("nobody serves 'orders'")
    out, err = capsys.readouterr()
    assert (ended.value.exit_code, out) == (3, "")
    assert err == "no responder: nobody serves 'orders'\nStart a server for it, or check address and URL.\n"


def test_notes_of_an_error_stand_in_place_of_the_usual_advice(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.NoResponder("nobody serves 'orders'")
    error.add_note("It is closed.")
    show(error)
    assert capsys.readouterr().err == "no responder: nobody serves 'orders'\nIt is closed.\n"


def test_an_internal_error_says_where_its_traceback_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(errors.InternalError("internal error", error_id="12ab"))
    assert capsys.readouterr().err.endswith("(error id 12ab)\nThe traceback is in the server's log.\n")


def test_a_declared_error_goes_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.RemoteError("over 100 kg", code="UNKNOWN", type="TooHeavy", details={"weight": 200})
    show(error)
    assert capsys.readouterr().err == 'remote error: TooHeavy (UNKNOWN): over 100 kg {"weight":200}\n'


def test_brackets_and_line_ends_in_an_error_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reported():
        raise errors.UsageError("unknown [bold] key\nin [amqp]")
    assert capsys.readouterr().err == "usage: unknown [bold] key in [amqp]\n"


def test_unexpected_error_is_a_sentence_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise ZeroDivisionError("division by zero")
    assert ended.value.exit_code == 1
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


@pytest.mark.parametrize("error, code", [(errors.UsageError("x"), 2), (errors.NoResponder("x"), 3), (KeyError("x"), 1)])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, reported(debug=True):
        raise error
    err = capsys.readouterr().err
    assert ended.value.exit_code == code
    assert err.startswith("Traceback (most recent call last):")
    assert "test_failures.py" in err


def test_interrupt_ends_with_the_code_of_shells() -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
