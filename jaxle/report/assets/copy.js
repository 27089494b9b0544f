"use strict";
/* A neuron's explanation as text, CSV or LaTeX, and what to cite. */

jaxle.copy = (() => {
  const { h, fixed, terms, sentence, tell } = jaxle.dom;

  const quote = (s) => (/[",\r\n]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s);
  const line = (cells) => cells.map(String).map(quote).join(",");

  const SPECIAL = { "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}" };
  const tex = (s) => s.replace(/[\\{}$&#%_^~]/g, (c) => SPECIAL[c] || `\\${c}`);

  function csv({ tap, unit, state }, found, bias) {
    const own = [tap, unit, state.method];
    return [line(["tap", "unit", "method", "concept", "weight"]),
      ...found.map((t) => line([...own, t.word, t.weight])), line([...own, "bias", bias])].join("\n");
  }

  function latex(found, bias) {
    const digits = (x) => Math.abs(x).toPrecision(2);
    const sign = (x, first) => (x < 0 ? "-" : first ? "" : "+");
    const parts = found.map((t, i) => `${sign(t.weight, !i)}${digits(t.weight)}\\cdot\\text{${tex(t.word)}}`);
    return `$${[...parts, `${sign(bias, !found.length)}${digits(bias)}`].join(" ")}$`;
  }

  const bibtex = (summary) => `@inproceedings{oikarinen2024linear,
  title = {Linear Explanations for Individual Neurons},
  author = {Oikarinen, Tuomas and Weng, Tsui-Wei},
  booktitle = {International Conference on Machine Learning},
  year = {2024},
  url = {https://arxiv.org/abs/2405.06855},
  note = {Computed with jaxle ${summary.jaxle}, run ${summary.config_fingerprint}}
}`;

  function buttons(facts) {
    const { run, table, tap, unit, state } = facts;
    const found = terms(run, table, state.method, unit);
    const bias = table.methods[state.method].bias[unit];
    const rho = fixed(jaxle.explanation.score(facts, "correlation"), 3);
    const forms = {
      text: `${tap}/${unit}: ${sentence(run, table, state.method, unit)} (test correlation ${rho})`,
      CSV: csv(facts, found, bias),
      LaTeX: latex(found, bias),
      BibTeX: bibtex(run.summary),
    };
    return h("div", { class: "copy", role: "group", "aria-label": "Copy the explanation" },
      h("span", { class: "soft" }, "Copy as"),
      Object.entries(forms).map(([name, value]) => h("button", { type: "button", "aria-label": `Copy ${name}`,
        onclick: () => put(value, name) }, name)));
  }

  async function put(value, name) {
    try {
      await navigator.clipboard.writeText(value);
    } catch { // a browser that allows it to no page of a folder
      const area = h("textarea", { class: "hidden", "aria-label": "Copied text" });
      area.value = value;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    tell(`Copied as ${name}.`);
  }

  return { buttons };
})();
