"""Two towers ready for images and texts: a network of images with a text tower and its tokenizer.

    P(text t fits image i) = σ(scale·(cos(z_i, z_t) + shift))

Scale and shift are those of the training; a calibration on the probe images gives others.
Source: Zhai et al. 2023 (arXiv 2303.15343).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, UInt8

from jaxle.arrays import Array, checks_input
from jaxle.images import Preprocess
from jaxle.models.model import Model
from jaxle.models.network import Probed
from jaxle.models.pixels import Images
from jaxle.models.suffix import Suffix
from jaxle.models.tokenizers import Tokenizer, unreadable
from jaxle.models.units.unit_map import UnitForm, UnitMap


@dataclasses.dataclass(frozen=True, eq=False)
class TwoTower:
    """What `load_model` returns for two towers; what it shares with `Model` is `image`'s.

    Attributes:
      image: the whole network as a Model, whose output for images is their embedding: its taps are
        the image tower's, `img/…`.
      load_tokenizer: makes what turns texts into int32 tokens (texts, length), on first use.
    """

    image: Model
    load_tokenizer: Callable[[], Tokenizer] = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """As in the zoo."""
        return self.image.name

    @property
    def module(self) -> nn.Module:
        """Normalised images, and optionally tokens, to embeddings of unit length."""
        return self.image.module

    @property
    def variables(self) -> Mapping[str, Any]:
        """The parameters of both towers, `t` and `b`."""
        return self.image.variables

    @property
    def preprocess(self) -> Preprocess:
        """How images are fitted and normalised."""
        return self.image.preprocess

    @property
    def weights_hash(self) -> str:
        """As `Model.weights_hash`."""
        return self.image.weights_hash

    @property
    def architecture(self) -> str:
        """As `Model.architecture`."""
        return self.image.architecture

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty: two towers have no classes."""
        return ()

    @property
    def taps(self) -> dict[str, tuple[int, ...]]:
        """As `Model.taps`: the image tower's, `img/…`."""
        return self.image.taps

    def resolve(self, tap: str) -> str:
        """As `Model.resolve`."""
        return self.image.resolve(tap)

    def with_variables(self, variables: Mapping[str, Any], weights_hash: str) -> TwoTower:
        """As `Model.with_variables`: the same towers and tokenizer with other variables."""
        return dataclasses.replace(self, image=self.image.with_variables(variables, weights_hash))

    @property
    def units(self) -> Mapping[str, UnitForm]:
        """As `Model.units`."""
        return self.image.units

    def with_units(self, tap: str, units: UnitMap) -> TwoTower:
        """As `Model.with_units`."""
        return dataclasses.replace(self, image=self.image.with_units(tap, units))

    def unit_arrays(self, tap: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `Model.unit_arrays`."""
        return self.image.unit_arrays(tap, variables)

    def probe(
        self,
        images: UInt8[Array, "images height width 3"],
        pools: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
    ) -> Probed:
        """As `Model.probe`, with embeddings (images, numbers) in place of logits."""
        return self.image.probe(images, pools, variables)

    def suffix(self, tap: str) -> Suffix:
        """As `Model.suffix`: from an image tower's tapped value to embeddings."""
        return self.image.suffix(tap)

    @checks_input
    def activations(
        self, images: Images, tap: str, pool: str = "avg", batch_size: int = 64
    ) -> Float[np.ndarray, "images ..."]:
        """As `Model.activations`."""
        return self.image.activations(images, tap, pool, batch_size)

    @property
    def scale(self) -> float:
        """exp(t): what the cosine was multiplied by in training; calibration ends elsewhere."""
        return math.exp(float(np.ravel(self.variables["params"]["t"])[0]))

    @property
    def shift(self) -> float:
        """b / exp(t): what was added to the cosine before that. 0 for CLIP and PE-Core, whose
        softmax needs none, so that their probabilities need a calibration."""
        return float(np.ravel(self.variables["params"].get("b", 0.0))[0]) / self.scale

    @checks_input
    def embed_images(
        self, images: Images, batch_size: int = 64
    ) -> Float[np.ndarray, "images numbers"]:
        """Returns the embeddings of images that fit in memory.

        Args:
          images: as for `Model.activations`.
          batch_size: images a forward pass.

        Returns:
          float32 (images, numbers); rows of unit length.

        Raises:
          ValueError: no images.
        """
        return self.image.logits(images, batch_size)

    @checks_input
    def embed_texts(
        self, texts: Sequence[str], batch_size: int = 256
    ) -> Float[np.ndarray, "texts numbers"]:
        """Returns the embeddings of texts, such as concepts.

        Batches have one fixed shape, so that one compilation serves any number of texts.

        Args:
          texts: a list of str; of what is longer than the context (`cut`) the end is not read.
          batch_size: texts a forward pass.

        Returns:
          float32 (texts, numbers); rows of unit length.

        Raises:
          ValueError: no list of str, or a tokenizer of another vocabulary.
          ConnectionError: the tokenizer cannot be fetched; names the file to bring.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts is {texts[:3]!r}; expected a list of one or more str")
        tokens, batch_size = self.tokenize(texts), self.image.fit_batch(min(batch_size, len(texts)))
        known = self.variables["params"]["txt"]["Embed_0"]["embedding"].shape[0]
        if tokens.max() >= known:  # a gather would clamp it silently
            raise ValueError(
                f"the tokenizer gives token {tokens.max()}, "
                f"but the text tower of {self.name} knows {known}"
            )
        parts = []
        for start in range(0, len(tokens), batch_size):
            batch = tokens[start : start + batch_size]
            rows = np.pad(batch, ((0, batch_size - len(batch)), (0, 0)), mode="edge")
            parts.append(
                np.asarray(self._embed_tokens(self.variables, self.image.place(rows)))[: len(batch)]
            )
        return np.concatenate(parts)

    def unreadable(self, texts: Sequence[str]) -> list[str]:
        """Returns those texts of which this tower's vocabulary has nothing, such as "!!!" for
        SigLIP; their embeddings would mean nothing."""
        return unreadable(self.tokenize, texts)

    def cut(self, texts: Sequence[str]) -> list[str]:
        """Returns those texts that are longer than this tower's context: their ends are not read,
        so that names which differ there alone are embedded alike."""
        return self.tokenize.cut(texts)

    @functools.cached_property
    def tokenize(self) -> Tokenizer:
        """list of str → int32 (texts, length)."""
        return self.load_tokenizer()

    @functools.cached_property
    def _embed_tokens(self):
        return jax.jit(
            lambda variables, tokens: self.module.apply(variables, tokens, method="embed_texts")
        )
