"""`jaxle.load_run`: a finished run, opened for reading: arrays, tables and images by name."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from jaxtyping import Float, UInt8

from jaxle import artifacts
from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.data.splits import Split, load_split
from jaxle.explainers.protocol import ConceptRows
from jaxle.explanations import Explanations
from jaxle.options import suggest
from jaxle.pipeline.config import Config
from jaxle.pipeline.image_pass import EMBEDDINGS, tap_name
from jaxle.pipeline.inputs import GENERATED, open_images
from jaxle.pipeline.labels import given_matrix, label_matrix
from jaxle.pipeline.opened import TRAINED, Images
from jaxle.pipeline.probe import Labelled
from jaxle.pipeline.reading import GIVEN, read_config
from jaxle.pipeline.workdir import CACHE, CONFIG, CONTROLS, RUN, SPLIT


@dataclass(frozen=True, eq=False, repr=False)
class FinishedRun:
    """What `load_run` returns.

    Attributes:
      workdir: where the run lies.
      config: its settings.
      index: run.json.
      split: which images train, choose and score.
      names: the images' names, by number.
    """

    workdir: epath.Path
    config: Config
    index: Mapping[str, Any]
    split: Split
    names: tuple[str, ...]

    def __repr__(self) -> str:
        parts = zip(Split._fields, map(len, self.split), strict=True)
        images = ", ".join(f"{n} {name}" for name, n in parts)
        return (
            f"FinishedRun of {self.config.target.model} in {self.workdir}: "
            f"taps {', '.join(self.taps)}; methods {', '.join(self.methods)}; images {images}"
        )

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps that were explained."""
        return self.config.target.taps

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that explained them."""
        return tuple(self.config.methods)

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return json.loads((self.workdir / "summary.json").read_text())

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        """scores.csv, a row per tap, unit, method and simulator."""
        return _table(self.workdir / "scores.csv")

    @functools.cached_property
    def controls(self) -> pd.DataFrame | None:
        """controls.csv, ρ on networks that learned nothing; None where the run had none."""
        path = self.workdir / CONTROLS
        return _table(path) if path.exists() else None

    @property
    def report_arrays(self) -> Mapping[str, Any]:
        """Where the arrays of the report lie, by name in the cache (`pipeline.index`).

        Raises:
          ValueError: the run ended before stage report.
        """
        found = self.index["arrays"].get("report")
        if found is None:
            raise ValueError(
                f"the run in {self.workdir} kept nothing for a report: "
                "run the same command again, with stage report."
            )
        return found

    def simulated(
        self, tap: str, method: str, simulator: str
    ) -> tuple[Float[np.ndarray, "val neurons"], Float[np.ndarray, "test neurons"]]:
        """Returns what explanations predict for the val and the test images, by a simulator.

        Raises:
          ValueError: a tap, method or simulator that the run lacks together, or a run that ended
            before stage report.
        """
        rows = self.report_arrays["rows"]
        for row in rows:
            if (row["tap"], row["method"], row["simulator"]) == (tap, method, simulator):
                arrays = self.stored(row["simulated"]).arrays
                return arrays["val"], arrays["test"]
        names = [f"{row['tap']} · {row['method']} · {row['simulator']}" for row in rows]
        wanted = f"{tap} · {method} · {simulator}"
        raise ValueError(f"the run has not simulated {wanted!r}: {suggest(wanted, names)}.")

    def scores_of(self, tap: str, method: str, simulator: str) -> pd.DataFrame:
        """Returns the rows of scores.csv of one layer, method and simulator, a row a neuron."""
        table = self.scores
        wanted = {"tap": tap, "method": method, "simulator": simulator}
        those = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
        return table.loc[those].reset_index(drop=True)

    def activations(self, tap: str, network: str = TRAINED) -> Float[np.ndarray, "images neurons"]:
        """Returns a tap's activations on all probe images; a memory map where the run is local.

        Args:
          tap: one of `taps`.
          network: "trained", or a control that the run had.

        Raises:
          ValueError: an unknown tap or network.
        """
        _one_of(tap, self.taps, "tap")
        networks = self.index["arrays"]["networks"]
        _one_of(network, networks, "network")
        return self.stored(networks[network]).arrays[tap_name(tap)]

    def concept_matrix(self, method: str) -> ConceptRows:
        """Returns the probabilities that a method explains with: `concepts`, and `rows(index)`.

        Raises:
          ValueError: an unknown method.
        """
        _one_of(method, self.methods, "method")
        about = self.index["arrays"]["methods"][method]
        if about["kind"] == GIVEN:
            return given_matrix(self._images).matrix
        if "texts" not in about:
            return label_matrix(self._labelled, self.config.concepts).matrix
        texts = self.stored(about["texts"])
        images = self.stored(about["embeddings"]).arrays[EMBEDDINGS]
        scaled = (about["scale"], about["shift"])
        return ContrastiveConcepts.make(
            texts.facts["names"], images, texts.arrays["texts"], *scaled
        )

    def explanations(self, tap: str, method: str) -> Explanations:
        """Returns a layer's explanations by a method, with their scores and the run's split.

        Raises:
          ValueError: an unknown tap or method.
        """
        _one_of(tap, self.taps, "tap")
        _one_of(method, self.methods, "method")
        path = self.workdir / tap_name(tap) / method / "explanations.csv"
        return dataclasses.replace(Explanations.from_csv(path), split=self.split)

    def image(self, name: str | int) -> UInt8[np.ndarray, "height width 3"]:
        """Returns a probe image by its name or number, decoded from the source that the run read.

        Raises:
          ValueError: an unknown name, or a source that is no longer there.
        """
        if isinstance(name, str):
            if name not in self._numbers:
                raise ValueError(f"the run has no image {name!r}: {suggest(name, self.names)}.")
            name = self._numbers[name]
        if not 0 <= name < len(self.names):
            raise ValueError(f"no image {name}: expected 0 to {len(self.names) - 1}.")
        return self._images.source[name][0]

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    @functools.cached_property
    def _images(self) -> Images:
        folder = self.workdir / CACHE / GENERATED
        found = open_images(self.config.data, self.config.seed, folder, self._labelled.class_names)
        if found.key != self.index["images"]:
            raise ValueError(
                f"the images of {self.config.data.source} are no longer those that the run in "
                f"{self.workdir} read: expected the same files; run the same command again."
            )
        return found

    @functools.cached_property
    def _labelled(self) -> Labelled:
        name = self.index["arrays"]["labels"]
        stored = self.stored(name)
        annotations = stored.arrays.get("annotations")
        if annotations is not None:
            annotations = (tuple(stored.facts["annotated"]), annotations)
        names = tuple(stored.facts["class_names"])
        return Labelled(name, names, stored.arrays.get("labels"), annotations)

    def stored(self, name: str) -> artifacts.Artifact:
        """Returns an array of the cache, by a name of run.json.

        Raises:
          ValueError: it is not there, or not whole.
        """
        found = artifacts.read(self.workdir / CACHE / name)
        if found is None:
            raise ValueError(
                f"the cache of {self.workdir} lacks {name}: run the same command again to make it."
            )
        return found


def load_run(workdir: epath.PathLike) -> FinishedRun:
    """Returns a finished run.

    Args:
      workdir: the folder that the run wrote, such as "runs/quickstart"; `gs://` works, too.

    Raises:
      ValueError: no finished run lies there.
    """
    path = epath.Path(workdir).expanduser()
    if not (path / RUN).exists():
        raise ValueError(
            f"{path} holds no finished run: expected {RUN}, which a run writes at its end."
        )
    index = json.loads((path / RUN).read_text())
    config = read_config({**json.loads((path / CONFIG).read_text()), "workdir": str(path)})
    names = tuple((path / SPLIT / "names.txt").read_text().splitlines())
    return FinishedRun(path, config, index, load_split(str(path / SPLIT), len(names)), names)


def _table(path: epath.Path) -> pd.DataFrame:
    with path.open() as file:
        return pd.read_csv(file, keep_default_na=False)


def _one_of(name: str, valid: Any, what: str) -> None:
    if name not in valid:
        raise ValueError(f"the run has no {what} {name!r}: {suggest(name, list(valid))}.")
