// What both charts share: scales, axes with round ticks, and labels that keep clear of each other.

const redraws = []; // one function for each chart on the page, for when its width changes
const ruler = document.createElement("canvas").getContext("2d");
const LABEL_HEIGHT = 13;

/** A figure whose select chooses what is drawn; draw(choice, width) gives an svg. */
function makeFigure(kind, title, choices, draw, ...below) {
  const select = make("select", { "aria-label": "horizontal axis", onchange: redraw },
    ...choices.map((choice) => make("option", {}, choice)));
  const plot = make("div", { class: "plot" });
  function redraw() {
    plot.replaceChildren(draw(select.value, Math.max(plot.clientWidth, 280)));
  }
  redraws.push(redraw);
  return make("figure", { class: kind },
    make("figcaption", {}, make("span", {}, title), make("label", {}, "against ", select)),
    plot, ...below);
}

/** Place of a value between two pixels, with some room at both ends; log scales take log10. */
function makeScale(values, from, to, log) {
  const read = log ? Math.log10 : (value) => value;
  let [low, high] = [Math.min(...values), Math.max(...values)].map(read);
  const pad = high > low ? 0.06 * (high - low) : 0.05 * Math.abs(low) || 0.5;
  [low, high] = [low - pad, high + pad];
  const place = (value) => from + (to - from) * (read(value) - low) / (high - low);
  const write = log ? (value) => 10 ** value : (value) => value;
  return { place, low: write(low), high: write(high) };
}

/** Round numbers inside a scale: 1, 2 or 5 times a power of ten apart. */
function roundTicks({ low, high }, wanted = 5) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

/** Numbers of a log scale: those of a list of round ones that lie inside, at most some. */
function logTicks({ low, high }, round, most) {
  const inside = round.filter((value) => value >= low && value <= high);
  const stride = Math.ceil(inside.length / most);
  return inside.filter((_, i) => i % stride === 0);
}

/** An empty chart: {svg, x, y, area}; ticks are [value, text] pairs. */
function makeChart({ label, width, xs, ys, log, xName, yName, xTicks, yText }) {
  const height = Math.round(Math.min(Math.max(0.58 * width, 250), 340));
  const area = { left: 50, right: width - 12, top: 26, bottom: height - 42 };
  const x = makeScale(xs, area.left + 8, area.right - 8, log);
  const y = makeScale(ys, area.bottom - 6, area.top + 6, false);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of roundTicks(y)) {
    const at = y.place(value).toFixed(1);
    svg.append(make("line", { class: "grid", x1: area.left, x2: area.right, y1: at, y2: at }),
      make("text", { x: area.left - 7, y: Number(at) + 4, "text-anchor": "end" }, yText(value)));
  }
  for (const [value, text] of xTicks(x, width)) {
    const at = x.place(value).toFixed(1);
    svg.append(
      make("line", { class: "axis", x1: at, x2: at, y1: area.bottom, y2: area.bottom + 4 }),
      make("text", { x: at, y: area.bottom + 17, "text-anchor": "middle" }, text));
  }
  const middle = (area.left + area.right) / 2;
  svg.append(
    make("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }),
    make("text", { class: "axis-name", x: middle, y: height - 6, "text-anchor": "middle" }, xName),
    make("text", { class: "axis-name", x: 2, y: 13 }, yName));
  return { svg, x: x.place, y: y.place, area };
}

// ---- labels

function shortened(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}\u2026` : text;
}

/** Puts a name beside each point {x, y, name}, moved up or down where another one is in the way. */
function addLabels(svg, points, area) {
  ruler.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const taken = points.map(({ x, y }) => ({ left: x - 4, right: x + 4, top: y - 4, bottom: y + 4 }));
  for (const point of points) {
    const text = shortened(point.name, 26);
    const width = ruler.measureText(text).width + 2;
    const places = [0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6].flatMap((step) =>
      [true, false].map((isRight) => placeOf(point, width, 0.75 * step * LABEL_HEIGHT, isRight)));
    const inside = places.filter((box) => isInside(box, area));
    const free = inside.find((box) => !taken.some((other) => overlap(box, other)));
    if (!free) continue; // no room: the name is still in the point's title
    taken.push(free);
    if (Math.abs(free.shift) > LABEL_HEIGHT / 2) {
      svg.append(make("line", { class: "leader", x1: point.x, y1: point.y,
        x2: free.isRight ? free.left : free.right, y2: free.middle }));
    }
    svg.append(make("text", { class: "name", x: free.isRight ? free.left : free.right,
      y: free.middle + 4, "text-anchor": free.isRight ? "start" : "end" }, text));
  }
}

function placeOf({ x, y }, width, shift, isRight) {
  const gap = shift ? 14 : 8;
  const left = isRight ? x + gap : x - gap - width;
  const middle = y + shift;
  const half = LABEL_HEIGHT / 2;
  return { left, right: left + width, top: middle - half, bottom: middle + half, middle, shift, isRight };
}

function isInside(box, area) {
  return box.left > area.left && box.right < area.right + 10 &&
    box.top > area.top - 6 && box.bottom < area.bottom;
}

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
