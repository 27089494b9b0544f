"use strict";
/* The front page: what was run, what came out, and neurons to look at first. */

jaxle.overview = (() => {
  const { h, fixed, short, count, interval, equation, neuronAddress } = jaxle.dom;
  const { histogram, scatter, curves, leastSquares, mean } = jaxle.charts;

  function view(report, state, go) {
    const { run } = report;
    const { summary } = run;
    const n = run.layers.reduce((sum, layer) => sum + layer.n, 0);
    return [
      h("h1", null, run.name),
      h("p", { class: "lead" }, `${summary.model}: ${count(n, "neuron")} of ` +
        `${count(run.layers.length, "layer")}, explained in words by ` +
        `${count(run.methods.length, "method")} on ${count(summary.n_images, "image")} of ` +
        `${summary.source}.`),
      headline(report, state),
      first(report, state, go),
      h("h2", null, "How far the explanations can be trusted"),
      scores(report),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      charts(report, state),
      comparisons(run),
      notes(summary),
      about(report),
    ];
  }

  const of = (run, state) => run.summary.results.filter((r) =>
    r.method === state.method && r.simulator === state.simulator);

  function headline(report, state) {
    const those = of(report.run, state).filter((r) => r.n_controls);
    if (!those.length) return null;
    const counted = those.filter((r) => r.n_better !== undefined);
    const live = counted.reduce((sum, r) => sum + r.n_neurons - r.n_dead, 0);
    const better = counted.reduce((sum, r) => sum + r.n_better, 0);
    return h("section", { class: "headline", "aria-label": "Headline" },
      counted.length ? h("p", { class: "figure" }, h("b", null, `${better} of ${live}`),
        ` neurons are better explained than those of ${count(those[0].n_controls, "untrained network")} ` +
        `(false discovery rate ${those[0].better_q}; ${state.method}, simulated by ${state.simulator}).`)
        : h("p", { class: "figure" }, "So few untrained neurons that no p-value counts."),
      h("ul", null, those.map((r) => h("li", null, `${r.tap}: `,
        r.n_better === undefined ? `smallest p ${short(r.smallest_control_p)}` :
          `${r.n_better} of ${r.n_neurons - r.n_dead}`,
        `; P(ρ > ρ untrained) ${fixed(r.better_probability)} ` +
        `${interval(r.better_probability_low, r.better_probability_high)}; excess ρ ` +
        `${fixed(r.excess)} ${interval(r.excess_low, r.excess_high)}`))));
  }

  /* The best, a middling and the worst live neuron of each layer, images first. */
  function first(report, state) {
    const { run } = report;
    const cards = run.layers.flatMap((layer) => {
      const live = jaxle.tables.neurons(report, state.method, state.simulator, layer.tap)
        .filter((x) => x.flag !== "dead").sort((a, b) => b.correlation - a.correlation);
      const picks = [[0, "best of"], [Math.floor(live.length / 2), "median of"], [live.length - 1, "worst of"]];
      return picks.filter(([i]) => live[i]).slice(0, run.layers.length > 4 ? 1 : 3)
        .map(([i, text]) => [live[i], text]);
    });
    return h("section", { "aria-label": "Neurons to look at first" },
      h("h2", null, "Neurons to look at first"),
      h("ul", { class: "cards" }, cards.map(([neuron, text]) => h("li", null,
        h("a", { class: "cover", href: neuronAddress(neuron.tap, neuron.unit),
          "aria-label": `Neuron ${neuron.tap}/${neuron.unit}` },
        neuron.table.top[neuron.k].map((p) => jaxle.pictures.picture(run, p, jaxle.names[p]))),
        h("p", { class: "name" }, h("a", { href: neuronAddress(neuron.tap, neuron.unit) },
          `${neuron.tap}/${neuron.unit}`), h("span", { class: "soft" }, ` ${text} the layer · ρ ${fixed(neuron.correlation)}`)),
        h("p", null, equation(run, neuron.table, neuron.method, neuron.k, 5))))));
  }

  function scores(report) {
    const { run } = report;
    const has = (name) => run.summary.results.some((r) => r[name] !== undefined);
    const paper = new Map();
    for (const p of run.paper) paper.set(p.tap, [...(paper.get(p.tap) || []), `${p.method} ${fixed(p.correlation, 4)}`]);
    const columns = [
      ["Test ρ", (r) => [h("b", null, fixed(r.mean_correlation, 3)),
        h("small", null, " ", interval(r.mean_correlation_low, r.mean_correlation_high, 3) ||
          `± ${fixed(r.sem_correlation, 3)}`)]],
      has("mean_ceiling") && ["Ceiling", (r) => fixed(r.mean_ceiling, 3)],
      has("untrained_mean_correlation") && ["Untrained ρ", (r) => fixed(r.untrained_mean_correlation, 3)],
      has("n_better") && ["Better than untrained", (r) => r.n_better === undefined ? "–" : `${r.n_better} of ${r.n_neurons - r.n_dead}`],
      ["Words", (r) => fixed(r.mean_length, 1)],
      has("mean_specificity") && ["Specificity", (r) => fixed(r.mean_specificity, 3)],
      has("retrieval_at_1") && ["Distinguished", (r) => r.retrieval_at_1 === undefined ? "–" : `${fixed(100 * r.retrieval_at_1, 0)} %`],
      has("mean_ablation_excess") && ["Ablation excess", (r) => fixed(r.mean_ablation_excess, 3)],
      has("mean_counterfactual_agreement") && ["Counterfactual agreement", (r) => fixed(r.mean_counterfactual_agreement, 2)],
      ["Flags", (r) => [r.n_dead && `${r.n_dead} dead`, r.n_unexplained && `${r.n_unexplained} unexplained`,
        r.n_unconverged && `${r.n_unconverged} unconverged`].filter(Boolean).join(", ") || "none"],
    ].filter(Boolean);
    return [
      h("div", { class: "scroll" }, h("table", { class: "scores" },
        h("caption", null, "Means over live neurons, on test images"),
        h("thead", null, h("tr", null, ["Layer", "Method", "Simulator"].map((t) => h("th", { scope: "col" }, t)),
          columns.map(([name]) => h("th", { scope: "col" }, name)))),
        h("tbody", null, run.summary.results.map((r) => h("tr", null,
          h("th", { scope: "row" }, r.tap), h("td", null, r.method), h("td", null, r.simulator),
          columns.map(([, cell]) => h("td", { class: "number" }, cell(r)))))))),
      paper.size ? h("p", { class: "soft" }, "The paper reports, of this network (ICML 2024, Tables 2 and 3): ",
        [...paper].map(([tap, texts]) => `${tap}: ${texts.join(", ")}`).join("; "), ".") : null,
    ];
  }

  function charts(report, state) {
    const { run } = report;
    const found = jaxle.tables.neurons(report, state.method, state.simulator).filter((n) => n.flag !== "dead");
    if (!found.length) return null;
    const boxes = [];
    const untrained = run.controls.filter((c) => c.method === state.method &&
      c.simulator === state.simulator && c.network.startsWith("untrained")).flatMap((c) => c.correlation);
    const trained = found.map((n) => n.correlation);
    const low = Math.min(0, ...trained, ...untrained);
    boxes.push(histogram({ caption: "Test correlation of each neuron", xLabel: "ρ", bars: 20,
      low: Math.floor(low * 10) / 10, high: 1,
      groups: [{ name: `trained, mean ${fixed(mean(trained))}`, values: trained, colour: "c0" },
        ...(untrained.length ? [{ name: `untrained, mean ${fixed(mean(untrained))}`, values: untrained, colour: "c1" }] : [])] }));
    const lengths = found.map((n) => n.length);
    const longest = Math.max(...lengths, 1);
    boxes.push(histogram({ caption: "Words in an explanation", xLabel: "words", low: -0.5,
      high: longest + 0.5, bars: longest + 1, whole: true,
      groups: [{ name: `mean ${fixed(mean(lengths), 1)}`, values: lengths, colour: "c0" }] }));
    const scored = found.filter((n) => n.scores.ablation_excess &&
      (!n.scores.ablation_scored || n.scores.ablation_scored[n.k]));
    if (scored.length > 2) {
      const points = scored.map((n) => [n.correlation, n.scores.ablation_optim[n.k],
        `${n.tap}/${n.unit}`, neuronAddress(n.tap, n.unit), `c${n.place % 8}`]);
      const fit = leastSquares(points);
      boxes.push(scatter({ caption: "Correlation against ablation", xLabel: "test ρ",
        yLabel: "ablation (optim)", points, fit: fit && fit.line,
        note: fit ? `The paper's Figure 5: correlation of the two ${fixed(fit.correlation)}.` : "The paper's Figure 5." }));
    }
    if (run.impact.length) {
      boxes.push(curves({ caption: "Top Impact by layer", xLabel: "share of the images", yLabel: "share of the impact",
        log: true, y: [0, 1], groups: run.impact.map((own, i) => ({ name: own.tap, colour: `c${i % 8}`,
          points: own.share_of_images.map((s, j) => [s, own.top_impact[j]]) })) }));
    }
    if (run.calibration.length) {
      boxes.push(curves({ caption: "Calibration of the encoders", xLabel: "predicted probability",
        yLabel: "share of labels", x: [0, 1], y: [0, 1], diagonal: true,
        groups: run.calibration.map((own, i) => ({ name: `${own.encoder}, ECE ${short(own.ece)}`, colour: `c${i % 8}`,
          points: own.predicted.map((p, j) => [p, own.observed[j]]) })) }));
    }
    return h("div", { class: "charts" }, boxes);
  }

  function comparisons(run) {
    const found = run.summary.comparisons || [];
    if (!found.length) return null;
    return h("details", null, h("summary", null, "Methods against each other"),
      h("div", { class: "scroll" }, h("table", null, h("caption", null, "Mean paired difference of test ρ"),
        h("thead", null, h("tr", null, ["Layer", "Method", "Against", "Simulator", "Difference", "Better for"]
          .map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", null, found.map((c) => h("tr", null, h("th", { scope: "row" }, c.tap), h("td", null, c.method),
          h("td", null, c.against), h("td", null, c.simulator),
          h("td", { class: "number" }, fixed(c.mean, 3), h("small", null, " ", interval(c.mean_low, c.mean_high, 3))),
          h("td", { class: "number" }, `${fixed(100 * c.share_a_better, 0)} %`)))))));
  }

  const notes = (summary) => summary.notes && summary.notes.length ? h("section", null,
    h("h2", null, "Notes"), h("ul", null, summary.notes.map((note) => h("li", null, note)))) : null;

  function about(report) {
    const { run, timing } = report;
    const { summary } = run;
    const facts = [
      ["Network", `${summary.model}, weights ${summary.weights_sha256.slice(0, 16)}`],
      summary.top1_accuracy !== null && ["Top-1 accuracy", `${fixed(100 * summary.top1_accuracy, 2)} %`],
      ["Images", `${summary.source}: ${summary.n_train} train, ${summary.n_val} val, ${summary.n_test} test`],
      ...Object.entries(summary.encoders).map(([name, e]) =>
        [`Encoder ${name}`, `σ(${short(e.scale)}·(cos ${e.shift < 0 ? "−" : "+"} ${short(Math.abs(e.shift))})), ${e.source}`]),
      ["Device", `${summary.n_devices} × ${summary.platform}`],
      ["Versions", `jaxle ${summary.jaxle}, jax ${summary.jax}`],
      ["Config", summary.config_fingerprint],
      timing && ["Seconds", Object.entries(timing.seconds).map(([stage, s]) => `${stage} ${fixed(s, 1)}`).join(", ") +
        `; compiling ${fixed(timing.compile_seconds, 1)}`],
    ].filter(Boolean);
    return h("section", null, h("h2", null, "What was run"),
      h("dl", { class: "facts" }, facts.map(([name, text]) => [h("dt", null, name), h("dd", null, text)])),
      h("details", null, h("summary", null, "All settings"), h("pre", null, JSON.stringify(run.config, null, 2))),
      h("details", null, h("summary", null, "Tables and their hashes"),
        h("pre", null, Object.entries(run.tables).map(([name, hash]) => `${hash}  ${name}`).join("\n"))));
  }

  return { view };
})();
