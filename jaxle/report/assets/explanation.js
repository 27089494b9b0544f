"use strict";
/* A neuron's explanation: its sum, its words one by one, its scores, and every method's beside it. */

jaxle.explanation = (() => {
  const { h, fixed, short, interval, terms, equation, wordLink, table } = jaxle.dom;
  const { meter } = jaxle.charts;

  const score = ({ number, table: layer, unit }, name) => {
    const column = number >= 0 && layer.scores[number][name];
    return column ? column[unit] : undefined;
  };

  /* The equation; its absences in words; its flags in words. */
  function sum(facts) {
    const { run, table: layer, state, unit } = facts;
    const few = score(facts, "few_positives") ? "few_positives" : "";
    const flags = [layer.methods[state.method].flag[unit], few];
    const absent = terms(run, layer, state.method, unit).filter((t) => t.weight < 0);
    return h("section", { "aria-label": "Explanation" },
      h("p", { class: "big" }, equation(run, layer, state.method, unit, Infinity)),
      absent.length ? h("p", { class: "soft" }, "Less when there is ",
        absent.map((t, i) => [i ? ", " : "", h("span", { class: "absent" }, wordLink(t.word))]), ".") : null,
      flags.filter(Boolean).map((flag) => h("p", { class: "warning" },
        h("b", null, flag.replace("_", " ")), `: ${jaxle.tables.FLAGS[flag] || ""}.`)));
  }

  /* Scores in large figures, of those that the run has: [name, value, what it is]. */
  function sizes(facts) {
    const { table: layer, state, unit } = facts;
    const of = (name, digits = 3) => fixed(score(facts, name), digits);
    const when = (name, ...rest) => (score(facts, name) === undefined ? [] : [rest]);
    const shown = [
      ["Test ρ", of("correlation"),
        interval(score(facts, "correlation_low"), score(facts, "correlation_high"), 3)],
      ["Val ρ", fixed(layer.methods[state.method].val[unit], 3), "what the search saw"],
      ...when("ceiling", "Ceiling", of("ceiling"), "the best that all concepts can do at any length"),
      ...when("control_p_value", "p", short(score(facts, "control_p_value")),
        "against untrained networks' neurons"),
      ...when("monosemanticity", "Monosemanticity", of("monosemanticity", 2),
        "how alike the images are that drive it"),
      ...when("counterfactual_agreement", "Counterfactual", of("counterfactual_agreement", 2),
        "share of edits that it follows in sign"),
      ...when("ablation_excess", "Ablation excess", of("ablation_excess"), "beyond the best constant, " +
        `${of("ablation_constant")}; optim ${of("ablation_optim")} with c ${of("ablation_scale")}, ` +
        `d ${of("ablation_shift")}; norm ${of("ablation_norm")}`),
    ];
    return h("dl", { class: "sizes" }, shown.map(([name, value, text]) =>
      h("div", null, h("dt", null, name), h("dd", null, h("b", null, value), h("small", null, text)))));
  }

  /* Each word: weight, what is lost without it, how often it is chosen again, what stands for it. */
  function words({ run, table: layer, page, state, unit }) {
    const found = terms(run, layer, state.method, unit).map((t, i) => ({ ...t, i }));
    if (!found.length) return h("p", { class: "soft" }, "The explanation has no words.");
    const parts = page.parts[state.method] || {};
    const column = (name) => parts[`${name} ${state.simulator}`] || parts[name];
    const [without, again, alike, effect] =
      ["leave_one_out", "selection_frequency", "equivalent", "counterfactual_effect"].map(column);
    const most = Math.max(...found.map((t) => Math.abs(t.weight)));
    const lost = without ? Math.max(...without.map(Math.abs), 1e-9) : 1;
    return table({ kind: "parts", label: "Word by word", rows: found, columns: [
      ["Word", (t) => wordLink(t.word)],
      ["Weight", (t) => [meter(t.weight, most, t.weight < 0 ? "absent" : "present"), fixed(t.weight)],
        "number"],
      without && [`ρ lost without it (${state.simulator})`,
        (t) => [meter(without[t.i], lost, "c2"), fixed(without[t.i], 3)], "number"],
      again && ["Chosen again", (t) => `${fixed(100 * again[t.i], 0)} %`, "number"],
      effect && ["When edited in", (t) => fixed(effect[t.i]), "number"],
      alike && alike.some(Boolean) &&
        ["As good", (t) => h("span", { dir: "auto" }, alike[t.i] || "–"), "alike"],
    ] });
  }

  function methods({ run, table: layer, tap, unit, state }) {
    const range = (own) => (own.correlation_low
      ? interval(own.correlation_low[unit], own.correlation_high[unit]) : "");
    const cell = (method) => run.rows.map((r, i) => [r, layer.scores[i]])
      .filter(([r]) => r.tap === tap && r.method === method)
      .map(([r, own]) => h("div", null, `${r.simulator}: `,
        h("b", null, fixed(own.correlation[unit], 3)), " ", h("small", null, range(own))));
    const flag = (method) => layer.methods[method].flag[unit];
    return table({ kind: "neurons methods", label: "Every method", rows: run.methods,
      chosen: (method) => method === state.method, columns: [
        ["Method", (method) => method],
        ["Explanation", (method) => [equation(run, layer, method, unit),
          flag(method) ? h("span", { class: "flag" }, flag(method).replace("_", " ")) : null], "what"],
        ["Test ρ by simulator", cell],
      ] });
  }

  return { sum, sizes, words, methods, score };
})();
