"""Pushes: the classes whose logits a neuron moves most, where all after its tap is linear.

    network after the last tap → weights (neurons, classes) → the largest of each neuron

Whether it is linear is tested on images, not assumed (`intervention.linearity`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxle.intervention.replacement import open_tail
from jaxle.models.model import Model
from jaxle.models.recorded import RecordedModel
from jaxle.pipeline.cache import Cache, Made, Step, Stored, numerics
from jaxle.pipeline.config import Config
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.opened import TRAINED, Images, Opened, Partition

CLASSES = 5
CHECKED = 4  # images on which linearity is tested


def pushes(cache: Cache, inputs: Inputs, config: Config) -> Stored | None:
    """Returns `index` and `weight` (neurons, classes), largest first, of the last tap.

    Facts hold its name and the classes' names; the arrays are empty where what follows is not
    linear. None for a network without named classes.
    """
    network = inputs.trained
    if not isinstance(network, (Model, RecordedModel)) or not network.class_names:
        return None
    order = list(network.taps)
    last = max(config.target.taps, key=lambda tap: order.index(network.resolve(tap)))
    if isinstance(network, RecordedModel):
        assert network.head is not None, "it has names for its logits"
        last = network.head[0]
        if last not in config.target.taps:
            return None
    records = [inputs.networks[TRAINED], inputs.images, inputs.partition]
    options = {"tap": last, "pool": config.target.pool, "classes": list(network.class_names)}
    return cache.step(PUSHES, last, records, {**options, **numerics()})


def _pushes(
    opened: Opened[Model | RecordedModel],
    images: Images,
    partition: Partition,
    options: dict[str, Any],
    mesh: Any,
) -> Made:
    model, rows = opened.network, partition.split.val[:CHECKED]
    if isinstance(model, RecordedModel):
        fitted = model.rows(rows)
    else:
        fitted = np.stack([model.preprocess.fit(images.source[int(i)][0]) for i in rows])
    tail = open_tail(model, options["tap"], options["pool"], fitted)
    facts = {"tap": options["tap"], "classes": options["classes"]}
    if tail.weights is None or tail.n_classes != len(options["classes"]):
        return {}, facts  # or names that are not one a logit
    weights = np.asarray(tail.weights)
    index = np.argsort(-weights, axis=1, kind="stable")[:, :CLASSES]
    largest = np.take_along_axis(weights, index, axis=1)
    return {"index": index.astype(np.int32), "weight": largest}, facts


PUSHES = Step("pushes", "report", 2, _pushes, alone=True)
