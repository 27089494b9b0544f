"""What the pass over the images reads of a network: one protocol that classifiers and two-tower
models both satisfy, and any object of your own that has these members.

    fitted images (uint8) → values of taps, pooled to (images, neurons), and one output row an image
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Float, UInt8

from jaxle.arrays import Array
from jaxle.images import Preprocess

Probed = tuple[dict[str, Float[jax.Array, "images ..."]], Float[jax.Array, "images outputs"]]


@runtime_checkable
class Network(Protocol):
    """A network that can be probed. `Model` and `TwoTower` are networks."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """How images are fitted on the host and normalised on the device."""
        ...

    @property
    def variables(self) -> Mapping[str, Any]:
        """Parameters and batch statistics, a tree of arrays: the first argument of a compiled
        pass, so that they are not compiled in as constants."""
        ...

    @property
    def weights_hash(self) -> str:
        """A name for the values of `variables`, for cache keys: sha256, or what made them."""
        ...

    @property
    def architecture(self) -> str:
        """What decides, beside the weights, what it computes: for cache keys."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name an output; empty where outputs are no classes."""
        ...

    @property
    def taps(self) -> Any:  # a Mapping, which a cached property is not to type checkers
        """Tap → shape of one image's value."""
        ...

    def resolve(self, tap: str) -> str:
        """Returns the key of `taps` that a tap or an alias means. Raises ValueError."""
        ...

    def probe(
        self,
        images: UInt8[Array, "images height width 3"],
        pools: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
    ) -> Probed:
        """Returns the pooled values of several taps and the output of one forward pass.

        Args:
          images: already fitted by `preprocess.fit`; called inside jit.
          pools: tap → pool ("avg", "max", "first", "none").
          variables: in place of the network's own; None for these.

        Returns:
          Tap, as written in `pools` → float32 (images, neurons); and the output, float32.
        """
        ...
