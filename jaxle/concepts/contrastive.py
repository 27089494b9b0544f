"""Contrastive concepts: probabilities from the embeddings of two towers (method.md §3, SigLIP).

    P_ij = σ(scale·(cos(E_I(x_i), E_T(c_j)) + shift))

Only the embeddings are held, images × numbers and concepts × numbers; tiles of P are made where
they are consumed. SigLIP and CLIP differ in their calibration only (`calibration`). The paper
embeds the raw concept, without a prompt; templates are an option.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Float32, Int, Real

from jaxle.arrays import Array, as_matrix, checks_input
from jaxle.mesh import replicated, several, split_rows
from jaxle.solve import tiles

UNIT = 0.01  # how far from 1 the length of an embedding may be: bfloat16's rounding and no more


@dataclasses.dataclass(frozen=True, eq=False)
class ContrastiveConcepts:
    """Concepts by two towers; `ContrastiveConcepts.make` makes it.

    Attributes:
      concepts: the names of the columns.
      scale, shift: the calibration.
    """

    concepts: tuple[str, ...]
    scale: float
    shift: float
    _images: Real[Array, "images numbers"]  # on the host
    _texts: Float32[jax.Array, "padded numbers"]  # on the device
    _mesh: Mesh | None

    @classmethod
    @checks_input
    def make(
        cls,
        concepts: Sequence[str],
        image_embeddings: Real[Array, "images numbers"],
        text_embeddings: Real[Array, "concepts numbers"],
        scale: float,
        shift: float,
        mesh: Mesh | None = None,
    ) -> ContrastiveConcepts:
        """Returns concepts of a set of images from what `embed_images` and `embed_prompts` gave.

        Args:
          concepts: names, all different.
          image_embeddings: (images, numbers), rows of length 1; may be a memory map, or whatever
            else `jaxle.arrays.as_matrix` takes.
          text_embeddings: (concepts, numbers), rows of length 1.
          scale, shift: P = σ(scale·(cos + shift)).
          mesh: rows of a tile are made by the devices of its axis `data`, where they divide evenly.

        Raises:
          ValueError: shapes that do not fit, values that are not finite, embeddings that are not of
            length 1, names that repeat.
        """
        concepts = tuple(str(concept) for concept in concepts)
        image_embeddings = as_matrix(image_embeddings, "image embeddings", ("images", "numbers"))
        text_embeddings = as_matrix(text_embeddings, "text embeddings", ("concepts", "numbers"))
        if text_embeddings.shape != (len(concepts), image_embeddings.shape[1]):
            raise ValueError(
                f"text embeddings are {text_embeddings.shape}; expected ({len(concepts)} concepts, "
                f"{image_embeddings.shape[1]} numbers as the image embeddings have)"
            )
        twice = sorted(
            concept for concept, times in collections.Counter(concepts).items() if times > 1
        )
        if twice:
            raise ValueError(f"concepts repeat: {', '.join(twice[:10])}; expected each once")
        if not (np.isfinite(scale) and np.isfinite(shift)):
            raise ValueError(f"scale and shift are {scale} and {shift}; expected finite numbers")
        _check_unit(image_embeddings, "image")
        _check_unit(text_embeddings, "text")
        texts = np.asarray(text_embeddings, np.float32)
        more = tiles.wide(len(concepts)) - len(concepts)  # sets of nearly one size share programs
        mesh = several(mesh)
        where = None if mesh is None else replicated(mesh)
        texts = jax.device_put(np.pad(texts, ((0, more), (0, 0))), where)
        return cls(concepts, float(scale), float(shift), image_embeddings, texts, mesh)

    def __len__(self) -> int:
        """Number of images."""
        return self._images.shape[0]

    def rows(
        self,
        index: Int[Array, "rows"] | slice,
        columns: Int[Array, "columns"] | slice | None = None,
    ) -> Float32[jax.Array, "_ _"]:
        """Returns some rows of the images × concepts matrix, a tile where it is consumed.

        Args:
          index: int (rows,), images, or a slice.
          columns: int (columns,) or a slice, concepts; None for all.

        Returns:
          float32 (rows, columns), 0–1.
        """
        return _probabilities(
            *self._operands(index, columns), np.float32(self.scale), np.float32(self.shift)
        )

    def cosines(
        self,
        index: Int[Array, "rows"] | slice,
        columns: Int[Array, "columns"] | slice | None = None,
    ) -> Float32[jax.Array, "_ _"]:
        """Returns the same before scale, shift and σ: what a calibration is fitted on."""
        return _cosines(*self._operands(index, columns))

    def _operands(self, index, columns):
        images = np.asarray(self._images[index], np.float32)
        if self._mesh is not None and len(images) % self._mesh.shape["data"] == 0:
            images = jax.device_put(images, split_rows(self._mesh))
        n = len(self.concepts)
        every = columns is None or (isinstance(columns, slice) and columns == slice(None))
        if every and n == len(self._texts):
            return images, self._texts, None
        # numbers of concepts, of which none is a column of padding
        columns = np.arange(n, dtype=np.int32)[slice(None) if columns is None else columns]
        return images, self._texts, columns


def embed_prompts(
    embed_texts: Callable[[list[str]], Real[Array, "texts numbers"]],
    concepts: Sequence[str],
    templates: Sequence[str] = (),
) -> Float[np.ndarray, "concepts numbers"]:
    """Returns embeddings of concepts, each as it is (the paper) or as the mean over prompts.

    Args:
      embed_texts: list of str → (texts, numbers), rows of length 1, such as a two-tower model's.
      concepts: names.
      templates: such as "a photo of a {}."; none for the bare name.

    Returns:
      float32 (concepts, numbers), rows of length 1.

    Raises:
      ValueError: a template without exactly one {}.
    """
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong:
        raise ValueError(f"prompt templates are {wrong}; expected exactly one {{}} in each")
    total = sum(
        np.asarray(embed_texts(fill(template, concepts)), np.float32)
        for template in templates or ("{}",)
    )
    total = np.asarray(total)
    return total / np.linalg.norm(total, axis=1, keepdims=True) if templates else total


def fill(template: str, concepts: Sequence[str]) -> list[str]:
    """Returns each concept in a prompt; "{}" is the bare concept."""
    return [template.replace("{}", concept) for concept in concepts]


def _check_unit(embeddings, word):
    for start in range(0, embeddings.shape[0], 4096):
        lengths = np.linalg.norm(np.asarray(embeddings[start : start + 4096], np.float32), axis=1)
        wrong = np.flatnonzero(np.abs(lengths - 1) > UNIT)
        if wrong.size:
            raise ValueError(
                f"{word} embedding {start + wrong[0]} has length {lengths[wrong[0]]:.4g}; "
                "expected 1 (L2-normalised)"
            )


@jax.jit
def _cosines(images, texts, columns):
    texts = texts if columns is None else texts[columns]
    return jnp.matmul(images, texts.T, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _probabilities(images, texts, columns, scale, shift):
    return jax.nn.sigmoid(scale * (_cosines(images, texts, columns) + shift))
