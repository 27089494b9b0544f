"""`jaxle.find`: which units of a finished run answer to a text or a picture.

text    P of the text in every test image, by the encoder that a method explains with
        → how much higher each explanation's sum Σ w·P + b lies where the text is present
picture → each explanation's sum for that picture

Both in standard deviations of the unit's activation. Beside it stands what chance would give: for a
text, the same images weighted in any other order; for a picture, the test images.

    m = Σ u s,  u = P/ΣP;   E m = mean(s),   Var m = var(s)·(n Σu² − 1)/(n − 1)   over all orders

the first two moments of the permutation distribution, which for so many images is nearly normal.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from jaxtyping import Float, Float64
from scipy.special import ndtr

from jaxle.arrays import checks_input
from jaxle.concepts.contrastive import ContrastiveConcepts, embed_prompts
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.explainers.protocol import ArrayRows
from jaxle.models.two_tower import TwoTower
from jaxle.models.zoo import load_model
from jaxle.options import number, suggest
from jaxle.pipeline.load import FinishedRun, load_run
from jaxle.pipeline.readers import EMBEDDINGS
from jaxle.pipeline.simulate import simulate_images

COLUMNS = ("tap", "unit", "score", "p", "q", "explanation")


@checks_input
def find(
    run: FinishedRun | epath.PathLike,
    *,
    text: str | None = None,
    image: Any = None,
    tap: str | None = None,
    method: str | None = None,
    most: int = 20,
) -> pd.DataFrame:
    """Returns the units of a run whose explanations answer most to a text or a picture.

    Args:
      run: of `jaxle.load_run`, or its folder.
      text: any text that the method's encoder reads; by labels one of the run's concepts.
      image: a PIL image, or uint8 (height, width, 3).
      tap: one of the run's; None searches all.
      method: whose explanations; None takes the first one by an encoder, else the first.
      most: rows at most.

    Returns:
      A row a unit, the largest score first: `tap`, `unit`, `score` in standard deviations of the
      unit's activation, `p` and `q` (false discovery rate over all units searched) of a score as
      large by chance, and the `explanation`.

    Raises:
      ValueError: neither text nor image, or both; an unknown tap, method or concept; a picture
        with a method that has no encoder; a text of which the encoder reads nothing; a text or an
        image of another type.
    """
    run = run if isinstance(run, FinishedRun) else load_run(run)
    most = number("most", most, int, low=1)
    if (text is None) == (image is None):
        raise ValueError("find looks for a text or for an image: expected one of the two.")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text must be one text, got a {type(text).__name__}.")
    if isinstance(image, (str, os.PathLike)):
        raise ValueError(
            "image must be a picture, not a file's name: expected PIL.Image.open of it."
        )
    if tap is not None and tap not in run.taps:
        raise ValueError(f"the run has no tap {tap!r}: {suggest(tap, list(run.taps))}.")
    method = _method(run, method)
    taps = run.taps if tap is None else (tap,)
    matrix = run.concept_matrix(method)
    if text is not None:
        present = _present(run, method, matrix, text)
        parts = [_of_text(run, each, method, matrix, present) for each in taps]
    else:
        own = _of_picture(run, method, matrix, image)
        parts = [_score_picture(run, each, method, matrix, own) for each in taps]
    table = pd.concat(parts, ignore_index=True)
    table["q"] = benjamini_hochberg(table["p"].to_numpy()).q_values
    table = table.sort_values(["score", "tap", "unit"], ascending=[False, True, True])
    return table[list(COLUMNS)].head(most).reset_index(drop=True)


def _method(run: FinishedRun, method: str | None) -> str:
    if method is None:
        by_encoder = [name for name, m in run.config.methods.items() if m.concepts == "siglip"]
        return (by_encoder or list(run.methods))[0]
    if method not in run.methods:
        raise ValueError(f"the run has no method {method!r}: {suggest(method, run.methods)}.")
    return method


def _present(run: FinishedRun, method: str, matrix: Any, text: str) -> Float64[np.ndarray, " _"]:
    """(test images,) how probable it is that each shows the text."""
    test, names = np.asarray(run.split.test), list(matrix.concepts)
    if text in names:
        column = np.array([names.index(text)])
        return np.asarray(matrix.rows(test, column), np.float64)[:, 0]
    if run.config.methods[method].encoder is None:
        raise ValueError(
            f"method {method!r} explains without an encoder, and knows no concept {text!r}: "
            f"{suggest(text, names)}."
        )
    tower, about = _encoder(run, method), run.index["arrays"]["methods"][method]
    if tower.unreadable([text]):
        raise ValueError(f"the vocabulary of {tower.name} knows nothing of the text {text!r}.")
    templates = run.config.concepts.templates
    words = embed_prompts(lambda some: tower.embed_texts(some), [text], templates)
    images = run.stored(about["embeddings"]).arrays[EMBEDDINGS][test]
    scaled = (about["scale"], about["shift"])
    one = ContrastiveConcepts.make([text], np.asarray(images), words, *scaled)
    return np.asarray(one.rows(np.arange(len(test))), np.float64)[:, 0]


def _encoder(run: FinishedRun, method: str) -> TwoTower:
    entry = run.config.methods[method].encoder
    assert entry is not None, "asked of a method by an encoder"
    tower = load_model(entry.model, entry.weights or None, dtype=entry.dtype)
    assert isinstance(tower, TwoTower), "the run has used it"
    return tower


def _of_text(
    run: FinishedRun, tap: str, method: str, matrix: Any, present: np.ndarray
) -> pd.DataFrame:
    simulated, size = _simulated(run, tap, method, matrix)
    n, share = len(present), present / max(present.sum(), 1e-300)
    away = share @ simulated - simulated.mean(axis=0)
    spread = simulated.var(axis=0) * max(n * np.sum(share**2) - 1, 0) / max(n - 1, 1)
    z = np.where(spread > 0, away / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)
    return _rows(run, tap, method, away / size, np.where(spread > 0, ndtr(-z), 1.0))


def _of_picture(
    run: FinishedRun, method: str, matrix: Any, image: Any
) -> Float[np.ndarray, "1 concepts"]:
    """Probabilities of the method's concepts in one picture."""
    if run.config.methods[method].encoder is None:
        raise ValueError(
            f"method {method!r} explains without an encoder, which a picture needs: expected a "
            "method by one, or a text."
        )
    tower, about = _encoder(run, method), run.index["arrays"]["methods"][method]
    found = np.asarray(tower.embed_images([image]))
    texts, scaled = run.stored(about["texts"]).arrays["texts"], (about["scale"], about["shift"])
    one = ContrastiveConcepts.make(matrix.concepts, found, np.asarray(texts), *scaled)
    return np.asarray(one.rows(np.arange(1)))


def _score_picture(
    run: FinishedRun, tap: str, method: str, matrix: Any, probs: np.ndarray
) -> pd.DataFrame:
    simulated, size = _simulated(run, tap, method, matrix)
    one = ArrayRows(probs, matrix.concepts)
    table = run.explanations(tap, method)
    own = simulate_images(table, one, np.arange(1))[0]
    above = 1 + np.sum(simulated >= own[None], axis=0)
    varies = simulated.min(axis=0) < simulated.max(axis=0)
    p = np.where(varies, above / (1 + len(simulated)), 1.0)
    away = np.where(varies, own - simulated.mean(axis=0), 0.0)
    return _rows(run, tap, method, away / size, p)


def _simulated(
    run: FinishedRun, tap: str, method: str, matrix: Any
) -> tuple[Float64[np.ndarray, "images units"], Float64[np.ndarray, " units"]]:
    """What explanations predict for the test images, and the activations' standard deviations."""
    table, test = run.explanations(tap, method), np.asarray(run.split.test)
    found = simulate_images(table, matrix, test)
    size = np.asarray(run.activations(tap)[test], np.float64).std(axis=0)
    return found.astype(np.float64), np.where(size > 0, size, 1.0)


def _rows(
    run: FinishedRun, tap: str, method: str, score: np.ndarray, p: np.ndarray
) -> pd.DataFrame:
    table = run.explanations(tap, method)
    return pd.DataFrame(
        {
            "tap": tap,
            "unit": table.units,
            "score": score,
            "p": p,
            "explanation": [str(row) for row in table],
        }
    )
