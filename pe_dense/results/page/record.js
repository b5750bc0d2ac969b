// The dialog with one whole record, or with the mean of several seeds and a way to each of them.

const dialog = document.getElementById("record");

function openRecord(section, row) {
  dialog.replaceChildren(
    make("div", { class: "top" },
      make("div", {}, make("h2", { id: "record-title" }, row.encoder),
        make("p", { class: "about" }, `${section.id}, version ${section.version}: ${section.about}`)),
      make("button", { type: "button", class: "close", onclick: () => dialog.close() }, "Close")),
    ...(row.seeds.length ? meanParts(section, row) : recordParts(section, row)));
  if (!dialog.open) dialog.showModal(); // Escape closes it; the browser gives the focus back to the score
  dialog.scrollTop = 0;
}

/** The mean over seeds with its interval, and a button for the record of each seed. */
function meanParts(section, row) {
  const metric = mainOf(section);
  const seeds = row.seeds.map((seed) => make("tr", {},
    make("th", { scope: "row", class: "left" }, `seed ${seed.record.seed ?? "-"}`),
    make("td", { class: "score" }, scoreButton(section, seed)),
    make("td", {}, seed.interval ? boundsText(seed.interval, metric) : "-"),
    make("td", { class: "left" }, seed.interval ? sizeText(seed.interval) : "-"),
    make("td", { class: "left wide" }, seed.chosen || "-")));
  const heads = ["Seed", metric.spelling, "95 % interval", "Resampled", "Chosen"].map((name, i) =>
    make("th", { scope: "col", class: i % 3 && i < 4 ? null : "left" }, name));
  return [
    ...block("Mean over seeds", [
      [metric.spelling, shown(scoreOf(row, section), metric)],
      ["95 % interval", row.interval && `${boundsText(row.interval, metric)} (${sizeText(row.interval)})`],
      ["Standard error", row.errors && `${precise(row.errors.items, metric)} from the ` +
        `${row.interval.unit}s, ${precise(row.errors.seeds, metric)} from the seeds`],
      ["Chosen", row.chosen],
    ]),
    ...block("Standing", standing(section, row)),
    ...noteBlock(row),
    make("h3", {}, "Seeds: choose a score for its record"),
    make("div", { class: "scroll" }, make("table", { class: "scores" },
      make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...seeds))),
  ];
}

/** A standard error: one digit more than the scores. */
function precise(value, metric) {
  return shown(value, { ...metric, decimals: metric.decimals + 1 });
}

function recordParts(section, row) {
  const { record } = row;
  return [
    scoreTable(section, row),
    ...(record.command ? commandBlock(record.command) : []),
    ...block("Choice", choice(record, mainOf(section))),
    ...block("Standing", standing(section, row)),
    ...noteBlock(row),
    ...block("Source", source(record)),
    ...block("Weights and settings", settings(record)),
    ...block("Run", run(record)),
    ...block(`Layers: ${mainOf(section).spelling}`, layerScores(record, mainOf(section))),
    ...(record.notes ? [make("h3", {}, "Notes"), make("p", { class: "notes" }, record.notes)] : []),
    make("details", {}, make("summary", {}, "The record as JSON"),
      make("pre", { tabindex: "0" }, JSON.stringify(record, null, 2))),
  ];
}

/** Each note of the row with what it means. */
function noteBlock(row) {
  return block("Notes on this row", row.notes.map(({ words, meaning }) => [words, meaning || "-"])
    .filter(([, meaning]) => meaning !== "-"));
}

/** What was chosen, on what, and the gap to the last layer with its interval. */
function choice({ selection }, metric) {
  if (!selection) return [];
  const gap = selection.best_minus_last_ci95;
  const bounds = gap ? `, 95 % ${signed(gap.low, metric)} to ${signed(gap.high, metric)} (${sizeText(gap)})` : "";
  return [
    ["Chosen", Object.entries(selection.chosen).map(([name, value]) => `${name} ${value}`).join(", ")],
    ["On", `${selection.on}, among ${plural(selection.candidates, "candidate")}`],
    ["Chosen minus last layer", isMissing(selection.best_minus_last) ? null
      : signed(selection.best_minus_last, metric) + bounds],
    ["At an end of the learning rates", byLayer(selection.at_edge)],
    ["Gained in the second half of the training", byLayer(selection.rising)],
  ];
}

/** 'layer 7: words; ...' of the layers that are told of; 'no layer', or null where nobody looked. */
function byLayer(words) {
  if (isMissing(words)) return null;
  return Object.entries(words).map(([layer, told]) => `layer ${layer}: ${told}`).join("; ") || "no layer";
}

// A click beside the dialog lands on the dialog itself, one inside on something in it.
dialog.addEventListener("click", (event) => {
  if (event.target !== dialog) return;
  const box = dialog.getBoundingClientRect();
  const isInside = event.clientX >= box.left && event.clientX <= box.right &&
    event.clientY >= box.top && event.clientY <= box.bottom;
  if (!isInside) dialog.close();
});

function scoreTable(section, { record }) {
  const lines = section.metrics.filter(({ name }) => name in record.scores).flatMap((metric) => {
    const score = shown(record.scores[metric.name], metric);
    const intervals = (record.ci95 || {})[metric.name] || [null];
    return intervals.map((interval, i) => make("tr", {},
      make("th", { scope: "row", class: "left" }, i ? "" : metric.spelling), make("td", {}, i ? "" : score),
      make("td", {}, interval ? boundsText(interval, metric) : "-"),
      make("td", { class: "left" }, interval ? resampling(interval) : "-")));
  });
  const heads = ["Metric", "Score", "95 % interval", "Resampled"].map((name, i) =>
    make("th", { scope: "col", class: i % 3 ? null : "left" }, name));
  return make("div", { class: "scroll" }, make("table", { class: "scores" },
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines)));
}

function resampling(interval) {
  return sizeText(interval) + (isMissing(interval.resamples) ? "" : `, ${interval.resamples} resamples`);
}

function commandBlock(command) {
  const text = make("pre", { tabindex: "0" }, command);
  const status = make("span", { role: "status", class: "note" });
  const copy = make("button", { type: "button", class: "copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
      status.textContent = "Copied.";
    } catch {
      // No clipboard without https or permission: leave the text selected instead.
      getSelection().selectAllChildren(text);
      status.textContent = "Selected: copy it with the keyboard.";
    }
  } }, "Copy");
  return [make("div", { class: "line" }, make("h3", {}, "Command"), copy, status), text];
}

/** A heading and a list; nothing if no pair has a value. */
function block(title, pairs) {
  const kept = pairs.filter(([, value]) => !isMissing(value) && value !== "" && value !== "-");
  if (!kept.length) return [];
  return [make("h3", {}, title), make("dl", {}, ...kept.flatMap(([name, value, kind]) =>
    [make("dt", {}, name), make("dd", { class: kind }, String(value))]))];
}

function standing(section, row) {
  const metric = mainOf(section);
  const pairs = [];
  if (row.group) {
    const chance = isMissing(row.p) ? "" : `; adjusted p of the gap to the best ${row.p.toPrecision(2)}`;
    pairs.push(["Group", `${row.group}${chance}`]);
  }
  const isSame = (other) => other.encoder === row.encoder && other.origin === "reported";
  for (const other of row.origin === "measured" ? section.rows.filter(isSame) : []) {
    const gap = scoreOf(row, section) - scoreOf(other, section);
    const mark = other.mark ? ` (${other.mark})` : "";
    pairs.push(["Reported", `${metric.spelling} ${shown(scoreOf(other, section), metric)}, ` +
      `${other.source}${mark}; measured minus reported ${signed(gap, metric)}`]);
  }
  return pairs;
}

function source({ source: found }) {
  return found ? [["Paper", found.paper], ["Table", found.table], ["Mark", found.mark]] : [];
}

/** Score of every layer and concatenation in the main metric. */
function layerScores({ by_layer: found }, metric) {
  return Object.entries((found || {})[metric.name] || {}).map(([layer, score]) => ({ layer, score }))
    .sort((a, b) => a.layer.localeCompare(b.layer, "en", { numeric: true }))
    .map(({ layer, score }) => [layer.includes("+") ? `blocks ${layer}` : `block ${layer}`, shown(score, metric)]);
}

function trainingText({ training }) {
  if (!training) return null;
  const { chosen, unit, done, planned, rule } = training;
  const counted = isMissing(done) ? "" : `, ${done}${isMissing(planned) ? "" : ` of ${planned}`} ${unit}s`;
  return chosen + counted + (rule ? `; ${rule}` : "");
}

function settings(record) {
  const { protocol, dataset, encoder, checkpoint_sha256: checkpoint, evidence, seed } = record;
  const items = isMissing(dataset.num_items) ? "" : `, ${plural(dataset.num_items, "item")}`;
  const options = Object.entries(record.options || {}).map(([name, value]) => `${name} ${value}`);
  return [
    ["Data", `${dataset.name}, split ${dataset.split}${items}`],
    ["Data sha256", dataset.sha256, "code"],
    ["Checkpoint from", trainingText(record)],
    ["Options", options.join(", ")],
    ["Weights", encoder.weights],
    ["Weights sha256", encoder.weights_sha256, "code"],
    ["Published", encoder.published],
    ["Revision", encoder.revision, "code"],
    ["Fingerprint", encoder.feature_fingerprint, "code"],
    ["Parameters", paramsText(encoder)],
    ["Seed", seed],
    ["Config sha256", protocol.config_sha256, "code"],
    ["Checkpoint", checkpoint, "code"],
    ["Evidence", evidence && evidence.file, "code"],
    ["Evidence sha256", evidence && evidence.sha256, "code"],
  ];
}

function run({ code, hardware, cost, versions, created, schema_version: schema }) {
  const machine = hardware && [hardware.cpu, plural(hardware.cores, "core"), hardware.gpu || "no GPU"];
  return [
    ["Commit", code && code.commit + (code.dirty ? ", with uncommitted changes" : ""), "code"],
    ["Machine", machine && machine.join(", ")],
    ["Training", duration(cost.train_s)],
    ["Evaluation", duration(cost.eval_s)],
    ["Peak memory", isMissing(cost.peak_memory_gib) ? null : `${cost.peak_memory_gib.toFixed(2)} GiB`],
    ["Versions", Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")],
    ["Created", created],
    ["Schema", schema],
  ];
}
