"""The table of explanations: a neuron a row, each a short weighted sum of words, in memory, as text and as CSV.

    activation ≈ Σ_i weight_i · Pr(concept_i is in the image) + bias

The CSV is the format in which the paper's authors publish theirs (github.com/Trustworthy-ML-Lab/Linear-Explanations): `unit`, optionally
`layer`, then `val correlation`, `weight0,concept0,…,bias` (unused slots hold 0) or `description`, then scores in any order. jaxle reads it
and writes it without loss, and adds a last column `flag`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from etils import epath

from jaxle import artifacts

SLOTS = 10  # weight0 … weight9, as published; a longer explanation widens the table
FLAGS = {
    "dead": "its activation stays below the dead threshold on all probe images",
    "constant": "its activation does not vary on the training images",
    "unexplained": "nothing that was tried correlates with it on images that its fit did not see",
    "unconverged": "its elastic net stopped at the iteration cap, above the tolerance",
}


@dataclass(frozen=True)
class Explanation:
    """One neuron's explanation: `str(e)` reads "3.1×snowmobile + 2.2×ski − 0.04".

    Attributes:
      unit: the neuron's index in its layer.
      concepts: the words, by descending weight; empty if the neuron has no explanation.
      weights: one per concept, on the raw concept probability, in units of the activation.
      bias: the intercept, in units of the activation.
      val_correlation: Pearson's correlation with the activation on the validation images; None where none was published.
      flag: "" or one of `FLAGS`.
      description: True for a bare text of another method, which counts as one concept of weight 1.
    """

    unit: int
    concepts: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    val_correlation: float | None = None
    flag: str = ""
    description: bool = False

    def __str__(self) -> str:
        if self.description:
            return self.concepts[0]
        terms = [
            f"{'−' if w < 0 else '+'} {abs(w):.2g}×{c}"
            for w, c in zip(self.weights, self.concepts, strict=True)
        ]
        text = " ".join([*terms, f"{'−' if self.bias < 0 else '+'} {abs(self.bias):.2g}"])
        return text[2:] if text.startswith("+ ") else "−" + text[2:]


@dataclass(frozen=True, eq=False)
class Explanations(Sequence):
    """Explanations of a layer's neurons, in order, with their scores; a read-only sequence of `Explanation`.

    Attributes:
      rows: one explanation a neuron.
      scores: column name → (neurons,) float64, such as `sim correlation`.
      layer: the layer's name where the table has such a column, else None.
      split: the `jaxle.Split` they were made with, None where they were read from a file.
      facts: what the fit reported, as JSON values (worst duality gap, concepts screened out, …).
    """

    rows: tuple[Explanation, ...]
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    layer: str | None = None
    split: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name, values in self.scores.items():
            if len(values) != len(self.rows) or not np.isfinite(values).all():
                raise ValueError(
                    f"score {name!r} must be {len(self.rows)} finite numbers, got {np.asarray(values)}."
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Explanation:
        return self.rows[index]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.rows)

    @property
    def units(self) -> np.ndarray:
        """(neurons,) int64: each row's index in its layer."""
        return np.array([row.unit for row in self.rows], np.int64)

    @property
    def flags(self) -> np.ndarray:
        """(neurons,) str."""
        return np.array([row.flag for row in self.rows], dtype=str)

    @property
    def lengths(self) -> np.ndarray:
        """(neurons,) int64: concepts per explanation."""
        return np.array([len(row.concepts) for row in self.rows], np.int64)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept that occurs, once, in order of first use."""
        return tuple(dict.fromkeys(c for row in self.rows for c in row.concepts))

    def weight_matrix(self, concepts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Weights as a dense matrix over `concepts`, for simulation.

        Returns:
          (concepts, neurons) float32 weights and (neurons,) float32 biases.

        Raises:
          ValueError: an explanation uses a concept that `concepts` lacks.
        """
        place = {concept: i for i, concept in enumerate(concepts)}
        missing = [c for c in self.concepts if c not in place]
        if missing:
            raise ValueError(
                f"the simulator lacks {len(missing)} concepts that the explanations use, such as {missing[:5]}."
            )
        weights = np.zeros((len(concepts), len(self.rows)), np.float32)
        for k, row in enumerate(self.rows):
            for concept, weight in zip(row.concepts, row.weights, strict=True):
                weights[place[concept], k] += weight
        return weights, np.array([row.bias for row in self.rows], np.float32)

    def with_scores(self, scores: Mapping[str, np.ndarray]) -> Explanations:
        """The same explanations with score columns, (neurons,) each, added or replaced."""
        new = {name: np.asarray(values, np.float64) for name, values in scores.items()}
        return replace(self, scores={**self.scores, **new})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Linear explanations as plain arrays, for an artifact: `concepts` and `weights` are (neurons, longest), padded."""
        longest = max([1, *self.lengths.tolist()])
        return {
            "units": self.units,
            "concepts": np.array(
                [[*row.concepts, *[""] * (longest - len(row.concepts))] for row in self.rows],
                dtype=str,
            ),
            "weights": np.array(
                [[*row.weights, *[0.0] * (longest - len(row.weights))] for row in self.rows],
                np.float64,
            ),
            "lengths": self.lengths,
            "bias": np.array([row.bias for row in self.rows], np.float64),
            "val_correlation": np.array([row.val_correlation for row in self.rows], np.float64),
            "flags": self.flags,
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        split: Any = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Explanations:
        """What `to_arrays` gave, as a table again."""
        columns = [
            arrays[name].tolist()
            for name in (
                "units",
                "concepts",
                "weights",
                "lengths",
                "bias",
                "val_correlation",
                "flags",
            )
        ]
        rows = tuple(
            Explanation(unit, tuple(concepts[:n]), tuple(weights[:n]), bias, rho, flag)
            for unit, concepts, weights, n, bias, rho, flag in zip(*columns, strict=True)
        )
        return cls(rows, split=split, facts=facts or {})

    def to_csv(self, path: epath.PathLike) -> None:
        """Write the table in the published format, atomically; `from_csv` reads it back without loss."""
        artifacts.write_text(path, "".join(self._csv_lines()))

    def _csv_lines(self) -> Iterator[str]:
        linear = not all(row.description for row in self.rows)
        slots = max([SLOTS, *self.lengths.tolist()])
        pairs = [name for i in range(slots) for name in (f"weight{i}", f"concept{i}")]
        body = ["val correlation", *pairs, "bias"] if linear else ["description"]
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\n")
        writer.writerow(
            [*(["layer"] if self.layer is not None else []), "unit", *body, *self.scores, "flag"]
        )
        for k, row in enumerate(self.rows):
            cells = [self.layer] if self.layer is not None else []
            cells.append(row.unit)
            if linear:
                cells.append("" if row.val_correlation is None else row.val_correlation)
                for i in range(slots):
                    cells += [row.weights[i], row.concepts[i]] if i < len(row.concepts) else [0, 0]
                cells.append(row.bias)
            else:
                cells.append(row.concepts[0])
            writer.writerow(
                [*cells, *(float(values[k]) for values in self.scores.values()), row.flag]
            )
        yield line.getvalue()

    @classmethod
    def from_csv(cls, path: epath.PathLike) -> Explanations:
        """Read a published table, or one that jaxle wrote.

        Raises:
          ValueError: the file is no such table; the message names the line and the column.
        """
        path = epath.Path(path)
        table = list(csv.reader(io.StringIO(path.read_text(), newline=""), strict=True))
        if not table or "unit" not in table[0] or not ({"description", "bias"} & set(table[0])):
            raise ValueError(
                f"{path} is no table of explanations: expected columns unit and either description or weight0, concept0, …, bias; "
                f"got {table[0][:6] if table else 'an empty file'}."
            )
        header, lines = table[0], table[1:]
        column = {name: i for i, name in enumerate(header)}
        slots = sum(name.startswith("weight") and name[6:].isdigit() for name in header)
        known = {"layer", "unit", "description", "val correlation", "bias", "flag"}
        known |= {f"{kind}{i}" for kind in ("weight", "concept") for i in range(slots)}
        score_names = [name for name in header if name not in known]

        def number(line: int, name: str) -> float:
            try:
                value = float(lines[line][column[name]])
            except (ValueError, IndexError):
                got = lines[line][column[name]] if column[name] < len(lines[line]) else "nothing"
                raise ValueError(
                    f"{path}, line {line + 2}, column {name!r}: expected a number, got {got!r}."
                ) from None
            if not np.isfinite(value):
                raise ValueError(
                    f"{path}, line {line + 2}, column {name!r}: expected a finite number, got {value}."
                )
            return value

        rows = []
        for i, cells in enumerate(lines):
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, line {i + 2}: expected {len(header)} cells, got {len(cells)}."
                )
            flag = cells[column["flag"]] if "flag" in column else ""
            unit = int(number(i, "unit"))
            if "description" in column:
                rows.append(
                    Explanation(
                        unit,
                        (cells[column["description"]],),
                        (1.0,),
                        0.0,
                        None,
                        flag,
                        description=True,
                    )
                )
                continue
            pairs = [(number(i, f"weight{j}"), cells[column[f"concept{j}"]]) for j in range(slots)]
            used = [(w, c) for w, c in pairs if not (w == 0 and c in ("0", "0.0", ""))]
            published = "val correlation" in column and cells[column["val correlation"]] != ""
            rho = number(i, "val correlation") if published else None
            rows.append(
                Explanation(
                    unit,
                    tuple(c for _, c in used),
                    tuple(w for w, _ in used),
                    number(i, "bias"),
                    rho,
                    flag,
                )
            )
        layers = {cells[column["layer"]] for cells in lines} if "layer" in column else {None}
        if len(layers) > 1:
            raise ValueError(
                f"{path} mixes the layers {sorted(layers)}: expected one layer a file."
            )
        scores = {
            name: np.array([number(i, name) for i in range(len(lines))]) for name in score_names
        }
        return cls(tuple(rows), scores, layers.pop() if layers else None)
