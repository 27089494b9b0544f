"""A network ready for images: module, variables, preprocessing, class names, taps in one record."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Shaped, UInt8

from jaxle.arrays import Array, checks_input
from jaxle.images import Preprocess
from jaxle.mesh import replicated, round_up, split_rows
from jaxle.models import taps
from jaxle.models.finite import check_finite, check_variables, probe_finite
from jaxle.models.network import Probed
from jaxle.models.pixels import Images, listed, pixels
from jaxle.models.placement import place
from jaxle.models.suffix import Suffix
from jaxle.models.taps import Site, Tap
from jaxle.references import source_fingerprint

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function in a module's description


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What `load_model` returns for a classifier or your own network.

    Attributes:
      name: as in the zoo.
      module: the Linen module: normalised float32 images (images, height, width, 3) → logits (two
        towers: embeddings of unit length).
      variables: its parameters and batch statistics.
      preprocess: how images are fitted and normalised.
      class_names: one name a logit; empty where the zoo has none.
      aliases: friendly tap names → taps.
      weights_hash: sha256 of the weights file (or "random_init:<seed>"), for fingerprints.
      call: further arguments of the module's `__call__`.
      mesh: the mesh its variables are placed on, or None.
    """

    name: str
    module: nn.Module
    variables: Mapping[str, Any] = dataclasses.field(repr=False)
    preprocess: Preprocess
    class_names: tuple[str, ...] = dataclasses.field(repr=False)
    aliases: Mapping[str, str] = dataclasses.field(repr=False)
    weights_hash: str
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mesh: Mesh | None = None

    @property
    def architecture(self) -> str:
        """The module with its fields and dtypes, the call's arguments and the user's own code."""
        module, call = type(self.module), sorted(self.call.items())
        dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(self.variables)})
        text = f"{module.__qualname__} {self.module!r} {call!r} {dtypes}"
        own = source_fingerprint(getattr(self.module, "outside", module))
        return f"{_ADDRESS.sub('', text)} {own}"

    @functools.cached_property
    def sites(self) -> dict[Tap, Site]:
        """Every point of the network that a module path reaches, refused ones included."""
        return taps.sites(self.module, self.variables, self._input, **self.call)

    @functools.cached_property
    def taps(self) -> dict[str, tuple[int, ...]]:
        """Tap → shape of one image's value, in the order of a forward pass: (neurons,),
        (tokens, neurons) or (height, width, neurons)."""
        return {text: self.sites[tap].shape for text, tap in taps.names(self.sites).items()}

    @functools.cached_property
    def n_outputs(self) -> int:
        """How many logits an image has, or numbers an embedding of two towers."""

        def output(variables, images):
            return taps.forward(self.module, variables, images, record=(), **self.call)[0]

        return jax.eval_shape(output, self.variables, self._input).shape[-1]

    def resolve(self, tap: str) -> str:
        """Returns the canonical text of a tap or alias: a key of `taps`.

        Raises:
          ValueError: an unknown tap; the nearest and the valid ones are listed.
        """
        found = taps.resolve(tap, self.sites, self.aliases)
        return next(text for text, other in taps.names(self.sites).items() if other == found)

    def with_variables(self, variables: Mapping[str, Any], weights_hash: str) -> Model:
        """Returns the same network with other variables, placed on its mesh as its own are.

        Args:
          variables: a tree of the same shapes, such as `permute_parameters` makes.
          weights_hash: a name for their values.

        Raises:
          ValueError: variables that are not finite.
        """
        check_variables(self.name, variables)
        return dataclasses.replace(
            self, variables=place(variables, self.mesh), weights_hash=weights_hash
        )

    def probe(
        self,
        images: UInt8[Array, "images height width 3"],
        pools: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
    ) -> Probed:
        """Returns several taps and the output of one forward pass; for use inside jit.

        Args:
          images: uint8 (images, size, size, 3), 0–255, already fitted (`preprocess.fit`).
          pools: tap → pool ("avg", "max", "first", "none").
          variables: the model's own where None; as an argument of the jitted function, they are
            not compiled in as constants.

        Returns:
          Tap, as written in `pools` → float32 (images, neurons); and float32 logits
          (images, classes), or embeddings (images, numbers) of two towers.

        Raises:
          ValueError: unknown tap or pool, or a pool that does not suit the tap.
        """
        found = {text: taps.resolve(text, self.sites, self.aliases) for text in pools}
        variables = self.variables if variables is None else variables
        inputs = self.preprocess.normalise(jnp.asarray(images))
        output, values = taps.forward(
            self.module, variables, inputs, record=found.values(), **self.call
        )
        return {text: taps.pool(values[tap], pools[text]) for text, tap in found.items()}, output

    def suffix(self, tap: str) -> Suffix:
        """Returns the network after a tap, to run it on edited values.

        Its `record` takes normalised images (`preprocess.normalise`).
        """
        return Suffix(
            self.module, taps.resolve(tap, self.sites, self.aliases), (self._input,), self.call
        )

    @checks_input
    def activations(
        self, images: Images, tap: str, pool: str = "avg", batch_size: int = 64
    ) -> Float[np.ndarray, "images ..."]:
        """Returns one tap's activations of images that fit in memory.

        Args:
          images: uint8 (images, height, width, 3), 0–255; or a list of PIL images or uint8
            (height, width, 3) arrays of any sizes; or one of these. PIL images are decoded as
            files are (`jaxle.images.decode`): 16 bits, transparency, EXIF rotation.
          tap: a key of `taps` or an alias.
          pool: "avg", "max", "first" or "none".
          batch_size: images a forward pass.

        Returns:
          float32 (images, neurons); with "none" the tap's own shape.

        Raises:
          ValueError: unknown tap or pool; no images; an image of another dtype or shape; a module
            whose output is not finite.
        """
        return self._run(images, ((tap, pool),), batch_size)[0][tap]

    @checks_input
    def logits(self, images: Images, batch_size: int = 64) -> Float[np.ndarray, "images classes"]:
        """Returns float32 logits (images, classes); `images` as for `activations`."""
        return self._run(images, (), batch_size)[1]

    @property
    def _input(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.preprocess.size, self.preprocess.size, 3), jnp.float32)

    @functools.cached_property
    def _probe(self):
        return jax.jit(
            lambda variables, images, pools: probe_finite(self, images, dict(pools), variables),
            static_argnums=2,
        )

    def _run(self, images, pools: tuple[tuple[str, str], ...], batch_size: int):
        parts, first = [], 0
        for batch, n in self._batches(images, batch_size):
            values = self._probe(self.variables, self.place(batch), pools)
            *values, finite = jax.tree.map(lambda x, n=n: np.asarray(x[:n]), values)
            check_finite(self, finite, len(batch), first)
            parts.append(values)
            first += n
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def _batches(self, images, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
        """Fitted batches of one fixed shape, the last padded with zeros; and how many rows of each
        are real."""
        images = listed(images)
        batch_size, size = self.fit_batch(min(batch_size, len(images))), self.preprocess.size
        for start in range(0, len(images), batch_size):
            fitted = [
                self.preprocess.fit(pixels(image)) for image in images[start : start + batch_size]
            ]
            batch = np.zeros((batch_size, size, size, 3), np.uint8)
            batch[: len(fitted)] = fitted
            yield batch, len(fitted)

    def fit_batch(self, batch_size: int) -> int:
        """Returns the number of rows, at least `batch_size`, that splits evenly over the mesh's
        axis `data`."""
        return batch_size if self.mesh is None else round_up(batch_size, self.mesh.shape["data"])

    def place(self, batch: Shaped[Array, "rows ..."]) -> Shaped[Array, "rows ..."]:
        """Returns the batch, of `fit_batch` rows, on the devices of the mesh."""
        if self.mesh is None:
            return batch
        return jax.device_put(
            batch, split_rows(self.mesh) if len(batch) > 1 else replicated(self.mesh)
        )
