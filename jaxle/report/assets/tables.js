"use strict";
/* The table of neurons: search, filters, sorting, pages of rows. Its state stands in the address. */

jaxle.tables = (() => {
  const { h, fixed, interval, equation, neuronAddress, neuronName, choice, count, sentence, table } =
    jaxle.dom;
  const PER_PAGE = 50;

  const FLAGS = {
    dead: "it does not fire on any probe image",
    constant: "its activation does not vary on the training images",
    unexplained: "no words: none that were tried correlate with it",
    unnamed: "no words: the file that was read does not name it",
    unconverged: "its elastic net stopped at the iteration cap, above the tolerance",
    few_positives: "too few images with its words decide the score",
  };

  const flag = (name) => h("span", { class: "flag", title: FLAGS[name] }, name.replace("_", " "));

  /* Every neuron of the given layers by one method and simulator. */
  function neurons(report, method, simulator, tap) {
    const found = [];
    report.run.rows.forEach((row, number) => {
      if (row.method !== method || row.simulator !== simulator || (tap && row.tap !== tap)) return;
      const place = report.run.layers.findIndex((layer) => layer.tap === row.tap);
      const layer = report.layers[place];
      const own = layer.methods[method];
      const scores = layer.scores[number];
      for (let k = 0; k < own.bias.length; k += 1) {
        found.push({ tap: row.tap, unit: k, place, table: layer, method, scores, k,
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
      const p = present[w] === null ? 1 : present[w];
      if (wanted.has(w)) sum += (own.weights[neuron.k][i] * p) / spread;
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

  const at = (neuron, name) => (neuron.scores[name] ? neuron.scores[name][neuron.k] : 0);
  const SORTS = {
    correlation: ["test correlation", (a, b) => b.correlation - a.correlation],
    worst: ["least correlation", (a, b) => a.correlation - b.correlation],
    length: ["most words", (a, b) => b.length - a.length],
    short: ["fewest words", (a, b) => a.length - b.length],
    excess: ["ablation excess", (a, b) => at(b, "ablation_excess") - at(a, "ablation_excess")],
    unit: ["layer and number", (a, b) => a.place - b.place || a.unit - b.unit],
  };

  /* Rows of neurons; pull(neuron) is the relevance to words that were asked for, or null. */
  function listing({ run }, rows, label, pull) {
    const thumbs = (n) => h("a", { href: neuronAddress(n.tap, n.unit), tabindex: "-1",
      "aria-hidden": "true" }, n.table.top[n.k].map((p) => jaxle.pictures.picture(run, p, jaxle.names[p])));
    const low = (n) => (n.scores.correlation_low ? n.scores.correlation_low[n.k] : null);
    return table({ kind: "neurons", label, rows, columns: [
      ["Neuron", (n) => h("a", { href: neuronAddress(n.tap, n.unit) }, neuronName(n.tap, n.unit))],
      ["Most active on", thumbs, "thumbs"],
      ["Test ρ", (n) => [h("b", null, fixed(n.correlation)), " ",
        h("small", null, interval(low(n), at(n, "correlation_high")))], "number"],
      pull && ["Pull", (n) => fixed(pull(n)), "number"],
      ["Explanation", (n) => [equation(run, n.table, n.method, n.k, 8),
        n.flag ? flag(n.flag) : null, n.few ? flag("few_positives") : null], "what"],
    ] });
  }

  /* Neurons that pass the filters of the address, but for the words. */
  function filtered(report, state) {
    let found = neurons(report, state.method, state.simulator, state.layer);
    if (state.flag === "none") found = found.filter((n) => !n.flag);
    else if (state.flag === "few_positives") found = found.filter((n) => n.few);
    else if (state.flag) found = found.filter((n) => n.flag === state.flag);
    const least = Number.parseFloat(state.least);
    if (!Number.isNaN(least)) found = found.filter((n) => n.correlation >= least);
    const longest = Number.parseInt(state.longest, 10);
    if (!Number.isNaN(longest)) found = found.filter((n) => n.length <= longest);
    return found;
  }

  /* Neurons in order, and what each owes to the words that the query means (null without a query). */
  function ranked(report, state) {
    let found = filtered(report, state);
    const wanted = state.q ? matching(report.run, state.q) : null;
    let pulls = null;
    if (wanted && wanted.size) {
      pulls = new Map(found.map((n) => [n, relevance(report, n, wanted)]));
      found = found.filter((n) => pulls.get(n) !== 0);
    } else if (wanted) {
      const text = state.q.trim().toLowerCase();
      found = found.filter((n) => `${n.tap}/${n.unit}`.toLowerCase() === text ||
        sentence(report.run, n.table, n.method, n.k).toLowerCase().includes(text));
    }
    if (pulls && !(state.sort in SORTS)) {
      found.sort((a, b) => Math.abs(pulls.get(b)) - Math.abs(pulls.get(a)));
    } else {
      found.sort(SORTS[state.sort in SORTS ? state.sort : "correlation"][1]);
    }
    return { found, pulls, wanted };
  }

  function controls(report, state, go, pulls) {
    const change = (name) => (value) => go({ ...state, page: "", [name]: value });
    const field = (name, text, attributes) => h("label", { class: "choice" }, h("span", null, text),
      h("input", { id: `table-${name}`, value: state[name] || "", ...attributes,
        onchange: (event) => change(name)(event.target.value) }));
    const sorts = Object.entries(SORTS).filter(([name]) =>
      (name !== "excess" || hasAblation(report)) && (name !== "correlation" || pulls));
    return h("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
      field("q", "Word or text", { type: "search", placeholder: "dog" }),
      choice("Layer", [["", "all"], ...report.run.layers.map((l) => [l.tap, l.tap])],
        state.layer || "", change("layer")),
      jaxle.choosers(report, state, go),
      choice("Sort by", [["", pulls ? "the words asked for" : "test correlation"],
        ...sorts.map(([name, [text]]) => [name, text])], state.sort || "", change("sort")),
      choice("Flag", [["", "any"], ["none", "no flag"],
        ...Object.keys(FLAGS).map((f) => [f, f.replace("_", " ")])], state.flag || "", change("flag")),
      field("least", "ρ at least", { type: "number", step: "0.05", min: "-1", max: "1", class: "narrow" }),
      field("longest", "Words at most", { type: "number", step: "1", min: "0", class: "narrow" }));
  }

  function view(report, state, go) {
    const { found, pulls, wanted } = ranked(report, state);
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    const page = Math.min(pages, Math.max(1, Number.parseInt(state.page, 10) || 1));
    const shown = found.slice((page - 1) * PER_PAGE, page * PER_PAGE);
    const turn = (to, text) => h("button", { type: "button", disabled: to < 1 || to > pages,
      onclick: () => { go({ ...state, page: String(to) }); window.scrollTo(0, 0); } }, text);
    const names = pulls && [...wanted].slice(0, 6).map((w) => report.run.words[w]).join(", ");
    return [
      h("h1", null, "Neurons"),
      controls(report, state, go, pulls),
      h("p", { class: "soft", id: "found", role: "status" }, count(found.length, "neuron"),
        pulls ? `, by pull of ${names}${wanted.size > 6 ? " …" : ""}: weight × probability where ` +
          "present, in standard deviations of the neuron" : ""),
      listing(report, shown, "Neurons", pulls && ((n) => pulls.get(n))),
      pages > 1 ? h("nav", { class: "pager", "aria-label": "Pages" }, turn(page - 1, "Previous"),
        h("span", null, `Page ${page} of ${pages}`), turn(page + 1, "Next")) : null,
    ];
  }

  const hasAblation = (report) =>
    Object.values(report.layers[0].scores).some((s) => s.ablation_excess);

  return { view, neurons, relevance, listing, flag, FLAGS };
})();
