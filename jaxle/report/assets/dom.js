"use strict";
/* Elements, numbers and equations. Names of concepts and images are untrusted: they only ever
   become text nodes and attribute values, never markup. */

jaxle.dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "style") Object.assign(element.style, value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== undefined && child !== null && child !== false) element.append(child);
    }
    return element;
  }

  const h = (tag, attributes, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  const minus = (text) => text.replace("-", "−");
  const fixed = (x, digits = 2) =>
    x === null || x === undefined ? "–" : minus(x.toFixed(digits));
  function short(x) {
    if (x === null || x === undefined) return "–";
    const size = Math.abs(x);
    if (size !== 0 && (size < 0.001 || size >= 1e5)) return minus(x.toExponential(1));
    return minus(String(Number(x.toPrecision(2))));
  }
  const count = (n, one, many = `${one}s`) =>
    `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  const interval = (low, high, digits = 2) =>
    low === undefined || low === null ? "" : `[${fixed(low, digits)}, ${fixed(high, digits)}]`;

  /* The terms of neuron k by a method: [{word, weight}], largest weight first. */
  function terms(run, table, method, k) {
    const own = table.methods[method];
    return own.words[k].map((w, i) => ({ word: run.words[w], weight: own.weights[k][i] }));
  }

  /* An explanation as one line of text, as the tables of the run have it. */
  function sentence(run, table, method, k) {
    const own = table.methods[method];
    if (own.text[k] !== undefined) return own.text[k];
    const parts = terms(run, table, method, k);
    const signed = parts.map((t) => [t.weight, `${short(Math.abs(t.weight))}×${t.word}`]);
    signed.push([own.bias[k], short(Math.abs(own.bias[k]))]);
    return signed
      .map(([x, text], i) => (i ? (x < 0 ? " − " : " + ") : x < 0 ? "−" : "") + text)
      .join("");
  }

  /* The same with each word a link, absences marked by their sign and colour. */
  function equation(run, table, method, k, most = 12) {
    const own = table.methods[method];
    if (own.text[k] !== undefined) {
      const word = own.words[k].length === 1 ? run.words[own.words[k][0]] : null;
      return h("span", { class: "equation", dir: "auto" },
        own.text[k] === word ? wordLink(word) : own.text[k]);
    }
    const parts = terms(run, table, method, k);
    const pieces = parts.slice(0, most).map((t, i) => [
      t.weight < 0 ? (i ? " − " : "−") : i ? " + " : "",
      h("span", { class: t.weight < 0 ? "absent" : "present" },
        `${short(Math.abs(t.weight))}×`, wordLink(t.word)),
    ]);
    if (parts.length > most) pieces.push(" + …");
    const bias = own.bias[k];
    const first = parts.length === 0;
    pieces.push(h("span", { class: "bias" },
      (bias < 0 ? (first ? "−" : " − ") : first ? "" : " + ") + short(Math.abs(bias))));
    return h("span", { class: "equation" }, pieces);
  }

  const wordAddress = (word) => `#/word/${encodeURIComponent(word)}`;
  const wordLink = (word) => h("a", { class: "word", href: wordAddress(word), dir: "auto" }, word);
  const neuronAddress = (tap, unit) => `#/neuron/${encodeURIComponent(tap)}/${unit}`;
  const neuronName = (tap, unit) => [h("bdi", null, tap), `/${unit}`];

  /* A box that scrolls sideways where its content is wider than the page, and only then is a stop
     of the tab key. */
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  function scroll(label, ...children) {
    const box = h("div", { class: "scroll", role: "group", "aria-label": label }, children);
    sizes.observe(box);
    return box;
  }

  /* Columns are [heading, row → content, class], the first one names the row; false leaves one out.
     A row {group: text} heads those below it. */
  function table({ caption, label, kind, columns, rows, chosen = () => false }) {
    const used = columns.filter(Boolean);
    const cell = (row) => ([heading, content, own], i) => (i
      ? h("td", { class: own, "data-name": heading }, content(row))
      : h("th", { scope: "row", class: own }, content(row)));
    const line = (row) => (row.group !== undefined
      ? h("tr", { class: "group" }, h("th", { colspan: used.length, scope: "colgroup" }, row.group))
      : h("tr", { class: chosen(row) ? "chosen" : null }, used.map(cell(row))));
    return scroll(label || caption, h("table", { class: kind },
      caption ? h("caption", null, caption) : null,
      h("thead", null, h("tr", null, used.map(([heading]) => h("th", { scope: "col" }, heading)))),
      h("tbody", null, rows.map(line))));
  }

  const slug = (text) => text.toLowerCase().replace(/\W+/g, "-");

  function choice(label, options, chosen, change) {
    const select = h("select", { id: `choose-${slug(label)}`, onchange: () => change(select.value) },
      options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
    return h("label", { class: "choice" }, h("span", null, label), select);
  }

  function tell(text) {
    const said = document.getElementById("said");
    said.textContent = text;
    clearTimeout(tell.timer);
    tell.timer = setTimeout(() => { said.textContent = ""; }, 4000);
  }

  return {
    h, svg, fixed, short, count, interval, terms, sentence, equation, wordAddress, wordLink,
    neuronAddress, neuronName, scroll, table, choice, tell,
  };
})();
