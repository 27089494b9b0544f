"""What the tests' checker of types refuses in a function that jaxtyping decorates."""

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped

from tests.shape_checker import check


@jaxtyped(typechecker=check)
def halve(values: Float[np.ndarray, "images"], by: float = 2) -> Float[np.ndarray, "images"]:
    return values[: len(values) - (by != 2)]


@jaxtyped(typechecker=check)
def known(value) -> int:
    return value


def test_arguments_and_what_is_returned_are_checked_in_the_same_axes():
    assert len(halve(np.zeros(3))) == 3
    for wrong in (np.zeros((3, 1)), np.zeros(3, int), [0.0]):
        with pytest.raises(TypeCheckError, match="checking the parameters"):
            halve(wrong)
    with pytest.raises(TypeCheckError, match="checking the parameters"):
        halve(np.zeros(3), by="3")
    with pytest.raises(TypeCheckError, match="checking the return value"):
        halve(np.zeros(3), by=3)
    assert known(1) == 1
    with pytest.raises(TypeCheckError, match="checking the return value"):
        known("1")


def test_a_function_that_is_defined_again_is_checked_by_its_own_types():
    def define(kind, size):
        @jaxtyped(typechecker=check)
        def inner(value: kind, more: int = 0) -> Float[np.ndarray, f"{size}"]:
            return np.zeros(size + more)

        return inner

    for kind, value, wrong in ((int, 1, "a"), (str, "a", 1), (int, 2, "b")):
        for size in (2, 3):
            inner = define(kind, size)
            assert len(inner(value)) == size
            with pytest.raises(TypeCheckError, match="checking the parameters"):
                inner(wrong)
            with pytest.raises(TypeCheckError, match="checking the return value"):
                inner(value, 1)
