"""One run, read from top to bottom: each step takes records and returns one.

    open → probe → fit → explain → simulate → score → write → report

A step's result lies in the cache under a key made of all that it was given (`pipeline.cache`), so
the same command resumes, and a changed setting redoes what reads it and nothing else. Several
processes (`jaxle.multihost`) run this side by side; the first writes the files.
"""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts, multihost
from jaxle.data.sources import class_ends
from jaxle.mesh import network_mesh
from jaxle.pipeline import tables
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.compare import agreements, compare_all
from jaxle.pipeline.concepts import method_matrices
from jaxle.pipeline.config import Config
from jaxle.pipeline.counterfactual import counterfactual_all, kind_records, with_counterfactual
from jaxle.pipeline.dissect import check_dissect, with_overlaps
from jaxle.pipeline.encoders import calibrate_all
from jaxle.pipeline.explain import explain_all
from jaxle.pipeline.fit import fit_all
from jaxle.pipeline.index import index_arrays, write_index
from jaxle.pipeline.inputs import open_inputs
from jaxle.pipeline.intervene import impact_all
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.layers import make_layers
from jaxle.pipeline.learn import check_reconstruction, learn_units
from jaxle.pipeline.left_out import possible
from jaxle.pipeline.load import load_run
from jaxle.pipeline.monosemanticity import with_monosemanticity
from jaxle.pipeline.notes import notes
from jaxle.pipeline.opened import TRAINED
from jaxle.pipeline.pairs import open_pairs, probe_pairs
from jaxle.pipeline.preflight import check_methods, check_stages, check_words, wanted_classifier
from jaxle.pipeline.probe import probe, read_labels
from jaxle.pipeline.refits import refit_all
from jaxle.pipeline.report import write_report, write_timing
from jaxle.pipeline.report_arrays import make_report_arrays
from jaxle.pipeline.rows import by_explained, listed, look_beside, make_rows, with_refits
from jaxle.pipeline.score import score_all
from jaxle.pipeline.simulate import able_all, simulate
from jaxle.pipeline.skipped import begins_again, write_skipped
from jaxle.pipeline.summary import records, run_facts, top_impact
from jaxle.pipeline.units import write_units
from jaxle.pipeline.workdir import CACHE, CONTROLS, close, open_workdir, settings, write_split
from jaxle.report import listing, outcome
from jaxle.report.progress import say


@begins_again
def run(config: Config, stages: Sequence[str], mesh: Mesh, verbose: bool = False) -> None:
    """Runs the requested stages in order, and writes the files of the workdir.

    Args:
      config: the settings, `workdir` filled in.
      stages: names out of `STAGES`; what the others give must lie in the cache.
      mesh: the devices.
      verbose: a line a step, and the whole listing at the end.

    Raises:
      ValueError: bad input; what was computed before it stays.
    """
    # --- open -----------------------------------------------------------------------------------
    last = check_stages(stages)
    workdir = epath.Path(config.workdir)
    journal = Journal(workdir / "metrics.jsonl" if multihost.first() else None, verbose)
    cache = Cache(workdir / CACHE, tuple(stages), mesh, journal)
    multihost.same([settings(config), list(stages)], "config or --stages")
    with multihost.first_before_others("open the inputs"):  # what it makes, the others find
        inputs = open_inputs(config, cache.folder / "generated", network_mesh(mesh))
    multihost.same(inputs.images.key, "set of images")
    config, left_out = possible(config, inputs.images.source)
    for line in left_out:
        say(line)
    partition = inputs.partition
    wanted_classifier(inputs, config)  # refused before any image is read
    check_dissect(inputs, config)
    check_methods(inputs, config)
    pairs = open_pairs(inputs, config.evaluation.counterfactual, config)

    # --- probe: every network reads every image once ----------------------------------------------
    with journal.stage("probe"):
        labelled = read_labels(cache, inputs.images)
        check_words(inputs, labelled, config)
        if multihost.first():
            open_workdir(config)  # what is refused leaves another run's tables as they are
        probed, embedded = probe(cache, inputs, config)
        inputs = check_reconstruction(inputs, probed[TRAINED], config)
        inputs, probed = learn_units(cache, inputs, probed, config)
        target = wanted_classifier(inputs, config)
        calibrated = calibrate_all(cache, inputs, labelled, embedded, config)
        paired = probe_pairs(cache, inputs, pairs, calibrated, config)
        facts = run_facts(config, inputs, probed[TRAINED], labelled, calibrated, mesh)
        if multihost.first():
            write_split(workdir, inputs)
            write_skipped(workdir, inputs.images.skipped)
            write_units(workdir, inputs.units)
        for line in listing.probe_lines(facts, class_ends(inputs.images.source), verbose):
            say(line)
    if last == "probe":
        close(workdir, journal)
        return

    # --- fit: what the concepts alone decide, once for all layers ---------------------------------
    with journal.stage("fit", steps=1):
        matrices = method_matrices(cache, inputs.images, labelled, calibrated, config)
        layers = make_layers(probed, partition, config.evaluation.refits, config.seed)
        fitted = fit_all(cache, matrices, layers, partition, config)
    if last == "fit":
        close(workdir, journal)
        return

    # --- explain: every neuron of every layer, by every method ------------------------------------
    with journal.stage("explain", steps=len(layers.real) * len(config.methods)):
        fitted = with_overlaps(cache, inputs, fitted, layers, config)
        explained = explain_all(cache, fitted, layers.real, partition, config)
        for entry in explained:
            if entry.layer.kind == TRAINED and multihost.first():
                tables.write_explanations(workdir, entry)
    if last == "explain":
        close(workdir, journal)
        return

    # --- simulate: what each explanation predicts for val and test images -------------------------
    with journal.stage("simulate"):
        able = able_all(cache, fitted, labelled, calibrated, inputs.images, config)
        simulated = [
            simulate(cache, entry, simulator, partition)
            for entry in explained
            for simulator in able[entry.fitted.key].simulators
        ]
    if last == "simulate":
        close(workdir, journal)
        return

    # --- score: how far each explanation can be trusted -------------------------------------------
    with journal.stage("score", steps=len(simulated)):
        scored = score_all(cache, simulated, partition, config)
        refitted = refit_all(cache, explained, able, layers, partition)
        beside = look_beside(cache, able.values(), explained, partition, target, config)
        judged = counterfactual_all(cache, scored, paired, config)
        rows = with_refits(make_rows(cache, scored, beside, partition, config), refitted)
        rows = with_monosemanticity(cache, rows, embedded, config)
        rows = with_counterfactual(rows, judged)
        impacts = impact_all(cache, beside.target, layers, config)
        comparisons = compare_all(cache, [row.scored.simulated for row in rows], partition, config)

    if not multihost.first_goes_on():
        return

    # --- write: tables, summary, and the neurons to look at first ---------------------------------
    for entry, own in by_explained(rows):
        tables.write_explanations(workdir, entry, own)
        tables.write_concepts(workdir, entry, own)
    tables.write_scores(workdir / "scores.csv", rows)
    tables.write_controls(workdir / CONTROLS, scored)
    tables.write_impact(workdir, impacts)
    results = records(rows, scored, config)
    summary = {
        **facts,
        **top_impact(impacts),
        "comparisons": comparisons,
        "counterfactual": kind_records(scored, judged),
        "agreement": agreements([row.scored for row in rows]),
        "notes": [*left_out, *notes(config, facts, rows)],
        "results": results,
    }
    artifacts.write_json(workdir / "summary.json", summary)
    arrays = index_arrays(labelled, probed, fitted)
    write_index(workdir, config, inputs.images, arrays)
    shown = (listing if verbose else outcome).lines
    for line in shown(listed(rows), summary, config.report.listing):
        print(line)
    if last == "score":
        close(workdir, journal)
        return

    # --- report: pages that open from disk ------------------------------------------------------
    with journal.stage("report"):
        arrays["report"] = make_report_arrays(cache, inputs, rows, calibrated, config)
        write_index(workdir, config, inputs.images, arrays)
        page = write_report(load_run(workdir)) / "index.html"
    write_timing(workdir, close(workdir, journal))
    print(f"Report: {page}")
