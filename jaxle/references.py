"""Objects named by text, "package.module:name": how a config plugs in what is not in a table.

A source, a network, an explainer, a metric or a set of concepts of your own is named so. A
reference is imported, never evaluated; plain names are looked up in the room's own table.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
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

    It covers the file of the object's module and, one import after the other, every file of the
    user's own tree that this file imports: what lies in no installed package and in no standard
    library. jaxle's own code is covered by the versions of a run's steps.

    Args:
      thing: a class, a function, a module, or an object of a class.
    """
    name = thing.__name__ if inspect.ismodule(thing) else _module_of(thing)
    pending, seen = [name], {}
    while pending:
        module = sys.modules.get(pending.pop())
        path = None if module is None else getattr(module, "__file__", None)
        if module is None or path is None or module.__name__ in seen or not _is_own(module, path):
            continue
        text = Path(path).read_bytes()
        seen[module.__name__] = hashlib.sha256(text).hexdigest()
        pending += _imported(ast.parse(text), module)
    if not seen:
        return ""
    return hashlib.sha256(
        "\n".join(sorted(f"{n} {h}" for n, h in seen.items())).encode()
    ).hexdigest()


def _module_of(thing: Any) -> str:
    return getattr(thing, "__module__", None) or type(thing).__module__


def _is_own(module: Any, path: str) -> bool:
    """Whether a module belongs to the user: not jaxle's, not installed, not Python's own."""
    if module.__name__.partition(".")[0] == "jaxle":
        return False
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(Path(path).resolve().is_relative_to(Path(p).resolve()) for p in places if p)


def _imported(tree: ast.Module, module: Any) -> list[str]:
    """Full names of all modules, and of all names that may be modules, that a file imports."""
    package = module.__package__ or ""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 2)]
