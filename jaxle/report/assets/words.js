"use strict";
/* Words, and which neurons use each. */

jaxle.words = (() => {
  const { h, count, wordLink } = jaxle.dom;
  const MOST = 400; // words listed at once
  const NEURONS = 100; // listed of a word

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
    const found = [...uses(report, state)].map(([w, [up, down]]) =>
      ({ word: report.run.words[w], up: up.length, down: down.length }));
    found.sort((a, b) => b.up + b.down - a.up - a.down || a.word.localeCompare(b.word));
    const most = found.length ? found[0].up + found[0].down : 1;
    return [h("h1", null, "Words"),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      h("p", { class: "soft" }, `${count(found.length, "word")} in explanations by ${state.method}. `,
        "With each, the number of neurons that it raises, and after a − that it lowers."),
      h("ul", { class: "words" }, found.slice(0, MOST).map(({ word, up, down }) => h("li", null,
        h("span", { class: "fill", style: { width: `${(100 * (up + down)) / most}%` } }),
        wordLink(word), h("small", null, up || !down ? ` ${up}` : "", down ? ` −${down}` : "")))),
      found.length > MOST
        ? h("p", { class: "soft" }, `${found.length - MOST} more: search for them above.`) : null];
  }

  function one(report, name, state, go) {
    const w = report.run.words.indexOf(name);
    const [up, down] = (w >= 0 && uses(report, state).get(w)) || [[], []];
    const wanted = new Set([w]);
    const pull = (n) => jaxle.tables.relevance(report, n, wanted);
    const part = (those, text) => {
      if (!those.length) return null;
      const pulls = new Map(those.map((n) => [n, pull(n)]));
      those.sort((a, b) => Math.abs(pulls.get(b)) - Math.abs(pulls.get(a)));
      return [h("h2", null, `${text} ${count(those.length, "neuron")}`),
        jaxle.tables.listing(report, those.slice(0, NEURONS), text, (n) => pulls.get(n)),
        those.length > NEURONS ? h("p", { class: "soft" }, `The ${NEURONS} that it moves most.`) : null];
    };
    return [h("h1", { dir: "auto" }, name),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      h("p", { class: "soft" }, up.length + down.length
        ? "Neurons by pull: weight × probability of the word where it is present, in standard " +
          "deviations of the neuron."
        : `No explanation by ${state.method} uses this word.`),
      part(up, "It raises"), part(down, "It lowers")];
  }

  return { list, one };
})();
