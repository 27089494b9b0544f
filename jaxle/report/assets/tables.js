"use strict";
/* The table of neurons: search, filters, sorting, pages of rows. Its state stands in the address. */

jaxle.tables = (() => {
  const { h, fixed, interval, equation, neuronAddress, choice, count, sentence } = jaxle.dom;
  const PER_PAGE = 50;

  const FLAGS = {
    dead: "it does not fire on any probe image",
    constant: "its activation does not vary on the training images",
    unexplained: "nothing that was tried correlates with it on images that its fit did not see",
    unconverged: "its elastic net stopped at the iteration cap, above the tolerance",
    few_positives: "too few images with its words decide the score",
  };

  /* Every neuron of the given layers by one method and simulator. */
  function neurons(report, method, simulator, tap) {
    const found = [];
    report.run.rows.forEach((row, number) => {
      if (row.method !== method || row.simulator !== simulator || (tap && row.tap !== tap)) return;
      const place = report.run.layers.findIndex((layer) => layer.tap === row.tap);
      const table = report.layers[place];
      const own = table.methods[method];
      const scores = table.scores[number];
      for (let k = 0; k < own.bias.length; k += 1) {
        found.push({ tap: row.tap, unit: k, place, table, method, scores, k,
          correlation: scores.correlation[k], length: own.words[k].length, flag: own.flag[k],
          few: Boolean(scores.few_positives && scores.few_positives[k]) });
      }
    });
    return found;
  }

  /* Relevance of a neuron to words: weight × probability where present, in deviations. */
  function relevance(report, neuron, wanted) {
    const own = neuron.table.methods[neuron.method];
    const spread = neuron.table.spread[neuron.k] || 1;
    const present = report.run.present[neuron.method];
    let sum = 0;
    own.words[neuron.k].forEach((w, i) => {
      if (wanted.has(w)) sum += (own.weights[neuron.k][i] * (present[w] === null ? 1 : present[w])) / spread;
    });
    return sum;
  }

  /* Numbers of the words that a query means: the same, or with a word that begins like it. */
  function matching(run, query) {
    const asked = query.trim().toLowerCase();
    const exact = new Set();
    const close = new Set();
    run.words.forEach((word, w) => {
      const own = word.toLowerCase();
      if (own === asked) exact.add(w);
      if (own.startsWith(asked) || own.includes(` ${asked}`)) close.add(w);
    });
    return exact.size ? exact : close;
  }

  const SORTS = {
    correlation: ["test correlation", (a, b) => b.correlation - a.correlation],
    worst: ["least correlation", (a, b) => a.correlation - b.correlation],
    length: ["most words", (a, b) => b.length - a.length],
    short: ["fewest words", (a, b) => a.length - b.length],
    excess: ["ablation excess", (a, b) => at(b, "ablation_excess") - at(a, "ablation_excess")],
    unit: ["layer and number", (a, b) => a.place - b.place || a.unit - b.unit],
  };
  const at = (neuron, name) => (neuron.scores[name] ? neuron.scores[name][neuron.k] : 0);

  function row(report, neuron, extra) {
    const { run } = report;
    const address = neuronAddress(neuron.tap, neuron.unit);
    const top = neuron.table.top[neuron.k];
    const low = at(neuron, "correlation_low");
    const high = at(neuron, "correlation_high");
    return h("tr", null,
      h("th", { scope: "row" }, h("a", { href: address }, `${neuron.tap}/${neuron.unit}`)),
      h("td", { class: "thumbs" }, h("a", { href: address, tabindex: "-1", "aria-hidden": "true" },
        top.map((p) => jaxle.pictures.picture(run, p, jaxle.names[p])))),
      h("td", { class: "number" }, h("b", null, fixed(neuron.correlation)),
        h("small", null, " ", interval(neuron.scores.correlation_low && low, high))),
      extra ? h("td", { class: "number" }, fixed(extra)) : null,
      h("td", null, equation(run, neuron.table, neuron.method, neuron.k, 8),
        neuron.flag ? h("span", { class: "flag", title: FLAGS[neuron.flag] }, neuron.flag) : null,
        neuron.few ? h("span", { class: "flag", title: FLAGS.few_positives }, "few positives") : null));
  }

  function view(report, state, go) {
    const { run } = report;
    const wanted = state.q ? matching(run, state.q) : null;
    let found = neurons(report, state.method, state.simulator, state.layer);
    if (state.flag === "none") found = found.filter((n) => !n.flag);
    else if (state.flag === "few_positives") found = found.filter((n) => n.few);
    else if (state.flag) found = found.filter((n) => n.flag === state.flag);
    const least = Number.parseFloat(state.least);
    if (!Number.isNaN(least)) found = found.filter((n) => n.correlation >= least);
    const longest = Number.parseInt(state.longest, 10);
    if (!Number.isNaN(longest)) found = found.filter((n) => n.length <= longest);
    let extra = null;
    if (wanted) {
      extra = new Map(found.map((n) => [n, relevance(report, n, wanted)]));
      if (!wanted.size) {
        const text = state.q.trim().toLowerCase();
        found = found.filter((n) => `${n.tap}/${n.unit}` === text ||
          sentence(run, n.table, n.method, n.k).toLowerCase().includes(text));
        extra = null;
      } else {
        found = found.filter((n) => extra.get(n) !== 0);
      }
    }
    if (extra && !state.sort) {
      found.sort((a, b) => Math.abs(extra.get(b)) - Math.abs(extra.get(a)));
    } else {
      found.sort(SORTS[state.sort in SORTS ? state.sort : "correlation"][1]);
    }
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    const page = Math.min(pages, Math.max(1, Number.parseInt(state.page, 10) || 1));
    const shown = found.slice((page - 1) * PER_PAGE, page * PER_PAGE);
    const change = (name) => (value) => go({ ...state, page: "", [name]: value });
    const field = (name, text, attributes) => h("label", { class: "choice" }, h("span", null, text),
      h("input", { value: state[name] || "", ...attributes,
        onchange: (event) => change(name)(event.target.value) }));
    const controls = h("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
      field("q", "Word or text", { type: "search", id: "table-query", placeholder: "dog" }),
      choice("Layer", [["", "all"], ...run.layers.map((l) => [l.tap, l.tap])], state.layer || "", change("layer")),
      jaxle.choosers(report, state, go),
      choice("Sort by", [["", extra ? "the words asked for" : "test correlation"],
        ...Object.entries(SORTS).filter(([name]) => name !== "excess" || hasAblation(report))
          .map(([name, [text]]) => [name, text])], state.sort || "", change("sort")),
      choice("Flag", [["", "any"], ["none", "no flag"], ...Object.keys(FLAGS).map((f) => [f, f.replace("_", " ")])],
        state.flag || "", change("flag")),
      field("least", "ρ at least", { type: "number", step: "0.05", min: "-1", max: "1", class: "narrow" }),
      field("longest", "Words at most", { type: "number", step: "1", min: "0", class: "narrow" }));
    const next = (to, text) => h("button", { type: "button", disabled: to < 1 || to > pages,
      onclick: () => go({ ...state, page: String(to) }) }, text);
    return [
      h("h1", null, "Neurons"),
      controls,
      h("p", { class: "soft", id: "found" }, `${count(found.length, "neuron")}`,
        extra ? `, by weight × probability of ${[...wanted].slice(0, 6).map((w) => run.words[w]).join(", ")}` +
          `${wanted.size > 6 ? " …" : ""}, in standard deviations of the neuron` : ""),
      h("div", { class: "scroll" }, h("table", { class: "neurons" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Neuron"),
          h("th", { scope: "col" }, "Most active on"), h("th", { scope: "col" }, "Test ρ"),
          extra ? h("th", { scope: "col" }, "Pull") : null, h("th", { scope: "col" }, "Explanation"))),
        h("tbody", null, shown.map((n) => row(report, n, extra && extra.get(n)))))),
      pages > 1 ? h("nav", { class: "pager", "aria-label": "Pages" }, next(page - 1, "Previous"),
        h("span", null, `Page ${page} of ${pages}`), next(page + 1, "Next")) : null,
    ];
  }

  const hasAblation = (report) =>
    Object.values(report.layers[0].scores).some((s) => s.ablation_excess);

  return { view, neurons, relevance, matching, row, FLAGS, hasAblation };
})();
