"use strict";
/* One picture of a neuron, large, and its sum term by term. */

jaxle.dialog = (() => {
  const { h, fixed, terms, neuronName } = jaxle.dom;

  function open(facts, i) {
    const { run, page, tap, unit } = facts;
    const p = page.pictures[i];
    const name = jaxle.names[p];
    const large = run.pictures.kind === "all" && p < run.pictures.large;
    const box = h("dialog", { "aria-label": `Picture ${name}`, onclose: () => box.remove(),
      onclick: (event) => { if (event.target === box) box.close(); } },
    h("div", { class: "inside" },
      h("button", { type: "button", class: "close", onclick: () => box.close(), "aria-label": "Close" }, "×"),
      large ? h("img", { src: `pictures/${String(p).padStart(6, "0")}.webp`, alt: name, class: "large" })
        : h("span", { class: "frame large" }, jaxle.pictures.picture(run, p, name)),
      h("div", null, h("h2", { dir: "auto" }, name),
        h("p", null, "Activation of ", neuronName(tap, unit), ": ", h("b", null, fixed(page.real[i], 3))),
        sum(facts, i))));
    document.body.append(box);
    box.showModal();
  }

  /* weight × probability, a line a word, and the bias: together what is simulated. */
  function sum({ run, page, table, entry, state, unit }, i) {
    if (!entry) return null;
    const probs = entry.probs[i];
    const simulated = fixed(entry.simulated[i], 3);
    if (!probs) return h("p", { class: "soft" }, `Simulated: ${simulated}.`);
    const line = (t, j) => h("tr", null,
      h("td", { class: "number" }, fixed(t.weight, 3)),
      h("td", { class: "number" }, "× ", fixed(probs[j], 3)),
      h("th", { scope: "row", dir: "auto" }, t.word),
      h("td", { class: "number" }, probs[j] === null ? "–" : fixed(t.weight * probs[j], 3)));
    const last = (name, text, own) => h("tr", { class: own }, h("td", { colspan: 2 }),
      h("th", { scope: "row" }, name), h("td", { class: "number" }, text));
    return h("table", { class: "sums" },
      h("caption", null, `The sum, with probabilities by ${state.simulator}`),
      h("thead", { class: "hidden" }, h("tr", null,
        ["Weight", "Probability", "Word", "Product"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", null, terms(run, table, state.method, unit).map(line),
        last("bias", fixed(table.methods[state.method].bias[unit], 3)), last("simulated", simulated, "sum")));
  }

  return { open };
})();
