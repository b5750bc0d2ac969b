// One table: columns, cells, whiskers, sorting, and the single seeds below their mean.

const sortOf = new Map(); // table key -> {column, descending}, kept while filters change
const WHISKER = { width: 104, height: 14, pad: 5 };

/**
 * Columns: name; value to sort by; cell, its children; left-aligned or not. A score says whether
 * higher is better and is sorted best first; what has no better or worse may start descending.
 */
function columnsOf(section, rows, allMetrics) {
  const { higher } = section;
  const metric = mainOf(section);
  const isMeasured = rows[0].origin === "measured";
  const range = rangeOf(section, rows);
  const columns = [{
    name: "Encoder", left: true, value: (row) => row.encoder, cell: (row) => breakable(row.encoder),
  }];
  if (isMeasured) columns.push({ name: "Weights", left: true, value: (row) => row.weights });
  columns.push({
    name: metric.spelling, kind: "score", higher, value: (row) => scoreOf(row, section),
    cell: (row) => [scoreButton(section, row)],
  });
  if (range) {
    columns.push({
      name: "95 % interval", kind: "interval", higher, head: scaleEnds(section, range),
      value: (row) => row.interval?.low,
      cell: (row) => intervalCell(section, row, range),
    });
  }
  if (rows.some((row) => row.group)) {
    columns.push({ name: "Group", value: (row) => row.group, cell: (row) => [badge(row)] });
  }
  if (isMeasured && rows.some((row) => row.difference !== null)) {
    columns.push({
      name: "vs reported", higher, value: (row) => row.difference,
      cell: (row) => [differenceText(section, row)],
    });
  }
  if (isMeasured) {
    columns.push({ name: "Seeds", value: (row) => row.seeds.length || 1, cell: (row, lines) => [seedsCell(row, lines)] });
  }
  if (rows.some((row) => row.notes.length)) {
    columns.push({
      name: "Notes", left: true, kind: "wide notes-cell", value: (row) => row.notes.map(({ words }) => words).join("; ") || null,
      cell: (row, lines) => [noteList(row, lines)],
    });
  }
  if (rows.some((row) => row.chosen)) {
    columns.push({ name: "Chosen", left: true, kind: "wide", value: (row) => row.chosen || null });
  }
  for (const other of section.metrics) {
    // One column for each class would push all else out of sight; the records have them.
    if (other === metric || (other.name.includes("/") && !allMetrics)) continue;
    if (!rows.some((row) => other.name in row.scores)) continue;
    columns.push({
      name: other.spelling, higher: other.higher, value: (row) => row.scores[other.name],
      cell: (row) => [shown(row.scores[other.name], other)],
    });
  }
  return [...columns, ...(isMeasured ? originColumns() : sourceColumns(rows))];
}

function originColumns() {
  const numParams = (row) => row.record.encoder.num_params;
  const training = (row) => row.record.cost.train_s;
  const short = ({ code }) => code && code.commit.replace(/([0-9a-f]{7})[0-9a-f]+$/, "$1") + (code.dirty ? "+" : "");
  const commit = (row) => [...new Set(recordsOf(row).map(short))].join(", ");
  return [
    { name: "Parameters", value: numParams, cell: (row) => [paramsText(row.record.encoder)] },
    { name: "Train", value: training, cell: (row) => [duration(training(row))] },
    { name: "Commit", left: true, kind: "code", value: commit },
    { name: "Date", descending: true, orders: ["oldest first", "newest first"], value: (row) => row.record.created.slice(0, 10) },
  ];
}

function sourceColumns(rows) {
  const columns = [{ name: "Source", left: true, kind: "wide", value: (row) => row.source }];
  if (rows.some((row) => row.mark)) {
    columns.push({ name: "Mark", left: true, kind: "wide mark", value: (row) => row.mark || null });
  }
  return columns;
}

// ---- cells

/** The seed, or how many there are: a button that shows and hides the line of each. */
function seedsCell(row, lines) {
  const count = row.seeds.length;
  if (!count) return String(row.record.seed ?? "-");
  const button = make("button", { type: "button", class: "fold", "aria-expanded": "false", onclick: () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    for (const line of lines.slice(1)) line.hidden = isOpen;
  } }, plural(count, "seed"));
  return button;
}

/** The notes of a row; those of its seeds are in them. */
function noteList(row, lines) {
  if (!lines || !row.notes.length) return "-";
  return make("ul", { class: "notes-list" }, ...row.notes.map(({ words, meaning }) =>
    make("li", { title: meaning || null }, words)));
}

function scoreButton(section, row) {
  const metric = mainOf(section);
  const text = shown(scoreOf(row, section), metric);
  return make("button", {
    type: "button", "aria-haspopup": "dialog", onclick: () => openRecord(section, row),
    "aria-label": `${row.encoder}, ${metric.spelling} ${text}: show the record`,
  }, text);
}

function badge(row) {
  if (!row.group) return "-";
  const meaning = row.group === 1
    ? "best, or not significantly worse than the best"
    : `significantly worse than the best of group ${row.group - 1}`;
  const chance = isMissing(row.p) ? "" : `; adjusted p of the gap to the best ${row.p.toPrecision(2)}`;
  return make("span", { class: row.group === 1 ? "badge first" : "badge", title: meaning + chance },
    String(row.group));
}

function differenceText(section, row) {
  if (row.difference === null) return "-";
  const isBetter = row.difference * (section.higher ? 1 : -1) >= 0;
  return make("span", { class: isBetter ? "better" : "worse" }, signed(row.difference, mainOf(section)));
}

/** Lowest and highest bound of a table's intervals, or null where no row has one. */
function rangeOf(section, rows) {
  const bounds = rows.flatMap((row) => {
    const all = [row, ...row.seeds];
    return all.flatMap((one) => (one.interval
      ? [one.interval.low, one.interval.high, scoreOf(one, section)] : []));
  });
  if (!bounds.length) return null;
  // A row alone would fill any scale of its own: it is shown on that of the metric.
  if (rows.length === 1) bounds.push(0, mainOf(section).unit === "%" ? 1 : 0);
  return [Math.min(...bounds), Math.max(...bounds)];
}

function scaleEnds(section, range) {
  return make("span", { class: "ends", "aria-hidden": "true" },
    ...range.map((end) => make("span", {}, shown(end, mainOf(section)))));
}

function intervalCell(section, row, range) {
  const found = row.interval;
  if (!found) return ["-"];
  return [whisker(found, scoreOf(row, section), range),
    make("span", { class: "bounds" }, boundsText(found, mainOf(section))),
    make("span", { class: "size" }, sizeText(found))];
}

/** Hidden from screen readers: the bounds stand beside it as text. */
function whisker(interval, score, [low, high]) {
  const { width, height, pad } = WHISKER;
  const span = high - low || 1;
  const x = (value) => (pad + (width - 2 * pad) * (value - low) / span).toFixed(1);
  const [from, to, middle] = [x(interval.low), x(interval.high), height / 2];
  return make("svg", { width, height, "aria-hidden": "true" },
    make("line", { class: "track", x1: pad, x2: width - pad, y1: middle, y2: middle }),
    make("path", { class: "whisker", d: `M${from} 3v8M${from} ${middle}H${to}M${to} 3v8` }),
    make("circle", { class: "dot", cx: x(score), cy: middle, r: 2.5 }));
}

// ---- the table

function makeTable(section, rows, title, allMetrics) {
  const key = `${keyOf(section)} ${title}`;
  const columns = columnsOf(section, rows, allMetrics);
  const lines = new Map(rows.map((row) => [row, bodyLines(row, columns)]));
  const body = make("tbody", {}, ...[...lines.values()].flat());
  const heads = columns.map((column) => make("th",
    { scope: "col", class: classOf(column), "aria-sort": "none" },
    make("button", { type: "button", onclick: () => press(column) }, column.name, column.head,
      make("span", { class: "order", "aria-hidden": "true" }))));

  function press(column) {
    const { column: sorted, descending } = sortOf.get(key) || byScore();
    sortOf.set(key, {
      column: column.name,
      descending: sorted === column.name ? !descending : column.higher ?? Boolean(column.descending),
    });
    arrange();
  }
  function byScore() {
    return { column: mainOf(section).spelling, descending: section.higher }; // the order of the data
  }
  function arrange() {
    let order = sortOf.get(key) || byScore();
    if (!columns.some((column) => column.name === order.column)) order = byScore();
    columns.forEach((column, i) => {
      const isSorted = column.name === order.column;
      const direction = order.descending ? "descending" : "ascending";
      heads[i].setAttribute("aria-sort", isSorted ? direction : "none");
      heads[i].querySelector(".order").textContent = isSorted ? orderWords(column, order) : "";
    });
    // Lines are moved, not made again, so that focus and scroll position stay.
    body.append(...sortedRows(rows, columns, order).flatMap((row) => lines.get(row)));
  }
  arrange();
  const scroll = { class: "scroll", tabindex: "0", role: "region", "aria-label": key };
  return make("div", { ...scroll, "data-origin": rows[0].origin },
    make("table", { "aria-label": key }, make("thead", {}, make("tr", {}, ...heads)), body));
}

/** How a column is sorted, in words: an arrow beside a score would read as its direction. */
function orderWords(column, { descending }) {
  if (!isMissing(column.higher)) return column.higher === descending ? "best first" : "worst first";
  const [up, down] = column.orders || (column.left ? ["A to Z", "Z to A"] : ["lowest first", "highest first"]);
  return descending ? down : up;
}

function sortedRows(rows, columns, order) {
  const { value } = columns.find((column) => column.name === order.column);
  const factor = order.descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    // What is missing comes last in both directions.
    if (isMissing(x) || isMissing(y)) return isMissing(x) - isMissing(y);
    return factor * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
  });
}

function classOf(column) {
  return [column.left ? "left" : "", column.kind || ""].join(" ").trim() || null;
}

/** The line of a row, and below it, hidden at first, one for each of its seeds. */
function bodyLines(row, columns) {
  const lines = [];
  lines.push(bodyLine(row, columns, lines), ...row.seeds.map((seed) => bodyLine(seed, columns, null)));
  lines.slice(1).forEach((line, i) => {
    line.hidden = true;
    line.classList.add("seed");
    line.cells[0].textContent = `seed ${row.seeds[i].record.seed ?? "-"}`;
  });
  return lines;
}

function bodyLine(row, columns, lines) {
  return make("tr", { class: row.sees === false ? "unseeing" : null }, ...columns.map((column, i) => {
    const content = column.cell ? column.cell(row, lines) : [String(column.value(row) ?? "-")];
    return i ? make("td", { class: classOf(column) }, ...content)
      : make("th", { scope: "row", class: "left" }, ...content);
  }));
}
