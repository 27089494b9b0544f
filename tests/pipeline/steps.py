"""The source that each cached result of a run depends on, as one hash a result.

A cached result has a name and a version: a `Step`, what `derived_key` names, or an explainer. Its
source is

    the function that makes it, and those of its module that name the `Step`
    whatever these use of `jaxle.pipeline`, definition by definition, one after the other
    every module of jaxle outside `pipeline/` that any of these uses, and all that it uses

without docstrings, annotations, imports and the texts of errors, none of which changes a number.

    python -m tests.pipeline.steps        writes tests/pipeline/steps.json anew
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jaxle
from jaxle.explainers import EXPLAINERS
from jaxle.pipeline.cache import Step

PACKAGE = Path(jaxle.__file__).parent
GOLDEN = Path(__file__).parent / "steps.json"
PIPELINE = "jaxle.pipeline."
WRITE = "run python -m tests.pipeline.steps"
# what these do can end in an error or in another key, but not in another number
NO_NUMBERS = {
    "jaxle.artifacts",
    "jaxle.columns",
    "jaxle.options",
    "jaxle.references",
    "jaxle.pipeline.cache",
    "jaxle.pipeline.journal",
    "jaxle.report.progress",
}
VERSIONED = {"jaxle.explainers"}  # a table whose rows have versions of their own
LEFT_OUT = {"annotation", "returns", "ctx", "kind", "type_comment", "type_params"}


class Kept(NamedTuple):
    """A result with a version: where it is made, and the functions that make it."""

    version: int
    module: str
    roots: tuple[str, ...]  # names in the module; none: all of it


def sources() -> dict[str, str]:
    """Returns full name → text, of every module of jaxle."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def kept(code: Code) -> dict[str, Kept]:
    """Returns name → every result of a run that has a version."""
    found: dict[str, Kept] = {}
    for module in (name for name in code.texts if name.startswith(PIPELINE)):
        for constant, step in vars(importlib.import_module(module)).items():
            if isinstance(step, Step) and constant in code.module(module).definitions:
                users = [n for n, own in code.module(module).functions if constant in _names(own)]
                roots = (step.make.__name__, *users)
                _add(found, f"step {step.name}", Kept(step.version, module, roots))
        for name, function in code.module(module).functions:
            for derived, version in _derivations(function):
                _add(found, f"derived {derived}", Kept(version, module, (name,)))
    for name, row in EXPLAINERS.items():
        module = inspect.unwrap(row.explain).__module__
        _add(found, f"explainer {name}", Kept(row.version, module, ()))
    return found


def recorded(code: Code) -> dict[str, Any]:
    """Returns what steps.json holds.

    `results`: name → version and hash of all its source; `parts`: hash of each part of the source.
    """
    results, parts = {}, {}
    for name, own in sorted(kept(code).items()):
        used = code.parts(own)
        whole = hashlib.sha256(repr(sorted(used.items())).encode()).hexdigest()[:16]
        results[name] = {"version": own.version, "source": whole}
        parts |= used
    return {"results": results, "parts": dict(sorted(parts.items()))}


def complaints(golden: Mapping[str, Any], code: Code) -> list[str]:
    """Returns a sentence for every result whose source or version is not as in steps.json."""
    now, found = recorded(code), []
    own, old = now["results"], golden["results"]
    for name in sorted(own.keys() | old.keys()):
        if own.get(name) == old.get(name):
            continue
        if name not in own or name not in old:
            found.append(f"{name} is {'new' if name in own else 'gone'}: {WRITE}.")
        elif own[name]["version"] != old[name]["version"]:
            found.append(f"{name} has another version: {WRITE}.")
        else:
            made = kept(code)[name]
            parts = code.parts(made)
            changed = [part for part, of in parts.items() if golden["parts"].get(part) != of]
            found.append(
                f"{name}, version {made.version}, depends on source that changed "
                f"({', '.join(sorted(changed)) or 'a part that is gone'}): if numbers can change, "
                f"raise the version in {made.module}; then {WRITE}."
            )
    return found


class Module:
    """What one file of source says.

    Attributes:
      definitions: name → the statement at its top that defines it.
      imported: local name → the module and the name in it; None for a module as a whole.
      names: all names that it uses.
      hash: of all of it.
    """

    def __init__(self, text: str):
        tree = ast.parse(text)
        self.definitions: dict[str, ast.AST] = {}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.definitions[node.name] = node
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
                self.definitions |= dict.fromkeys(names, node)
        self.imported: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (node.module or "", alias.name)
            elif isinstance(node, ast.Import):
                self.imported |= {(a.asname or a.name): (a.name, None) for a in node.names}
        self.names, self.hash = _names(tree), _hash(tree)

    @property
    def functions(self) -> list[tuple[str, ast.FunctionDef]]:
        """The functions at its top, by name."""
        every = self.definitions.items()
        return [(name, node) for name, node in every if isinstance(node, ast.FunctionDef)]


read = functools.cache(Module)


class Code:
    """The source of jaxle, read without importing it.

    Args:
      texts: full name → text, of every module.
    """

    def __init__(self, texts: Mapping[str, str]):
        self.texts = texts

    def module(self, name: str) -> Module:
        """Returns what a module's file says."""
        return read(self.texts[name])

    def parts(self, own: Kept) -> dict[str, str]:
        """Returns module, or module:definition in the pipeline, → hash, of all source."""
        if not own.roots:
            return self._with_uses(own.module)
        pending, seen = [(own.module, name) for name in own.roots], {}
        while pending:
            module, name = pending.pop()
            where, file = f"{module}:{name}", self.module(module)
            if where in seen or module in NO_NUMBERS or module in VERSIONED:
                continue
            if not module.startswith(PIPELINE):
                seen |= self._with_uses(module)
                continue
            node = file.definitions[name]
            seen[where] = _hash(node)
            for used in _names(node):
                if used in file.definitions:
                    pending.append((module, used))
                elif (target := self._target(file, used)) is not None:
                    pending += _of(node, used, *target)
        return seen

    def _target(self, file: Module, name: str) -> tuple[str, str | None] | None:
        """The module of jaxle that an imported name is, or is in; None for one of others."""
        module, inner = file.imported.get(name, ("", None))
        if f"{module}.{inner}" in self.texts:
            return f"{module}.{inner}", None
        return (module, inner) if module in self.texts else None

    def _with_uses(self, module: str) -> dict[str, str]:
        """Hashes of a module outside the pipeline, and of all of jaxle that it uses."""
        pending, seen = [module], {}
        while pending:
            name = pending.pop()
            if name in seen or name in NO_NUMBERS or name in VERSIONED:
                continue
            file = self.module(name)
            seen[name] = file.hash
            package = any(other.startswith(f"{name}.") for other in self.texts)
            used = file.imported if package else file.imported.keys() & file.names
            targets = (self._target(file, local) for local in used)
            pending += [target[0] for target in targets if target is not None]
        return seen


def _of(node: ast.AST, used: str, module: str, name: str | None) -> Iterator[tuple[str, str]]:
    """What a definition uses of an import: a name, or some names of a module."""
    if name is not None:
        yield module, name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            if inner.value.id == used:
                yield module, inner.attr


def _add(found: dict[str, Kept], name: str, own: Kept) -> None:
    assert name not in found, f"two results of a run are called {name!r}"
    found[name] = own


def _derivations(function: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    """Name and version of each `derived_key` that a function calls."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "derived_key":
            name, version, *_ = node.args
            if isinstance(name, ast.Constant):
                yield str(name.value), ast.literal_eval(version)


def _names(node: ast.AST) -> set[str]:
    """Names that a definition uses, those of annotations left out."""
    if isinstance(node, ast.Name):
        return {node.id}
    found: set[str] = set()
    for _, inner in _children(node):
        found |= _names(inner)
    return found


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if field not in LEFT_OUT:
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, ast.AST):
                    yield field, inner


def _hash(node: ast.AST) -> str:
    return hashlib.sha256(repr(_plain(node)).encode()).hexdigest()[:16]


def _plain(value):
    """A tree as lists, alike in every version of Python, without what changes no number."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value if not _is_prose(inner)]
    if not isinstance(value, ast.AST):
        return value
    if isinstance(value, ast.Raise):
        return ["Raise"]
    fields = ((name, inner) for name, inner in ast.iter_fields(value) if name not in LEFT_OUT)
    given = [(name, inner) for name, inner in fields if inner is not None and inner != []]
    return [type(value).__name__, *((name, _plain(inner)) for name, inner in given)]


def _is_prose(node) -> bool:
    """Whether it is an import, or text that stands by itself: a docstring."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(recorded(Code(sources())), indent=2) + "\n", encoding="utf-8")
