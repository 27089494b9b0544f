"use strict";
/* The map of neurons by what their explanations predict. The dot nearest to the pointer, or the next
   one by an arrow key, is shown beside it. */

jaxle.map = (() => {
  const { h, svg, fixed, equation, neuronAddress, neuronName, scroll } = jaxle.dom;
  const [WIDE, HIGH, EDGE] = [1000, 620, 24];
  const REACH = 40; // of the pointer
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  async function view(report, state, go) {
    const { run } = report;
    const places = (await jaxle.load("map"))[state.method];
    if (!places) return [h("h1", null, "Map"), h("p", null, `There is no map of method ${state.method}.`)];
    const dots = jaxle.tables.neurons(report, state.method, state.simulator)
      .map((n) => ({ n, place: places[run.layers[n.place].first + n.unit] }))
      .filter(({ place }) => place && place[0] !== null)
      .map(({ n, place: [x, y] }) =>
        ({ n, colour: `c${n.place % 8}`,
          x: EDGE + x * (WIDE - 2 * EDGE), y: EDGE + y * (HIGH - 2 * EDGE) }));
    const picked = h("aside", { class: "picked", "aria-live": "polite", "aria-label": "Neuron" });
    return [h("h1", null, "Map"),
      h("div", { class: "controls" }, jaxle.choosers(report, state, go)),
      h("p", { class: "soft" }, "Each dot is a neuron. Neurons stand near each other where their ",
        "explanations predict the same; directions and distances between groups mean nothing. ",
        "Point at a dot, or use the arrow keys on the map; a click or Enter opens the neuron."),
      h("figure", { class: "chart wide map" },
        jaxle.charts.legend(run.layers.map((l, i) => [l.tap, `c${i % 8}`])),
        h("div", { class: "beside" }, scroll("Map", drawing(report, dots, picked)), picked))];
  }

  function drawing(report, dots, picked) {
    const width = dots.length > 2000 ? 4 : 12;
    const [ring, around] = jaxle.points.ring(width);
    let chosen = null;
    function pick(dot) {
      if (!dot || dot === chosen) return;
      chosen = dot;
      around(dot);
      picked.replaceChildren(...about(report, dot.n));
    }
    const under = (event) => jaxle.points.under(dots, plane, event, WIDE, REACH);
    const open = (dot) => { location.hash = neuronAddress(dot.n.tap, dot.n.unit); };
    const plane = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "application", tabindex: "0",
      "aria-label": `Map of ${dots.length} neurons; arrow keys move, Enter opens`,
      onpointermove: (event) => pick(under(event)),
      onclick: (event) => { // a finger points first, and opens with a second tap
        const dot = under(event);
        if (dot && (event.pointerType !== "touch" || dot === plane.touched)) open(dot);
        plane.touched = dot;
        pick(dot);
      },
      onkeydown: (event) => {
        if (event.key === "Enter" && chosen) open(chosen);
        const step = STEPS[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        const from = chosen || { x: WIDE / 2, y: HIGH / 2 };
        pick(jaxle.points.nearest(dots, from.x, from.y, (d) => ahead(from, d, step)));
      } }, jaxle.points.paths(dots, width), labels(report, dots), ring);
    pick(dots.reduce((best, d) => (best && best.n.correlation >= d.n.correlation ? best : d), null));
    return plane;
  }

  /* Whether a dot lies in a direction: along it farther than across. */
  function ahead(from, d, [dx, dy]) {
    const along = (d.x - from.x) * dx + (d.y - from.y) * dy;
    const across = Math.abs((d.x - from.x) * dy) + Math.abs((d.y - from.y) * dx);
    return along > 0 && along >= across;
  }

  const about = (report, n) => [
    h("div", { class: "cover" }, n.table.top[n.k].map((p) =>
      jaxle.pictures.picture(report.run, p, jaxle.names[p]))),
    h("p", { class: "name" }, h("a", { href: neuronAddress(n.tap, n.unit) }, neuronName(n.tap, n.unit)),
      h("span", { class: "soft" }, `ρ ${fixed(n.correlation)}`)),
    h("p", null, equation(report.run, n.table, n.method, n.k, 6)),
  ];

  /* The commonest heavy word of each cell of a coarse grid, as a guide; none over another. */
  function labels(report, dots) {
    const cells = new Map();
    for (const { n, x, y } of dots) {
      const [w] = n.table.methods[n.method].words[n.k];
      if (w === undefined) continue;
      const key = `${Math.floor(x / 150)},${Math.floor(y / 110)}`;
      if (!cells.has(key)) cells.set(key, { x: 0, y: 0, n: 0, words: new Map() });
      const cell = cells.get(key);
      cell.x += x; cell.y += y; cell.n += 1;
      cell.words.set(w, (cell.words.get(w) || 0) + 1);
    }
    const placed = [];
    for (const c of [...cells.values()].sort((a, b) => b.n - a.n)) {
      if (c.n < Math.max(2, dots.length / 200)) continue;
      const [w] = [...c.words].sort((a, b) => b[1] - a[1])[0];
      const text = report.run.words[w].slice(0, 22);
      const half = 4.6 * text.length + 6;
      const x = Math.min(WIDE - half, Math.max(half, c.x / c.n));
      const own = { text, w, half, x, y: c.y / c.n - 14 };
      const free = placed.every((p) => Math.abs(p.y - own.y) > 24 || Math.abs(p.x - x) > p.half + half);
      const near = placed.some((p) => p.w === w && Math.abs(p.x - x) < 260 && Math.abs(p.y - own.y) < 200);
      if (free && !near) placed.push(own);
    }
    return placed.map((p) => svg("text", { class: "place", x: p.x, y: p.y, "text-anchor": "middle",
      "aria-hidden": "true" }, p.text));
  }

  return { view };
})();
