"""What a run needs and does not find, named at once, before anything is loaded.

Weights, tokenizers, packages, images, splits, words, labels and objects of your own: each that is
missing is one item of one sentence. What must be downloaded counts as found where its host answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from etils import epath

from jaxle.concepts.sets import OF_THE_DATA, read_lines
from jaxle.data import tfds
from jaxle.data.generated import generated_count
from jaxle.data.masks import masks_of
from jaxle.data.sources import Source, open_source
from jaxle.data.splits import load_split
from jaxle.explainers import find_explainer
from jaxle.models import needs
from jaxle.models.recorded import NAME as RECORDED
from jaxle.models.units import lacking, read_units
from jaxle.models.zoo import ZOO, find_entry
from jaxle.pipeline.config import Config, Data
from jaxle.pipeline.left_out import possible
from jaxle.pipeline.reading import LABELS
from jaxle.pipeline.recorded import lacking as lacking_arrays
from jaxle.references import is_reference, load_reference

GENERATED = "generated"  # as weights: random ones, made now in a published format


def check_needs(config: Config, memory: epath.Path) -> Source | None:
    """Returns the images of a run; None where they must be downloaded or generated first.

    Args:
      config: the settings.
      memory: a file in which hashes of image files are remembered.

    Raises:
      ValueError: what is missing, all of it.
    """
    source, refused = _open(config, memory)
    if source is not None:
        config, _ = possible(config, source)
    found = [*_networks(config), *refused, *_words(config), *_files(config), *_simulators(config)]
    if source is not None:
        found += [
            *lacking_arrays(config, source),
            *_labels(config, source),
            *_split(config.data, source),
        ]
    found = list(dict.fromkeys(sentence.rstrip(".") for sentence in found))
    if len(found) == 1:
        raise ValueError(f"{found[0]}.")
    if found:
        listed = "; ".join(f"({i}) {sentence}" for i, sentence in enumerate(found, 1))
        raise ValueError(f"{len(found)} things that the run needs are missing: {listed}.")
    return source


def _networks(config: Config) -> Iterator[str]:
    targets = () if config.target.model == RECORDED else (config.target,)
    for entry in (*targets, *config.encoders):
        if entry.weights == GENERATED:
            if entry.model not in ZOO:
                yield f"weights can be generated for models of the zoo only, got {entry.model!r}"
            continue
        preprocess = getattr(entry, "preprocess", None)
        yield from needs.lacking(entry.model, entry.weights or None, preprocess)
    units = read_units(config.target.units, config.target.unit_options)
    if units is not None and (sentence := lacking(units)):
        yield sentence
    for entry in config.encoders:
        if entry.model in ZOO and find_entry(entry.model, None).text is None:
            yield (
                f"model {entry.model!r} has no text tower; "
                "explainers and simulators are SigLIP, SigLIP 2, CLIP or PE-Core"
            )


def _open(config: Config, memory: epath.Path) -> tuple[Source | None, list[str]]:
    data, name = config.data, config.data.source.partition(":")[2]
    if generated_count(data.source) is not None:
        return None, []
    try:
        if data.source.startswith("tfds:"):
            if (sentence := tfds.lacking(name)) is not None:
                return None, [sentence]
            if not tfds.is_prepared(name):
                return None, []
        return open_source(
            data.source, data.split or None, data.limit or None, config.seed, memory
        ), []
    except ValueError as error:
        return None, [str(error)]


def _words(config: Config) -> Iterator[str]:
    if not any(method.encoder for method in config.methods.values()):
        return
    for name in config.concepts.sets:
        try:
            list(() if name in OF_THE_DATA else read_lines(name))
        except ValueError as error:
            yield str(error)


def _files(config: Config) -> Iterator[str]:
    for name, method in config.methods.items():
        explainer = find_explainer(method.explainer)
        if "file" not in explainer.needs:
            continue
        if not epath.Path(method.options.file).expanduser().is_file():
            yield f"method {name!r} reads the file {method.options.file!r}, which does not exist"
        elif explainer.words is not None:
            try:
                explainer.words(method.options, config.target.taps)
            except ValueError as error:
                yield f"method {name!r}: {error}"


def _labels(config: Config, source: Source) -> Iterator[str]:
    masked = masks_of(source) is not None
    for name, method in config.methods.items():
        if "masks" in find_explainer(method.explainer).needs and not masked:
            yield (
                f"method {name!r} compares maps with pixel masks, and data.source="
                f"{config.data.source!r} has none: expected scenes, masks:PATH, or a source of "
                "your own with masks"
            )
    if source.class_names:
        return
    if config.evaluation.ablation or config.evaluation.impact:
        yield "ablation scores and Top Impact need class labels: these data have none"
    named = [name for name, method in config.methods.items() if method.concepts == "label"]
    # annotations may take long to read, and masks come with some
    if named and not masked and source.annotations is None:
        yield (
            f"method {named[0]!r} explains with labels, and these data have neither class labels "
            "nor annotations: expected data with labels, or a method by an encoder, such as "
            "config.methods.siglip = jaxle.pipeline.defaults.siglip(MODEL)"
        )


def _split(data: Data, source: Source) -> Iterator[str]:
    if data.split_files:
        try:
            load_split(data.split_files, len(source))
        except ValueError as error:
            yield str(error)


def _simulators(config: Config) -> Iterator[str]:
    others = [entry for entry in config.simulators.values() if entry != LABELS]
    for name, method in config.methods.items():
        if method.concepts != "label" and not others:
            yield (
                f"no simulator can simulate the explanations of method {name!r}, whose words the "
                "labels lack: expected a second encoder among config.simulators"
            )
    for entry in others:
        if isinstance(entry, str) and is_reference(entry):
            try:
                load_reference(entry, "simulator")
            except ValueError as error:
                yield str(error)
