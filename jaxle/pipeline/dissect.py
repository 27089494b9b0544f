"""Dissect: how far the maps of a network's neurons overlap the pixels of concepts.

    train ∪ val images × network → thresholds (three passes) → Σ|M ∩ L|, Σ|M|, Σ|L| (one pass) → IoU

All taps of a network are read in the same passes. What is held does not grow with the images: a
histogram and the counts of each neuron. Test images are not read. (`solve.quantile`,
`solve.overlap`)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxle.data.loader import batches
from jaxle.data.masks import Masks, category_numbers, masks_of, read_masks
from jaxle.data.sources import Subset
from jaxle.explainers import find_explainer
from jaxle.explainers.protocol import Overlaps
from jaxle.mesh import round_up, split_rows
from jaxle.models.positions import grid, on_grid
from jaxle.pipeline.cache import Cache, Made, Step, Stored, derived_key, numerics
from jaxle.pipeline.config import Config
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.image_pass import tap_name
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.layers import Layers
from jaxle.pipeline.opened import Images, Opened, Partition
from jaxle.report.progress import Bar
from jaxle.solve.overlap import Counts, tally
from jaxle.solve.quantile import PASSES, TopShare

BATCH = 32  # images a step, over all devices; fewer where a tap has very many columns
BYTES = 512 << 20  # of the largest tap's values a step
LOOKED_AT = 64  # images whose masks say how large masks are


@dataclass(frozen=True, eq=False)
class Masked:
    """The pixel masks of the probe images; the key is of their content."""

    key: str
    masks: Masks


def check_dissect(inputs: Inputs, config: Config) -> None:
    """Raises a ValueError where a method needs pixel masks or positions that are not there."""
    wanting = _wanting(config)
    if not wanting:
        return
    what, source = f"method {next(iter(wanting))!r} compares maps with pixel masks", config.data
    if masks_of(inputs.images.source) is None:
        raise ValueError(
            f"{what}, and data.source={source.source!r} has none: expected scenes, masks:PATH, or "
            "a source of your own with masks."
        )
    for tap in config.target.taps:
        shape = inputs.trained.taps[inputs.trained.resolve(tap)]
        if grid(shape) is None:
            raise ValueError(
                f"{what}, and tap {tap!r} has the shape {shape}, without rows and columns: "
                "expected a feature map, or tokens of a square grid."
            )
    if config.evaluation.refits:
        raise ValueError(
            f"{what}, which do not change where activations are permuted: expected "
            f"evaluation.refits=0, got {config.evaluation.refits}."
        )


def with_overlaps(
    cache: Cache, inputs: Inputs, fitted: Mapping[str, Fitted], layers: Layers, config: Config
) -> dict[str, Fitted]:
    """Returns method → what it is given, with overlaps of all real layers where it needs masks.

    Raises:
      ValueError: such a method has none of the masks' concepts.
    """
    found = dict(fitted)
    masks = masks_of(inputs.images.source) if _wanting(config) else None
    if masks is None:
        return found
    masked = Masked(derived_key("masks", 1, [inputs.images], masks.fingerprint_fields()), masks)
    for name in _wanting(config):
        known = fitted[name].names
        if not set(masks.concepts) & set(known):
            raise ValueError(
                f"method {name!r} compares maps with pixel masks, of concepts such as "
                f"{masks.concepts[0]!r}, and explains with others, such as {known[0]!r}: expected "
                "some of the same words."
            )
        made = {
            network: _overlaps(cache, inputs, network, masked, config, name)
            for network in dict.fromkeys(layer.network for layer in layers.real)
        }
        key = derived_key("overlaps", 1, [fitted[name], *(stored for stored, _ in made.values())])
        own = {layer.key: made[layer.network][1][layer.tap] for layer in layers.real}
        found[name] = dataclasses.replace(fitted[name], key=key, overlaps=own)
    return found


def _wanting(config: Config) -> list[str]:
    """The methods that need masks."""
    named = config.methods.items()
    return [name for name, m in named if "masks" in find_explainer(m.explainer).needs]


def _overlaps(
    cache: Cache, inputs: Inputs, network: str, masked: Masked, config: Config, method: str
) -> tuple[Stored, dict[str, Overlaps]]:
    """What the step gives of one network, and tap → overlaps."""
    opened, taps = inputs.networks[network], config.target.taps
    own = config.methods[method].options
    options = {
        "taps": {tap: opened.network.resolve(tap) for tap in taps},
        "share": own.share,
        "side": own.side,
        **numerics(),
    }
    what = f"{network}, {len(taps)} taps"
    records = [opened, inputs.images, masked, inputs.partition]
    stored = cache.step(DISSECT, what, records, options)
    arrays, facts = stored.arrays, stored.facts
    return stored, {
        tap: Overlaps(
            tuple(masked.masks.concepts),
            np.asarray(arrays[f"{tap_name(tap)}.iou"]),
            np.asarray(arrays[f"{tap_name(tap)}.thresholds"]),
            facts["n_images"],
            facts["side"],
        )
        for tap in taps
    }


def _dissect(
    opened: Opened,
    images: Images,
    masked: Masked,
    partition: Partition,
    options: Mapping[str, Any],
    mesh: Any,
) -> Made:
    index = np.sort(np.concatenate(partition.split[:2]))
    source, taps = Subset(images.source, index), tuple(options["taps"])
    network = opened.network
    shapes = {tap: network.taps[network.resolve(tap)] for tap in taps}
    most = BYTES // max(4 * math.prod(shape) for shape in shapes.values())
    size = round_up(max(1, min(BATCH, most)), mesh.shape["data"])

    @jax.jit
    def read(variables, pixels):
        values, _ = network.probe(pixels, dict.fromkeys(taps, "none"), variables)
        return {tap: on_grid(value) for tap, value in values.items()}

    def maps(what: str) -> Iterator[tuple[int, dict[str, jax.Array]]]:
        """(Images, tap → maps) of each batch, the last one padded."""
        with Bar(what, len(source)) as bar:
            for batch in batches(source, {"": network.preprocess}, size):
                placed = jax.device_put(batch.images[""], split_rows(mesh))
                yield len(batch.index), read(network.variables, placed)
                bar.advance(by=len(batch.index))

    chosen = {tap: TopShare(shapes[tap][-1], options["share"]) for tap in taps}
    for number in range(PASSES):
        for n, values in maps(f"thresholds, pass {number + 1} of {PASSES}"):
            for tap, value in values.items():
                real = np.arange(size) < n
                real = np.repeat(real, value.shape[1] * value.shape[2])
                chosen[tap].add(value.reshape(-1, value.shape[3]), real)
        for one in chosen.values():
            one.close()
    thresholds = {tap: one.thresholds for tap, one in chosen.items()}

    masks = masks_of(source)
    assert masks is not None, "a subset has the masks of its source"
    names, category = category_numbers(masks)
    side = _side(masks, len(source), options["side"])
    sizes = {"n_concepts": len(masks.concepts), "n_categories": len(names)}
    total: dict[str, Counts] = {}

    def read_one(i: int) -> np.ndarray:
        return read_masks(masks, i, network.preprocess, side)

    labels = _labels(read_one, len(source), size)
    for (_, values), label in zip(maps("overlaps"), labels, strict=True):
        for tap, counts in tally(values, thresholds, label, category, **sizes).items():
            whole = Counts(*(np.asarray(x, np.int64) for x in counts))
            total[tap] = total[tap] + whole if tap in total else whole
    arrays = {f"{tap_name(tap)}.iou": total[tap].iou(category) for tap in taps}
    arrays |= {f"{tap_name(tap)}.thresholds": thresholds[tap] for tap in taps}
    return arrays, {"n_images": len(source), "side": side}


def _side(masks: Masks, n: int, most: int) -> int:
    """Pixels a side: the larger of the first masks' own, if smaller than what is asked for."""
    shapes = [np.shape(masks.label_maps(i))[1:] for i in range(min(n, LOOKED_AT))]
    largest = max(max(shape) for shape in shapes)
    return min(most, largest) if largest > 1 else most


def _labels(read: Callable[[int], np.ndarray], n: int, size: int) -> Iterator[np.ndarray]:
    """Label maps of each batch, zeros past the end, read while the one before is counted."""
    with ThreadPoolExecutor() as threads:
        ahead = [threads.submit(read, i) for i in range(min(n, size))]
        for start in range(0, n, size):
            found = [one.result() for one in ahead]
            after = range(start + size, min(n, start + 2 * size))
            ahead = [threads.submit(read, i) for i in after]
            # few programs for many numbers of layers
            layers = 1 << (max(1, *(len(one) for one in found)) - 1).bit_length()
            whole = np.zeros((size, layers, *found[0].shape[1:]), np.int16)
            for i, one in enumerate(found):
                whole[i, : len(one)] = one
            yield whole


DISSECT = Step("dissect", "explain", 1, _dissect, alone=True)
