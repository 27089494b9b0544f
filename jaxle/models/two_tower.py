"""Two towers ready for pictures and texts: an image tower's record with a text tower and its tokenizer beside it.

    P(text t fits image i) = σ(scale·(cos(z_i, z_t) + shift))

Scale and shift are those of the training; a calibration on the probe images gives others. Source: Zhai et al. 2023 (arXiv 2303.15343).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxle.images import Preprocess
from jaxle.models.model import Model
from jaxle.models.suffix import Suffix
from jaxle.models.tokenizers import unreadable


@dataclasses.dataclass(frozen=True, eq=False)
class TwoTower:
    """What `load_model` returns for SigLIP and CLIP; what it shares with `Model` it takes from `image`.

    Attributes:
      image: the whole network as a Model, whose output for pictures is their embedding: its taps are the image tower's.
      load_tokenizer: makes the function from texts to int32 tokens (texts, length), on first use.
    """

    image: Model
    load_tokenizer: Callable[[], Callable[[Sequence[str]], np.ndarray]] = dataclasses.field(
        repr=False
    )

    @property
    def name(self) -> str:
        """As in the zoo."""
        return self.image.name

    @property
    def module(self) -> nn.Module:
        """The Linen module: normalised images, and optionally tokens, to embeddings of unit length."""
        return self.image.module

    @property
    def variables(self) -> Mapping[str, Any]:
        """The parameters of both towers, `t` and `b`."""
        return self.image.variables

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are fitted and normalised."""
        return self.image.preprocess

    @property
    def weights_hash(self) -> str:
        """sha256 of the weights file (or "random_init:<seed>"), for fingerprints."""
        return self.image.weights_hash

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty: two towers know no classes."""
        return ()

    @property
    def taps(self) -> dict[str, tuple[int, ...]]:
        """As `Model.taps`: the image tower's, `img/…`."""
        return self.image.taps

    def resolve(self, tap: str) -> str:
        """As `Model.resolve`."""
        return self.image.resolve(tap)

    def probe(
        self,
        images: jax.Array,
        pools: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
    ):
        """As `Model.probe`, with embeddings (images, numbers) in place of logits."""
        return self.image.probe(images, pools, variables)

    def suffix(self, tap: str) -> Suffix:
        """As `Model.suffix`: from an image tower's tapped value to embeddings."""
        return self.image.suffix(tap)

    def activations(self, images, tap: str, pool: str = "avg", batch_size: int = 64) -> np.ndarray:
        """As `Model.activations`."""
        return self.image.activations(images, tap, pool, batch_size)

    @property
    def scale(self) -> float:
        """exp(t): what the cosine was multiplied by in training; calibration ends elsewhere."""
        return math.exp(float(np.ravel(self.variables["params"]["t"])[0]))

    @property
    def shift(self) -> float:
        """b / exp(t): what was added to the cosine before that; 0 for CLIP, whose softmax needs none (so calibrate it)."""
        return float(np.ravel(self.variables["params"].get("b", 0.0))[0]) / self.scale

    def embed_images(self, images, batch_size: int = 64) -> np.ndarray:
        """Use it for pictures that fit in memory.

        Args:
          images: uint8 images, h, w, 3 (0–255), or a list of PIL images or uint8 (h, w, 3) arrays of any sizes.

        Returns:
          float32 images, numbers; rows of unit length.
        """
        return self.image.logits(images, batch_size)

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Use it for concepts; runs in batches of one fixed shape, so one compilation serves any number of texts.

        Args:
          texts: a list of str.

        Returns:
          float32 texts, numbers; rows of unit length.

        Raises:
          ValueError: no list of str, or a tokenizer of another vocabulary. ConnectionError: the tokenizer cannot be fetched; names the
            file to bring.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts is {texts[:3]!r}; expected a list of one or more str")
        tokens, batch_size = self.tokenize(texts), self.image.fit_batch(min(batch_size, len(texts)))
        known = self.variables["params"]["txt"]["Embed_0"]["embedding"].shape[0]
        if tokens.max() >= known:  # a gather would clamp it without a word
            raise ValueError(
                f"the tokenizer gives token {tokens.max()}, but the text tower of {self.name} knows {known}"
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
        """Those texts of which this tower's vocabulary knows nothing, such as "!!!" for SigLIP; their embeddings would mean nothing."""
        return unreadable(self.tokenize, texts)

    @functools.cached_property
    def tokenize(self) -> Callable[[Sequence[str]], np.ndarray]:
        """list of str → int32 texts, length."""
        return self.load_tokenizer()

    @functools.cached_property
    def _embed_tokens(self):
        return jax.jit(
            lambda variables, tokens: self.module.apply(variables, tokens, method="embed_texts")
        )
