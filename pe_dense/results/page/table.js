// One table: columns, cells, whiskers, sorting, and the mean over seeds.

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
      value: (row) => intervalOf(row, metric.name)?.low,
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
  for (const other of section.metrics) {
    // One column for each class would push all else out of sight; the records have them.
    if (other === metric || (other.name.includes("/") && !allMetrics)) continue;
    if (!rows.some((row) => other.name in row.record.scores)) continue;
    columns.push({
      name: other.spelling, higher: other.higher, value: (row) => row.record.scores[other.name],
      cell: (row) => [shown(row.record.scores[other.name], other)],
    });
  }
  return [...columns, ...(isMeasured ? originColumns() : sourceColumns(rows))];
}

function originColumns() {
  const numParams = (row) => row.record.encoder.num_params;
  const training = (row) => row.record.cost.train_s;
  const commit = ({ record: { code } }) => code && code.commit.slice(0, 7) + (code.dirty ? "+" : "");
  return [
    { name: "Seed", value: (row) => row.record.seed },
    { name: "Parameters", value: numParams, cell: (row) => [millions(numParams(row))] },
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
    const found = intervalOf(row, mainOf(section).name);
    return found ? [found.low, found.high, scoreOf(row, section)] : [];
  });
  return bounds.length ? [Math.min(...bounds), Math.max(...bounds)] : null;
}

function scaleEnds(section, range) {
  return make("span", { class: "ends", "aria-hidden": "true" },
    ...range.map((end) => make("span", {}, shown(end, mainOf(section)))));
}

function intervalCell(section, row, range) {
  const metric = mainOf(section);
  const found = intervalOf(row, metric.name);
  if (!found) return ["-"];
  const text = `${shown(found.low, metric)} to ${shown(found.high, metric)}`;
  return [whisker(found, scoreOf(row, section), range), make("span", { class: "bounds" }, text)];
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
  const lines = new Map(rows.map((row) => [row, bodyLine(row, columns)]));
  const body = make("tbody", {}, ...lines.values());
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
    body.append(...sortedRows(rows, columns, order).map((row) => lines.get(row)));
  }
  arrange();
  const seeds = seedLines(section, rows, columns);
  const scroll = { class: "scroll", tabindex: "0", role: "region", "aria-label": key };
  return make("div", { ...scroll, "data-origin": rows[0].origin },
    make("table", { "aria-label": key }, make("thead", {}, make("tr", {}, ...heads)), body,
      seeds.length ? make("tbody", { class: "seeds" }, ...seeds) : null));
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

function bodyLine(row, columns) {
  return make("tr", {}, ...columns.map((column, i) => {
    const content = column.cell ? column.cell(row) : [String(column.value(row) ?? "-")];
    return i ? make("td", { class: classOf(column) }, ...content)
      : make("th", { scope: "row", class: "left" }, ...content);
  }));
}

/** Mean and sample standard deviation where an encoder has several seeds. */
function seedLines(section, rows, columns) {
  return sameEncoders(rows).filter((group) => group.length > 1).map((group) => {
    const values = group.map((row) => scoreOf(row, section));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const deviation = Math.sqrt(squares / (values.length - 1));
    const text = `${shown(mean, mainOf(section))} \u00b1 ${shown(deviation, mainOf(section))}`;
    return make("tr", {},
      make("th", { scope: "row", class: "left" }, ...breakable(group[0].encoder)),
      make("td", { class: "left" }, `${group[0].weights}, ${values.length} seeds`),
      make("td", { class: "mean", title: "mean and standard deviation over seeds" }, text),
      make("td", { colspan: columns.length - 3, class: "left" }, "mean \u00b1 standard deviation"));
  });
}
