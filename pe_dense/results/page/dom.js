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

/** A name that may break after '_', '/', ':' and '.', where a narrow column needs it. */
function breakable(name) {
  return name.split(/(?<=[_/:.])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

// ---- rows and sections of the data

/** The interval of a metric over the unit that the protocol calls for, or null. */
function intervalOf(row, metric) {
  const found = (row.record.ci95 || {})[metric];
  return found && found.length ? found[0] : null;
}

/** The metric that decides, {name, spelling, unit, scale, decimals, higher}. */
function mainOf(section) {
  return section.metrics[0];
}

function scoreOf(row, section) {
  return row.record.scores[mainOf(section).name];
}

/** Rows in groups that differ in the seed only; what others report stays apart. */
function sameEncoders(rows) {
  return [...Map.groupBy(rows, (row) =>
    row.origin === "measured" ? `${row.encoder} ${row.weights}` : row).values()];
}

function keyOf(section) {
  return `${section.id}-v${section.version}`;
}
