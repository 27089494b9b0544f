"""Objects named by text, "package.module:name": how a config plugs in what is not in a table.

A source, a network, an explainer, a metric or a set of concepts of your own is named so. A
reference is imported, never evaluated; plain names are looked up in the room's own table.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from pathlib import Path
from typing import Any


def is_reference(text: str) -> bool:
    """Whether the text has the form "package.module:name"."""
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(map(str.isidentifier, module.split(".")))


def load_reference(text: str, what: str) -> Any:
    """Returns the object that "package.module:name" names.

    Args:
      text: the reference.
      what: what it stands for, for the message: "data source", "explainer", ….

    Raises:
      ValueError: not of that form, a module that cannot be imported, or a name that it lacks.
    """
    if not is_reference(text):
        raise ValueError(f"{what} {text!r} is not a reference; expected package.module:name.")
    where, _, name = text.partition(":")
    try:
        module = importlib.import_module(where)
    except ImportError as error:
        raise ValueError(f"cannot import {where!r} of {what} {text!r}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"module {where!r} has no {name!r}, which {what} {text!r} names.")
    return getattr(module, name)


def source_fingerprint(thing: Any) -> str:
    """Returns a hash of the code that defines an outside object; "" for one of jaxle's own.

    It covers the file of the object's module, wherever it lies, and, one import after the other,
    every file of the user's own tree that this file imports: what lies in no installed package and
    in no standard library. Imports inside functions count. jaxle's own code is covered by the
    versions of a run's steps.

    Args:
      thing: a class, a function (wrapped or partial), a module, or an object of a class.
    """
    first = thing.__name__ if inspect.ismodule(thing) else _module_of(thing)
    if first.partition(".")[0] == "jaxle":
        return ""
    pending, seen = [first], {}
    while pending:
        name = pending.pop()
        path = _file_of(name)
        if name in seen or path is None or not (name == first or _is_own(name, path)):
            continue
        text = path.read_bytes()
        seen[name] = hashlib.sha256(text).hexdigest()
        pending += _imported(ast.parse(text), name, path)
    lines = sorted(f"{name} {digest}" for name, digest in seen.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def _module_of(thing: Any) -> str:
    while isinstance(thing, functools.partial):
        thing = thing.func
    if callable(thing):
        thing = inspect.unwrap(thing)
    return getattr(thing, "__module__", None) or type(thing).__module__


@functools.cache
def _file_of(name: str) -> Path | None:
    """The Python file of a module, imported already or not; None where there is none."""
    module = sys.modules.get(name)
    origin = getattr(module, "__file__", None)
    if module is None:
        top = name.partition(".")[0]
        if name != top and ((path := _file_of(top)) is None or not _is_own(top, path)):
            return None  # of an installed package: its submodules are not looked at
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        origin = None if spec is None else spec.origin
    return Path(origin) if origin and origin.endswith(".py") else None


def _is_own(name: str, path: Path) -> bool:
    """Whether a module belongs to the user: not jaxle's, not installed, not Python's own."""
    if name.partition(".")[0] == "jaxle":
        return False
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(path.resolve().is_relative_to(Path(p).resolve()) for p in places if p)


def _imported(tree: ast.Module, name: str, path: Path) -> list[str]:
    """Full names of all modules, and of all names that may be modules, that a file imports."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package[: len(package) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 2) if n]
