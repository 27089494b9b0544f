"use strict";
/* Pictures: a cell of a sheet, loaded once it comes near the window; maps drawn over it. */

jaxle.pictures = (() => {
  const { h, short } = jaxle.dom;

  const show = (thumb) => { thumb.style.backgroundImage = `url("${thumb.dataset.sheet}")`; };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      show(entry.target);
    }
  }, { rootMargin: "400px" });
  window.addEventListener("beforeprint", () => document.querySelectorAll("[data-sheet]").forEach(show));

  /* The picture with number p of the report; a frame with its name where it is not stored. */
  function picture(run, p, name) {
    const facts = run.pictures;
    if (facts.kind === "none" || p >= facts.stored) {
      return h("span", { class: "thumb absent-picture", role: "img", "aria-label": name }, name);
    }
    const each = facts.columns ** 2;
    const cell = p % each;
    const rows = Math.ceil(Math.min(each, facts.n - (p - cell)) / facts.columns);
    const sheet = `${run.folder || ""}sprites/${String(Math.floor(p / each)).padStart(5, "0")}.webp`;
    const at = (i, n) => (n > 1 ? `${(100 * i) / (n - 1)}%` : "0");
    const thumb = h("span", { class: "thumb", role: "img", "aria-label": name, "data-sheet": sheet,
      style: {
        backgroundSize: `${100 * facts.columns}% ${100 * rows}%`,
        backgroundPosition: `${at(cell % facts.columns, facts.columns)} ` +
          at(Math.floor(cell / facts.columns), rows),
      } });
    near.observe(thumb);
    return thumb;
  }

  /* The bytes of a neuron's maps: number of the picture within the neuron → heights by width. */
  function maps(page) {
    if (!page.maps || !page.maps.pictures.length) return null;
    const bytes = Uint8Array.from(atob(page.maps.bytes), (c) => c.charCodeAt(0));
    const [height, width] = page.maps.shape;
    const size = height * width;
    const found = new Map(page.maps.pictures.map((i, n) =>
      [i, bytes.subarray(n * size, (n + 1) * size)]));
    return { height, width, of: (i) => found.get(i) };
  }

  /* A canvas that lets the picture shine through where the neuron responds. */
  function shade(own, i) {
    const values = own && own.of(i);
    if (!values) return null;
    const canvas = h("canvas", { class: "shade", width: own.width, height: own.height,
      "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    const image = context.createImageData(own.width, own.height);
    for (let j = 0; j < values.length; j += 1) {
      image.data.set([10, 12, 20, Math.round(0.75 * (255 - values[j]))], 4 * j);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /* A neuron's picture as a button: its real and simulated activation beneath; open() on click. */
  function card(run, page, i, entry, own, open) {
    const name = jaxle.names[page.pictures[i]];
    const real = page.real[i];
    const simulated = entry ? entry.simulated[i] : null;
    return h("button", { class: "card", type: "button", title: name, onclick: () => open(i) },
      h("span", { class: "frame" }, picture(run, page.pictures[i], name), shade(own, i)),
      h("span", { class: "values" },
        h("b", null, h("span", { class: "hidden" }, "activation "), short(real)),
        simulated === null ? null : h("i", null,
          h("span", { class: "hidden" }, "simulated "), short(simulated))));
  }

  return { picture, maps, card };
})();
