"use strict";
/* Which view the address asks for, the colours, the keys. Everything after # is the state:
   #/neuron/layer3/136?method=label&simulator=siglip */

(() => {
  const { h, choice, tell } = jaxle.dom;
  const view = document.getElementById("view");
  const KEPT = ["method", "simulator"]; // from view to view
  let report = null;
  let shown = 0;

  function read() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const parts = path.split("/").map((part) => {
      try { return decodeURIComponent(part); } catch { return part; }
    });
    const state = Object.fromEntries(new URLSearchParams(query || ""));
    return { parts: parts.filter(Boolean), state };
  }

  function go(state, path) {
    const { parts } = read();
    const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== undefined);
    const where = path || `#/${parts.map(encodeURIComponent).join("/")}`;
    location.hash = kept.length ? `${where}?${new URLSearchParams(kept)}` : where;
  }

  /* The chosen method and simulator: of the address, else of the last choice, else the first. */
  function settle(state) {
    const { rows, best } = report.run;
    for (const name of KEPT) if (!state[name] && report[name]) state[name] = report[name];
    if (!rows.some((r) => r.method === state.method)) [state.method, state.simulator] = best;
    const own = rows.filter((r) => r.method === state.method);
    if (!own.some((r) => r.simulator === state.simulator)) state.simulator = own[own.length - 1].simulator;
    for (const name of KEPT) report[name] = state[name];
    return state;
  }

  jaxle.choosers = ({ run }, state, change) => {
    const choose = (label, name, rows) => {
      const values = [...new Set(rows.map((r) => r[name]))];
      return values.length > 1 ? choice(label, values.map((v) => [v, v]), state[name],
        (value) => change({ ...state, [name]: value })) : null;
    };
    const own = run.rows.filter((r) => r.method === state.method);
    return [choose("Explained by", "method", run.rows), choose("Simulated by", "simulator", own)];
  };

  const VIEWS = {
    neuron: (state, tap, unit) => jaxle.neuron.view(report, tap, Number.parseInt(unit, 10), state, go),
    neurons: (state) => jaxle.tables.view(report, state, go),
    words: (state) => jaxle.words.list(report, state, go),
    word: (state, word) => jaxle.words.one(report, word || "", state, go),
    map: (state) => jaxle.map.view(report, state, go),
    compare: (state) => jaxle.compare.view(report, state, go),
  };

  async function draw() {
    const { parts, state } = read();
    const number = (shown += 1);
    settle(state);
    const [what, ...rest] = parts;
    const content = Object.hasOwn(VIEWS, what || "") ? await VIEWS[what](state, ...rest)
      : jaxle.overview.view(report, state, go);
    if (number !== shown) return; // another view was asked for meanwhile
    const field = document.activeElement && document.activeElement.id;
    view.replaceChildren(...content.flat(Infinity).filter(Boolean));
    document.querySelectorAll("#top nav a").forEach((a) => {
      const own = a.getAttribute("href").replace("#/", "");
      if (!a.classList.contains("brand") && own === (what || "")) a.setAttribute("aria-current", "page");
      else a.removeAttribute("aria-current");
    });
    const name = rest.length ? rest.join("/") : what;
    document.title = `${[name, report.run.name].filter(Boolean).join(" · ")} · jaxle`;
    const path = parts.join("/");
    if (draw.path === undefined) { /* the first view: the browser's own start */ }
    else if (path !== draw.path) {
      window.scrollTo(0, 0);
      view.focus({ preventScroll: true });
    } else if (field) document.getElementById(field)?.focus();
    draw.path = path;
  }

  const fail = (title) => (error) =>
    view.replaceChildren(h("h1", null, title), h("p", null, error.message));
  const show = () => draw().catch(fail("This view could not be shown"));

  /* --- colours ----------------------------------------------------------------------------- */
  const THEMES = [["", "as the system has them"], ["light", "light"], ["dark", "dark"]];
  const button = document.getElementById("theme");
  function paint(theme) {
    document.documentElement.dataset.theme = theme;
    const [, text] = THEMES.find(([name]) => name === theme);
    button.setAttribute("aria-label", `Colours: ${text}`);
    button.title = `Colours: ${text}`;
  }
  const memory = (() => { try { return window.localStorage; } catch { return null; } })();
  let theme = (memory && memory.getItem("jaxle-theme")) || "";
  paint(THEMES.some(([name]) => name === theme) ? theme : "");
  button.addEventListener("click", () => {
    const i = THEMES.findIndex(([name]) => name === document.documentElement.dataset.theme);
    theme = THEMES[(i + 1) % THEMES.length][0];
    paint(theme);
    if (memory) memory.setItem("jaxle-theme", theme);
    tell(`Colours: ${THEMES.find(([name]) => name === theme)[1]}.`);
  });

  /* The address says which view is shown, so that a link within the page may not change it. */
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    view.focus();
  });

  /* --- search ------------------------------------------------------------------------------ */
  const query = document.getElementById("query");
  document.getElementById("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = query.value.trim();
    const neuron = /^(.*)\/(\d+)$/.exec(text);
    if (neuron && report.run.layers.some((l) => l.tap === neuron[1])) {
      go({}, jaxle.dom.neuronAddress(neuron[1], neuron[2]));
    } else go({ q: text }, "#/neurons");
    query.blur();
  });
  query.addEventListener("input", () => {
    const text = query.value.trim().toLowerCase();
    const found = text ? report.run.words.filter((w) => w.toLowerCase().includes(text)) : [];
    document.getElementById("known-words").replaceChildren(
      ...found.slice(0, 12).map((w) => h("option", { value: w })));
  });

  /* --- keys -------------------------------------------------------------------------------- */
  const KEYS = "Keys: / search, ← → or k j neighbouring neurons, o overview, n neurons, w words, " +
    "m map, c compare, t colours.";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const places = { o: "#/", n: "#/neurons", w: "#/words", m: "#/map", c: "#/compare" };
    if (event.key === "/") { query.focus(); query.select(); event.preventDefault(); }
    else if (event.key.startsWith("Arrow") && event.target.closest(".scroll[tabindex], pre")) return;
    else if (["ArrowRight", "j"].includes(event.key)) document.querySelector("a[rel=next]")?.click();
    else if (["ArrowLeft", "k"].includes(event.key)) document.querySelector("a[rel=prev]")?.click();
    else if (event.key in places) location.hash = places[event.key];
    else if (event.key === "t") button.click();
    else if (event.key === "?") tell(KEYS);
  });

  async function open(folder) {
    const run = await jaxle.load("run", folder);
    const layers = await Promise.all(run.layers.map((_, i) => jaxle.load(`layers/${i}`, folder)));
    run.folder = folder;
    return { run, layers };
  }

  async function begin() {
    report = await open("");
    jaxle.names = await jaxle.load("images");
    report.timing = await jaxle.load("timing").catch(() => null);
    if (report.run.against) report.other = await open("against/");
    window.addEventListener("hashchange", show);
    show();
  }

  begin().catch(fail("This report could not be opened"));
})();
