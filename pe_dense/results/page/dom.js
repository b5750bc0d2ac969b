"use strict";
// Elements and numbers. Texts of records reach the page as text nodes only, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "line", "circle", "path", "text", "g", "title"]);

/** An element; attributes named on* are listeners, those that are null are left out. */
function make(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (!isMissing(value)) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => !isMissing(child)));
  return node;
}

function isMissing(value) {
  return value === null || value === undefined;
}

/** The value with some decimals, rounded as Python does, so that this page and the Markdown agree. */
function fixed(value, decimals) {
  const [whole, digits] = value.toFixed(60).split(".");
  const kept = whole + digits.slice(0, decimals);
  const isTie = /^50*$/.test(digits.slice(decimals));
  if (!isTie || !"02468".includes(kept.at(-1))) return value.toFixed(decimals);
  return decimals ? `${whole}.${digits.slice(0, decimals)}` : whole;
}

/** A value of a metric: fractions in percent, the others in the unit of the record. */
function shown(value, { scale, decimals }) {
  return isMissing(value) ? "-" : fixed(scale * value, decimals);
}

function signed(value, metric) {
  return (value < 0 ? "\u2212" : "+") + shown(Math.abs(value), metric);
}

function duration(seconds) {
  if (isMissing(seconds)) return "-";
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  return seconds < 3600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function millions(count) {
  if (isMissing(count)) return "-";
  const digits = { maximumFractionDigits: count < 1e7 ? 1 : 0 };
  return `${(count / 1e6).toLocaleString("en", digits)} M`;
}

/** '22 M of 86 M' where an encoder ran without its last blocks, and that is known. */
function paramsText({ num_params: built, whole_params: whole }) {
  return whole > built ? `${millions(built)} of ${millions(whole)}` : millions(built);
}

/** A name that may break after '_', '/', ':' and '.', where a narrow column needs it. */
function breakable(name) {
  return name.split(/(?<=[_/:.])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

// ---- rows and sections of the data

/** What an interval rests on: 'n = 30 videos'. */
function sizeText({ unit, num_units: units }) {
  return isMissing(units) ? "n unknown" : `n = ${plural(units, unit)}`;
}

function boundsText(interval, metric) {
  return `${shown(interval.low, metric)} to ${shown(interval.high, metric)}`;
}

/** The metric that decides, {name, spelling, unit, scale, decimals, higher}. */
function mainOf(section) {
  return section.metrics[0];
}

/** The score that ranks a row: the mean of its seeds. */
function scoreOf(row, section) {
  return row.scores[mainOf(section).name];
}

/** The records of a row: one for each seed. */
function recordsOf(row) {
  return row.seeds.length ? row.seeds.map((seed) => seed.record) : [row.record];
}

function keyOf(section) {
  return `${section.id}-v${section.version}`;
}

/** An encoder with the weights that papers report, or with others. */
function nameOf(row) {
  const isReleased = row.origin === "reported" || /^(released|hf:)/.test(row.record.encoder.weights);
  if (isReleased) return row.encoder;
  return `${row.encoder}, ${row.weights === "random" ? "random weights" : `weights ${row.weights}`}`;
}
