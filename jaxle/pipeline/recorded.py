"""Arrays that another program recorded, where a run would have computed them itself.

arrays:FOLDER → the target (`models.recorded`), its activations, embeddings of an encoder

They lie in the cache under the keys of what the pass over the images gives, so that all that
follows is the same. Their content is in the key of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from jaxle.arrays import as_matrix, row_blocks
from jaxle.artifacts import fingerprint
from jaxle.data.duplicates import picture_hashes
from jaxle.data.recorded import Recorded
from jaxle.data.sources import Source, has_pictures, recorded_of
from jaxle.models.recorded import NAME, LinearSuffix, RecordedModel, Rows
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.reading import GIVEN

ALL = ("*",)  # as `target.taps`: all that are recorded


def recorded_model(source: Source) -> RecordedModel:
    """Returns what was recorded of a network, in its place."""
    recorded = _recorded(source)
    head, names = None, ()
    if recorded.head is not None:
        head = (recorded.head.tap, LinearSuffix(recorded.head.weights, recorded.head.bias))
        n_classes = recorded.head.weights.shape[1]
        names = source.class_names if len(source.class_names) == n_classes else ()
    key = fingerprint(source.fingerprint_fields())
    shown = Rows("shorter_side", getattr(source, "side", 224))
    return RecordedModel(recorded.activations, head, names, key, shown)


def lacking(config: Config, source: Source) -> Iterator[str]:
    """Yields what a config asks of recorded arrays that are not there."""
    recorded = recorded_of(source)
    where = f"data.source={config.data.source!r}"
    probs = recorded is not None and recorded.concept_probs is not None
    asked = [f"method {name!r}" for name, m in config.methods.items() if m.concepts == GIVEN]
    asked += [f"simulator {name!r}" for name, s in config.simulators.items() if s == GIVEN]
    if asked and not probs:
        yield (
            f"{asked[0]} reads concept probabilities that come with the data, and {where} has "
            "none: expected arrays:FOLDER with concept_probs.npy and concepts.txt"
        )
    if config.target.model != NAME:
        if not has_pictures(source):
            yield (
                f"{where} has no images.npy, and target.model={config.target.model!r} needs "
                f"pictures: expected pictures, or target.model={NAME!r} for activations alone"
            )
        return
    if recorded is None or not recorded.activations:
        yield (
            f"target.model={NAME!r} explains recorded activations, and {where} has none: expected "
            "arrays:FOLDER with activations.npy"
        )
    if config.target.units != "neurons":
        yield (
            f"target.units={config.target.units!r} is a map of a network's own values, and "
            f"target.model={NAME!r} has none: expected neurons, or the units' values as activations"
        )
    if not has_pictures(source):
        for encoder in config.encoders:
            if recorded is None or not _embeddings(recorded, encoder, config):
                yield (
                    f"encoder {encoder.model!r} needs pictures or its embeddings, and {where} has "
                    f"neither: expected images.npy, or embeddings/{encoder.model}.npy"
                )


def activations_of(source: Source, taps: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the activations of some taps, in a native dtype."""
    found = _recorded(source).activations
    return {tap: np.asarray(as_matrix(found[tap], f"activations of {tap!r}")) for tap in taps}


def predicted(source: Source) -> np.ndarray:
    """Returns (images,) int32, the class of the largest logit; 0 without a head."""
    recorded = _recorded(source)
    found = np.zeros(len(source), np.int32)
    if recorded.head is not None:
        values, head = recorded.activations[recorded.head.tap], recorded.head
        for part in row_blocks(len(source), 4 * values.shape[1]):
            logits = np.asarray(values[part], np.float32) @ head.weights + head.bias
            found[part] = np.argmax(logits, axis=1)
    return found


def pictures(source: Source) -> np.ndarray:
    """Returns (images,) uint64, equal where pictures are; all different without pictures."""
    if not has_pictures(source):
        return np.arange(len(source), dtype=np.uint64)
    hashes = [picture_hashes(source[i][0][None]) for i in range(len(source))]
    return np.concatenate(hashes)


def embeddings_of(source: Source, encoder: Encoder, config: Config) -> np.ndarray | None:
    """Returns (images, numbers) float32 of unit length; None where the encoder's are not recorded.

    Raises:
      ValueError: an embedding of length 0.
    """
    recorded = recorded_of(source)
    name = None if recorded is None else _embeddings(recorded, encoder, config)
    if recorded is None or name is None:
        return None
    values = np.asarray(recorded.embeddings[name[0]], np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not (length > 0).all():
        raise ValueError(
            f"the recorded embedding of image {int(np.argmin(length))} by {encoder.model!r} is 0: "
            "expected one of each image."
        )
    return (values / length).astype(np.float32)


def _recorded(source: Source) -> Recorded:
    recorded = recorded_of(source)
    assert recorded is not None, "pipeline.needs refuses a run without"
    return recorded


def _embeddings(recorded: Recorded, encoder: Encoder, config: Config) -> tuple[str] | None:
    """The name of an encoder's embeddings; those without a name are of the only encoder."""
    if encoder.model in recorded.embeddings:
        return (encoder.model,)
    if "" in recorded.embeddings and config.encoders == (encoder,):
        return ("",)
    return None
