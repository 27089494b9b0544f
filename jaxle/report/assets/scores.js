"use strict";
/* Methods × metrics: means with their intervals, a group of rows a layer; methods in pairs. */

jaxle.scores = (() => {
  const { h, svg, fixed, interval, table, count } = jaxle.dom;
  const MOST = 30; // rows at once; beyond, those of the chosen method and simulator come first

  /* Mean test ρ with its interval, that of untrained networks, the ceiling, from 0 to 1. */
  function whisker(r) {
    const x = (v) => 4 + 132 * Math.min(1, Math.max(0, v));
    const tick = (v, own) => svg("line", { class: own, x1: x(v), x2: x(v), y1: 2, y2: 14 });
    const [low, high] = [r.mean_correlation_low, r.mean_correlation_high];
    return svg("svg", { class: "whisker", viewBox: "0 0 140 16", "aria-hidden": "true" },
      svg("line", { class: "grid", x1: 4, x2: 136, y1: 8, y2: 8 }),
      r.mean_ceiling === undefined ? null : tick(r.mean_ceiling, "axis"),
      r.untrained_mean_correlation === undefined ? null
        : svg("circle", { class: "dot c1", cx: x(r.untrained_mean_correlation), cy: 8, r: 4 }),
      low === undefined ? null
        : svg("line", { class: "line c0", x1: x(low), x2: x(high), y1: 8, y2: 8 }),
      svg("circle", { class: "dot c0 full", cx: x(r.mean_correlation), cy: 8, r: 4.5 }));
  }

  function flags(r) {
    const found = [["dead", r.n_dead], ["unexplained", r.n_unexplained], ["unconverged", r.n_unconverged]];
    return found.filter(([, n]) => n).map(([name, n]) => `${n} ${name}`).join(", ") || "none";
  }

  function columns(results) {
    const has = (name) => results.some((r) => r[name] !== undefined);
    const number = (heading, name, digits) =>
      has(name) && [heading, (r) => fixed(r[name], digits), "number"];
    const share = (x) => (x === undefined ? "–" : `${fixed(100 * x, 0)} %`);
    const better = (r) => (r.n_better === undefined ? "–" : `${r.n_better} of ${r.n_neurons - r.n_dead}`);
    const correlation = (r) => [h("b", null, fixed(r.mean_correlation, 3)), " ", h("small", null,
      interval(r.mean_correlation_low, r.mean_correlation_high, 3) || `± ${fixed(r.sem_correlation, 3)}`)];
    return [
      ["Method, simulator", (r) => [r.method, h("small", null, ` by ${r.simulator}`)]],
      ["0 to 1", whisker],
      ["Test ρ", correlation, "number"],
      number("Untrained", "untrained_mean_correlation", 3),
      number("Ceiling", "mean_ceiling", 3),
      has("n_better") && ["Better than untrained", better, "number"],
      number("Words", "mean_length", 1),
      number("Specificity", "mean_specificity", 3),
      has("retrieval_at_1") && ["Distinguished", (r) => share(r.retrieval_at_1), "number"],
      number("Ablation excess", "mean_ablation_excess", 3),
      number("Counter­factual", "mean_counterfactual_agreement", 2),
      ["Flags", flags],
    ];
  }

  function means({ run }, state) {
    const { results } = run.summary;
    const own = (r) => r.method === state.method && r.simulator === state.simulator;
    const grouped = run.layers.flatMap((layer) => {
      const those = results.filter((r) => r.tap === layer.tap);
      const group = [h("bdi", null, layer.tap), `, ${count(layer.n, "neuron")}`];
      return those.length ? [{ group }, ...those] : [];
    });
    const key = h("ul", { class: "legend" },
      h("li", null, h("i", { class: "key c0 round" }), "test ρ, mean over live neurons, with its interval"),
      results.some((r) => r.untrained_mean_correlation !== undefined)
        ? h("li", null, h("i", { class: "key c1 round" }), "untrained networks") : null,
      results.some((r) => r.mean_ceiling !== undefined)
        ? h("li", null, h("i", { class: "key tick" }), "ceiling") : null);
    const whole = table({ kind: "scores", label: "Scores of every method", columns: columns(results),
      rows: grouped, chosen: own });
    if (results.length <= MOST) return [key, whole, paper(run)];
    const [first, ...rest] = columns(results);
    const few = table({ kind: "scores", label: `Scores of ${state.method}`,
      columns: [["Layer", (r) => r.tap], ...rest], rows: results.filter(own) });
    return [key, few, h("details", null, h("summary", null, "All methods and simulators"), whole),
      paper(run)];
  }

  function paper(run) {
    if (!run.paper.length) return null;
    const taps = [...new Set(run.paper.map((p) => p.tap))];
    const texts = taps.map((tap) => `${tap}: ` + run.paper.filter((p) => p.tap === tap)
      .map((p) => `${p.method} ${fixed(p.correlation, 4)}`).join(", "));
    return h("p", { class: "soft" },
      "The paper reports, of this network (ICML 2024, Tables 2 and 3): ", texts.join("; "), ".");
  }

  /* Every column of scores.csv that has a mean, with its interval or standard error. */
  function every(run) {
    const { results } = run.summary;
    const held = Object.entries(run.columns)
      .filter(([name]) => !/_(low|high)$/.test(name) && results.some((r) => r[`mean_${name}`] !== undefined));
    if (!held.length) return null;
    const sign = { higher: " ↑", lower: " ↓", "": "" };
    const figure = (name) => (r) => [fixed(r[`mean_${name}`], 3), " ", h("small", null,
      interval(r[`mean_${name}_low`], r[`mean_${name}_high`], 3) ||
      (r[`sem_${name}`] === undefined ? "" : `± ${fixed(r[`sem_${name}`], 3)}`))];
    return h("details", null, h("summary", null, "Every metric"),
      table({ caption: "Means over neurons with intervals or standard errors; ↑ higher is better, ↓ lower",
        rows: results, columns: [["Layer", (r) => r.tap], ["Method", (r) => r.method],
          ["Simulator", (r) => r.simulator],
          ...held.map(([name, c]) => [name.replaceAll("_", " ") + sign[c.better], figure(name), "number"])] }),
      h("dl", { class: "facts" }, held.map(([name, c]) =>
        [h("dt", null, name.replaceAll("_", " ")), h("dd", null, c.meaning)])));
  }

  function comparisons(run) {
    const found = run.summary.comparisons || [];
    if (!found.length) return null;
    const difference = (c) => [fixed(c.mean, 3), " ",
      h("small", null, interval(c.mean_low, c.mean_high, 3))];
    return h("details", null, h("summary", null, "Methods against each other"),
      table({ caption: "Mean paired difference of test ρ", rows: found, columns: [
        ["Layer", (c) => c.tap], ["Method", (c) => c.method], ["Against", (c) => c.against],
        ["Simulator", (c) => c.simulator], ["Difference", difference, "number"],
        ["Better for", (c) => `${fixed(100 * c.share_a_better, 0)} %`, "number"],
      ] }));
  }

  return { means, every, comparisons };
})();
