// The page: all sections that the filters leave, and the theme.

const data = JSON.parse(document.getElementById("data").textContent);
const TABLES = [["measured", "Measured here"], ["reported", "Reported by others"]];
const FEW_TABLES = 8; // as many are open from the start

function draw() {
  const wanted = currentFilters();
  const target = document.getElementById("sections");
  const drawn = data.sections.filter((section) => sectionMatches(section, wanted)).map((section) =>
    ({ section, rows: section.rows.filter((row) => rowMatches(section, row, wanted)) }))
    .filter(({ rows }) => rows.length);
  redraws.length = 0;
  target.replaceChildren();
  const overview = wanted.a && wanted.b ? makePair(drawn, wanted) : makeMatrix(drawn, wanted, draw);
  document.getElementById("overview").replaceChildren(...(overview || []));
  if (data.meanRanks && !Object.values(wanted).some(Boolean)) target.append(...meanRankParts(data.meanRanks));
  let heading = null;
  for (const { section, rows } of drawn) {
    if (section.heading !== heading) target.append(make("h2", {}, section.heading));
    heading = section.heading;
    const fill = () => fillSection(section, rows, wanted.metrics === "all");
    target.append(makeSection(section, rows, fill, drawn.length <= FEW_TABLES));
  }
  redraws.forEach((redraw) => redraw()); // only now do the charts know their width
  showCount(drawn, wanted);
}

/** A protocol: its name, what it is in a line, and its tables, drawn when they are opened. */
function makeSection(section, rows, fill, isOpen) {
  const body = make("div", {});
  const details = make("details", { ontoggle: () => {
    if (!details.open || body.hasChildNodes()) return;
    const before = redraws.length;
    body.append(...fill());
    redraws.slice(before).forEach((redraw) => redraw());
  } }, make("summary", {},
    make("h3", {}, make("a", { href: addressOf(section) }, section.id),
      make("span", { class: "version" }, ` version ${section.version}`)),
    make("span", { class: "note" }, `${section.dataset}, ${mainOf(section).spelling}; ${countText(rows)}`),
    make("span", { class: "note" }, bestText(section, rows))), body);
  if (isOpen) {
    body.append(...fill());
    details.open = true;
  }
  return make("section", { "data-protocol": keyOf(section) }, details);
}

/** '2 measured, 11 reported'. */
function countText(rows) {
  return TABLES.map(([origin]) => [rows.filter((row) => row.origin === origin).length, origin])
    .filter(([count]) => count).map(([count, origin]) => `${count} ${origin}`).join(", ");
}

/** 'best 57.8, pe_spatial_g14_448': rows come best first. */
function bestText(section, rows) {
  const best = rows.find((row) => scoreOf(row, section) === bestScore({ section, rows }));
  return best ? `best ${shown(scoreOf(best, section), mainOf(section))}, ${nameOf(best)}` : "";
}

function fillSection(section, rows, allMetrics) {
  const parts = [make("p", { class: "about" }, section.about)];
  for (const [origin, title] of TABLES) {
    const mine = rows.filter((row) => row.origin === origin);
    if (!mine.length) continue;
    parts.push(make("h4", {}, title), makeTable(section, mine, title, allMetrics));
    if (origin === "measured" && section.blind) parts.push(make("p", { class: "note blind" }, section.blind));
    if (origin === "measured" && section.power) parts.push(make("p", { class: "note power" }, section.power));
    const meanings = new Set(mine.flatMap((row) => row.notes.map(({ meaning }) => meaning)));
    meanings.delete("");
    if (meanings.size) {
      parts.push(make("ul", { class: "meanings" }, ...[...meanings].map((text) => make("li", {}, text))));
    }
  }
  const charts = [layerChart(section, rows), costPlot(section, rows)].filter(Boolean);
  if (charts.length) parts.push(make("div", { class: "charts" }, ...charts));
  return parts;
}

/** The list over all protocols, which filters hide: it is of no single one. */
function meanRankParts({ caption, header, rows, notes }) {
  const isLeft = (i) => (i < 2 ? "left" : null);
  const cells = (row, i) => (i ? make("td", { class: isLeft(i) }, row[i])
    : make("th", { scope: "row", class: "left" }, ...breakable(row[i])));
  return [
    make("h2", {}, "Mean rank"),
    make("p", { class: "about" }, `${caption}.`),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "mean rank" },
      make("table", { class: "ranks" },
        make("thead", {}, make("tr", {}, ...header.map((name, i) =>
          make("th", { scope: "col", class: isLeft(i) }, ...breakable(name))))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((_, i) => cells(row, i))))))),
    notes.length ? make("ul", { class: "meanings" }, ...notes.map((text) => make("li", {}, text))) : "",
  ];
}

function showCount(drawn, wanted) {
  const count = drawn.reduce((sum, { rows }) => sum + rows.length, 0);
  const message = document.getElementById("count");
  const isFiltered = Object.values(wanted).some(Boolean);
  document.getElementById("clear").hidden = !isFiltered;
  if (!data.sections.length) message.replaceChildren(...withCode(data.empty));
  else if (!count) message.textContent = "No result fits these filters.";
  else message.textContent = `${plural(count, "result")} under ${plural(drawn.length, "protocol")}`;
}

/** Text in which `...` is code. */
function withCode(text) {
  return text.split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

// ---- theme: that of the system until the button is pressed

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : systemIsDark.matches;
}

function nameTheme() {
  themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
}

themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
systemIsDark.addEventListener("change", nameTheme);

// ---- start

filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", (event) => {
  settle(event.target.name);
  writeAddress();
  draw();
});
document.getElementById("clear").addEventListener("click", () => {
  filters.reset();
  writeAddress();
  draw();
  filters.elements.q.focus();
});
addEventListener("hashchange", () => {
  readAddress();
  draw();
  document.getElementById("sections").scrollIntoView();
});
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return; // phones change the height while scrolling
  width = innerWidth;
  redraws.forEach((redraw) => redraw());
});

fillFilters(data.sections);
fillPair(data.sections);
readAddress();
nameTheme();
draw();
