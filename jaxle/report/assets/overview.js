"use strict";
/* The front page: what was run, what came out, and neurons to look at first. */

jaxle.overview = (() => {
  const { h, fixed, short, count, interval, equation, neuronAddress, neuronName } = jaxle.dom;
  const { histogram, scatter, curves, leastSquares, mean } = jaxle.charts;

  function view(report, state, go) {
    const { run } = report;
    const { summary } = run;
    const n = run.layers.reduce((sum, layer) => sum + layer.n, 0);
    const found = jaxle.tables.neurons(report, state.method, state.simulator);
    return [
      h("h1", null, run.name),
      h("p", { class: "lead" }, `${summary.model}: ${count(n, "neuron")} of ` +
        `${count(run.layers.length, "layer")}, explained in words by ` +
        `${count(run.methods.length, "method")} on ${count(summary.n_images, "image")} of ` +
        `${summary.source}.`),
      headline(run, state),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      first(run, found),
      h("h2", null, "How far the explanations can be trusted"),
      jaxle.scores.means(report, state),
      charts(run, state, found.filter((x) => x.flag !== "dead")),
      jaxle.scores.every(run),
      jaxle.scores.comparisons(run),
      summary.notes && summary.notes.length ? h("section", null, h("h2", null, "Notes"),
        h("ul", null, summary.notes.map((note) => h("li", null, note)))) : null,
      about(report),
    ];
  }

  function headline(run, state) {
    const those = run.summary.results.filter((r) =>
      r.method === state.method && r.simulator === state.simulator && r.n_controls);
    if (!those.length) return null;
    const counted = those.filter((r) => r.n_better !== undefined);
    const live = counted.reduce((sum, r) => sum + r.n_neurons - r.n_dead, 0);
    const better = counted.reduce((sum, r) => sum + r.n_better, 0);
    const line = (r) => h("li", null, h("bdi", null, r.tap), ": ",
      r.n_better === undefined ? `smallest p ${short(r.smallest_control_p)}`
        : `${r.n_better} of ${r.n_neurons - r.n_dead}`,
      `; P(ρ > ρ untrained) ${fixed(r.better_probability)} `,
      interval(r.better_probability_low, r.better_probability_high),
      `; excess ρ ${fixed(r.excess)} `, interval(r.excess_low, r.excess_high));
    return h("section", { class: "headline", "aria-label": "Headline" },
      counted.length ? h("p", { class: "figure" }, h("b", null, `${better} of ${live}`),
        " neurons are better explained than those of ",
        `${count(those[0].n_controls, "untrained network")} (false discovery rate ${those[0].better_q}; `,
        `${state.method}, simulated by ${state.simulator}).`)
        : h("p", { class: "figure" }, "So few untrained neurons that no p-value counts."),
      those.length > 8
        ? h("details", null, h("summary", null, "By layer"), h("ul", null, those.map(line)))
        : h("ul", null, those.map(line)));
  }

  /* The best, a middling and the worst live neuron of each layer, images first. */
  function first(run, found) {
    const few = run.layers.length <= 4;
    const cards = run.layers.flatMap((layer, place) => {
      const live = found.filter((x) => x.place === place && x.flag !== "dead")
        .sort((a, b) => b.correlation - a.correlation);
      const picks = [[0, "best"], [Math.floor(live.length / 2), "median"], [live.length - 1, "worst"]];
      return picks.filter(([i]) => live[i]).slice(0, few ? 3 : 1)
        .map(([i, text]) => [live[i], [`${text} of `, h("bdi", null, layer.tap)]]);
    });
    return h("section", { "aria-labelledby": "first" },
      h("h2", { id: "first" }, few ? "Neurons to look at first" : "The best neuron of each layer"),
      h("ul", { class: few ? "cards three" : "cards" }, cards.map(([neuron, text]) =>
        card(run, neuron.table, neuron.method, neuron.tap, neuron.k,
          [text, ` · ρ ${fixed(neuron.correlation)}`], 5))));
  }

  /* A neuron as its three pictures, its name and its equation. */
  function card(run, table, method, tap, k, text, most) {
    const address = neuronAddress(tap, k);
    return h("li", null,
      h("a", { class: "cover", href: address, tabindex: "-1", "aria-hidden": "true" },
        table.top[k].map((p) => jaxle.pictures.picture(run, p, jaxle.names[p]))),
      h("p", { class: "name" }, h("a", { href: address }, neuronName(tap, k)),
        h("span", { class: "soft" }, text)),
      h("p", null, equation(run, table, method, k, most)));
  }

  function charts(run, state, found) {
    if (!found.length) return null;
    return h("div", { class: "charts" }, correlations(run, state, found), lengths(found),
      ablations(found), impact(run), calibration(run));
  }

  function correlations(run, state, found) {
    const trained = found.map((n) => n.correlation);
    const untrained = run.controls.filter((c) => c.method === state.method &&
      c.simulator === state.simulator && c.network.startsWith("untrained")).flatMap((c) => c.correlation);
    const low = [...trained, ...untrained].reduce((a, b) => Math.min(a, b), 0);
    const groups = [{ name: `trained, mean ${fixed(mean(trained))}`, values: trained, colour: "c0" }];
    if (untrained.length) {
      groups.push({ name: `untrained, mean ${fixed(mean(untrained))}`, values: untrained, colour: "c1" });
    }
    return histogram({ caption: "Test correlation of each neuron", xLabel: "ρ", bars: 20,
      low: Math.floor(low * 10) / 10, high: 1, groups });
  }

  function lengths(found) {
    const values = found.map((n) => n.length);
    const longest = values.reduce((a, b) => Math.max(a, b), 1);
    return histogram({ caption: "Words in an explanation", xLabel: "words", low: -0.5,
      high: longest + 0.5, bars: longest + 1, whole: true, note: `mean ${fixed(mean(values), 1)}`,
      groups: [{ name: "explanations", values, colour: "c0" }] });
  }

  function ablations(found) {
    const scored = found.filter((n) => n.scores.ablation_excess &&
      (!n.scores.ablation_scored || n.scores.ablation_scored[n.k]));
    if (scored.length < 3) return null;
    const points = scored.map((n) => [n.correlation, n.scores.ablation_optim[n.k],
      `${n.tap}/${n.unit}`, neuronAddress(n.tap, n.unit), `c${n.place % 8}`]);
    const fit = leastSquares(points);
    return scatter({ caption: "Correlation against ablation", xLabel: "test ρ", points,
      yLabel: "ablation (optim)", fit: fit && fit.line,
      note: fit ? `The paper's Figure 5; correlation of the two ${fixed(fit.correlation)}.`
        : "The paper's Figure 5." });
  }

  function impact(run) {
    if (!run.impact.length) return null;
    return curves({ caption: "Top Impact by layer", xLabel: "share of the images",
      yLabel: "share of the impact", log: true, y: [0, 1],
      groups: run.impact.map((own, i) => ({ name: own.tap, colour: `c${i % 8}`,
        points: own.share_of_images.map((s, j) => [s, own.top_impact[j]]) })) });
  }

  function calibration(run) {
    if (!run.calibration.length) return null;
    return curves({ caption: "Calibration of the encoders", xLabel: "predicted probability",
      yLabel: "share of labels", x: [0, 1], y: [0, 1], diagonal: true,
      groups: run.calibration.map((own, i) => ({ name: `${own.encoder}, ECE ${short(own.ece)}`,
        colour: `c${i % 8}`, points: own.predicted.map((p, j) => [p, own.observed[j]]) })) });
  }

  function about({ run, timing }) {
    const { summary } = run;
    const sigmoid = (e) =>
      `σ(${short(e.scale)}·(cos ${e.shift < 0 ? "−" : "+"} ${short(Math.abs(e.shift))})), ${e.source}`;
    const facts = [
      ["Network", `${summary.model}, weights ${summary.weights_sha256.slice(0, 16)}`],
      summary.top1_accuracy !== null && ["Top-1 accuracy", `${fixed(100 * summary.top1_accuracy, 2)} %`],
      ["Images", `${summary.source}: ${summary.n_train} train, ${summary.n_val} val, ${summary.n_test} test`],
      ...Object.entries(summary.encoders).map(([name, e]) => [`Encoder ${name}`, sigmoid(e)]),
      ["Device", `${summary.n_devices} × ${summary.platform}`],
      ["Versions", `jaxle ${summary.jaxle}, jax ${summary.jax}`],
      ["Config", summary.config_fingerprint],
      timing && ["Seconds", Object.entries(timing.seconds)
        .map(([stage, s]) => `${stage} ${fixed(s, 1)}`).join(", ") +
        `; compiling ${fixed(timing.compile_seconds, 1)}`],
    ].filter(Boolean);
    return h("section", null, h("h2", null, "What was run"),
      h("dl", { class: "facts" }, facts.map(([name, text]) => [h("dt", null, name), h("dd", null, text)])),
      h("details", null, h("summary", null, "All settings"),
        h("pre", { tabindex: "0" }, JSON.stringify(run.config, null, 2))),
      h("details", null, h("summary", null, "Tables and their hashes"),
        h("pre", { tabindex: "0" },
          Object.entries(run.tables).map(([name, hash]) => `${hash}  ${name}`).join("\n"))));
  }

  return { view, card };
})();
