"use strict";
/* Many dots {x, y, colour} in a drawing: one path a colour, so that ten thousand are drawn at once,
   and the dot that is nearest to the pointer. */

jaxle.points = (() => {
  const { svg } = jaxle.dom;

  function paths(dots, width) {
    const byColour = new Map();
    for (const dot of dots) {
      if (!byColour.has(dot.colour)) byColour.set(dot.colour, []);
      byColour.get(dot.colour).push(`M${dot.x.toFixed(1)} ${dot.y.toFixed(1)}h0`);
    }
    return [...byColour].map(([colour, d]) =>
      svg("path", { class: `dots ${colour}`, "stroke-width": width, d: d.join("") }));
  }

  const square = (d, x, y) => (d.x - x) ** 2 + (d.y - y) ** 2;

  const nearest = (dots, x, y, allowed = () => true) => dots.reduce((best, d) =>
    (allowed(d) && (!best || square(d, x, y) < square(best, x, y)) ? d : best), null);

  /* The dot within reach of a pointer event on the drawing, which is `wide` units wide. */
  function under(dots, plane, event, wide, reach) {
    const box = plane.getBoundingClientRect();
    const scale = wide / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const dot = nearest(dots, x, y);
    return dot && square(dot, x, y) < reach ** 2 ? dot : null;
  }

  /* A ring, and the function that puts it around a dot. */
  function ring(width) {
    const circle = svg("circle", { class: "ring", r: width / 2 + 4, cx: -100, cy: -100 });
    const around = (dot) => {
      circle.setAttribute("cx", dot ? dot.x : -100);
      circle.setAttribute("cy", dot ? dot.y : -100);
    };
    return [circle, around];
  }

  return { paths, nearest, under, ring };
})();
