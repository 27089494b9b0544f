"""The run-time type checker of the tests: beartype, with an int where a float is asked for.

    function → jaxtyping → two that take what it takes → check → both checked
                 one is called before it: checks the arguments
                 one is called after it: checks what it returned, in the axes that the first found

The second has the arguments' types, too. They have been checked by the first, in the same call, and
are not checked again. A function that is defined anew in each call of another is checked by the
code that was written for it the first time.
"""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_checked: dict[tuple, Callable] = {}


def check(function: Callable) -> Callable:
    """Returns a function that checks its arguments' types, or, where it has one that says
    something, the type of what it returns."""
    hints = {name: hint for name, hint in function.__annotations__.items() if hint is not Any}
    if "return" in hints:
        hints = {"return": hints["return"]}
    if not hints:
        return function
    function.__annotations__ = hints
    code = function.__code__
    key = (
        function.__module__,
        function.__qualname__,
        code.co_varnames,
        (code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount, code.co_flags),
        (len(function.__defaults__ or ()), *(function.__kwdefaults__ or {})),
        tuple(hints.items()),
    )
    checked: Callable | None = None

    def when_called(*arguments: Any, **more: Any) -> Any:
        nonlocal checked
        if checked is None:  # most functions are called in few of the tests' processes
            checked = _check_once(function, key)
        return checked(*arguments, **more)

    return when_called


def _check_once(function: Callable, key: tuple) -> Callable:
    try:
        if key not in _checked:
            _checked[key] = _check(function)
        return _checked[key]
    except TypeError:  # a type that cannot be looked up
        return _check(function)
