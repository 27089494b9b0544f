"""Unit maps: units as a map of a tap's values, applied at every position and then pooled.

    x = norm(v) − centre         what a position's value v (width,) is to the units
    a = E x                      (units,)
    f = activation(a)            the units' values, see `ACTIVATIONS`
    v̂ = (Dᵀ f + b) · size + mean     the reconstruction; size and mean undo the norm

Units are computed a tile at a time, so that nothing of size images × positions × units is held: a
tile of 64 MiB is pooled and decoded before the next one is made. Arrays are arguments, never
constants of a compiled program. Formulas and their sources: docs/units.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models import taps

Arrays = Mapping[str, Any]  # name → array
# name → what it does to a (units,) with bias, threshold, gate and so on a unit
ACTIVATIONS = {
    "identity": "a + bias",
    "relu": "max(a + bias, 0)",
    "tanh_relu": "tanh(max(a + bias, 0))",
    "top_k": "of a + bias the k largest of a position, where they are above 0; else 0",
    "signed_top_k": "of a + bias the k largest of a position, of either sign; else 0",
    "threshold": "a + bias where it is above the threshold and above 0; else 0",
    "signed_threshold": "a + bias where it is above the threshold; else 0",
    "gated_relu": "max(a · scale + bias, 0) where a + gate is above 0; else 0",
    "gated_tanh_relu": "tanh of that",
}
NORMS = {
    "none": "v",
    "layer_norm": "(v − mean) / (deviation + 1e-5), the deviation unbiased",
    "constant_norm": "v · √width / ‖v‖",
    "affine": "(clip(v) − mean) / scale, numbers of the file",
}
# arrays a unit, arrays of the tap's width, numbers
BY_UNIT = ("encoder", "bias", "decoder", "threshold", "scale", "gate")
BY_WIDTH = ("centre", "decoder_bias", "input_mean", "input_scale")
TILE = 64 << 20  # bytes of a tile of images × positions × units
LEAST = 128  # units of a tile
_EPSILON = 1e-5  # of layer_norm
_CLIP = (-1e-5, 1e5)  # of affine


class Prepared(NamedTuple):
    """A tap's values as the units read them.

    Attributes:
      x: (images, *positions, width) float32.
      mean, size: (images, *positions, 1), what undoes the norm; 0 and 1 where there is none.
      cut: (images, *positions, 1), halfway between the k-th largest unit of a position and the
        next one, so that it parts them in whatever order sums are taken; None but for top-k.
    """

    x: Float[jax.Array, "images ... width"]
    mean: Float[jax.Array, "..."]
    size: Float[jax.Array, "..."]
    cut: Float[jax.Array, "images ... 1"] | None


@dataclasses.dataclass(frozen=True)
class UnitForm:
    """What a map computes, beside its arrays: all that a compiled program depends on.

    Attributes:
      kind: the row of `UNITS` that made it.
      n_units, width: columns it gives, columns of the tap.
      sha256: of its arrays.
      activation, norm: rows of `ACTIVATIONS` and `NORMS`.
      k: of top-k; 0 for none.
      reconstructs: its decoder is meant to give the tap's values back.
    """

    kind: str
    n_units: int
    width: int
    sha256: str
    activation: str = "identity"
    norm: str = "none"
    k: int = 0
    reconstructs: bool = False

    @property
    def linear(self) -> bool:
        """Whether units are a linear map, which commutes with averages over positions."""
        return self.activation == "identity" and self.norm == "none"

    def prepare(
        self, arrays: Arrays, value: Float[Array, "images ... width"], cut: bool = True
    ) -> Prepared:
        """Returns a tap's values as the units read them; for use inside jit.

        Args:
          arrays: of the map.
          value: (images, width) or with positions between, any float dtype.
          cut: with what parts the k largest from the rest, where the activation needs it.
        """
        x = jnp.asarray(value).astype(jnp.float32)
        mean, size = jnp.zeros((1,) * x.ndim), jnp.ones((1,) * x.ndim)
        if self.norm == "layer_norm":
            mean = jnp.mean(x, axis=-1, keepdims=True)
            size = jnp.std(x, axis=-1, keepdims=True, ddof=1)
            x = (x - mean) / (size + _EPSILON)
        elif self.norm == "constant_norm":
            size = jnp.linalg.norm(x, axis=-1, keepdims=True) / math.sqrt(self.width)
            size = jnp.maximum(size, jnp.finfo(jnp.float32).tiny)
            x = x / size
        elif self.norm == "affine":
            mean = _last(arrays["input_mean"], x.ndim)
            size = _last(arrays["input_scale"], x.ndim)
            x = (jnp.clip(x, *_CLIP) - mean) / size
        if "centre" in arrays:
            x = x - _last(arrays["centre"], x.ndim)
        prepared = Prepared(x, mean, size, None)
        if not (cut and self.k):
            return prepared
        return prepared._replace(cut=self._cut(arrays, prepared))

    def every(self, arrays: Arrays, prepared: Prepared) -> Float[jax.Array, "images ... units"]:
        """Returns all units at all positions: for few images."""
        return self._activate(arrays, _product(prepared.x, arrays["encoder"]), prepared.cut)

    def one(self, arrays: Arrays, prepared: Prepared, unit: Any) -> Float[jax.Array, "images ..."]:
        """Returns one unit at all positions; `unit` may be traced."""
        own = {name: arrays[name][unit][None] for name in BY_UNIT if name in arrays}
        return self._activate(own, _product(prepared.x, own["encoder"]), prepared.cut)[..., 0]

    def decoded(self, arrays: Arrays, prepared: Prepared) -> Float[jax.Array, "images ... width"]:
        """Returns Σ f_k d_k at all positions, in the tap's own units and without bias."""

        def add(total, start, own, values, new):
            return total + _product(values * new, own["decoder"].T)

        total = self._fold(arrays, prepared, add, jnp.zeros_like(prepared.x))
        return total * prepared.size

    def read(
        self, arrays: Arrays, value: Float[Array, "images ... width"], pool: str, statistics: bool
    ) -> tuple[Float[jax.Array, "images ..."], Float[jax.Array, "images _"] | None]:
        """Returns the pooled units and, where asked for, how well they reconstruct the values.

        Args:
          arrays: of the map.
          value: a tap's values (images, *positions, width).
          pool: as for `taps.pool`; with "none" all units are made at once.
          statistics: whether the second is wanted.

        Returns:
          float32 (images, units), with "none" (images, *positions, units); and
          (images, 2 + width): means over the positions that the pool covers, of ‖v − v̂‖², of
          ‖v − b‖² and of v − b, with b the decoder's bias.

        Raises:
          ValueError: a pool that does not suit the shape.
        """
        if pool == "none":
            assert not statistics, "statistics are of pooled units"
            return self.every(arrays, self.prepare(arrays, value)), None
        value = taps.covered(jnp.asarray(value).astype(jnp.float32), pool)
        prepared = self.prepare(arrays, value)
        over = "max" if pool == "max" else "avg"

        def add(carry, start, own, values, new):
            pooled, total = carry
            part = taps.pool(values, over)
            pooled = jax.lax.dynamic_update_slice_in_dim(pooled, part, start, axis=1)
            if statistics:
                total = total + _product(values * new, own["decoder"].T)
            return pooled, total

        total = jnp.zeros_like(prepared.x) if statistics else jnp.zeros(())
        empty = jnp.zeros((len(value), self.n_units), jnp.float32)
        pooled, total = self._fold(arrays, prepared, add, (empty, total))
        if not statistics:
            return pooled, None
        bias = arrays.get("decoder_bias", jnp.zeros(self.width))
        found = (total + _last(bias, value.ndim)) * prepared.size + prepared.mean
        off = value - _last(bias, value.ndim)
        sums = jnp.stack([jnp.sum((value - found) ** 2, -1), jnp.sum(off**2, -1)], axis=-1)
        return pooled, taps.pool(jnp.concatenate([sums, off], axis=-1), "avg")

    def moved(
        self,
        arrays: Arrays,
        value: Float[Array, "images ... width"],
        unit: Any,
        change: Float[jax.Array, "images ..."],
        prepared: Prepared,
    ) -> Float[Array, "images ... width"]:
        """Returns the tap's values when one unit changes: v + change · d_k, in the tap's units."""
        step = (change[..., None] * prepared.size) * _last(arrays["decoder"][unit], value.ndim)
        return (value.astype(jnp.float32) + step).astype(value.dtype)

    def _activate(self, own: Arrays, a: jax.Array, cut: jax.Array | None) -> jax.Array:
        """The units of the arrays `own`, from their products with x."""
        last = {name: _last(own[name], a.ndim) for name in BY_UNIT[1:] if name in own}
        kind = self.activation
        if kind.startswith("gated"):
            found = jnp.maximum(a * last["scale"] + last["bias"], 0)
            found = jnp.tanh(found) if kind == "gated_tanh_relu" else found
            return jnp.where(a + last["gate"] > 0, found, 0)
        a = a + last["bias"]
        if kind == "identity":
            return a
        found = a if kind.startswith("signed") else jnp.maximum(a, 0)
        if kind == "tanh_relu":
            return jnp.tanh(found)
        if cut is not None:
            return jnp.where(a >= cut, found, 0)
        return jnp.where(a > last["threshold"], found, 0) if kind.endswith("threshold") else found

    def _cut(self, arrays: Arrays, prepared: Prepared) -> jax.Array:
        """What parts the k largest of a + bias from the rest at every position, over all tiles."""
        if self.k == self.n_units:
            return jnp.full((*prepared.x.shape[:-1], 1), -jnp.inf)
        lowest = jnp.full((*prepared.x.shape[:-1], self.k + 1), -jnp.inf)

        def add(best, start, own, a, new):
            a = jnp.where(new > 0, a + _last(own["bias"], a.ndim), -jnp.inf)
            return jax.lax.top_k(jnp.concatenate([best, a], axis=-1), self.k + 1)[0]

        best = self._fold(arrays, prepared, add, lowest, raw=True)
        return (best[..., -2:-1] + best[..., -1:]) / 2

    def _fold(
        self, arrays: Arrays, prepared: Prepared, add: Callable[..., Any], carry: Any, raw=False
    ) -> Any:
        """Folds `add(carry, start, arrays, values, new)` over tiles of units.

        The last tile overlaps the one before, so that nothing is padded: `new` is 1 for units that
        were not met before, else 0. `raw` gives a in place of the units' values.
        """
        x = prepared.x
        places = math.prod(x.shape[:-1])
        tile = min(self.n_units, max(LEAST, TILE // (4 * places)))
        n_tiles = -(-self.n_units // tile)

        def step(i, carry):
            start = jnp.minimum(i * tile, self.n_units - tile)
            own = {
                name: jax.lax.dynamic_slice_in_dim(arrays[name], start, tile)
                for name in BY_UNIT
                if name in arrays
            }
            a = _product(x, own["encoder"])
            values = a if raw else self._activate(own, a, prepared.cut)
            new = (start + jnp.arange(tile) >= i * tile).astype(jnp.float32)
            return add(carry, start, own, values, _last(new, x.ndim))

        return step(0, carry) if n_tiles == 1 else jax.lax.fori_loop(0, n_tiles, step, carry)


class UnitMap(NamedTuple):
    """A map with its arrays.

    Attributes:
      form: what it computes.
      arrays: `encoder`, `decoder` (units, width) and `bias` (units,), float32, on the host or on
        devices; and what the activation and the norm need: `threshold`, `scale`, `gate` (units,),
        `centre`, `decoder_bias`, `input_mean`, `input_scale` (width,).
      facts: what summary.json says of it.
      about: what a file's metadata says of the network and the layer, name → text.
    """

    form: UnitForm
    arrays: Arrays
    facts: Mapping[str, Any] = {}
    about: Mapping[str, str] = {}


def explained_variance(statistics: Float[np.ndarray, "images _"]) -> float:
    """Returns 1 − Σ‖v − v̂‖² / Σ‖v − v̄‖² over images and positions.

    Args:
      statistics: as `UnitForm.read` gives them.

    Returns:
      At most 1; 0 where values do not vary.
    """
    error, square, *mean = np.asarray(statistics, np.float64).mean(axis=0)
    variance = square - np.square(mean).sum()
    return float(1 - error / variance) if variance > 0 else 0.0


def _product(x: Array, rows: Array) -> jax.Array:
    """(…, width) and (units, width) → (…, units), in float32."""
    return jnp.einsum("...d,ud->...u", x, rows, precision="highest")


def _last(x: Any, ndim: int) -> jax.Array:
    """(n,) as (1, …, 1, n) of `ndim` axes, or a number."""
    return jnp.asarray(x, jnp.float32).reshape((1,) * (ndim - 1) + (-1,))
