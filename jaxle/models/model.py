"""A network ready for pictures: module, variables, preprocessing, class names and taps in one record."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxle.images import Preprocess
from jaxle.mesh import replicated, round_up, split_rows
from jaxle.models import taps
from jaxle.models.suffix import Suffix


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What `load_model` returns.

    Attributes:
      name: as in the zoo.
      module: the Linen module: normalised images, h, w, 3 → logits (two towers: embeddings of unit length).
      variables: its parameters and batch statistics.
      preprocess: how pictures are fitted and normalised.
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

    @functools.cached_property
    def sites(self) -> dict[taps.Tap, taps.Site]:
        """Every point of the network that a module path reaches, refused ones included."""
        return taps.sites(self.module, self.variables, self._input, **self.call)

    @functools.cached_property
    def taps(self) -> dict[str, tuple[int, ...]]:
        """Tap → shape of one image's value, (neurons,), (tokens, neurons) or (h, w, neurons), in the order of a forward pass."""
        return {text: self.sites[tap].shape for text, tap in taps.names(self.sites).items()}

    def resolve(self, tap: str) -> str:
        """The canonical text of a tap or alias: a key of `taps`. Raises ValueError with the valid names."""
        found = taps.resolve(tap, self.sites, self.aliases)
        return next(text for text, other in taps.names(self.sites).items() if other == found)

    def probe(
        self,
        images: jax.Array,
        pools: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
    ):
        """Use it inside jit to read several taps in one forward pass.

        Args:
          images: uint8 images, size, size, 3: already fitted (`preprocess.fit`).
          pools: tap → pool ("avg", "max", "first", "none").
          variables: the model's own where None; as an argument of the jitted function, they are not compiled in as constants.

        Returns:
          Tap, as written in `pools` → float32 images, neurons; and float32 logits images, classes (two towers: embeddings).

        Raises:
          ValueError: unknown tap or pool, or a pool that does not suit the tap.
        """
        found = {text: taps.resolve(text, self.sites, self.aliases) for text in pools}
        variables = self.variables if variables is None else variables
        images = self.preprocess.normalise(images)
        output, values = taps.forward(
            self.module, variables, images, record=found.values(), **self.call
        )
        return {text: taps.pool(values[tap], pools[text]) for text, tap in found.items()}, output

    def suffix(self, tap: str) -> Suffix:
        """Use it to run what lies after a tap on edited values; `record` and call take normalised images (`preprocess.normalise`)."""
        return Suffix(
            self.module, taps.resolve(tap, self.sites, self.aliases), (self._input,), self.call
        )

    def activations(self, images, tap: str, pool: str = "avg", batch_size: int = 64) -> np.ndarray:
        """Use it for one tap of pictures that fit in memory.

        Args:
          images: uint8 images, h, w, 3 (0–255), or a list of PIL images or uint8 (h, w, 3) arrays of any sizes.
          tap: a key of `taps` or an alias.
          pool: "avg", "max", "first" or "none".

        Returns:
          float32 images, neurons (any shape with "none").

        Raises:
          ValueError: unknown tap or pool; no images.
        """
        return self._run(images, ((tap, pool),), batch_size)[0][tap]

    def logits(self, images, batch_size: int = 64) -> np.ndarray:
        """float32 images, classes; `images` as for `activations`."""
        return self._run(images, (), batch_size)[1]

    @property
    def _input(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.preprocess.size, self.preprocess.size, 3), jnp.float32)

    @functools.cached_property
    def _probe(self):
        return jax.jit(
            lambda variables, images, pools: self.probe(images, dict(pools), variables),
            static_argnums=2,
        )

    def _run(self, images, pools: tuple[tuple[str, str], ...], batch_size: int):
        parts = []
        for batch, n in self._batches(images, batch_size):
            values = self._probe(self.variables, self.place(batch), pools)
            parts.append(jax.tree.map(lambda x, n=n: np.asarray(x[:n]), values))
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def _batches(self, images: Sequence, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
        """Fitted batches of one fixed shape, the last padded with zeros; and how many rows of each are real."""
        if len(images) == 0:
            raise ValueError("no images: got an empty list or array")
        batch_size, size = self.fit_batch(min(batch_size, len(images))), self.preprocess.size
        for start in range(0, len(images), batch_size):
            fitted = [
                self.preprocess.fit(_pixels(image)) for image in images[start : start + batch_size]
            ]
            batch = np.zeros((batch_size, size, size, 3), np.uint8)
            batch[: len(fitted)] = fitted
            yield batch, len(fitted)

    def fit_batch(self, batch_size: int) -> int:
        """The number of rows that splits evenly over the mesh's axis `data`, at least `batch_size`."""
        return batch_size if self.mesh is None else round_up(batch_size, self.mesh.shape["data"])

    def place(self, batch: np.ndarray):
        """The batch, of `fit_batch` rows, on the devices of the mesh."""
        return (
            batch
            if self.mesh is None
            else jax.device_put(
                batch, split_rows(self.mesh) if len(batch) > 1 else replicated(self.mesh)
            )
        )


def _pixels(image) -> np.ndarray:
    return (
        image
        if isinstance(image, np.ndarray)
        else np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
    )
