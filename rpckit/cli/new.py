"""`rpckit new`: a project of one's own, that is served and tested in two commands."""

from __future__ import annotations

import importlib.util
import keyword
import sys
from pathlib import Path
from typing import Annotated

import typer

from rpckit.cli import options
from rpckit.cli.failures import reported
from rpckit.cli.project import project_files
from rpckit.errors import UsageError

__all__ = ["check_project_name", "new", "write_project"]

NEXT = """\
  cd {name}
  rpckit serve {name}.service:service
  rpckit call {name}.menu  # from another terminal, in the same folder
  python -m pytest  # after: python -m pip install pytest"""

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The project, its package and its service: letters, digits, _.")
]


def new(name: Name, debug: options.Debug = False) -> None:
    """Write a small project into ./NAME: a service, its tests, and settings that need no broker.

    [bold]rpckit new teashop[/bold]
    """
    with reported(debug):
        check_project_name(name)
        for path in write_project(name, Path(name)):
            typer.echo(path.as_posix())
        typer.echo(f"\nNow:\n\n{NEXT.format(name=name)}")


def check_project_name(name: str) -> None:
    """Raises `UsageError` for a name that cannot be a package's, or is another one's already."""
    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        better = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name).strip("_")
        hint = f": try {better}" if better.isidentifier() and not keyword.iskeyword(better) else ""
        rule = (
            "; it is a word of Python's" if keyword.iskeyword(name) else "; use letters, digits and _, a letter first"
        )
        raise UsageError(f"{name!r} cannot be the name of a package{hint or rule}")
    if name in sys.stdlib_module_names:
        raise UsageError(f"{name} is a module of Python's, which would not be found any more: try my_{name}")
    if name == "tests":
        raise UsageError("tests is where the project's tests are: try another name")


def write_project(name: str, folder: Path) -> list[Path]:
    """Write the files, and return their paths. Raises `UsageError` where something exists already."""
    if folder.exists():
        raise UsageError(f"{folder} exists already, and nothing is overwritten: choose another name or folder")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"{name} is an installed module, which would not be found any more: try my_{name}")
    files = {folder / path: text for path, text in project_files(name).items()}
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return list(files)
