// Encoders x protocols at a glance, and two encoders side by side.

const FEW_ROWS = 24; // of the matrix, until all are asked for
let allRows = false;

/** Cells of the matrix: name -> key of a section -> rows, those measured here first. */
function cellsOf(drawn) {
  const cells = new Map();
  for (const { section, rows } of drawn) {
    for (const row of rows) {
      const mine = cells.get(nameOf(row)) || cells.set(nameOf(row), new Map()).get(nameOf(row));
      mine.set(keyOf(section), [...(mine.get(keyOf(section)) || []), row]
        .sort((a, b) => a.origin.localeCompare(b.origin)));
    }
  }
  return cells;
}

function numEncoders({ rows }) {
  return new Set(rows.map(nameOf)).size;
}

/**
 * Columns: of one task all protocols with two encoders or more; else the protocol of each data set
 * that most encoders have, since scores under different protocols do not compare.
 */
function columnsOfMatrix(drawn, wanted) {
  if (wanted.task) return drawn.filter((one) => numEncoders(one) > 1);
  const widest = new Map();
  for (const one of drawn) {
    const { task, dataset } = one.section;
    const before = widest.get(`${task} ${dataset}`);
    if (!before || numEncoders(one) > numEncoders(before)) widest.set(`${task} ${dataset}`, one);
  }
  const found = [...widest.values()].filter((one) => numEncoders(one) > 1);
  return found.filter(({ section }) => !section.generated); // their tables are at the end
}

function bestScore({ section, rows }) {
  const scores = rows.map((row) => scoreOf(row, section)).filter((score) => !isMissing(score));
  return section.higher ? Math.max(...scores) : Math.min(...scores);
}

/** null where there is nothing to lay side by side. */
function makeMatrix(drawn, wanted, redrawAll) {
  const columns = columnsOfMatrix(drawn, wanted);
  const cells = cellsOf(columns);
  if (columns.length < 2 || cells.size < 2) return null;
  const names = [...cells.keys()].sort((a, b) =>
    cells.get(b).size - cells.get(a).size || a.localeCompare(b, "en", { numeric: true }));
  const kept = allRows ? names : names.slice(0, FEW_ROWS);
  const best = new Map(columns.map((one) => [keyOf(one.section), bestScore(one)]));
  const head = ({ section }) => make("th", { scope: "col" },
    make("a", { href: addressOf(section), title: section.about }, section.dataset,
      make("span", { class: "order" }, `${section.task.replace("_", " ")}, ${mainOf(section).spelling}`)));
  const line = (name) => make("tr", {}, make("th", { scope: "row", class: "left" }, ...breakable(name)),
    ...columns.map(({ section }) => matrixCell(section, cells.get(name).get(keyOf(section)), best)));
  const more = names.length - kept.length;
  const which = wanted.task
    ? "every protocol of the task with two encoders or more"
    : "of each data set the protocol with most encoders";
  return [
    make("h2", {}, "Encoders and tasks"),
    make("p", { class: "note" }, `Columns: ${which}; a column compares, a line does not. `,
      make("b", {}, "Bold"), ": best of its column. ", make("span", { class: "ours" }, "Blue"),
      ": measured here, with its evidence; the rest is what others report. Encoders with most columns first."),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "encoders and tasks" },
      make("table", { class: "matrix" }, make("thead", {}, make("tr", {},
        make("th", { scope: "col", class: "left" }, "Encoder"), ...columns.map(head))),
      make("tbody", {}, ...kept.map(line)))),
    more > 0 ? make("button", { type: "button", class: "more", onclick: () => {
      allRows = true;
      redrawAll();
    } }, `Show ${more} more encoders`) : "",
  ];
}

function addressOf(section) {
  return `#${new URLSearchParams({ protocol: keyOf(section) })}`;
}

function matrixCell(section, rows, best) {
  const found = (rows || []).filter((row) => !isMissing(scoreOf(row, section)));
  return make("td", {}, ...(found.length ? found.map((row) => matrixScore(section, row, best)) : [""]));
}

function matrixScore(section, row, best) {
  const score = scoreOf(row, section);
  const isBest = best && best.get(keyOf(section)) === score;
  const origin = row.origin === "measured" ? "measured here" : `reported by ${row.source}`;
  const bounds = row.interval ? `, 95 % ${boundsText(row.interval, mainOf(section))}` : "";
  return make("span", {
    class: ["cell", row.origin === "measured" ? "ours" : "", isBest ? "best-cell" : ""].join(" ").trim(),
    title: `${keyOf(section)}: ${origin}${bounds}`,
  }, shown(score, mainOf(section)));
}

// ---- two encoders

/** Choices of the two lists: all names, those with most protocols first. */
function fillPair(sections) {
  const cells = cellsOf(sections.map((section) => ({ section, rows: section.rows })));
  const names = [...cells.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  for (const field of ["a", "b"]) {
    filters.elements[field].replaceChildren(make("option", { value: "" }, "-"),
      ...names.map((name) => make("option", { value: name }, name)));
  }
}

/** Every protocol that has both, with the difference; the paired test needs the evidence. */
function makePair(drawn, { a, b }) {
  const shared = drawn.filter(({ rows }) => [a, b].every((name) => rows.some((row) => nameOf(row) === name)));
  const title = make("h2", { class: "as-is" }, `${a} and ${b}`);
  if (!shared.length) return [title, make("p", {}, "No protocol has both.")];
  const lines = shared.flatMap(({ section, rows }) => pairsOf(rows, a, b).map((pair) => pairLine(section, pair)));
  const header = ["Protocol", "Data", "Metric", a, b, "Difference", "Compared"];
  const measured = shared.find(({ rows }) => pairsOf(rows, a, b).some(isMeasuredPair));
  return [
    title,
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "two encoders" },
      make("table", { class: "matrix" },
        make("thead", {}, make("tr", {}, ...header.map((name, i) =>
          make("th", { scope: "col", class: i < 3 || i === 6 ? "left" : null }, ...breakable(name))))),
        make("tbody", {}, ...lines))),
    make("p", { class: "note" }, "Difference: the first minus the second; green where the first is better. ",
      "Without the items of both, which papers do not give, nobody can say what of it is chance."),
    measured ? make("pre", {}, pairCommand(measured.section, pairsOf(measured.rows, a, b).find(isMeasuredPair))) : "",
  ];
}

/** Rows of the same origin beside each other; where there are none, measured beside reported. */
function pairsOf(rows, a, b) {
  const [first, second] = [a, b].map((name) => rows.filter((row) => nameOf(row) === name));
  const all = first.flatMap((one) => second.map((two) => [one, two]));
  const same = all.filter(([one, two]) => one.origin === two.origin);
  return same.length ? same : all;
}

function isMeasuredPair(pair) {
  return pair.every((row) => row.origin === "measured");
}

/** What tests the two on the same items. */
function pairCommand(section, pair) {
  return `python tools/leaderboard.py compare ${pair.map((row) => row.encoder).join(" ")} --protocol ${section.id}`;
}

function pairLine(section, [one, two]) {
  const metric = mainOf(section);
  const [first, second] = [one, two].map((row) => scoreOf(row, section));
  const isKnown = !isMissing(first) && !isMissing(second);
  const difference = isKnown ? first - second : null;
  const isBetter = difference * (section.higher ? 1 : -1) > 0;
  let compared = one.origin === two.origin ? `both ${ORIGINS[one.origin]}` : "measured here against reported";
  if (one.group && two.group) {
    compared += one.group === two.group ? `, same group (${one.group})` : `, groups ${one.group} and ${two.group}`;
  }
  return make("tr", {},
    make("th", { scope: "row", class: "left" }, make("a", { href: addressOf(section) }, ...breakable(keyOf(section)))),
    make("td", { class: "left" }, section.dataset), make("td", { class: "left" }, metric.spelling),
    make("td", {}, matrixScore(section, one)), make("td", {}, matrixScore(section, two)),
    make("td", { class: difference ? (isBetter ? "better" : "worse") : null }, isKnown ? signed(difference, metric) : "-"),
    make("td", { class: "left" }, compared));
}
