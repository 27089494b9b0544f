"""The stages of a run: what each reads, makes and is keyed by.

    probe      images → activations of every tap, labels, predictions            one pass over the images
    fit        activations, concepts → moments; candidates in order              per tap and method
    search     moments, candidates → explanations                                per tap and method
    simulate   explanations, simulator → simulated activations on test           per tap, method and simulator
    score      simulated, real activations → scores.csv, summary.json            tables of the whole run

A stage's artifact lies in `cache/` under the fingerprint of exactly what it was made from, upstream fingerprints included; one that is
there and whole is used again. So the same command resumes, and a changed setting redoes only what reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts, settings
from jaxle.artifacts import Artifact, fingerprint
from jaxle.concepts.labels import LabelConcepts
from jaxle.data.sources import Source, open_source
from jaxle.data.splits import Split, load_split, make_split
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.simulation import simulate_rows
from jaxle.explainers import linear
from jaxle.explanations import Explanations
from jaxle.models.model import Model
from jaxle.models.zoo import load_model
from jaxle.probing import probe_images, tap_name
from jaxle.report import listing, tables
from jaxle.report.progress import say
from jaxle.report.tables import Scored
from jaxle.solve import ridge
from jaxle.solve.moments import Moments, correlate

STAGES = ("probe", "fit", "search", "simulate", "score")
TRAINED, UNTRAINED = "trained", "untrained"
OWN = ("arguments", "call", "preprocess", "class_names")  # what a network of the user's own may need beside its name and weights


class Made(NamedTuple):
    """An artifact and the fingerprint that names it."""

    key: str
    artifact: Artifact


class Run(NamedTuple):
    """Everything that is settled before the first image: checked names, opened inputs, the split, and what this process made or found."""

    config: dict[str, Any]
    requested: tuple[str, ...]
    workdir: epath.Path
    mesh: Mesh
    source: Source
    models: dict[str, Model]  # trained, and untrained where asked
    split: Split
    made: dict[str, Made]
    seconds: dict[str, float]


def run(config: Mapping[str, Any], requested: list[str], mesh: Mesh) -> None:
    """Run the requested stages in order and write the workdir's files.

    Args:
      config: nested dict with the fields of `configs/common.py`, `workdir` filled in.
      requested: names out of `STAGES`; a stage that another one needs and that is neither requested nor complete is an error.
      mesh: the device mesh.

    Raises:
      ValueError: bad input; what was computed before it stays.
    """
    start = time.monotonic()
    x = prepare(config, requested, mesh)
    artifacts.write_json(x.workdir / "config.json", {key: value for key, value in x.config.items() if key != "workdir"})
    for stage in STAGES:
        if stage in requested:
            began = time.monotonic()
            say(f"{stage} …")
            RUN[stage](x)
            say(f"{stage} done in {time.monotonic() - began:.1f} s")
    seconds = {stage: round(x.seconds.get(stage, 0.0), 3) for stage in requested}
    artifacts.write_json(x.workdir / "timing.json", {"seconds": seconds, "total_seconds": round(time.monotonic() - start, 3)})


def prepare(config: Mapping[str, Any], requested: list[str], mesh: Mesh) -> Run:
    """Check every name and open every input, cheapest first. Raises ValueError."""
    unknown = [stage for stage in requested if stage not in STAGES]
    if unknown or not requested:
        raise ValueError(f"unknown stage {unknown[0] if unknown else ''!r}; valid stages: {', '.join(STAGES)}.")
    config = settings.check(config)
    target, data, seed = config["target"], config["data"], config["seed"]
    own = {name: target[name] for name in OWN if target[name]} | {"dtype": target["dtype"], "mesh": mesh}
    models = {TRAINED: load_model(target["model"], target["weights"] or None, **own)}
    for tap in target["taps"]:
        shape = models[TRAINED].taps[models[TRAINED].resolve(tap)]
        if target["pool"] == "none" and len(shape) != 1:
            raise ValueError(f"pool 'none' keeps positions apart, and tap {tap!r} has shape {shape}: expected avg, max or first.")
    source = open_source(data["source"], data["split"] or None, data["limit"] or None, seed)
    if data["split_files"]:
        split = load_split(data["split_files"], len(source))
    else:
        split = make_split(len(source), seed, tuple(data["split_fractions"]))
    if config["evaluation"]["untrained"]:
        models[UNTRAINED] = load_model(target["model"], random_init_seed=seed, **own)
    return Run(config, tuple(requested), epath.Path(config["workdir"]), mesh, source, models, split, {}, {})


# --- artifacts ---


def _once(x: Run, stage: str, what: str, fields: Mapping[str, Any], make: Callable[[epath.Path], tuple[dict, dict]]) -> Made:
    """The artifact that `fields` name: from this process, from the cache, or made now by `make(folder)` → arrays, facts."""
    key = fingerprint({"stage": stage, **fields})
    name = f"{stage}-{key}"
    if name not in x.made:
        began = time.monotonic()
        folder = x.workdir / "cache" / name
        artifact = artifacts.read(folder)
        reused = artifact is not None
        if artifact is None:
            needed = stage.partition("-")[0]
            if needed not in x.requested:
                raise ValueError(
                    f"stage {needed!r} is not complete for {what}: add it to --stages, as --stages={needed},{','.join(x.requested)}."
                )
            artifact = artifacts.write(folder, *make(folder))
        x.made[name] = Made(key, artifact)
        seconds = time.monotonic() - began
        x.seconds[stage.partition("-")[0]] = x.seconds.get(stage.partition("-")[0], 0.0) + seconds
        _note(x, {"stage": stage, "what": what, "reused": reused, "seconds": round(seconds, 3)})
        say(f"  {what}: {'found in the cache' if reused else f'{seconds:.1f} s'}")
    return x.made[name]


def _note(x: Run, line: Mapping[str, Any]) -> None:
    """Append one line to metrics.jsonl."""
    with (x.workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _folder(tap: str) -> str:
    return tap.replace("/", ".")


# --- probe ---


def probed(x: Run, variant: str) -> Made:
    """What one pass over the images gave: the arrays and facts of `probing.probe_images`."""
    target, model = x.config["target"], x.models[variant]
    fields = {
        "source": x.source.fingerprint_fields(),
        "model": model.name,
        "weights": model.weights_hash,
        "preprocess": str(model.preprocess),
        **{name: target[name] for name in ("dtype", "arguments", "call")},
        "taps": {tap: model.resolve(tap) for tap in target["taps"]},
        "pool": target["pool"],
    }
    pools = {tap: target["pool"] for tap in target["taps"]}
    options = {name: x.config["data"][name] for name in ("batch_size", "workers")}
    what = f"{model.name} ({variant}) on {len(x.source)} images"
    return _once(x, "probe", what, fields, lambda folder: probe_images(model, x.source, pools, x.mesh, folder / "parts", **options))


# --- fit ---


def concept_rows(x: Run, probe: Made) -> LabelConcepts:
    """The Label concepts of the probed images: annotations where the data have them, else classes and superclasses."""
    arrays, facts = probe.artifact
    return LabelConcepts.make(
        labels=arrays.get("labels"),
        class_names=facts["class_names"],
        superclasses=x.config["concepts"]["superclasses"],
        annotations=(facts["annotated"], arrays["annotations"]) if "annotated" in facts else None,
    )


def measured(x: Run, variant: str, tap: str, method: str) -> Made:
    """Moments of train and val over the concepts that pass screening; facts `concepts` (their names) and `n_screened_out`."""
    probe = probed(x, variant)
    fields = {
        "probe": probe.key,
        "tap": tap,
        "concepts": x.config["methods"][method]["concepts"],
        "superclasses": x.config["concepts"]["superclasses"],
        "min_top5": x.config["fit"]["min_top5"],
        "split": _split_key(x.split),
    }

    def make(_):
        probs = concept_rows(x, probe)
        activations = probe.artifact.arrays[f"activations.{tap_name(tap)}"]
        got = linear.measure(probs.rows, len(probs.concepts), activations, x.split, x.config["fit"]["min_top5"], x.mesh)
        arrays = {f"{part}.{name}": np.asarray(value) for part in ("train", "val") for name, value in getattr(got, part)._asdict().items()}
        arrays |= {"kept": got.kept, "maxima": linear.maximum(activations)}
        return arrays, {"concepts": [probs.concepts[j] for j in got.kept], "n_screened_out": len(probs.concepts) - len(got.kept)}

    return _once(x, "fit-moments", f"{_where(variant, tap, method)}, moments", fields, make)


def _measured(made: Made) -> linear.Measured:
    arrays = made.artifact.arrays

    def moments(part: str) -> Moments:
        fields = {name: jnp.asarray(arrays[f"{part}.{name}"]) for name in Moments._fields if name != "n"}
        return Moments(n=int(arrays[f"{part}.n"]), **fields)

    return linear.Measured(np.asarray(arrays["kept"]), moments("train"), moments("val"))


def ranked(x: Run, variant: str, tap: str, method: str) -> Made:
    """Every neuron's candidates in order: the arrays of `linear.Ranked`."""
    moments, fit = measured(x, variant, tap, method), x.config["fit"]
    pool_size = x.config["search"]["n_candidates"] * x.config["search"]["max_concepts"]
    settings_read = {name: fit[name] for name in ("lam", "l1_ratio", "tol")} | {"pool_size": pool_size}

    def make(_):
        return linear.rank(_measured(moments), **settings_read, mesh=x.mesh)._asdict(), {}

    return _once(x, "fit", f"{_where(variant, tap, method)}, elastic net", {"moments": moments.key, **settings_read}, make)


def _fit(x: Run) -> None:
    for unit in _units(x):
        ranked(x, *unit)


# --- search ---


def explained(x: Run, variant: str, tap: str, method: str) -> tuple[Made, Explanations]:
    """The explanations, and the artifact that holds them as a table."""
    moments, order = measured(x, variant, tap, method), ranked(x, variant, tap, method)
    options = x.config["search"] | {"search": x.config["methods"][method]["search"], "dead_threshold": x.config["target"]["dead_threshold"]}
    fields = {"fit": order.key, **options}

    def make(folder):
        candidates = linear.Ranked(**{name: np.asarray(value) for name, value in order.artifact.arrays.items()})
        facts = moments.artifact.facts
        found = linear.select(
            _measured(moments), candidates, facts["concepts"], moments.artifact.arrays["maxima"], x.split, mesh=x.mesh, **options
        )
        return found.to_arrays(), {**found.facts, "n_screened_out": facts["n_screened_out"]}

    made = _once(x, "search", _where(variant, tap, method), fields, make)
    return made, Explanations.from_arrays(made.artifact.arrays, x.split, made.artifact.facts)


def _search(x: Run) -> None:
    for variant, tap, method in _units(x):
        _, explanations = explained(x, variant, tap, method)
        if variant == TRAINED:
            explanations.to_csv(_table(x, tap, method))


def _table(x: Run, tap: str, method: str) -> epath.Path:
    return x.workdir / tap_name(tap) / method / "explanations.csv"


# --- simulate ---


def simulated(x: Run, variant: str, tap: str, method: str, simulator: str) -> Made:
    """Array `simulated` (test images, neurons) float32."""
    found, explanations = explained(x, variant, tap, method)
    fields = {"search": found.key, "simulator": x.config["simulators"][simulator], "split": _split_key(x.split)}

    def make(_):
        probs = concept_rows(x, probed(x, variant))
        place = {concept: j for j, concept in enumerate(probs.concepts)}
        columns = np.array([place[concept] for concept in explanations.concepts], np.int64)
        return {"simulated": simulate_rows(explanations, probs.rows, x.split.test, columns, probs.concepts)}, {}

    return _once(x, "simulate", f"{_where(variant, tap, method)} by {simulator}", fields, make)


def _simulate(x: Run) -> None:
    for unit in _units(x):
        for simulator in x.config["simulators"]:
            simulated(x, *unit, simulator)


# --- score ---


def scored(x: Run, variant: str, tap: str, method: str, simulator: str) -> Made:
    """Array `correlation` (neurons,) float32 on the test images."""
    made = simulated(x, variant, tap, method, simulator)

    def make(_):
        activations = probed(x, variant).artifact.arrays[f"activations.{tap_name(tap)}"][x.split.test]
        return {"correlation": correlation(made.artifact.arrays["simulated"], activations)}, {}

    return _once(x, "score", f"{_where(variant, tap, method)} by {simulator}", {"simulate": made.key}, make)


def ceiling(x: Run, tap: str, method: str) -> Made:
    """Array `ceiling` (neurons,) float32: test correlation of a dense ridge on all concepts, its strength chosen on val."""
    moments = measured(x, TRAINED, tap, method)

    def make(_):
        probe, got = probed(x, TRAINED), _measured(moments)
        rows, kept = concept_rows(x, probe).rows, got.kept
        dense = ridge.solve(got.train, got.val)
        activations = probe.artifact.arrays[f"activations.{tap_name(tap)}"]
        return {"ceiling": np.asarray(correlate(lambda i: rows(i, kept), activations, dense.weights, dense.bias, x.split.test))}, {}

    return _once(x, "score-ceiling", f"{_where(TRAINED, tap, method)}, dense ceiling", {"moments": moments.key}, make)


def _score(x: Run) -> None:
    entries, records = [], []
    for tap, method in _taps_and_methods(x):
        _, explanations = explained(x, TRAINED, tap, method)
        columns = {"ceiling": ceiling(x, tap, method).artifact.arrays["ceiling"]} if x.config["evaluation"]["ceiling"] else {}
        published = {}
        for simulator in x.config["simulators"]:
            rho = scored(x, TRAINED, tap, method, simulator).artifact.arrays["correlation"]
            published["sim correlation" + (f" {simulator}" if published else "")] = rho
            entries.append(Scored(tap, method, simulator, explanations, {"correlation": rho, **columns}))
            records.append(tables.record(entries[-1]))
            if UNTRAINED in x.models:
                records[-1] |= _untrained(x, tap, method, simulator)
        explanations.with_scores(published).to_csv(_table(x, tap, method))
    tables.write_scores(x.workdir / "scores.csv", entries)
    artifacts.write_json(x.workdir / "summary.json", {**_facts(x), "results": records})
    for entry, summary in zip(entries, records, strict=True):
        for line in listing.lines(entry, summary, x.config["report"]["listing"]):
            print(line)


def _untrained(x: Run, tap: str, method: str, simulator: str) -> dict[str, float]:
    """The same run's figures on the re-initialised network: what looks like an explanation where nothing was learned."""
    _, explanations = explained(x, UNTRAINED, tap, method)
    rho = scored(x, UNTRAINED, tap, method, simulator).artifact.arrays["correlation"]
    summary = tables.record(Scored(tap, method, simulator, explanations, {"correlation": rho}))
    return {f"untrained_{name}": summary[name] for name in ("mean_correlation", "sem_correlation", "mean_length", "n_dead")}


def _facts(x: Run) -> dict[str, Any]:
    """The run-level part of summary.json."""
    probe = probed(x, TRAINED).artifact
    labels_simulate = [name for name, kind in x.config["simulators"].items() if kind == "labels"]
    notes = [
        f"Simulator {name!r} is the ground-truth labels themselves, not a second encoder: "
        "its scores say how well labels explain a neuron, and no error of an encoder enters them."
        for name in labels_simulate
    ]
    return {
        "config_fingerprint": fingerprint({key: value for key, value in x.config.items() if key != "workdir"}),
        "jaxle": version("jaxle"),
        "jax": jax.__version__,
        "platform": jax.devices()[0].platform,
        "n_devices": x.mesh.size,
        "source": x.config["data"]["source"],
        "n_images": len(x.source),
        "n_train": len(x.split.train),
        "n_val": len(x.split.val),
        "n_test": len(x.split.test),
        "model": x.models[TRAINED].name,
        "weights_sha256": x.models[TRAINED].weights_hash,
        "top1_accuracy": probe.facts.get("top1_accuracy"),
        "notes": notes,
    }


# --- what there is to do ---


def _taps_and_methods(x: Run) -> Iterator[tuple[str, str]]:
    for tap in x.config["target"]["taps"]:
        for method in x.config["methods"]:
            yield tap, method


def _units(x: Run) -> Iterator[tuple[str, str, str]]:
    """Every (variant, tap, method) of the run."""
    for variant in x.models:
        for tap, method in _taps_and_methods(x):
            yield variant, tap, method


def _where(variant: str, tap: str, method: str) -> str:
    return f"{tap}, {method}" + (f" ({variant})" if variant != TRAINED else "")


def _split_key(split: Split) -> str:
    return fingerprint({name: np.asarray(index).tolist() for name, index in split._asdict().items()})


def _probe_all(x: Run) -> None:
    for variant in x.models:
        probed(x, variant)
    (x.workdir / "split").mkdir(parents=True, exist_ok=True)
    for name, index in x.split._asdict().items():
        artifacts.write_file(x.workdir / "split" / f"{name}.npy", lambda file, index=index: np.save(file, index, allow_pickle=False))
    accuracy = probed(x, TRAINED).artifact.facts.get("top1_accuracy")
    if accuracy is not None:
        say(f"  {x.models[TRAINED].name}: top-1 accuracy {100 * accuracy:.2f} % on {len(x.source)} images")


RUN: dict[str, Callable[[Run], None]] = {"probe": _probe_all, "fit": _fit, "search": _search, "simulate": _simulate, "score": _score}
