// Filters, kept in the address after '#' so that a view can be linked.

const filters = document.getElementById("filters");
const FIELDS = ["task", "protocol", "family", "origin", "q", "metrics", "a", "b"];
const ORIGINS = { measured: "measured here", reported: "reported by others" };

function currentFilters() {
  return Object.fromEntries(new FormData(filters));
}

function fillFilters(sections) {
  const rows = sections.flatMap((section) => section.rows);
  const tasks = [...new Set(sections.map((section) => section.task))];
  fill("task", tasks.map((task) => [task, task]));
  fill("family", [...new Set(rows.map((row) => row.family))].sort().map((name) => [name, name]));
  fill("origin", Object.entries(ORIGINS));
  fill("protocol", []);
  for (const task of tasks) {
    const mine = sections.filter((section) => section.task === task).map(keyOf);
    filters.elements.protocol.append(make("optgroup", { label: task },
      ...mine.map((key) => make("option", { value: key, "data-task": task }, key))));
  }
}

function fill(name, choices) {
  filters.elements[name].replaceChildren(make("option", { value: "" }, "all"),
    ...choices.map(([value, text]) => make("option", { value }, text)));
}

/** Sets the form from the address; what is not a choice means all. */
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const name of FIELDS) {
    const field = filters.elements[name];
    const value = wanted.get(name) || "";
    if (field.type === "checkbox") field.checked = value === field.value;
    else field.value = value;
    if (field.selectedIndex === -1) field.value = "";
  }
}

function writeAddress() {
  const kept = Object.entries(currentFilters()).filter(([, value]) => value);
  const hash = kept.length ? `#${new URLSearchParams(kept)}` : "";
  history.replaceState(null, "", location.pathname + location.search + hash);
}

/** A task and a protocol of another task would show nothing: what was chosen last counts. */
function settle(changed) {
  const { task, protocol } = filters.elements;
  const taskOfProtocol = protocol.selectedOptions[0]?.dataset.task;
  if (!taskOfProtocol || !task.value || taskOfProtocol === task.value) return;
  (changed === "protocol" ? task : protocol).value = "";
}

function sectionMatches(section, wanted) {
  return (!wanted.task || section.task === wanted.task) &&
    (!wanted.protocol || keyOf(section) === wanted.protocol) &&
    (!(wanted.a && wanted.b) || [wanted.a, wanted.b].every((name) => section.rows.some((row) => nameOf(row) === name)));
}

/** All words of the search must be somewhere in the row. */
function rowMatches(section, row, wanted) {
  const text = [row.encoder, row.record.encoder.weights, section.id, section.dataset, section.task,
    row.source, row.mark, ...row.notes.map(({ words }) => words),
    ...recordsOf(row).map(({ notes }) => notes)].join(" ").toLowerCase();
  return (!wanted.family || row.family === wanted.family) &&
    (!wanted.origin || row.origin === wanted.origin) &&
    (wanted.q || "").toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
