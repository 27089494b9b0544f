"""The table of a layer's explanations: one row per neuron, with scores, in memory and on a page.

A table is a read-only sequence of `Explanation`. Slices, masks and index arrays of it are tables
again, with the scores of their rows. `to_csv` and `from_csv` use the published format
(`jaxle.explanations.published`), `to_arrays` and `from_arrays` plain arrays for the cache. Both
keep every value.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import pandas as pd
from etils import epath
from jaxtyping import Float, Float64, Int64, Integer, Real, Shaped

from jaxle.arrays import Array, checks_input
from jaxle.explanations import published
from jaxle.explanations.explanation import Explanation, check_names

SHOWN = 10  # rows that a notebook shows; a terminal shows half as many
_FRAME = ("unit", "explanation", "concepts", "weights", "bias", "val_correlation", "flag", "kind")


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Sequence[Explanation]):
    """Explanations of a layer's neurons, in order, with their scores.

    `table[3]` is the fourth row. `table[:5]`, `table[mask]` and `table[[3, 1]]` are tables;
    `select` takes unit numbers instead of positions.

    Attributes:
      rows: one explanation per neuron.
      scores: column name → (neurons,) float64, such as `sim correlation`.
      layer: the layer's name where the table has such a column, else None.
      split: the `jaxle.Split` they were made with, None where they were read from a file.
      facts: what the fit reported, as JSON values (worst duality gap, concepts screened out, …).

    Raises:
      ValueError: a score is not one finite number per row, or has the name of another column.
    """

    rows: tuple[Explanation, ...]
    scores: Mapping[str, Float64[np.ndarray, " neurons"]] = field(default_factory=dict)
    layer: str | None = None
    split: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(self.rows))
        check_names(self.scores, "score")
        check_names([] if self.layer is None else [self.layer], "layer")
        scores = {}
        for name, values in self.scores.items():
            scores[name] = np.asarray(values, np.float64)
            if scores[name].shape != (len(self.rows),) or not np.isfinite(scores[name]).all():
                raise ValueError(
                    f"score {name!r} must be {len(self.rows)} finite numbers, "
                    f"got {np.asarray(values)}."
                )
            if name in _FRAME or published.is_column(name):
                raise ValueError(
                    f"score {name!r} has the name of another column of the table: rename it."
                )
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Array | pd.Series) -> Explanations: ...

    @checks_input
    def __getitem__(self, index):
        """Returns one row for a position; a table for a slice, a mask or an array of positions.

        Args:
          index: an integer; a slice; (neurons,) bool; or (rows,) integers, in any order.

        Raises:
          IndexError: a position outside the table. ValueError: anything else.
        """
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        places = np.asarray(index)
        if places.size == 0 and places.ndim == 1 and places.dtype != bool:
            places = places.astype(np.int64)
        if places.dtype == bool and places.shape == (len(self),):
            return self._take(np.flatnonzero(places))
        if places.dtype.kind not in "iu" or places.ndim > 1:
            raise ValueError(
                f"explanations are indexed by an integer, a slice, integers or {len(self)} bools, "
                f"got {places.dtype} of shape {places.shape}."
            )
        outside = places[(places < -len(self)) | (places >= len(self))]
        if outside.size:
            raise IndexError(
                f"no row {outside.flat[0]} in a table of {len(self)} explanations; "
                "select(units) takes unit numbers."
            )
        return self.rows[int(places)] if places.ndim == 0 else self._take(places)

    def _take(self, places: Integer[np.ndarray, " rows"]) -> Explanations:
        return replace(
            self,
            rows=tuple(self.rows[i] for i in places.tolist()),
            scores={name: values[places] for name, values in self.scores.items()},
        )

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.rows)

    @checks_input
    def select(self, units: int | Sequence[int] | Integer[Array, " rows"]) -> Explanations:
        """Returns the rows of these neurons, in the order given, as a table.

        Args:
          units: unit numbers as in `units`, one or many.

        Raises:
          ValueError: units that the table does not have, or that are not integers.
        """
        wanted = np.atleast_1d(np.asarray(units))
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise ValueError(
                f"units must be unit numbers, got {wanted.dtype} of shape {wanted.shape}."
            )
        place = {unit: i for i, unit in reversed(list(enumerate(self.units.tolist())))}
        unknown = [unit for unit in wanted.tolist() if unit not in place]
        if unknown:
            have = f"{min(place)} to {max(place)}" if place else "none"
            raise ValueError(
                f"the table has no unit {', '.join(map(str, unknown[:5]))}"
                f"{', …' if len(unknown) > 5 else ''}; it has {len(place)} units ({have})."
            )
        return self._take(np.array([place[unit] for unit in wanted.tolist()], np.int64))

    @property
    def units(self) -> Int64[np.ndarray, " neurons"]:
        """Each row's index in its layer."""
        return np.array([row.unit for row in self.rows], np.int64)

    @property
    def flags(self) -> Shaped[np.ndarray, " neurons"]:
        """Each row's flag, as str."""
        return np.array([row.flag for row in self.rows], dtype=str)

    @property
    def lengths(self) -> Int64[np.ndarray, " neurons"]:
        """Words per explanation: concepts, those of a formula each as often as it stands there."""
        return np.array([row.length for row in self.rows], np.int64)

    @property
    def terms(self) -> Int64[np.ndarray, " neurons"]:
        """Weights per explanation: concepts and formulas."""
        return np.array([len(row.concepts) for row in self.rows], np.int64)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept that a simulator must know, once, in order of first use.

        Those within formulas are among them; a text that is no formula has none.
        """
        return tuple(dict.fromkeys(name for row in self.rows for name in row.words))

    def as_formulas(self) -> Explanations:
        """Returns the same sums with every name written as a formula, a concept as one name.

        So that a concept called `dog AND cat` and the formula `dog AND cat` have two names.
        """
        rows = (
            replace(row, concepts=row.texts, kind="formula") if row.concepts else row
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))

    def weight_matrix(
        self, concepts: Sequence[str], dtype: type = np.float32
    ) -> tuple[Float[np.ndarray, "concepts neurons"], Float[np.ndarray, " neurons"]]:
        """Returns the weights as a dense matrix over `concepts`, and the biases, for simulation.

        Args:
          concepts: names of the rows.
          dtype: np.float32 or np.float64.

        Raises:
          ValueError: an explanation uses a concept that `concepts` lacks, is a formula whose
            column they lack, or has a number that is beyond that dtype.
        """
        place = {concept: i for i, concept in enumerate(concepts)}
        plain = [row for row in self.rows if row.kind != "formula"]
        missing = dict.fromkeys(c for row in plain for c in row.concepts if c not in place)
        if missing:
            raise ValueError(
                f"the simulator lacks {len(missing)} concepts that the explanations use, "
                f"such as {list(missing)[:5]}."
            )
        weights = np.zeros((len(concepts), len(self.rows)), dtype)
        for k, row in enumerate(self.rows):
            if max(map(abs, (*row.weights, row.bias))) > float(np.finfo(dtype).max):
                raise ValueError(f"neuron {row.unit} has weights or a bias beyond float32: {row}.")
            for concept, weight in zip(row.concepts, row.weights, strict=True):
                if concept not in place:
                    raise ValueError(
                        f"neuron {row.unit} is explained by the formula {concept!r}, for which "
                        "the simulator has no column: simulate it with the method that made it."
                    )
                weights[place[concept], k] += weight
        return weights, np.array([row.bias for row in self.rows], dtype)

    @checks_input
    def with_scores(self, scores: Mapping[str, Real[Array, " neurons"]]) -> Explanations:
        """Returns the same explanations with score columns added or replaced.

        Raises:
          ValueError: as for the table itself.
        """
        new = {name: np.asarray(values, np.float64) for name, values in scores.items()}
        return replace(self, scores={**self.scores, **new})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it but `split` and `facts` as arrays of plain dtypes, for an artifact.

        `concepts` and `weights` are (neurons, longest), padded; `val_correlation` is NaN where
        none is known; `layer` is (1,) or, for None, (0,); `scores` is (names, neurons).
        """
        longest = max([1, *self.terms.tolist()])
        shape = (len(self), longest)
        concepts = [[*row.concepts, *[""] * (longest - len(row.concepts))] for row in self.rows]
        weights = [[*row.weights, *[0.0] * (longest - len(row.weights))] for row in self.rows]
        return {
            "units": self.units,
            "concepts": np.array(concepts, dtype=str).reshape(shape),
            "weights": np.array(weights, np.float64).reshape(shape),
            "terms": self.terms,
            "bias": np.array([row.bias for row in self.rows], np.float64),
            "val_correlation": self._val_correlation(),
            "flags": self.flags,
            "kinds": np.array([row.kind for row in self.rows], dtype=str),
            "layer": np.array([] if self.layer is None else [self.layer], dtype=str),
            "score_names": np.array(list(self.scores), dtype=str),
            "scores": np.array(list(self.scores.values()), np.float64).reshape(
                len(self.scores), len(self)
            ),
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        split: Any = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Explanations:
        """Returns the table of which `to_arrays` made these arrays, with this split and facts."""
        names = ("units", "concepts", "weights", "terms", "bias", "val_correlation", "flags")
        columns = [arrays[name].tolist() for name in (*names, "kinds")]
        rows = tuple(
            Explanation(
                unit, tuple(c[:n]), tuple(w[:n]), b, None if rho != rho else rho, flag, kind
            )
            for unit, c, w, n, b, rho, flag, kind in zip(*columns, strict=True)
        )
        scores = dict(zip(arrays["score_names"].tolist(), arrays["scores"], strict=True))
        layer = arrays["layer"].tolist()
        return cls(rows, scores, layer[0] if layer else None, split, facts or {})

    def to_csv(self, path: epath.PathLike) -> None:
        """Writes the published format, atomically; `from_csv` reads it back without loss."""
        published.write(path, self.rows, self.scores, self.layer)

    @classmethod
    def from_csv(cls, path: epath.PathLike) -> Explanations:
        """Returns the table in a published file, or in one that jaxle wrote.

        Raises:
          ValueError: the file is no such table; the message names the line and the column.
        """
        return cls(*published.read(path))

    def to_frame(self) -> pd.DataFrame:
        """Returns a pandas table, one row per neuron.

        Columns: `layer` where there is one, `unit`, `explanation` (its text), `concepts` and
        `weights` (tuples), `bias`, `val_correlation` (NaN where none is known), `flag`, `kind`,
        and the scores.
        """
        frame = {
            "unit": self.units,
            "explanation": [str(row) for row in self.rows],
            "concepts": [row.concepts for row in self.rows],
            "weights": [row.weights for row in self.rows],
            "bias": [row.bias for row in self.rows],
            "val_correlation": self._val_correlation(),
            "flag": [row.flag for row in self.rows],
            "kind": [row.kind for row in self.rows],
            **self.scores,
        }
        return pd.DataFrame(frame if self.layer is None else {"layer": self.layer, **frame})

    def _val_correlation(self) -> Float64[np.ndarray, " neurons"]:
        return np.array(
            [np.nan if row.val_correlation is None else row.val_correlation for row in self.rows],
            np.float64,
        )

    def _title(self) -> str:
        where = "" if self.layer is None else f" of {self.layer}"
        flags = [flag for flag in self.flags.tolist() if flag]
        counts = [f", {flags.count(flag)} {flag}" for flag in dict.fromkeys(flags)]
        length = f", {self.lengths.mean():.1f} words on average" if len(self) else ""
        return f"{len(self)} explanation{'s' * (len(self) != 1)}{where}{length}{''.join(counts)}"

    def __repr__(self) -> str:
        lines = [f"Explanations: {self._title()}"]
        for row in self.rows[: SHOWN // 2]:
            lines.append(f"{row.unit:>6}  {row}{f'  [{row.flag}]' * bool(row.flag)}")
        if len(self) > SHOWN // 2:
            lines.append(f"     …  {len(self) - SHOWN // 2} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Returns a small table for notebooks; every text in it is escaped."""
        names = ["unit", "explanation", "val_correlation", "flag", *self.scores]
        lines = ["".join(f"<th>{html.escape(name)}</th>" for name in names)]
        for k, row in enumerate(self.rows[:SHOWN]):
            rho = "" if row.val_correlation is None else f"{row.val_correlation:.3f}"
            scores = [f"{values[k]:.3f}" for values in self.scores.values()]
            cells = [str(row.unit), str(row), rho, row.flag, *scores]
            lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
        if len(self) > SHOWN:
            lines.append(f'<td colspan="{len(names)}">… {len(self) - SHOWN} more</td>')
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><caption>{html.escape(self._title())}</caption>{body}</table>"
