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
from jaxle.models.units.unit_map import UnitForm, UnitMap
from jaxle.references import source_fingerprint

RECONSTRUCTION = ":reconstruction"  # behind a tap: how well its units give its values back
UNITS = "units"  # among the variables: arrays of unit maps, by tap
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
      units: tap → what its columns are, where they are not its neurons (`with_units`).
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
    units: Mapping[str, UnitForm] = dataclasses.field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The module with its fields and dtypes, the call's arguments and the user's own code."""
        module, call = type(self.module), sorted(self.call.items())
        dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(self.variables)})
        text = f"{module.__qualname__} {self.module!r} {call!r} {dtypes}"
        text += "".join(f" {tap}: {form!r}" for tap, form in sorted(self.units.items()))
        own = source_fingerprint(getattr(self.module, "outside", module))
        return f"{_ADDRESS.sub('', text)} {own}"

    @functools.cached_property
    def sites(self) -> dict[Tap, Site]:
        """Every point of the network that a module path reaches, refused ones included."""
        return taps.sites(self.module, self.variables, self._input, **self.call)

    @functools.cached_property
    def taps(self) -> dict[str, tuple[int, ...]]:
        """Tap → shape of one image's value, in the order of a forward pass: (neurons,),
        (tokens, neurons) or (height, width, neurons); units in place of neurons where it has some,
        and then "TAP:reconstruction" behind a tap whose units reconstruct its values."""
        found = {}
        for text, tap in taps.names(self.sites).items():
            found[text], form = self.sites[tap].shape, self.units.get(text)
            if form is not None:
                found[text] = (*found[text][:-1], form.n_units)
                if form.reconstructs:
                    found[text + RECONSTRUCTION] = (2 + form.width,)
        return found

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
        bare = tap.removesuffix(RECONSTRUCTION)
        found = taps.resolve(bare, self.sites, self.aliases)
        text = next(text for text, other in taps.names(self.sites).items() if other == found)
        if bare == tap:
            return text
        if text not in self.units or not self.units[text].reconstructs:
            raise ValueError(f"tap {bare!r} has no units that reconstruct its values")
        return text + RECONSTRUCTION

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

    def with_units(self, tap: str, units: UnitMap) -> Model:
        """Returns the same network with units in place of a tap's neurons.

        `probe`, `taps` and interventions then see a column a unit; the arrays of the map are part
        of `variables`.

        Args:
          tap: a key of `taps` or an alias.
          units: the map.

        Raises:
          ValueError: an unknown tap, or a map of another width.
        """
        text = self.resolve(tap)
        shape = self.sites[taps.resolve(tap, self.sites, self.aliases)].shape
        if units.form.width != shape[-1]:
            raise ValueError(
                f"units read {units.form.width} values, and tap {tap!r} has {shape[-1]}; expected "
                "units of that tap"
            )
        arrays = place({UNITS: {_key(text): units.arrays}}, self.mesh)[UNITS]
        variables = {**self.variables, UNITS: {**self.variables.get(UNITS, {}), **arrays}}
        return dataclasses.replace(
            self, variables=variables, units={**self.units, text: units.form}
        )

    def unit_arrays(self, tap: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the arrays of a tap's units among some variables of this network."""
        return variables[UNITS][_key(self.resolve(tap))]

    def probe(
        self,
        images: UInt8[Array, "images height width 3"],
        pools: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
    ) -> Probed:
        """Returns several taps and the output of one forward pass; for use inside jit.

        Args:
          images: uint8 (images, size, size, 3), 0–255, already fitted (`preprocess.fit`).
          pools: tap → pool ("avg", "max", "first", "patches", "none").
          variables: the model's own where None; as an argument of the jitted function, they are
            not compiled in as constants.

        Returns:
          Tap, as written in `pools` → float32 (images, neurons); and float32 logits
          (images, classes), or embeddings (images, numbers) of two towers.

        Raises:
          ValueError: unknown tap or pool, or a pool that does not suit the tap.
        """
        bare = {text: text.removesuffix(RECONSTRUCTION) for text in pools}
        found = {text: taps.resolve(name, self.sites, self.aliases) for text, name in bare.items()}
        variables = self.variables if variables is None else variables
        inputs = self.preprocess.normalise(jnp.asarray(images))
        output, values = taps.forward(
            self.module, variables, inputs, record=found.values(), **self.call
        )
        if not self.units:
            return {
                text: taps.pool(values[tap], pools[text]) for text, tap in found.items()
            }, output
        read: dict[str, jax.Array] = {}
        for text, tap in found.items():
            form = self.units.get(self.resolve(bare[text]))
            if form is None:
                read[text] = taps.pool(values[tap], pools[text])
            elif text not in read:
                arrays, asked = self.unit_arrays(bare[text], variables), bare[text] + RECONSTRUCTION
                pooled, stats = form.read(arrays, values[tap], pools[text], asked in pools)
                both = {bare[text]: pooled, asked: stats}
                read |= {name: value for name, value in both.items() if name in pools}
        return read, output

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
          pool: "avg", "max", "first", "patches" or "none".
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


def _key(tap: str) -> str:
    """A tap as a name among the variables, whose paths are joined by "/"."""
    return tap.replace("/", ".")
