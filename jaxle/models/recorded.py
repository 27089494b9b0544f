"""Activations that another program recorded, in the place of a network.

    tap → (images, neurons);   behind one a linear head: logits = activations · weights + bias

It has the taps that were recorded and nothing before them: no picture is ever run. What follows the
tap with the head is known, and ablation, Top Impact and the classes that a neuron pushes are
computed as of any network with a linear tail (`intervention.replacement`), a row of activations in
the place of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Real

from jaxle.arrays import Array
from jaxle.images import Preprocess
from jaxle.models.model import Model
from jaxle.models.suffix import Carried, Suffix
from jaxle.options import suggest

NAME = "arrays"  # as `target.model`


class Rows(Preprocess):
    """How recorded pictures are shown; what is behind a tap is given rows of activations."""

    def normalise(self, images: Any) -> jax.Array:
        """Returns rows of activations as they are."""
        return jnp.asarray(images, jnp.float32)


class LinearSuffix(NamedTuple):
    """What is behind a tap: `models.suffix.Suffix` of a linear head."""

    weights: Float32[np.ndarray, "neurons classes"]
    bias: Float32[np.ndarray, " classes"]

    def record(self, variables: Mapping[str, Any], rows: Float[Array, "images neurons"]) -> Carried:
        """Returns the value at the tap."""
        return Carried(jnp.asarray(rows, jnp.float32), ())

    def __call__(
        self, variables: Mapping[str, Any], carried: Carried
    ) -> Float32[jax.Array, "images classes"]:
        """Returns the logits."""
        return jnp.matmul(carried.value, self.weights, precision="highest") + self.bias[None, :]


AnySuffix = Suffix | LinearSuffix


@dataclass(frozen=True, eq=False)
class RecordedModel:
    """What was recorded of a network: `models.network.Network` but for running it.

    Attributes:
      activations: tap → (images, neurons).
      head: the tap and what is behind it, or None.
      class_names: one name a logit; empty where there is no head, or they are not known.
      weights_hash: names the content of all arrays.
      preprocess: how pictures are shown.
    """

    activations: Mapping[str, Real[np.ndarray, "images neurons"]]
    head: tuple[str, LinearSuffix] | None
    class_names: tuple[str, ...]
    weights_hash: str
    preprocess: Preprocess
    name: str = NAME

    @property
    def units(self) -> Mapping[str, Any]:
        """None: what was recorded is what is explained."""
        return {}

    @property
    def variables(self) -> Mapping[str, Any]:
        """None: nothing is run."""
        return {}

    @property
    def architecture(self) -> str:
        """Its taps and widths."""
        return f"{NAME} {self.taps!r}"

    @property
    def taps(self) -> dict[str, tuple[int, ...]]:
        """Tap → (neurons,)."""
        return {tap: (x.shape[1],) for tap, x in self.activations.items()}

    def resolve(self, tap: str) -> str:
        """Returns the tap. Raises a ValueError for one that was not recorded."""
        if tap not in self.activations:
            raise ValueError(
                f"no activations of tap {tap!r} are recorded: {suggest(tap, list(self.taps))}."
            )
        return tap

    def suffix(self, tap: str) -> LinearSuffix:
        """Returns what is behind a tap. Raises a ValueError where that was not recorded."""
        if self.head is None or self.resolve(tap) != self.head[0]:
            known, wanted = "none is there", "its linear layer, head.npz with weight and bias, "
            wanted += "beside the activations"
            if self.head is not None:
                known = f"that of {self.head[0]!r} is there"
                wanted = f"target.taps={self.head[0]!r} alone, or neither ablation nor impact"
            raise ValueError(
                f"what follows tap {tap!r} is not recorded ({known}): expected {wanted}."
            )
        return self.head[1]

    def rows(self, index: Int[np.ndarray, " some"]) -> Float32[np.ndarray, "some neurons"]:
        """Returns activations of the tap with the head, of some images."""
        assert self.head is not None, "a classifier has a head"
        return np.asarray(self.activations[self.head[0]][index], np.float32)

    def logits(
        self, rows: Float[Array, "images neurons"], batch_size: int = 0
    ) -> Float32[np.ndarray, "images classes"]:
        """Returns logits of rows of the tap that the head is behind."""
        assert self.head is not None, "a classifier has a head"
        suffix = self.head[1]
        return np.asarray(suffix({}, suffix.record({}, jnp.asarray(rows))))

    def place(self, rows: Any) -> jax.Array:
        """Returns rows on the device."""
        return jnp.asarray(rows)

    def fit_batch(self, batch_size: int) -> int:
        """Returns the number of rows a step: any number will do."""
        return batch_size


AnyClassifier = Model | RecordedModel
