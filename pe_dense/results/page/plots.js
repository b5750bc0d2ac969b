// The two charts of a protocol: score against cost, and score against the layer.

const NUM_COLOURS = 8; // .series-0 to .series-7 in page.css
const COUNTS = [1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 2e9, 5e9, 1e10];
const TIMES = [
  ...[1, 2, 5, 10, 20], ...[0.5, 1, 2, 5, 10, 20].map((minutes) => 60 * minutes),
  ...[0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((hours) => 3600 * hours),
];
const COSTS = {
  parameters: { read: (row) => row.record.encoder.num_params, show: millions, round: COUNTS },
  "training time": { read: (row) => row.record.cost.train_s, show: duration, round: TIMES },
  "evaluation time": { read: (row) => row.record.cost.eval_s, show: duration, round: TIMES },
};

/** Rows without a cost, most of the reported ones, are left out; null for fewer than two encoders. */
function costPlot(section, rows) {
  const withCost = (name) => rows.filter((row) => COSTS[name].read(row) > 0);
  const encoders = (name) => new Set(withCost(name).map((row) => row.encoder));
  const choices = Object.keys(COSTS).filter((name) => encoders(name).size > 1);
  if (!choices.length) return null;
  const metric = mainOf(section);

  return makeFigure("cost", `Cost: ${metric.spelling}`, choices, (choice, width) => {
    const { read, show, round } = COSTS[choice];
    const points = withCost(choice);
    const bounds = points.flatMap((row) => {
      const found = row.interval;
      return found ? [found.low, found.high] : [];
    });
    const { svg, x, y, area } = makeChart({
      label: `${metric.spelling} against ${choice} of ${points.length} rows`, width, log: true,
      xs: points.map(read), ys: [...points.map((row) => scoreOf(row, section)), ...bounds],
      xName: `${choice}, log scale`, yName: nameWithDirection(section),
      xTicks: (scale) => costTicks(scale, points.map(read), round, width)
        .map((value) => [value, tickText(value, show)]),
      yText: (value) => tickShown(value, metric.scale),
    });
    const labels = new Map(); // one label for each encoder, at the first of its weights
    for (const row of points) {
      const [cx, cy] = [x(read(row)), y(scoreOf(row, section))];
      const found = row.interval;
      if (found) {
        svg.append(make("path", { class: "whisker faint", d: `M${cx} ${y(found.low)}V${y(found.high)}` }));
      }
      svg.append(make("circle", { class: row.origin === "measured" ? "dot" : "dot hollow", cx, cy, r: 4 },
        make("title", {}, costTitle(row, section, show(read(row))))));
      if (!labels.has(row.encoder)) labels.set(row.encoder, { x: cx, y: cy, name: row.encoder });
    }
    addLabels(svg, [...labels.values()], area);
    return svg;
  });
}

/** 'dinov2_b14: 51.2, 95 % 50.1 to 52.3 (n = 72 images), 86 M' */
function costTitle(row, section, cost) {
  const metric = mainOf(section);
  const found = row.interval;
  const bounds = found ? `, 95 % ${boundsText(found, metric)} (${sizeText(found)})` : "";
  return `${row.encoder}: ${shown(scoreOf(row, section), metric)}${bounds}, ${cost}`;
}

function nameWithDirection(section) {
  const { spelling, unit } = mainOf(section);
  return `${spelling}${unit ? `, ${unit}` : ""} (${section.higher ? "higher" : "lower"} is better)`;
}

function costTicks(scale, costs, round, width) {
  const ticks = logTicks(scale, round, width < 450 ? 5 : 9);
  return ticks.length ? ticks : [Math.min(...costs)];
}

/** '20 min', not '20.0 min'. */
function tickText(value, show) {
  return show(value).replace(/\.0(?= )/, "");
}

function tickShown(value, scale) {
  return String(Number((scale * value).toPrecision(6)));
}

// ---- layers

const DEPTHS = {
  "block index": { read: (layer) => layer, text: String },
  "relative depth": {
    read: (layer, last) => (last ? layer / last : 0), text: (value) => tickShown(value, 1),
  },
};

/** One curve per row that scored several layers, the mean of its seeds; null if there is none. */
function layerChart(section, rows) {
  const metric = mainOf(section);
  const curves = rows.map((row) => curveOf(row, section))
    .filter((curve) => curve.points.length > 1);
  if (!curves.length) return null;
  const legend = make("ul", { class: "legend" }, ...curves.map((curve, i) => {
    const [best, last] = [curve.best, curve.points.at(-1)].map(({ layer, score }) =>
      `${shown(score, metric)} at block ${layer}`);
    const seeds = curve.seeds > 1 ? `, mean of ${curve.seeds} seeds:` : "";
    const joined = curve.joined.map(({ layer, score }) => `, ${shown(score, metric)} at blocks ${layer} together`);
    return make("li", {}, swatch(curve, i), make("span", { class: "name" }, curve.row.encoder),
      `${seeds} best ${best}, last ${last}${joined.join("")}`);
  }));
  const blind = section.blindLine;
  const key = make("p", { class: "note" }, "Ring: best layer. Dot: last layer." +
    (blind ? ` Dotted: without the picture (${blind.name}).` : "") +
    (curves.some(({ points }) => points.some(({ low, high }) => low < high)) ? " Band: lowest to highest seed." : "") +
    (curves.some(isReported) ? " Dashed: reported by others." : ""));

  return makeFigure("layers", `Layers: ${metric.spelling}`, Object.keys(DEPTHS), (choice, width) => {
    const { read, text } = DEPTHS[choice];
    const depths = curves.flatMap(({ points }) =>
      points.map(({ layer }) => read(layer, points.at(-1).layer)));
    const { svg, x, y, area } = makeChart({
      label: `${metric.spelling} by layer of ${curves.map((curve) => curve.row.encoder).join(", ")}`,
      width, log: false, xs: depths,
      ys: [...curves.flatMap(({ points }) => points.flatMap(({ low, high }) => [low, high])),
        ...(blind ? [blind.score] : [])],
      xName: choice, yName: nameWithDirection(section),
      xTicks: (scale) => roundTicks(scale, 6)
        .filter((value) => choice !== "block index" || Number.isInteger(value))
        .map((value) => [value, text(value)]),
      yText: (value) => tickShown(value, metric.scale),
    });
    if (blind) {
      const at = y(blind.score).toFixed(1);
      svg.append(make("line", { class: "blind-line", x1: area.left, x2: area.right, y1: at, y2: at },
        make("title", {}, `without the picture: ${blind.name}, ${shown(blind.score, metric)}`)));
    }
    curves.forEach((curve, i) => {
      const last = curve.points.at(-1);
      const place = ({ layer }, score) => [x(read(layer, last.layer)), y(score)];
      const joined = (corners) => corners.map(([cx, cy]) => `${cx.toFixed(1)} ${cy.toFixed(1)}`).join("L");
      if (curve.seeds > 1) {
        const band = [...curve.points.map((point) => place(point, point.high)),
          ...curve.points.toReversed().map((point) => place(point, point.low))];
        svg.append(make("path", { class: seriesClass(curve, i, "band"), d: `M${joined(band)}Z` }));
      }
      const line = curve.points.map((point) => place(point, point.score));
      svg.append(make("path", { class: seriesClass(curve, i, "curve"), d: `M${joined(line)}` }));
      for (const [kind, point, r] of [["last", last, 3.5], ["best", curve.best, 6]]) {
        const [cx, cy] = place(point, point.score);
        const told = `${curve.row.encoder}: ${kind} block ${point.layer}, ${shown(point.score, metric)}`;
        svg.append(make("circle", { class: seriesClass(curve, i, kind), cx, cy, r },
          make("title", {}, told)));
      }
    });
    return svg;
  }, key, legend);
}

/** Points {layer, score, low, high} in order, means and ends over seeds; the best; concatenations. */
function curveOf(row, section) {
  const { name } = mainOf(section);
  const records = recordsOf(row);
  const scores = records.flatMap((record) => Object.entries((record.by_layer || {})[name] || {}));
  const all = [...Map.groupBy(scores, ([layer]) => layer)].map(([layer, found]) => {
    const values = found.map(([, score]) => score);
    const score = values.reduce((sum, value) => sum + value, 0) / values.length;
    return { layer, score, low: Math.min(...values), high: Math.max(...values) };
  });
  // '8+9+10+11' is no point on an axis of blocks: it stands in the legend.
  const joined = all.filter(({ layer }) => layer.includes("+"));
  const points = all.filter(({ layer }) => !layer.includes("+"))
    .map((point) => ({ ...point, layer: Number(point.layer) })).sort((a, b) => a.layer - b.layer);
  const isBetter = (a, b) => (section.higher ? a.score > b.score : a.score < b.score);
  const best = points.reduce((a, b) => (a && !isBetter(b, a) ? a : b), null);
  return { row, seeds: records.length, points, joined, best };
}

function isReported(curve) {
  return curve.row.origin === "reported";
}

function seriesClass(curve, i, kind) {
  return `series-${i % NUM_COLOURS} ${kind}${isReported(curve) ? " dashed" : ""}`;
}

function swatch(curve, i) {
  return make("svg", { width: 24, height: 10, "aria-hidden": "true" },
    make("path", { class: seriesClass(curve, i, "curve"), d: "M1 5H23" }));
}
