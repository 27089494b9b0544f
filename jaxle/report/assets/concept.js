"use strict";
/* Words: which neurons use each; and the map of neurons by what their explanations predict. */

jaxle.concept = (() => {
  const { h, svg, fixed, count, wordLink, neuronAddress, equation } = jaxle.dom;
  const MOST = 400; // words listed at once

  /* word → [neurons that it raises, neurons that it lowers] by the chosen method. */
  function uses(report, state) {
    const found = new Map();
    for (const neuron of jaxle.tables.neurons(report, state.method, state.simulator)) {
      const own = neuron.table.methods[neuron.method];
      own.words[neuron.k].forEach((w, i) => {
        if (!found.has(w)) found.set(w, [[], []]);
        found.get(w)[own.weights[neuron.k][i] < 0 ? 1 : 0].push(neuron);
      });
    }
    return found;
  }

  function list(report, state, go) {
    const { run } = report;
    const found = [...uses(report, state)].map(([w, [up, down]]) => [run.words[w], up.length, down.length]);
    found.sort((a, b) => b[1] + b[2] - a[1] - a[2] || a[0].localeCompare(b[0]));
    return [h("h1", null, "Words"),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      h("p", { class: "soft" }, `${count(found.length, "word")} in explanations by ${state.method}. `,
        "The number of neurons that a word raises, and after a − that it lowers."),
      h("ul", { class: "words" }, found.slice(0, MOST).map(([word, up, down]) => h("li", null, wordLink(word),
        h("small", null, ` ${up}${down ? ` −${down}` : ""}`)))),
      found.length > MOST ? h("p", { class: "soft" }, `${found.length - MOST} more: search for them above.`) : null];
  }

  function word(report, name, state, go) {
    const { run } = report;
    const w = run.words.indexOf(name);
    const [up, down] = (w >= 0 && uses(report, state).get(w)) || [[], []];
    const wanted = new Set([w]);
    const pull = (n) => jaxle.tables.relevance(report, n, wanted);
    const table = (those, caption) => (those.length ? h("div", { class: "scroll" }, h("table", { class: "neurons" },
      h("caption", null, caption), h("thead", null, h("tr", null, ["Neuron", "Most active on", "Test ρ", "Pull", "Explanation"]
        .map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", null, those.sort((a, b) => Math.abs(pull(b)) - Math.abs(pull(a))).slice(0, 100)
        .map((n) => jaxle.tables.row(report, n, pull(n)))))) : null);
    return [h("h1", { dir: "auto" }, name),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      h("p", { class: "soft" }, up.length + down.length ? "Neurons by weight × probability of the word where it is present, in standard deviations of the neuron." :
        `No explanation by ${state.method} uses this word.`),
      table(up, `Raised by it: ${count(up.length, "neuron")}`),
      table(down, `Lowered by it: ${count(down.length, "neuron")}`)];
  }

  async function map(report, state, go) {
    const { run } = report;
    const places = (await jaxle.load("map"))[state.method];
    if (!places) return [h("h1", null, "Map"), h("p", null, `There is no map of method ${state.method}.`)];
    const neurons = jaxle.tables.neurons(report, state.method, state.simulator);
    const size = 1000;
    const at = (n) => places[run.layers[n.place].first + n.unit];
    const drawn = neurons.filter((n) => at(n) && at(n)[0] !== null);
    const dots = drawn.map((n) => {
      const [x, y] = at(n);
      return svg("a", { href: neuronAddress(n.tap, n.unit), tabindex: "-1" }, svg("circle", { class: `dot c${n.place % 8}`,
        cx: 20 + x * (size - 40), cy: 15 + y * 0.6 * (size - 40), r: drawn.length > 2000 ? 2.5 : 6 },
      svg("title", null, `${n.tap}/${n.unit}: ${jaxle.dom.sentence(run, n.table, n.method, n.k)}`)));
    });
    return [h("h1", null, "Map"),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      h("p", { class: "soft" }, "Each dot is a neuron. Neurons stand near each other where their explanations predict the same; ",
        "directions and distances between groups mean nothing."),
      h("figure", { class: "chart wide" }, svg("svg", { viewBox: `0 0 ${size} 620`, role: "img",
        "aria-label": `Map of ${drawn.length} neurons` }, dots, labels(report, drawn, at, size)),
      jaxle.charts.legend(run.layers.map((l, i) => [l.tap, `c${i % 8}`])))];
  }

  /* The commonest heavy word of each cell of a coarse grid, as a guide. */
  function labels(report, drawn, at, size) {
    const cells = new Map();
    for (const n of drawn) {
      const own = n.table.methods[n.method];
      if (!own.words[n.k].length) continue;
      const [x, y] = at(n);
      const key = `${Math.min(5, Math.floor(6 * x))},${Math.min(4, Math.floor(5 * y))}`;
      if (!cells.has(key)) cells.set(key, { x: 0, y: 0, n: 0, words: new Map() });
      const cell = cells.get(key);
      const w = own.words[n.k][0];
      cell.x += x; cell.y += y; cell.n += 1;
      cell.words.set(w, (cell.words.get(w) || 0) + 1);
    }
    return [...cells.values()].filter((c) => c.n >= Math.max(2, drawn.length / 200)).map((c) => {
      const [w] = [...c.words].sort((a, b) => b[1] - a[1])[0];
      return svg("text", { class: "place", x: 20 + (c.x / c.n) * (size - 40), y: 15 + 0.6 * (c.y / c.n) * (size - 40) - 12,
        "text-anchor": "middle" }, report.run.words[w].slice(0, 24));
    });
  }

  return { list, word, map };
})();
