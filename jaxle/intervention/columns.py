"""The columns of a tap, read and edited: its neurons, or the units of a map (`models.units`).

    neuron k set to c     v_k = c                       wherever the pool covers it
    unit k set to c       v ← v + (c − f_k(v)) · d_k    there, d_k the unit's decoder direction

so that what the units do not say of a value, and all other units' contributions, stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.models import taps
from jaxle.models.model import Model
from jaxle.models.recorded import AnyClassifier
from jaxle.models.units.unit_map import Prepared, UnitForm

Variables = Mapping[str, Any]
Values = Float[Array, "images ... width"]


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of one tap under one pool; all methods are for use inside jit.

    Attributes:
      model, tap, pool: whose they are.
      form: of the units; None where columns are neurons.
    """

    model: AnyClassifier
    tap: str
    pool: str
    form: UnitForm | None

    @staticmethod
    def of(model: AnyClassifier, tap: str, pool: str) -> Columns:
        """Returns the columns of a model's tap."""
        return Columns(model, tap, pool, model.units.get(model.resolve(tap)))

    def pooled(self, variables: Variables, value: Values) -> Float[jax.Array, "images ..."]:
        """Returns the columns of a tapped value (images, columns), float32."""
        if self.form is None:
            return taps.pool(jnp.asarray(value), self.pool)
        return self.form.read(self._arrays(variables), value, self.pool, False)[0]

    def prepare(self, variables: Variables, value: Values) -> Prepared | None:
        """Returns what edits of this value have in common; None for neurons."""
        if self.form is None:
            return None
        return self.form.prepare(self._arrays(variables), value)

    def set_one(
        self,
        variables: Variables,
        value: Values,
        prepared: Prepared | None,
        column: Int[jax.Array, ""] | int,
        new: Float[jax.Array, " images"],
    ) -> Values:
        """Returns the value with one column at `new` wherever the pool covers it."""
        covered = covered_by(value, self.pool)
        if self.form is None:
            chosen = jnp.arange(value.shape[-1]) == column
            shape = (1,) * (value.ndim - 1) + chosen.shape
            put = spread(new[:, None], value.ndim).astype(value.dtype)
            return jnp.where(chosen.reshape(shape) & covered, put, value)
        assert prepared is not None, "made by prepare"
        arrays = self._arrays(variables)
        change = spread(new[:, None], value.ndim)[..., 0] - self.form.one(arrays, prepared, column)
        moved = self.form.moved(arrays, value, column, change, prepared)
        return jnp.where(covered, moved, value)

    def added(
        self, value: Values, column: Int[jax.Array, ""] | int, new: Float[jax.Array, " images"]
    ) -> Float[jax.Array, "images ..."]:
        """Returns what `set_one` adds to a neuron's channel, float32, at each position."""
        old = jnp.take(value, column, axis=-1).astype(jnp.float32)
        put = new.reshape(-1, *(1,) * (old.ndim - 1)).astype(value.dtype).astype(jnp.float32)
        return jnp.where(covered_by(value, self.pool)[..., 0], put - old, 0.0)

    def set_all(
        self, variables: Variables, value: Values, new: Float[jax.Array, "images columns"]
    ) -> Values:
        """Returns the value with every column at `new` wherever the pool covers it."""
        covered = covered_by(value, self.pool)
        if self.form is None:
            put = spread(new, value.ndim).astype(value.dtype)
            return jnp.where(covered, put, value)
        arrays = self._arrays(variables)
        prepared = self.form.prepare(arrays, value)
        moved = self._decoded(arrays, new, prepared) - self.form.decoded(arrays, prepared)
        return jnp.where(covered, (value + moved).astype(value.dtype), value)

    def grown(
        self, variables: Variables, value: Values, added: Float[jax.Array, "images columns"]
    ) -> Values:
        """Returns the value with `added` to every column wherever the pool covers it."""
        if self.form is None:
            more = spread(added, value.ndim)
        else:
            arrays = self._arrays(variables)
            prepared = self.form.prepare(arrays, value, cut=False)
            more = self._decoded(arrays, added, prepared)
        return jnp.asarray(value) + jnp.where(covered_by(value, self.pool), more, 0.0).astype(
            value.dtype
        )

    def _decoded(self, arrays: Mapping[str, Any], x: jax.Array, prepared: Prepared) -> jax.Array:
        ndim = prepared.x.ndim
        return spread(jnp.matmul(x, arrays["decoder"], precision="highest"), ndim) * prepared.size

    def _arrays(self, variables: Variables) -> Mapping[str, Any]:
        assert isinstance(self.model, Model), "recorded activations have no units"
        return self.model.unit_arrays(self.tap, variables)


def covered_by(value: Values, pool: str) -> Bool[jax.Array, "..."]:
    """Returns the positions that a pool covers: "first" the first one, "patches" the grid's."""
    if value.ndim == 3 and pool in ("first", "patches"):
        number = jnp.arange(value.shape[1])
        start = taps.leading(value.shape[1])
        return (number == 0 if pool == "first" else number >= start)[None, :, None]
    return jnp.ones((1,) * value.ndim, bool)


def spread(
    x: Float[jax.Array, "images columns"], ndim: int
) -> Float[jax.Array, "images ... columns"]:
    """Returns (images, columns) as (images, 1, …, 1, columns) of `ndim` axes."""
    return x.reshape(x.shape[0], *(1,) * (ndim - 2), x.shape[1])
