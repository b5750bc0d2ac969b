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
  const { metric, fraction } = section;

  return makeFigure("cost", `Cost: ${metric}`, choices, (choice, width) => {
    const { read, show, round } = COSTS[choice];
    const points = withCost(choice);
    const bounds = points.flatMap((row) => {
      const found = intervalOf(row, metric);
      return found ? [found.low, found.high] : [];
    });
    const { svg, x, y, area } = makeChart({
      label: `${metric} against ${choice} of ${points.length} rows`, width, log: true,
      xs: points.map(read), ys: [...points.map((row) => scoreOf(row, section)), ...bounds],
      xName: `${choice}, log scale`, yName: nameWithDirection(section),
      xTicks: (scale) => costTicks(scale, points.map(read), round, width)
        .map((value) => [value, tickText(value, show)]),
      yText: (value) => tickShown(value, fraction),
    });
    const labels = new Map(); // one label for each encoder, at the first of its seeds
    for (const row of points) {
      const [cx, cy] = [x(read(row)), y(scoreOf(row, section))];
      const found = intervalOf(row, metric);
      if (found) {
        svg.append(make("path", { class: "whisker faint", d: `M${cx} ${y(found.low)}V${y(found.high)}` }));
      }
      svg.append(make("circle", { class: row.origin === "measured" ? "dot" : "dot hollow", cx, cy, r: 4 },
        make("title", {}, `${row.encoder}: ${shown(scoreOf(row, section), fraction)}, ${show(read(row))}`)));
      if (!labels.has(row.encoder)) labels.set(row.encoder, { x: cx, y: cy, name: row.encoder });
    }
    addLabels(svg, [...labels.values()], area);
    return svg;
  });
}

function nameWithDirection(section) {
  const unit = section.fraction ? ", %" : "";
  return `${section.metric}${unit} (${section.higher ? "higher" : "lower"} is better)`;
}

function costTicks(scale, costs, round, width) {
  const ticks = logTicks(scale, round, width < 450 ? 5 : 9);
  return ticks.length ? ticks : [Math.min(...costs)];
}

/** '20 min', not '20.0 min'. */
function tickText(value, show) {
  return show(value).replace(/\.0(?= )/, "");
}

function tickShown(value, fraction) {
  return String(Number((fraction ? 100 * value : value).toPrecision(6)));
}

// ---- layers

const DEPTHS = {
  "block index": { read: (layer) => layer, text: String },
  "relative depth": {
    read: (layer, last) => (last ? layer / last : 0), text: (value) => tickShown(value, false),
  },
};

/** Curves of all rows that scored every layer; null if there is none. */
function layerChart(section, rows) {
  const { metric, fraction } = section;
  const curves = rows.map((row) => curveOf(row, section)).filter((curve) => curve.points.length > 1);
  if (!curves.length) return null;
  const legend = make("ul", { class: "legend" }, ...curves.map((curve, i) => {
    const [best, last] = [curve.best, curve.points.at(-1)].map(([layer, score]) =>
      `${shown(score, fraction)} at block ${layer}`);
    return make("li", {}, swatch(curve, i), make("span", { class: "name" }, curve.row.encoder),
      ` best ${best}, last ${last}`);
  }));
  const key = make("p", { class: "note" }, "Ring: best layer. Dot: last layer." +
    (curves.some(isReported) ? " Dashed: reported by others." : ""));

  return makeFigure("layers", `Layers: ${metric}`, Object.keys(DEPTHS), (choice, width) => {
    const { read, text } = DEPTHS[choice];
    const placed = curves.map(({ points }) =>
      points.map(([layer, score]) => [read(layer, points.at(-1)[0]), score]));
    const { svg, x, y } = makeChart({
      label: `${metric} by layer of ${curves.map((curve) => curve.row.encoder).join(", ")}`, width,
      log: false, xs: placed.flat().map(([depth]) => depth), ys: placed.flat().map(([, score]) => score),
      xName: choice, yName: nameWithDirection(section),
      xTicks: (scale) => roundTicks(scale, 6)
        .filter((value) => choice !== "block index" || Number.isInteger(value))
        .map((value) => [value, text(value)]),
      yText: (value) => tickShown(value, fraction),
    });
    curves.forEach((curve, i) => {
      const last = curve.points.at(-1);
      const at = ([layer, score]) => [x(read(layer, last[0])), y(score)];
      const corners = curve.points.map((point) => at(point).map((value) => value.toFixed(1)).join(" "));
      svg.append(make("path", { class: seriesClass(curve, i, "curve"), d: `M${corners.join("L")}` }));
      for (const [kind, point, r] of [["last", last, 3.5], ["best", curve.best, 6]]) {
        const [cx, cy] = at(point);
        const text = `${curve.row.encoder}: ${kind} block ${point[0]}, ${shown(point[1], fraction)}`;
        svg.append(make("circle", { class: seriesClass(curve, i, kind), cx, cy, r },
          make("title", {}, text)));
      }
    });
    return svg;
  }, key, legend);
}

/** Points [block index, score] in order, and the best of them. */
function curveOf(row, section) {
  const points = Object.entries((row.record.by_layer || {})[section.metric] || {})
    .map(([layer, score]) => [Number(layer), score])
    .sort((a, b) => a[0] - b[0]);
  const isBetter = (a, b) => (section.higher ? a[1] > b[1] : a[1] < b[1]);
  const best = points.reduce((a, b) => (a && !isBetter(b, a) ? a : b), null);
  return { row, points, best };
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
