"use strict";
/* The page of one neuron: what it is said to do, the pictures that show it, and where that fails. */

jaxle.neuron = (() => {
  const { h, svg, fixed, short, count, interval, terms, sentence, equation, wordLink, neuronAddress } = jaxle.dom;
  const { scatter, shares } = jaxle.charts;
  const SHARD = 16; // neurons a data script

  async function view(report, tap, unit, state, go) {
    const { run } = report;
    const place = run.layers.findIndex((layer) => layer.tap === tap);
    if (place < 0 || !(unit >= 0 && unit < run.layers[place].n)) {
      return [h("h1", null, "No such neuron"),
        h("p", null, `The run has no neuron ${tap}/${unit}. Its layers: ` +
          `${run.layers.map((l) => `${l.tap} (0 to ${l.n - 1})`).join(", ")}.`)];
    }
    const shard = await jaxle.load(`neurons/${place}/${Math.floor(unit / SHARD)}`);
    const page = shard[unit % SHARD];
    const table = report.layers[place];
    const number = run.rows.findIndex((r) => r.tap === tap && r.method === state.method && r.simulator === state.simulator);
    const entry = page.entries[number];
    const own = jaxle.pictures.maps(page);
    const facts = { report, run, table, page, place, tap, unit, number, entry, own, state };
    const open = (i) => dialog(facts, i);
    const cards = (list) => list.map((i) => jaxle.pictures.card(run, page, i, entry, own, open));
    const steps = h("nav", { class: "steps", "aria-label": "Neighbouring neurons" },
      step(run, place, unit - 1, "previous", "← "), step(run, place, unit + 1, "next", " →"));
    return [
      h("div", { class: "title" }, h("h1", null, `${tap} `, h("span", { class: "soft" }, "neuron "), String(unit)), steps),
      h("div", { class: "beginning" }, lead(facts), conceptBars(facts)),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go),
        own ? h("label", { class: "choice row" }, h("input", { type: "checkbox", checked: document.body.classList.contains("maps"),
          onchange: (event) => document.body.classList.toggle("maps", event.target.checked) }),
        h("span", null, "show where it responds")) : null,
        copy(facts)),
      h("h2", null, "What it responds to"),
      h("p", { class: "soft" }, "Test images, which neither the fit nor the search has seen, by rank of activation. ",
        "Beneath each: the activation, and what the explanation predicts ", h("i", null, "in italics"), "."),
      h("div", { class: "ranks" }, page.ranks.map(([rank, list]) => h("section", { "aria-label": `Around rank ${rank}` },
        h("h3", null, list.length > 1 ? `Rank ${rank - list.length + 1} to ${rank}` : `Rank ${rank}`), h("div", { class: "strip" }, cards(list))))),
      h("h2", null, "From not at all to most"),
      range(facts, cards),
      entry ? errors(facts, cards) : null,
      entry ? h("div", { class: "charts" }, against(facts), pushes(page)) : null,
      h("h2", null, "Every method"),
      methods(facts),
      nearest(facts),
    ];
  }

  function step(run, place, unit, text, arrow) {
    const layer = run.layers[place];
    if (unit < 0 || unit >= layer.n) return h("span", { class: "soft" }, text);
    return h("a", { href: neuronAddress(layer.tap, unit), rel: text === "next" ? "next" : "prev" },
      text === "next" ? [text, arrow] : [arrow, text]);
  }

  const score = (facts, name) => {
    const column = facts.number >= 0 && facts.table.scores[facts.number][name];
    return column ? column[facts.unit] : undefined;
  };

  function lead(facts) {
    const { run, table, state, unit } = facts;
    const own = table.methods[state.method];
    const flags = [own.flag[unit], score(facts, "few_positives") ? "few_positives" : ""].filter(Boolean);
    const absent = terms(run, table, state.method, unit).filter((t) => t.weight < 0);
    const sizes = [
      ["Test ρ", fixed(score(facts, "correlation"), 3), interval(score(facts, "correlation_low"), score(facts, "correlation_high"), 3)],
      score(facts, "ceiling") !== undefined && ["Ceiling", fixed(score(facts, "ceiling"), 3), "the best that its words can do at any length"],
      ["Val ρ", fixed(own.val[unit], 3), "what the search saw"],
      score(facts, "control_p_value") !== undefined && ["p", short(score(facts, "control_p_value")), "against untrained networks' neurons"],
      score(facts, "monosemanticity") !== undefined && ["Monosemanticity", fixed(score(facts, "monosemanticity")), "how alike the images are that drive it"],
      score(facts, "counterfactual_agreement") !== undefined && ["Counterfactual", fixed(score(facts, "counterfactual_agreement")), "share of edits that it follows in sign"],
      score(facts, "ablation_excess") !== undefined && ["Ablation excess", fixed(score(facts, "ablation_excess"), 3),
        `beyond the best constant, ${fixed(score(facts, "ablation_constant"), 3)}; optim ${fixed(score(facts, "ablation_optim"), 3)}, norm ${fixed(score(facts, "ablation_norm"), 3)}`],
    ].filter(Boolean);
    return h("section", { class: "lead-neuron" },
      h("p", { class: "big" }, equation(run, table, state.method, unit)),
      absent.length ? h("p", { class: "soft" }, "Less when there is ",
        absent.map((t, i) => [i ? ", " : "", wordLink(t.word)]), ".") : null,
      flags.map((flag) => h("p", { class: "warning" }, h("b", null, flag.replace("_", " ")), `: ${jaxle.tables.FLAGS[flag] || ""}.`)),
      h("dl", { class: "sizes" }, sizes.map(([name, value, text]) =>
        h("div", null, h("dt", null, name), h("dd", null, h("b", null, value), h("small", null, text))))));
  }

  /* Eight bins from zero to the maximum: histogram, each word's share, pictures, one column a bin. */
  function range(facts, cards) {
    const { run, page, entry, table, state, unit } = facts;
    const bins = page.bins.length;
    const fine = page.histogram.length;
    const most = Math.log1p(Math.max(...page.histogram));
    const bars = page.histogram.map((n, i) => svg("rect", { class: "bar c0", x: (800 / fine) * i + 1,
      width: 800 / fine - 2, y: 62 - (58 * Math.log1p(n)) / (most || 1), height: (58 * Math.log1p(n)) / (most || 1) },
    svg("title", null, `${count(n, "image")}`)));
    const [low, high] = page.edges;
    const counts = page.bins.map((_, b) => page.histogram.slice((b * fine) / bins, ((b + 1) * fine) / bins).reduce((x, y) => x + y, 0));
    const words = terms(run, table, state.method, unit).slice(0, 8).map((t) => t.word);
    const known = entry && words.length && entry.shares.some((s) => s.some((v) => v !== null));
    return h("div", { class: "range" },
      h("figure", { class: "chart wide" }, svg("svg", { viewBox: "0 0 800 64", role: "img",
        "aria-label": `Test images by activation: ${counts.join(", ")} in eight bins from ${short(low)} to ${short(high)}` }, bars),
      h("figcaption", null, "Test images by activation, on a logarithmic scale")),
      h("div", { class: "bins" }, page.bins.map((list, b) => h("section", { "aria-label": `Bin ${b + 1}` },
        h("p", { class: "edge" }, `${short(low + ((high - low) * b) / bins)} – ${short(low + ((high - low) * (b + 1)) / bins)}`,
          h("small", null, count(counts[b], "image"))),
        cards(list), list.length ? null : h("p", { class: "soft empty" }, "none")))),
      known ? shares({ values: entry.shares.map((own) => own.slice(0, 8)), words,
        caption: "What is in the images of each bin",
        note: `mean probability by ${state.simulator}, of the words of the explanation` }) : null);
  }

  function errors({ entry, state }, cards) {
    return h("div", { class: "two" },
      h("section", null, h("h2", null, "Predicted, and not there"),
        h("p", { class: "soft" }, "Largest over-predictions: the words are in the picture, the neuron is not moved."),
        h("div", { class: "strip" }, cards(entry.over))),
      h("section", null, h("h2", null, "There, and not predicted"),
        h("p", { class: "soft" }, "Largest under-predictions: what the words miss."),
        h("div", { class: "strip" }, cards(entry.under))));
  }

  function against({ page, entry, state }) {
    const points = page.scatter.map((real, i) => [entry.scatter[i], real]);
    return scatter({ points, caption: "Real against simulated", xLabel: `simulated by ${state.simulator}`, yLabel: "activation",
      note: `${points.length} test images at equal steps.` });
  }

  const meter = (x, whole, colour) => h("span", { class: "meter", "aria-hidden": "true" },
    h("i", { class: colour, style: { width: `${(100 * Math.abs(x)) / whole}%` } }));

  /* Each word: weight, what is lost without it, how often it is chosen again, what stands for it. */
  function conceptBars({ run, table, page, state, unit }) {
    const found = terms(run, table, state.method, unit);
    if (!found.length) return null;
    const parts = page.parts[state.method] || {};
    const column = (name) => parts[`${name} ${state.simulator}`] || parts[name];
    const [without, again, alike, effect] = ["leave_one_out", "selection_frequency", "equivalent", "counterfactual_effect"].map(column);
    const most = Math.max(...found.map((t) => Math.abs(t.weight)));
    const lost = without ? Math.max(...without.map(Math.abs), 1e-9) : 1;
    return h("figure", { class: "chart parts" }, h("div", { class: "scroll" }, h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Word"), h("th", { scope: "col" }, "Weight"),
        without ? h("th", { scope: "col" }, "ρ lost without it") : null,
        again ? h("th", { scope: "col" }, "Chosen again") : null,
        effect ? h("th", { scope: "col" }, "When edited in") : null,
        alike ? h("th", { scope: "col" }, "As good") : null)),
      h("tbody", null, found.map((t, i) => h("tr", null, h("th", { scope: "row" }, wordLink(t.word)),
        h("td", { class: "number" }, meter(t.weight, most, t.weight < 0 ? "absent" : "present"), fixed(t.weight, 2)),
        without ? h("td", { class: "number" }, meter(without[i], lost, "c1"), fixed(without[i], 3)) : null,
        again ? h("td", { class: "number" }, `${fixed(100 * again[i], 0)} %`) : null,
        effect ? h("td", { class: "number" }, fixed(effect[i], 2)) : null,
        alike ? h("td", { dir: "auto" }, alike[i] || "–") : null))))),
    h("figcaption", null, h("b", null, "Word by word"), ` as ${state.simulator} sees the test images`));
  }

  function methods({ report, run, table, tap, unit, state }) {
    return h("div", { class: "scroll" }, h("table", { class: "scores" },
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Method"), h("th", { scope: "col" }, "Explanation"),
        h("th", { scope: "col" }, "Test ρ by simulator"))),
      h("tbody", null, run.methods.map((method) => {
        const own = run.rows.map((r, i) => [r, i]).filter(([r]) => r.tap === tap && r.method === method);
        return h("tr", { class: method === state.method ? "chosen" : null }, h("th", { scope: "row" }, method),
          h("td", null, equation(run, table, method, unit),
            table.methods[method].flag[unit] ? h("span", { class: "flag" }, table.methods[method].flag[unit]) : null),
          h("td", null, own.map(([r, i]) => h("div", null, `${r.simulator}: `, h("b", null, fixed(table.scores[i].correlation[unit], 3)),
            " ", h("small", null, table.scores[i].correlation_low ?
              interval(table.scores[i].correlation_low[unit], table.scores[i].correlation_high[unit]) : "")))));
      }))));
  }

  function pushes(page) {
    if (!page.pushes) return null;
    const most = Math.max(...page.pushes.map(([, x]) => Math.abs(x)), 1e-9);
    return h("figure", { class: "chart parts" }, h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Class"), h("th", { scope: "col" }, "Added to its logit"))),
      h("tbody", null, page.pushes.map(([name, x]) => h("tr", null, h("th", { scope: "row", dir: "auto" }, name),
        h("td", { class: "number" }, meter(x, most, "c2"), fixed(x, 2)))))),
    h("figcaption", null, h("b", null, "Classes that it pushes most"), " when it grows by a standard deviation; all that follows it is linear"));
  }

  function nearest({ report, run, page, state }) {
    const near = (page.near[state.method] || []);
    if (!near.length) return null;
    return [h("h2", null, "Neurons that are explained alike"),
      h("ul", { class: "cards small" }, near.map(([n, rho]) => {
        const place = run.layers.findIndex((l) => n >= l.first && n < l.first + l.n);
        const layer = run.layers[place];
        const unit = n - layer.first;
        const table = report.layers[place];
        return h("li", null, h("a", { class: "cover", href: neuronAddress(layer.tap, unit), "aria-label": `Neuron ${layer.tap}/${unit}` },
          table.top[unit].map((p) => jaxle.pictures.picture(run, p, jaxle.names[p]))),
        h("p", { class: "name" }, h("a", { href: neuronAddress(layer.tap, unit) }, `${layer.tap}/${unit}`),
          h("span", { class: "soft" }, ` alike ${fixed(rho)}`)),
        h("p", null, equation(run, table, state.method, unit, 4)));
      }))];
  }

  /* One picture: its sum, term by term. */
  function dialog(facts, i) {
    const { run, page, table, entry, own, state, unit, tap } = facts;
    const p = page.pictures[i];
    const name = jaxle.names[p];
    const found = terms(run, table, state.method, unit);
    const probs = entry && entry.probs[i];
    const bias = table.methods[state.method].bias[unit];
    const close = () => { box.close(); box.remove(); };
    const large = run.pictures.kind === "all" && p < run.pictures.large;
    const picture = large ? h("img", { src: `pictures/${String(p).padStart(6, "0")}.webp`, alt: name, class: "large" })
      : h("span", { class: "frame large" }, jaxle.pictures.picture(run, p, name));
    const box = h("dialog", { "aria-label": `Picture ${name}`, onclose: close,
      onclick: (event) => { if (event.target === box) close(); } },
    h("div", { class: "inside" },
      h("button", { type: "button", class: "close", onclick: close, "aria-label": "Close" }, "×"),
      picture,
      h("div", null, h("h2", { dir: "auto" }, name), h("p", null, `Activation of ${tap}/${unit}: `, h("b", null, fixed(page.real[i], 3))),
        probs ? h("table", null, h("caption", null, `The sum, with probabilities by ${state.simulator}`),
          h("tbody", null, found.map((t, j) => h("tr", null,
            h("td", { class: "number" }, fixed(t.weight, 3)), h("td", null, "× "), h("td", { class: "number" }, probs[j] === null ? "–" : fixed(probs[j], 3)),
            h("th", { scope: "row", dir: "auto" }, t.word),
            h("td", { class: "number" }, "= ", probs[j] === null ? "–" : fixed(t.weight * probs[j], 3)))),
          h("tr", null, h("td", { colspan: 3 }), h("th", { scope: "row" }, "bias"), h("td", { class: "number" }, fixed(bias, 3))),
          h("tr", { class: "sum" }, h("td", { colspan: 3 }), h("th", { scope: "row" }, "simulated"), h("td", { class: "number" }, fixed(entry.simulated[i], 3)))))
          : h("p", { class: "soft" }, entry ? `Simulated: ${fixed(entry.simulated[i], 3)}.` : ""))));
    document.body.append(box);
    box.showModal();
  }

  /* The explanation as text, CSV, LaTeX, and what to cite. */
  function copy(facts) {
    const { run, table, tap, unit, state } = facts;
    const text = sentence(run, table, state.method, unit);
    const found = terms(run, table, state.method, unit);
    const quote = (s) => (/[",\n]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s);
    const bias = table.methods[state.method].bias[unit];
    const tex = (s) => s.replace(/[\\{}$&#%_^~]/g, (c) => ({ "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}" }[c] || `\\${c}`));
    const forms = {
      text: `${tap}/${unit}: ${text} (test correlation ${fixed(score(facts, "correlation"), 3)})`,
      CSV: ["tap,unit,method,concept,weight", ...found.map((t) => [tap, unit, state.method, t.word, t.weight].map(String).map(quote).join(",")),
        [tap, unit, state.method, "bias", bias].map(String).map(quote).join(",")].join("\n"),
      LaTeX: `$${found.map((t, i) => `${t.weight < 0 ? "-" : i ? "+" : ""}${Math.abs(t.weight).toPrecision(2)}\\cdot\\text{${tex(t.word)}}`).join(" ")} ${bias < 0 ? "-" : "+"} ${Math.abs(bias).toPrecision(2)}$`,
      BibTeX: "@inproceedings{oikarinen2024linear,\n  title = {Linear Explanations for Individual Neurons},\n  author = {Oikarinen, Tuomas and Weng, Tsui-Wei},\n  booktitle = {International Conference on Machine Learning},\n  year = {2024},\n  note = {Computed with jaxle " + run.summary.jaxle + ", run " + run.summary.config_fingerprint + "}\n}",
    };
    return h("span", { class: "copy", role: "group", "aria-label": "Copy the explanation" }, Object.entries(forms).map(([name, value]) =>
      h("button", { type: "button", onclick: () => put(value, name) }, `Copy ${name}`)));
  }

  async function put(value, name) {
    try {
      await navigator.clipboard.writeText(value);
    } catch {
      const area = h("textarea", { class: "hidden" }, value);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    jaxle.dom.tell(`Copied as ${name}.`);
  }

  return { view };
})();
