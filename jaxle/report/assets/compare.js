"use strict";
/* Two sets of scores side by side: layers, methods, simulators, of this run or of another. */

jaxle.compare = (() => {
  const { h, fixed, count, equation, neuronAddress, neuronName, choice, table } = jaxle.dom;
  const { histogram, scatter, mean } = jaxle.charts;
  const MOST = 50; // neurons that differ most

  /* What can be chosen: {own: report, i: its number, r: a row of it, value, text}. */
  function options(report) {
    const reports = [report, ...(report.other ? [report.other] : [])];
    const run = (own) => (reports.length > 1 ? `${own.run.name}: ` : "");
    const name = (own, r) => `${run(own)}${r.tap} · ${r.method} · by ${r.simulator}`;
    return reports.flatMap((own, i) => own.run.rows.map((r, n) =>
      ({ own, i, r, value: `${i}.${n}`, text: name(own, r) })));
  }

  /* The same row of the other run; of one run the layer's next method; else the last row. */
  function partner(found, a) {
    const same = (o, names) => names.every((name) => o.r[name] === a.r[name]);
    return found.find((o) => o.i !== a.i && same(o, ["tap", "method", "simulator"])) ||
      found.find((o) => o.i !== a.i) ||
      found.find((o) => same(o, ["tap", "simulator"]) && o.r.method !== a.r.method) ||
      found.find((o) => same(o, ["tap"]) && o !== a) || found[found.length - 1];
  }

  function view(report, state, go) {
    const found = options(report);
    const a = found.find((o) => o.value === state.a) || found[0];
    const b = found.find((o) => o.value === state.b) || partner(found, a);
    const pick = (side, own) => choice(side.toUpperCase(), found.map((o) => [o.value, o.text]), own.value,
      (value) => go({ ...state, [side]: value }));
    const [left, right] = [a, b].map(({ own, r }) => jaxle.tables.neurons(own, r.method, r.simulator, r.tap));
    const sameUnits = left.length === right.length && (a.i !== b.i || a.r.tap === b.r.tap);
    const pairs = sameUnits ? left.map((n, i) => [n, right[i]])
      .filter(([x, y]) => x.flag !== "dead" && y.flag !== "dead") : [];
    return [h("h1", null, "Compare"),
      h("div", { class: "controls" }, pick("a", a), pick("b", b)),
      sameUnits ? null : h("p", { class: "soft" },
        "Of different layers, so that neurons have no partner: distributions only."),
      h("div", { class: "charts" }, distributions(left, right), pairs.length ? partners(pairs, a) : null),
      pairs.length ? differences(pairs, a, b) : null,
      report.other ? null : h("p", { class: "soft" }, "Another run can stand beside this one: ",
        h("code", null, "jaxle report RUN --against OTHER"), ".")];
  }

  function distributions(left, right) {
    const [one, two] = [left, right].map((those) =>
      those.filter((n) => n.flag !== "dead").map((n) => n.correlation));
    const low = [...one, ...two].reduce((x, y) => Math.min(x, y), 0);
    return histogram({ caption: "Test correlation of each neuron", xLabel: "ρ", bars: 20,
      low: Math.floor(low * 10) / 10, high: 1,
      groups: [{ name: `A, mean ${fixed(mean(one), 3)}`, values: one, colour: "c0" },
        { name: `B, mean ${fixed(mean(two), 3)}`, values: two, colour: "c1" }] });
  }

  const address = (n, a) => (a.i === 0 ? neuronAddress(n.tap, n.unit) : null);

  function partners(pairs, a) {
    const better = pairs.filter(([x, y]) => y.correlation > x.correlation).length;
    const difference = mean(pairs.map(([x, y]) => y.correlation - x.correlation));
    return scatter({ caption: "Neuron by neuron", xLabel: "ρ of A", yLabel: "ρ of B", diagonal: true,
      points: pairs.map(([x, y]) => [x.correlation, y.correlation, `${x.tap}/${x.unit}`, address(x, a)]),
      note: `B is better for ${count(better, "neuron")} of ${pairs.length}; ` +
        `mean difference ${fixed(difference, 3)}.` });
  }

  function differences(pairs, a, b) {
    const size = ([x, y]) => Math.abs(y.correlation - x.correlation);
    const rows = [...pairs].sort((p, q) => size(q) - size(p)).slice(0, MOST);
    const name = ([x]) => h(address(x, a) ? "a" : "span", { href: address(x, a) }, neuronName(x.tap, x.unit));
    const words = (own, n) => [equation(own.own.run, n.table, n.method, n.k, 6),
      n.flag ? jaxle.tables.flag(n.flag) : null];
    return [h("h2", null, "Where they differ most"),
      table({ kind: "neurons pairs", label: "Where they differ most", rows, columns: [
        ["Neuron", name],
        ["ρ of A", ([x]) => fixed(x.correlation, 3), "number"],
        ["ρ of B", ([, y]) => fixed(y.correlation, 3), "number"],
        ["A", ([x]) => words(a, x), "what"],
        ["B", ([, y]) => words(b, y), "what"],
      ] })];
  }

  return { view };
})();
