"use strict";
/* Charts as SVG, each a function from numbers to a figure with its caption. */

jaxle.charts = (() => {
  const { h, svg, fixed, short } = jaxle.dom;
  const PAD = { left: 44, right: 20, top: 10, bottom: 34 };
  const COLOURS = 8; // .c0 … .c7 of the style sheet

  /* The caption says what is seen, then comes the key of the colours, then the picture. */
  function figure(caption, picture, note, key, kind) {
    return h("figure", { class: kind ? `chart ${kind}` : "chart" },
      h("figcaption", null, h("b", null, caption), note ? [" ", note] : null), key, picture);
  }

  function ticks(low, high, n = 5) {
    if (!(high > low)) return [low];
    const rough = (high - low) / n;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-6; x += step) {
      found.push(Math.abs(x) < step * 1e-6 ? 0 : x);
    }
    return found;
  }

  /* Axes of a plot: scales x and y, and the frame's elements. */
  function axes({ x, y, width = 420, height = 270, xLabel, yLabel, plainX }) {
    const sx = (v) =>
      PAD.left + ((v - x[0]) / (x[1] - x[0] || 1)) * (width - PAD.left - PAD.right);
    const sy = (v) =>
      height - PAD.bottom - ((v - y[0]) / (y[1] - y[0] || 1)) * (height - PAD.top - PAD.bottom);
    const frame = [];
    for (const v of ticks(y[0], y[1], 4)) {
      frame.push(svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right,
        y1: sy(v), y2: sy(v) }));
      frame.push(svg("text", { x: PAD.left - 6, y: sy(v) + 4, "text-anchor": "end" }, short(v)));
    }
    for (const v of plainX || ticks(x[0], x[1], 6)) {
      frame.push(svg("text", { x: sx(v), y: height - PAD.bottom + 15, "text-anchor": "middle" },
        short(v)));
    }
    frame.push(svg("line", { class: "axis", x1: PAD.left, x2: width - PAD.right,
      y1: height - PAD.bottom, y2: height - PAD.bottom }));
    if (xLabel) {
      frame.push(svg("text", { class: "label", x: (PAD.left + width - PAD.right) / 2, y: height - 4,
        "text-anchor": "middle" }, xLabel));
    }
    if (yLabel) {
      frame.push(svg("text", { class: "label", x: 11, y: (height - PAD.bottom) / 2,
        "text-anchor": "middle", transform: `rotate(-90 11 ${(height - PAD.bottom) / 2})` }, yLabel));
    }
    return { sx, sy, frame, width, height };
  }

  function canvas({ width, height }, label, ...children) {
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      children);
  }

  const legend = (names) => h("ul", { class: "legend" },
    names.map(([name, colour]) => h("li", null, h("i", { class: `key ${colour}` }),
      h("span", { dir: "auto" }, name))));

  /* Shares of several groups of values in bars of equal width. */
  function histogram({ groups, low, high, bars, caption, xLabel, note, whole }) {
    const width = (high - low) / bars;
    const shares = groups.map((group) => {
      const counts = new Array(bars).fill(0);
      for (const v of group.values) {
        counts[Math.min(bars - 1, Math.max(0, Math.floor((v - low) / width)))] += 1;
      }
      return whole ? counts : counts.map((c) => c / Math.max(1, group.values.length));
    });
    const most = Math.max(...shares.flat(), 1e-9);
    const plot = axes({ x: [low, high], y: [0, most], xLabel,
      yLabel: whole ? "neurons" : "share of neurons" });
    const marks = shares.map((own, g) => own.map((share, i) => {
      const x = plot.sx(low + i * width) + 1;
      const top = plot.sy(share);
      return svg("rect", { class: `bar ${groups[g].colour}`, x, y: top,
        width: Math.max(1, plot.sx(low + (i + 1) * width) - x - 1), height: plot.sy(0) - top },
      svg("title", null, `${groups[g].name}: ${short(low + i * width)} to ` +
        `${short(low + (i + 1) * width)}: ${whole ? share : `${fixed(100 * share, 0)} %`}`));
    }));
    const label = `${caption}: ` + groups.map((g) =>
      `${g.name}, ${g.values.length} values, mean ${fixed(mean(g.values))}`).join("; ");
    return figure(caption, canvas(plot, label, plot.frame, marks), note, keyOf(groups));
  }

  const keyOf = (groups) =>
    (groups.length > 1 ? legend(groups.map((g) => [g.name, g.colour])) : null);
  const mean = (values) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);

  /* Points [x, y, text, address]; a least-squares line with fit, the diagonal with diagonal. */
  function scatter({ points, caption, xLabel, yLabel, note, fit, diagonal, x, y }) {
    const wide = (axis, own) => own || padded(points.map((p) => p[axis]));
    let [dx, dy] = [wide(0, x), wide(1, y)];
    if (diagonal) dx = dy = [Math.min(dx[0], dy[0]), Math.max(dx[1], dy[1])];
    const plot = axes({ x: dx, y: dy, xLabel, yLabel });
    const lines = [];
    if (diagonal) {
      lines.push(svg("line", { class: "guide", x1: plot.sx(dx[0]), y1: plot.sy(dx[0]),
        x2: plot.sx(dx[1]), y2: plot.sy(dx[1]) }));
    }
    if (fit) {
      const [a, b] = fit;
      lines.push(svg("line", { class: "fit", x1: plot.sx(dx[0]), y1: plot.sy(a + b * dx[0]),
        x2: plot.sx(dx[1]), y2: plot.sy(a + b * dx[1]) }));
    }
    const dots = points.map(([px, py, text, address, colour]) =>
      ({ x: plot.sx(px), y: plot.sy(py), text, address, colour: colour || "c0" }));
    const size = dots.length > 2000 ? 3 : 6.8;
    const picture = canvas(plot, `${caption}: ${points.length} points`, plot.frame, lines,
      jaxle.points.paths(dots, size));
    if (dots.some((dot) => dot.address)) pointed(picture, dots, plot.width, size);
    return figure(caption, picture, note);
  }

  /* Names the dot under the pointer, and opens its neuron on a click. */
  function pointed(picture, dots, wide, size) {
    const [ring, around] = jaxle.points.ring(size);
    const title = svg("title");
    picture.append(title, ring);
    picture.addEventListener("pointermove", (event) => {
      const dot = jaxle.points.under(dots, picture, event, wide, 12);
      around(dot);
      title.textContent = dot ? dot.text : "";
      picture.style.cursor = dot && dot.address ? "pointer" : "";
    });
    picture.addEventListener("click", (event) => {
      const dot = jaxle.points.under(dots, picture, event, wide, 12);
      if (dot && dot.address) location.hash = dot.address;
    });
  }

  function padded(values) {
    const low = values.reduce((a, b) => Math.min(a, b), 0);
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return high > low ? [low, high + 0.04 * (high - low)] : [low - 0.5, low + 0.5];
  }

  /* Intercept, slope and correlation of y on x; null where x or y is constant. */
  function leastSquares(points) {
    const n = points.length;
    const [mx, my] = [0, 1].map((i) => mean(points.map((p) => p[i])));
    let [xx, xy, yy] = [0, 0, 0];
    for (const [px, py] of points) {
      xx += (px - mx) ** 2; xy += (px - mx) * (py - my); yy += (py - my) ** 2;
    }
    if (n < 3 || xx === 0 || yy === 0) return null;
    return { line: [my - (xy / xx) * mx, xy / xx], correlation: xy / Math.sqrt(xx * yy) };
  }

  /* Lines through points [[x, y]], x on a logarithmic axis where log is true. */
  function curves({ groups, caption, xLabel, yLabel, note, log, x, y, diagonal }) {
    const on = (v) => (log ? Math.log10(v) : v);
    const xs = groups.flatMap((g) => g.points.map((p) => on(p[0])));
    const ys = groups.flatMap((g) => g.points.map((p) => p[1]));
    const plot = axes({ x: x || [Math.min(...xs), Math.max(...xs)],
      y: y || [0, Math.max(...ys, 1e-9)], xLabel, yLabel, plainX: log ? [] : null });
    const extra = [];
    if (log) {
      for (let e = Math.ceil(Math.min(...xs)); e <= Math.max(...xs); e += 1) {
        extra.push(svg("text", { x: plot.sx(e), y: plot.height - PAD.bottom + 15,
          "text-anchor": "middle" }, e >= 0 ? `${10 ** (e + 2)} %` : `${short(10 ** (e + 2))} %`));
      }
    }
    if (diagonal) {
      extra.push(svg("line", { class: "guide", x1: plot.sx(0), y1: plot.sy(0),
        x2: plot.sx(1), y2: plot.sy(1) }));
    }
    const marks = groups.map((g) => [
      svg("polyline", { class: `line ${g.colour}`,
        points: g.points.map((p) => `${plot.sx(on(p[0]))},${plot.sy(p[1])}`).join(" ") }),
      g.points.length <= 20 ? g.points.map((p) => svg("circle", { class: `dot ${g.colour}`,
        cx: plot.sx(on(p[0])), cy: plot.sy(p[1]), r: 3 },
      svg("title", null, `${g.name}: ${short(p[0])}, ${short(p[1])}`))) : null,
    ]);
    const label = `${caption}: ${groups.map((g) => g.name).join(", ")}`;
    return figure(caption, canvas(plot, label, plot.frame, extra, marks), note, keyOf(groups));
  }

  /* The paper's Figure 3: share of images by concept over bins of activation, lines of a colour. */
  function shares({ values, words, caption, note }) {
    const bins = values.length;
    const most = Math.max(...values.flat().filter((v) => v !== null), 0.01);
    const plot = { width: 8 * 100, height: 180, sx: (i) => (i + 0.5) * 100 * (8 / bins),
      sy: (v) => 172 - (v / Math.min(1, most * 1.08)) * 160 };
    const frame = ticks(0, Math.min(1, most), 3).map((v) => [
      svg("line", { class: "grid", x1: 0, x2: 800, y1: plot.sy(v), y2: plot.sy(v) }),
      svg("text", { x: 4, y: plot.sy(v) - 3 }, `${fixed(100 * v, 0)} %`),
    ]);
    const areas = words.map((word, j) => {
      const held = values.map((own, i) => [i, own[j]]).filter(([, v]) => v !== null); // not of empty bins
      if (!held.length) return null;
      const points = held.map(([i, v]) => `${plot.sx(i)},${plot.sy(v)}`);
      const [first, last] = [held[0][0], held[held.length - 1][0]];
      const ends = [`${plot.sx(first)},${plot.sy(0)}`, ...points, `${plot.sx(last)},${plot.sy(0)}`];
      return [
        svg("polygon", { class: `area c${j % COLOURS}`, points: ends.join(" ") }),
        svg("polyline", { class: `line c${j % COLOURS}`, points: points.join(" ") },
          svg("title", null, word)),
      ];
    });
    const label = `${caption}: ` + words.map((word, j) =>
      `${word}, ${fixed(100 * (values[0][j] || 0), 0)} % in the lowest bin and ` +
      `${fixed(100 * (values[bins - 1][j] || 0), 0)} % in the highest`).join("; ");
    return figure(caption, canvas(plot, label, frame, areas), note,
      legend(words.map((w, j) => [w, `c${j % COLOURS}`])), "wide");
  }

  /* A bar as long as the size of x, of a whole. */
  const meter = (x, whole, colour) => h("span", { class: "meter", "aria-hidden": "true" },
    h("i", { class: colour, style: { width: `${(100 * Math.abs(x)) / whole}%` } }));

  return { histogram, scatter, curves, shares, leastSquares, figure, mean, legend, meter };
})();
