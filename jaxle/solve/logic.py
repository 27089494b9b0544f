"""Probabilities of logical formulas, of many at once, from a tile of their parts' probabilities.

    P(A AND B) = P(A) P(B),   P(NOT A) = 1 − P(A),   P(A OR B) = 1 − (1 − P(A)) (1 − P(B))

as if parts were independent; exact for labels of 0 and 1. A formula of L words is L − 1 products of
two registers, each as it is or negated: first the words', then one a product. So formulas of any
form are the same short sequence of elementwise products, with other register numbers, and all
columns of a tile are made together.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Real

from jaxle.arrays import Array, row_blocks
from jaxle.solve import tiles

PLAIN, NEGATED, ONE = 0, 1, 2  # how a product reads a register: v, 1 − v, or 1 whatever it holds


class Program(NamedTuple):
    """Formulas as products of registers; formulas with fewer words are filled up with ones."""

    leaves: Int32[np.ndarray, "formulas words"]  # columns of the tile
    left: Int32[np.ndarray, "formulas products"]  # registers; products = words − 1
    right: Int32[np.ndarray, "formulas products"]
    left_as: Int32[np.ndarray, "formulas products"]  # PLAIN, NEGATED or ONE
    right_as: Int32[np.ndarray, "formulas products"]
    negated: Bool[np.ndarray, " formulas"]  # the last register

    @property
    def is_chain(self) -> bool:
        """Whether every product is of the one before (at first a word) and the next word."""
        words, products = self.leaves.shape[1], self.left.shape[1]
        left = [0, *range(words, words + products - 1)][:products]
        right = np.arange(1, products + 1)
        return bool((self.left == left).all() and (self.right == right).all())

    def some(self, index: Int[np.ndarray, " some"]) -> Program:
        """Returns the program of some of the formulas."""
        return Program(*(part[index] for part in self))


def probabilities(
    program: Program, tile: Real[Array, "rows columns"]
) -> Float[Array, "rows formulas"]:
    """Returns the probability of every formula in every row.

    Args:
      program: whose leaves number the columns of the tile.
      tile: probabilities 0–1 of the words; NumPy of any real dtype, or a JAX array.

    Returns:
      float32, or float64 of a NumPy tile that is; on the host for a NumPy tile, else on the device.
      Padded to few sizes inside, so that a new number of formulas compiles nothing anew.
    """
    if isinstance(tile, np.ndarray):
        dtype = np.result_type(tile.dtype, np.float32)
        out = np.empty((len(tile), len(program.leaves)), dtype)
        for block in row_blocks(len(tile), 8 * dtype.itemsize * max(1, program.leaves.size)):
            values = tile[block].astype(dtype, copy=False)
            out[block] = _evaluate(np, program, values, program.is_chain)
        return out
    n_formulas, words = program.leaves.shape
    width = 1 << (words - 1).bit_length()
    padded = _widened(program, width, tiles.bucket(n_formulas))
    return _run(padded, tile, padded.is_chain)[:, :n_formulas]


def _widened(program: Program, words: int, formulas: int) -> Program:
    """The same formulas with room for more words, and ones after the last formula."""
    n, own = program.leaves.shape
    more = words - own
    if more:
        old = np.arange(2 * own - 1)
        moved = np.where(old < own, old, old + more).astype(np.int32)
        result = np.where(own == 1, 0, words + own - 2)
        steps = np.arange(own - 1, words - 1)
        left = np.where(steps == own - 1, result, words + steps - 1)
        shape = (n, more)

        def filled(part, values):
            return np.concatenate([part, np.broadcast_to(values, shape)], 1).astype(np.int32)

        program = Program(
            filled(program.leaves, 0),
            filled(moved[program.left], left),
            filled(moved[program.right], steps + 1),
            filled(program.left_as, PLAIN),
            filled(program.right_as, ONE),
            program.negated,
        )
    rows = np.pad(np.arange(n), (0, formulas - n), mode="edge")
    return program.some(rows)


@functools.partial(jax.jit, static_argnames="is_chain")
def _run(program: Program, tile, is_chain: bool):
    return _evaluate(jnp, program, tile.astype(jnp.float32), is_chain)


def _evaluate(xp: Any, program: Program, tile: Any, is_chain: bool) -> Any:
    words = program.leaves.shape[1]
    registers = [tile[:, program.leaves[:, i]] for i in range(words)]
    for t in range(words - 1):
        if is_chain:
            a, b = registers[0 if t == 0 else words + t - 1], registers[t + 1]
        else:
            every = xp.stack(registers)
            a, b = (
                xp.take_along_axis(every, which[None, None, :, t], axis=0)[0]
                for which in (program.left, program.right)
            )
        a, b = (
            _read(xp, v, how[None, :, t])
            for v, how in ((a, program.left_as), (b, program.right_as))
        )
        registers.append(a * b)
    return xp.where(program.negated[None, :], 1 - registers[-1], registers[-1])


def _read(xp: Any, values: Any, how: Any) -> Any:
    return xp.where(
        how == PLAIN, values, xp.where(how == NEGATED, 1 - values, xp.ones_like(values))
    )
