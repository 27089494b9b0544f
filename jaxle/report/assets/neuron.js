"use strict";
/* The page of one neuron: the pictures that show it, what it is said to do, and where that fails. */

jaxle.neuron = (() => {
  const { h, svg, fixed, short, count, terms, neuronAddress, scroll, table } = jaxle.dom;
  const { scatter, shares, figure, meter } = jaxle.charts;
  const SHARD = 16; // neurons a data script
  const SCALED = " A bare text has no scale: it is compared as c × probability + d, fitted on val.";

  async function view(report, tap, unit, state, go) {
    const { run } = report;
    const place = run.layers.findIndex((layer) => layer.tap === tap);
    if (place < 0 || !(unit >= 0 && unit < run.layers[place].n)) return missing(run, tap, unit);
    const shard = await jaxle.load(`neurons/${place}/${Math.floor(unit / SHARD)}`);
    const page = shard[unit % SHARD];
    const number = run.rows.findIndex((r) =>
      r.tap === tap && r.method === state.method && r.simulator === state.simulator);
    const entry = page.entries[number];
    const maps = jaxle.pictures.maps(page);
    const layer = report.layers[place];
    const own = layer.methods[state.method];
    const bare = own.kind[unit] !== "linear" && own.bias[unit] === 0 &&
      own.weights[unit].length === 1 && own.weights[unit][0] === 1;
    const facts = { report, run, table: layer, page, place, tap, unit, number, entry, state, bare };
    const open = (i) => jaxle.dialog.open(facts, i);
    const cards = (list) => list.map((i) => jaxle.pictures.card(run, page, i, entry, maps, open));
    return [
      h("div", { class: "title" },
        h("h1", null, h("bdi", null, tap), " ", h("span", { class: "soft" }, "neuron "), String(unit)),
        h("nav", { class: "steps", "aria-label": "Neighbouring neurons" },
          step(run, place, unit - 1, "previous", "prev"), step(run, place, unit + 1, "next", "next"))),
      jaxle.explanation.sum(facts),
      h("div", { class: "beginning" },
        h("section", null, h("h2", null, "What it responds to"), ranks(page, cards)),
        h("section", null, h("h2", null, "Word by word"), jaxle.explanation.words(facts),
          jaxle.explanation.sizes(facts))),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go), maps ? shading() : null,
        jaxle.copy.buttons(facts)),
      h("h2", null, "From not at all to most"),
      range(facts, cards),
      entry ? errors(entry, cards, bare) : null,
      entry ? h("div", { class: "charts" }, against(facts), pushes(page)) : null,
      h("h2", null, "Every method"),
      jaxle.explanation.methods(facts),
      nearest(facts),
    ];
  }

  const missing = (run, tap, unit) => [h("h1", null, "No such neuron"),
    h("p", null, `The run has no neuron ${tap}/${unit}. Its layers: ` +
      `${run.layers.map((l) => `${l.tap} (0 to ${l.n - 1})`).join(", ")}.`)];

  function step(run, place, unit, text, rel) {
    const layer = run.layers[place];
    const name = rel === "next" ? `${text} →` : `← ${text}`;
    if (unit < 0 || unit >= layer.n) return h("span", { class: "soft" }, name);
    return h("a", { href: neuronAddress(layer.tap, unit), rel }, name);
  }

  const shading = () => h("label", { class: "choice row" },
    h("input", { type: "checkbox", id: "shading", checked: document.body.classList.contains("maps"),
      onchange: (event) => document.body.classList.toggle("maps", event.target.checked) }),
    h("span", null, "show where it responds"));

  const ranks = (page, cards) => [
    h("div", { class: "ranks" }, page.ranks.map(([rank, list]) => {
      const name = list.length > 1 ? `Rank ${rank - list.length + 1} to ${rank}` : `Rank ${rank}`;
      return h("section", { "aria-label": name }, h("h3", null, name),
        h("div", { class: "strip" }, cards(list)));
    })),
    h("p", { class: "soft" }, "Test images, which neither the fit nor the search has seen. Beneath each: ",
      "the ", h("b", null, "activation"), ", and what the explanation predicts, ",
      h("i", null, "in italics"), "."),
  ];

  /* Eight bins from zero to the maximum: histogram, each word's share, pictures, one column a bin. */
  function range(facts, cards) {
    const { run, page, entry, table: layer, state, unit } = facts;
    const n = page.bins.length;
    const fine = page.histogram.length / n;
    const [low, high] = page.edges;
    const edge = (b) => short(low + ((high - low) * b) / n);
    const counts = page.bins.map((_, b) =>
      page.histogram.slice(b * fine, (b + 1) * fine).reduce((x, y) => x + y, 0));
    const words = terms(run, layer, state.method, unit).slice(0, 8).map((t) => t.word);
    const known = entry && words.length && entry.shares.some((s) => s.some((v) => v !== null));
    return scroll("Images by activation",
      h("div", { class: "range" },
        figure("Test images by activation,", spread(page, `Test images by activation: ${counts.join(", ")} ` +
          `in ${n} bins from ${short(low)} to ${short(high)}`), "on a logarithmic scale", null, "wide"),
        h("div", { class: "bins" }, page.bins.map((list, b) => h("section", { "aria-label": `Bin ${b + 1}` },
          h("p", { class: "edge" }, `${edge(b)} – ${edge(b + 1)}`,
            h("small", null, count(counts[b], "image"))),
          cards(list), list.length ? null : h("p", { class: "soft empty" }, "none")))),
        known ? shares({ values: entry.shares.map((own) => own.slice(0, 8)), words,
          caption: "What is in the images of each bin:",
          note: `mean probability by ${state.simulator}, of the words of the explanation` }) : null));
  }

  function spread(page, label) {
    const most = page.histogram.reduce((x, y) => Math.max(x, y), 0);
    const height = (n) => (58 * Math.log1p(n)) / (Math.log1p(most) || 1);
    const width = 800 / page.histogram.length;
    return svg("svg", { viewBox: "0 0 800 62", role: "img", "aria-label": label },
      page.histogram.map((n, i) => svg("rect", { class: "bar c0", x: width * i + 1, width: width - 2,
        y: 62 - height(n), height: height(n) }, svg("title", null, count(n, "image")))));
  }

  const strip = (found) => (found.length ? h("div", { class: "strip" }, found)
    : h("p", { class: "soft" }, "None."));

  const errors = (entry, cards, bare) => h("div", { class: "two" },
    h("section", null, h("h2", null, "Predicted, and not there"),
      h("p", { class: "soft" },
        "Largest over-predictions: the words are in the picture, the neuron responds less.", bare ? SCALED : ""),
      strip(cards(entry.over))),
    h("section", null, h("h2", null, "There, and not predicted"),
      h("p", { class: "soft" }, "Largest under-predictions: what the words miss.", bare ? SCALED : ""),
      strip(cards(entry.under))));

  const against = ({ page, entry, state, bare }) => scatter({
    points: page.scatter.map((real, i) => [entry.scatter[i], real]), diagonal: !bare,
    caption: "Real against simulated", xLabel: `simulated by ${state.simulator}`, yLabel: "activation",
    note: `${page.scatter.length} test images at equal steps.` });

  function pushes(page) {
    if (!page.pushes) return null;
    const rows = page.pushes.filter(([, x]) => x > 0);
    if (!rows.length) return null;
    const most = rows.reduce((m, [, x]) => Math.max(m, x), 1e-9);
    const classes = table({ label: "Classes", kind: "parts", rows, columns: [
      ["Class", ([name]) => h("span", { dir: "auto" }, name)],
      ["Added to its logit", ([, x]) => [meter(x, most, "c2"), fixed(x, 2)], "number"],
    ] });
    return figure("Classes that it pushes most", classes,
      "when it grows by a standard deviation; all that follows it is linear");
  }

  function nearest({ report, run, page, state }) {
    const near = page.near[state.method] || [];
    if (!near.length) return null;
    return [h("h2", null, "Neurons that are explained alike"),
      h("p", { class: "soft" }, "By the correlation of what their explanations predict."),
      h("ul", { class: "cards small" }, near.map(([n, rho]) => {
        const place = run.layers.findIndex((l) => n >= l.first && n < l.first + l.n);
        const layer = run.layers[place];
        return jaxle.overview.card(run, report.layers[place], state.method, layer.tap, n - layer.first,
          `alike ${fixed(rho)}`, 4);
      }))];
  }

  return { view };
})();
