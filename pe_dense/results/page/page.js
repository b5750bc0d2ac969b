"use strict";
// Texts of records reach the page through textContent only, never as HTML.
const sections = JSON.parse(document.getElementById("data").textContent);
const filters = document.getElementById("filters");
const sorting = {}; // table key -> {column, descending}
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "line", "circle", "path", "text", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// ---- numbers

function shown(value, fraction) {
  if (value === null || value === undefined) return "-";
  return fraction ? (100 * value).toFixed(1) : value.toFixed(3);
}
function signed(value, fraction) {
  return (value < 0 ? "\u2212" : "+") + shown(Math.abs(value), fraction);
}
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  return seconds < 3600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
function millions(count) {
  if (count === null || count === undefined) return "-";
  return `${(count / 1e6).toLocaleString("en", { maximumFractionDigits: count < 1e7 ? 1 : 0 })} M`;
}
function interval(row, metric) {
  const found = (row.record.ci95 || {})[metric];
  return found ? found[0] : null;
}

// ---- filters, kept in the address so that a view can be linked

function current() {
  return Object.fromEntries(new FormData(filters));
}
function fillFilters() {
  const rows = sections.flatMap((section) => section.rows);
  const choices = {
    task: sections.map((section) => section.task),
    family: rows.map((row) => row.family),
    origin: rows.map((row) => row.origin),
  };
  for (const [name, values] of Object.entries(choices)) {
    const select = filters.elements[name];
    select.append(make("option", { value: "" }, "all"));
    for (const value of [...new Set(values)].sort()) select.append(make("option", { value }, value));
  }
}
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const name of ["task", "family", "origin", "q"]) {
    filters.elements[name].value = wanted.get(name) || "";
    if (filters.elements[name].selectedIndex === -1) filters.elements[name].value = "";
  }
}
function writeAddress() {
  const kept = Object.entries(current()).filter(([, value]) => value);
  history.replaceState(null, "", kept.length ? `#${new URLSearchParams(kept)}` : location.pathname);
}
function matches(section, row, wanted) {
  const text = [row.encoder, section.id, section.dataset, row.source, row.record.notes].join(" ");
  return (!wanted.family || row.family === wanted.family) &&
    (!wanted.origin || row.origin === wanted.origin) &&
    (!wanted.q || text.toLowerCase().includes(wanted.q.trim().toLowerCase()));
}

// ---- tables

function columnsOf(section, rows) {
  const { metric, fraction } = section;
  const measured = rows[0].origin === "measured";
  const columns = [{ name: "Encoder", left: true, value: (row) => row.encoder }];
  if (measured) columns.push({ name: "Weights", left: true, value: (row) => row.weights });
  const range = rangeOf(rows, metric);
  columns.push({
    name: metric, value: (row) => row.record.scores[metric], score: true,
    cell: (row) => [scoreButton(section, row), whisker(row, section, range)],
  });
  if (rows.some((row) => row.group)) {
    columns.push({ name: "Group", value: (row) => row.group, cell: (row) => [badge(row)] });
  }
  if (measured && rows.some((row) => row.difference !== null)) {
    columns.push({
      name: "vs reported", value: (row) => row.difference,
      cell: (row) => [row.difference === null ? "-" : make("span",
        { class: row.difference * (section.higher ? 1 : -1) >= 0 ? "up" : "down" },
        signed(row.difference, fraction))],
    });
  }
  for (const other of section.metrics) {
    if (other.name === metric || other.name.includes("/")) continue; // single classes: in the record
    if (!rows.some((row) => other.name in row.record.scores)) continue;
    columns.push({
      name: other.name, value: (row) => row.record.scores[other.name],
      cell: (row) => [shown(row.record.scores[other.name], other.fraction)],
    });
  }
  if (measured) {
    columns.push({ name: "Seed", value: (row) => row.record.seed });
    columns.push({ name: "Parameters", value: (row) => row.record.encoder.num_params, cell: (row) => [millions(row.record.encoder.num_params)] });
    columns.push({ name: "Train", value: (row) => row.record.cost.train_s, cell: (row) => [duration(row.record.cost.train_s)] });
    columns.push({ name: "Date", value: (row) => row.record.created.slice(0, 10) });
  } else {
    columns.push({
      name: "Source", left: true, value: (row) => row.source,
      cell: (row) => [row.source, row.mark ? make("span", { class: "mark" }, ` (${row.mark})`) : null],
    });
  }
  return columns;
}
function scoreButton(section, row) {
  const text = shown(row.record.scores[section.metric], section.fraction);
  const label = `${row.encoder}, ${section.metric} ${text}: show the record`;
  return make("button", { type: "button", "aria-label": label, onclick: () => openRecord(section, row) }, text);
}
function badge(row) {
  if (!row.group) return "-";
  const title = row.group === 1 ? "not told from the best" : `worse than group ${row.group - 1}`;
  return make("span", { class: row.group === 1 ? "badge first" : "badge", title }, String(row.group));
}
function rangeOf(rows, metric) {
  const ends = rows.flatMap((row) => {
    const found = interval(row, metric);
    return found ? [found.low, found.high] : [];
  });
  return ends.length ? [Math.min(...ends), Math.max(...ends)] : null;
}
function whisker(row, section, range) {
  const found = interval(row, section.metric);
  if (!found || range[1] <= range[0]) return null;
  const place = (value) => 3 + 84 * (value - range[0]) / (range[1] - range[0]);
  const text = `95 % interval ${shown(found.low, section.fraction)} to ${shown(found.high, section.fraction)}`;
  return make("svg", { width: 90, height: 14, role: "img", "aria-label": text },
    make("title", {}, text),
    make("line", { class: "track", x1: 3, x2: 87, y1: 7, y2: 7 }),
    make("path", { class: "whisker", fill: "none", "stroke-width": 1.5,
      d: `M${place(found.low)} 3v8M${place(found.low)} 7H${place(found.high)}M${place(found.high)} 3v8` }),
    make("circle", { class: "whisker-dot", cx: place(row.record.scores[section.metric]), cy: 7, r: 3 }));
}
function sorted(rows, columns, order) {
  if (!order) return rows; // best first, as the data come
  const { value } = columns.find((column) => column.name === order.column);
  const factor = order.descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const [noX, noY] = [x, y].map((v) => v === null || v === undefined);
    if (noX || noY) return noX - noY; // what is missing comes last either way
    return factor * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
  });
}
function table(section, rows, caption) {
  const columns = columnsOf(section, rows);
  const key = `${section.id}-v${section.version} ${caption}`;
  const order = sorting[key];
  const head = columns.map((column) => {
    const mine = order && order.column === column.name;
    const direction = mine ? (order.descending ? "descending" : "ascending") : "none";
    const press = () => {
      sorting[key] = { column: column.name, descending: mine ? !order.descending : !column.left };
      draw();
      document.querySelector(`[data-sort="${CSS.escape(`${key} ${column.name}`)}"]`).focus();
    };
    return make("th", { scope: "col", class: column.left ? "left" : "", "aria-sort": direction },
      make("button", { type: "button", "data-sort": `${key} ${column.name}`, onclick: press }, column.name));
  });
  const body = sorted(rows, columns, order).map((row) => make("tr",
    { class: row.group === 1 ? "best" : "" },
    ...columns.map((column, i) => {
      const content = column.cell ? column.cell(row) : [String(column.value(row) ?? "-")];
      if (i === 0) return make("th", { scope: "row" }, ...content);
      const kind = [column.left ? "left" : "", column.score ? "score" : ""].join(" ").trim();
      return make("td", { class: kind }, ...content.filter((part) => part !== null));
    })));
  return make("div", { class: "scroll" }, make("table", {},
    make("caption", { hidden: "" }, key), make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...body, ...seedRows(section, rows, columns))));
}
function seedRows(section, rows, columns) {
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.encoder} ${row.weights}`;
    groups.set(key, [...(groups.get(key) || []), row]);
  }
  return [...groups.values()].filter((group) => group.length > 1 && group[0].origin === "measured").map((group) => {
    const values = group.map((row) => row.record.scores[section.metric]);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const sd = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
    const text = `${shown(mean, section.fraction)} \u00b1 ${shown(sd, section.fraction)}`;
    return make("tr", { class: "seeds" }, make("th", { scope: "row" }, group[0].encoder),
      make("td", { class: "left" }, `${values.length} seeds`), make("td", {}, text),
      make("td", { colspan: columns.length - 3 }));
  });
}

// ---- charts

function scale(values, from, to, log) {
  const read = log ? Math.log10 : (value) => value;
  let [low, high] = [Math.min(...values), Math.max(...values)].map(read);
  if (high === low) [low, high] = [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
  const pad = 0.08 * (high - low);
  return (value) => from + (to - from) * (read(value) - low + pad) / (high - low + 2 * pad);
}
function frame(label, x, y) {
  return make("svg", { viewBox: "0 0 560 300", role: "img", "aria-label": label },
    make("line", { class: "axis", x1: 46, x2: 550, y1: 262, y2: 262 }),
    make("line", { class: "axis", x1: 46, x2: 46, y1: 10, y2: 262 }),
    make("text", { x: 298, y: 294, "text-anchor": "middle" }, x),
    make("text", { x: 6, y: 12 }, y));
}
function ticks(svg, values, place, vertical, show) {
  for (const value of [...new Set([Math.min(...values), Math.max(...values)])]) {
    svg.append(vertical
      ? make("text", { x: 42, y: place(value) + 4, "text-anchor": "end" }, show(value))
      : make("text", { x: place(value), y: 278, "text-anchor": "middle" }, show(value)));
  }
}
const COSTS = {
  parameters: [(row) => row.record.encoder.num_params, millions],
  "training time": [(row) => row.record.cost.train_s, duration],
  "evaluation time": [(row) => row.record.cost.eval_s, duration],
};
function costPlot(section, rows) {
  if (rows.filter((row) => row.origin === "measured").length < 2) return null;
  const figure = make("figure", { class: "cost" });
  const choose = make("select", { "aria-label": "cost", onchange: fill },
    ...Object.keys(COSTS).map((name) => make("option", {}, name)));
  figure.append(make("figcaption", {}, `${section.metric} over`, choose));
  function fill() {
    figure.querySelector("svg")?.remove();
    const [cost, show] = COSTS[choose.value];
    const points = rows.filter((row) => row.origin === "measured" && cost(row) > 0);
    if (!points.length) return;
    const scores = points.map((row) => row.record.scores[section.metric]);
    const ends = points.flatMap((row) => {
      const found = interval(row, section.metric);
      return found ? [found.low, found.high] : [];
    });
    const x = scale(points.map(cost), 56, 540, true);
    const y = scale([...scores, ...ends], 256, 20, false);
    const svg = frame(`${section.metric} over ${choose.value}`, choose.value, section.metric);
    ticks(svg, points.map(cost), x, false, show);
    ticks(svg, scores, y, true, (value) => shown(value, section.fraction));
    for (const row of points) {
      const [px, py] = [x(cost(row)), y(row.record.scores[section.metric])];
      const found = interval(row, section.metric);
      if (found) svg.append(make("path", { class: "whisker", d: `M${px} ${y(found.low)}V${y(found.high)}` }));
      svg.append(make("circle", { class: "whisker-dot", cx: px, cy: py, r: 3.5 }, make("title", {}, row.encoder)));
      const right = px > 380;
      svg.append(make("text", { class: "name", x: px + (right ? -7 : 7), y: py - 5, "text-anchor": right ? "end" : "start" }, row.encoder));
    }
    figure.append(svg);
  }
  fill();
  return figure;
}
const LINES = ["#0b5fae", "#c2571a", "#1a7f4b", "#7a4fb5", "#a32b5e", "#5b6570"];
function layerChart(section, rows) {
  const { metric, fraction } = section;
  const drawn = rows.filter((row) => Object.keys((row.record.by_layer || {})[metric] || {}).length > 1);
  if (!drawn.length) return null;
  const curves = drawn.map((row) => Object.entries(row.record.by_layer[metric])
    .map(([layer, score]) => [Number(layer), score]).sort((a, b) => a[0] - b[0]));
  const x = scale(curves.flat().map((point) => point[0]), 56, 540, false);
  const y = scale(curves.flat().map((point) => point[1]), 256, 20, false);
  const svg = frame(`${metric} by layer`, "block", metric);
  ticks(svg, curves.flat().map((point) => point[0]), x, false, String);
  ticks(svg, curves.flat().map((point) => point[1]), y, true, (value) => shown(value, fraction));
  const legend = make("p", { class: "legend" });
  curves.forEach((curve, i) => {
    const color = LINES[i % LINES.length];
    const best = curve.reduce((a, b) => ((b[1] > a[1]) === section.higher ? b : a));
    const path = curve.map(([layer, score], j) => `${j ? "L" : "M"}${x(layer)} ${y(score)}`).join("");
    svg.append(make("path", { d: path, fill: "none", stroke: color, "stroke-width": 2 }));
    for (const [name, point] of [["last", curve.at(-1)], ["best", best]]) {
      svg.append(make("circle", { cx: x(point[0]), cy: y(point[1]), r: name === "best" ? 5 : 3,
        fill: color }, make("title", {}, `${drawn[i].encoder}: ${name} block ${point[0]}, ${shown(point[1], fraction)}`)));
    }
    legend.append(make("span", { style: `color:${color}` }, "\u25cf "),
      `${drawn[i].encoder}: best block ${best[0]} (${shown(best[1], fraction)}), last ${curve.at(-1)[0]} (${shown(curve.at(-1)[1], fraction)})  `);
  });
  return make("figure", { class: "layers" }, make("figcaption", {}, `${metric} by layer`), svg, legend);
}

// ---- one record

function openRecord(section, row) {
  const { record } = row;
  const dialog = document.getElementById("record");
  const isFraction = Object.fromEntries(section.metrics.map((m) => [m.name, m.fraction]));
  const scores = Object.entries(record.scores).sort().map(([name, value]) => {
    const spans = ((record.ci95 || {})[name] || []).map((ci) =>
      ` [${shown(ci.low, isFraction[name])}, ${shown(ci.high, isFraction[name])}] over ${ci.num_units ?? "?"} ${ci.unit}s`);
    return [name, shown(value, isFraction[name]) + spans.join("; ")];
  });
  const about = [
    ["Protocol", `${section.id}, version ${section.version}`],
    ["Settings", record.protocol.config_sha256],
    ["Data", `${record.dataset.name}, ${record.dataset.split}, ${record.dataset.num_items ?? "?"} items`],
    ["Weights", record.encoder.weights],
    ["Weights sha256", record.encoder.weights_sha256],
    ["Fingerprint", record.encoder.feature_fingerprint],
    ["Parameters", millions(record.encoder.num_params)],
    ["Seed", record.seed],
    ["Group", row.group && `${row.group} (adjusted p ${row.p.toPrecision(2)})`],
    ["Source", row.source],
    ["Mark", row.mark],
    ["Checkpoint", record.checkpoint_sha256],
    ["Evidence", record.evidence && `${record.evidence.file} (sha256 ${record.evidence.sha256})`],
    ["Commit", record.code && record.code.commit + (record.code.dirty ? " with uncommitted changes" : "")],
    ["Machine", record.hardware && [record.hardware.cpu, `${record.hardware.cores} cores`, record.hardware.gpu].filter(Boolean).join(", ")],
    ["Training", duration(record.cost.train_s)],
    ["Evaluation", duration(record.cost.eval_s)],
    ["Peak memory", record.cost.peak_memory_gib && `${record.cost.peak_memory_gib.toFixed(2)} GiB`],
    ["Versions", Object.entries(record.versions).map(([name, v]) => `${name} ${v}`).join(", ")],
    ["Created", record.created],
    ["Notes", record.notes],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "-");
  const list = (pairs) => make("dl", {}, ...pairs.flatMap(([name, value]) =>
    [make("dt", {}, name), make("dd", {}, String(value))]));
  const copy = make("button", { type: "button", onclick: async () => {
    await navigator.clipboard.writeText(record.command);
    copy.textContent = "copied";
  } }, "copy");
  dialog.replaceChildren(
    make("div", { class: "top" }, make("h2", { id: "record-title" }, row.encoder),
      make("button", { type: "button", onclick: () => dialog.close() }, "close")),
    list(scores),
    ...(record.command ? [make("h3", {}, "Command ", copy), make("pre", {}, record.command)] : []),
    make("h3", {}, "Where it comes from"), list(about));
  dialog.showModal(); // Escape closes it, and the focus goes back to the score
  dialog.scrollTop = 0;
}

// ---- page

function draw() {
  const wanted = current();
  const target = document.getElementById("sections");
  target.replaceChildren();
  let count = 0;
  for (const section of sections) {
    if (wanted.task && section.task !== wanted.task) continue;
    const rows = section.rows.filter((row) => matches(section, row, wanted));
    if (!rows.length) continue;
    count += rows.length;
    const parts = [make("h2", {}, `${section.id}, version ${section.version}`), make("p", { class: "about" }, section.about)];
    for (const [origin, caption] of [["measured", "Measured here"], ["reported", "Reported by others"]]) {
      const mine = rows.filter((row) => row.origin === origin);
      if (mine.length) parts.push(make("h3", {}, caption), table(section, mine, caption));
    }
    const charts = [layerChart(section, rows), costPlot(section, rows)].filter(Boolean);
    if (charts.length) parts.push(make("div", { class: "charts" }, ...charts));
    target.append(make("section", { "data-protocol": `${section.id}-v${section.version}` }, ...parts));
  }
  document.getElementById("count").textContent = sections.length
    ? `${count} result${count === 1 ? "" : "s"}` : document.body.dataset.empty || "No records yet.";
}
function setTheme(name) {
  document.documentElement.dataset.theme = name;
}
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.getElementById("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", () => { writeAddress(); draw(); });
addEventListener("hashchange", () => { readAddress(); draw(); });
fillFilters();
readAddress();
draw();
