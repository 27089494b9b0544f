"""Records of concept matrices: names, rows, and the embeddings that rows are made of.

Tiles of a matrix are made where they are read; images × concepts is never held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxle.explainers.protocol import ConceptRows
from jaxle.pipeline.probe import Embedded


@dataclass(frozen=True, eq=False)
class ConceptMatrix:
    """Probabilities of concepts in images.

    Attributes:
      key: fingerprint of all that they depend on.
      kind: label, siglip, nonsense, or a simulator's own.
      matrix: names and rows.
      origin: of each name the set that it came from; empty for labels.
      encoder: whose probabilities they are, with the words' embeddings; None for labels.
      texts: concept made of several names → the one that encoders embed; other concepts are
        embedded as they are written.
      base: the matrix of the concepts, where this one's columns are formulas over it.
    """

    key: str
    kind: str
    matrix: ConceptRows
    origin: tuple[str, ...] = ()
    encoder: Embeddings | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    base: ConceptMatrix | None = None

    @property
    def words(self) -> ConceptMatrix:
        """The matrix of the concepts themselves."""
        return self if self.base is None else self.base

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts, in the order of the columns."""
        return tuple(self.matrix.concepts)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """An encoder whose image embeddings become probabilities: σ(scale·(cos + shift))."""

    key: str
    embedded: Embedded
    scale: float
    shift: float
    facts: Mapping[str, Any]  # with where they come from, and how well they agree with labels


@dataclass(frozen=True, eq=False)
class Texts:
    """Embeddings of words by an encoder, (words, numbers)."""

    key: str
    names: tuple[str, ...]
    embeddings: np.ndarray


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What an encoder's probabilities are made of."""

    calibrated: Calibrated
    texts: Texts
