"use strict";
/* Two sets of scores side by side: layers, methods, simulators, of this run or of another. */

jaxle.compare = (() => {
  const { h, fixed, count, equation, neuronAddress, choice } = jaxle.dom;
  const { histogram, scatter, mean } = jaxle.charts;

  const reports = (report) => [report, ...(report.other ? [report.other] : [])];
  const name = (own, r) => `${own.run.name}: ${r.tap} · ${r.method} · by ${r.simulator}`;

  function options(report) {
    return reports(report).flatMap((own, i) => own.run.rows.map((r, n) => ({ own, i, r, value: `${i}.${n}`, text: name(own, r) })));
  }

  function values({ own, r }) {
    return jaxle.tables.neurons(own, r.method, r.simulator, r.tap);
  }

  function view(report, state, go) {
    const found = options(report);
    const fallback = found.find((o) => o.i === found.length - 1) || found.find((o) => o.r.tap === found[0].r.tap && o.r.method !== found[0].r.method) || found[found.length - 1];
    const a = found.find((o) => o.value === state.a) || found[0];
    const b = found.find((o) => o.value === state.b) || fallback;
    const pick = (side, own) => choice(side === "a" ? "A" : "B", found.map((o) => [o.value, o.text]), own.value,
      (value) => go({ ...state, [side]: value }));
    const [left, right] = [values(a), values(b)];
    const live = (those) => those.filter((n) => n.flag !== "dead").map((n) => n.correlation);
    const sameUnits = left.length === right.length && (a.i !== b.i || a.r.tap === b.r.tap);
    const low = Math.min(0, ...live(left), ...live(right));
    const charts = [histogram({ caption: "Test correlation of each neuron", xLabel: "ρ", bars: 20, low: Math.floor(low * 10) / 10, high: 1,
      groups: [{ name: `A, mean ${fixed(mean(live(left)), 3)}`, values: live(left), colour: "c0" },
        { name: `B, mean ${fixed(mean(live(right)), 3)}`, values: live(right), colour: "c1" }] })];
    let rows = null;
    if (sameUnits) {
      const pairs = left.map((n, i) => [n, right[i]]).filter(([x, y]) => x.flag !== "dead" && y.flag !== "dead");
      const link = (n) => (a.i === 0 ? neuronAddress(n.tap, n.unit) : null);
      charts.push(scatter({ caption: "Neuron by neuron", xLabel: "ρ of A", yLabel: "ρ of B", diagonal: true,
        points: pairs.map(([x, y]) => [x.correlation, y.correlation, `${x.tap}/${x.unit}`, link(x)]),
        note: `B is better for ${count(pairs.filter(([x, y]) => y.correlation > x.correlation).length, "neuron")} of ${pairs.length}; ` +
          `mean difference ${fixed(mean(pairs.map(([x, y]) => y.correlation - x.correlation)), 3)}.` }));
      pairs.sort(([x, y], [u, v]) => Math.abs(v.correlation - u.correlation) - Math.abs(y.correlation - x.correlation));
      rows = h("div", { class: "scroll" }, h("table", { class: "neurons" },
        h("caption", null, "Where they differ most"),
        h("thead", null, h("tr", null, ["Neuron", "ρ of A", "ρ of B", "A", "B"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", null, pairs.slice(0, 50).map(([x, y]) => h("tr", null,
          h("th", { scope: "row" }, link(x) ? h("a", { href: link(x) }, `${x.tap}/${x.unit}`) : `${x.tap}/${x.unit}`),
          h("td", { class: "number" }, fixed(x.correlation, 3)), h("td", { class: "number" }, fixed(y.correlation, 3)),
          h("td", null, equation(a.own.run, x.table, x.method, x.k, 6)), h("td", null, equation(b.own.run, y.table, y.method, y.k, 6)))))));
    }
    return [h("h1", null, "Compare"),
      h("div", { class: "controls" }, pick("a", a), pick("b", b)),
      sameUnits ? null : h("p", { class: "soft" }, "Of different layers, so that neurons have no partner: distributions only."),
      h("div", { class: "charts" }, charts), rows,
      report.other ? null : h("p", { class: "soft" }, "Another run can stand beside this one: jaxle report RUN --against OTHER.")];
  }

  return { view };
})();
