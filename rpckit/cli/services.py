"""`MODULE:SERVICE` → the Service. Every way to get it wrong is a `UsageError` that lists what is there."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

from rpckit.contract import Service
from rpckit.errors import RpcError, UsageError
from rpckit.importing import importing

__all__ = ["find_service", "put_on_path", "references_there"]

DEEPEST = 4  # folders below the working directory in which services are looked for, to complete a reference
MOST_FILES = 1000  # that are read for it
_SERVICE = re.compile(r"^(\w+)(?:: *Service)? *= *Service\(", re.MULTILINE)


def put_on_path(folder: str) -> None:
    """Let modules be imported from `folder`, before all others."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def find_service(reference: str) -> Service:
    """The Service that `package.module:name` names."""
    module_name, colon, name = reference.partition(":")
    if module_name.endswith(".py"):
        module_name = module_name.removesuffix(".py").replace(os.sep, ".")
        raise UsageError(f"{reference} is a file: name the service in it, such as {module_name}:{name or 'service'}")
    if not module_name or (colon and not name):
        raise UsageError(f"{reference!r} is not MODULE:SERVICE, such as rpckit.demo.service:service")
    module = _import(module_name)
    if not name:
        raise UsageError(f"{reference!r} names no service. {_services_in(module)}")
    found = getattr(module, name, None)
    if not isinstance(found, Service):
        raise UsageError(f"{reference} {_instead(found, module_name)}. {_services_in(module)}")
    return found


def references_there(incomplete: str) -> list[str]:
    """References to services in files below the working directory, to complete one. Nothing is imported."""
    folder = Path.cwd()
    found = (name for path in islice(_modules(folder), MOST_FILES) for name in _references(path, folder))
    return sorted(name for name in found if name.startswith(incomplete))


def _modules(folder: Path) -> Iterator[Path]:
    """The modules that can be imported from `folder`, by the names of files and folders."""
    for place, folders, files in os.walk(folder):
        deep = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(each for each in folders if each.isidentifier() and deep < DEEPEST)
        yield from (Path(place, name) for name in files if name.endswith(".py") and name[:-3].isidentifier())


def _references(path: Path, folder: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):  # not to be completed, that is all
        return
    yield from (f"{module}:{name}" for name in _SERVICE.findall(text))


def _import(name: str) -> ModuleType:
    try:
        with importing(name):
            return importlib.import_module(name)
    except UsageError as error:
        raise UsageError(f"{error} ({_place(error)})") from error
    except RpcError:
        raise
    except SystemExit as error:
        raise UsageError(f"{name} ends the program while it is imported ({error}). See --debug") from error
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {error.name!r} here; run it in the folder that has it") from error
        raise UsageError(f"{name} needs the module {error.name!r}, which is not installed") from error
    except Exception as error:
        where = "" if isinstance(error, SyntaxError) else f" ({_place(error)})"  # which says so itself
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}{where}. See --debug") from error


def _place(error: Exception) -> str:
    """The line that raised it; of the user's own files the last one, if there is any."""
    frames = traceback.extract_tb(error.__traceback__)
    folder = os.getcwd()
    frame = next((each for each in reversed(frames) if Path(each.filename).is_relative_to(folder)), frames[-1])
    return f"{os.path.relpath(frame.filename, folder)}, line {frame.lineno}"


def _instead(found: object, module: str) -> str:
    """What it is, as it is no Service."""
    if found is None:
        return "does not exist"
    from rpckit.server import Server  # not before somebody asks: most commands need none

    way_out = ": run its program with python, or name its Service there, service = Service(…), and say {}:service"
    return f"is a {type(found).__name__}, not a Service{way_out.format(module) if isinstance(found, Server) else ''}"


def _services_in(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Service))
    if not names:
        return f"The module {module.__name__} has no services."
    return f"Services there: {', '.join(f'{module.__name__}:{name}' for name in names)}"
