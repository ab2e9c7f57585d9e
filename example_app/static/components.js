/** Draws the components of an answer. Charts and tables are drawn; an unknown component is shown as JSON. */

import { element } from "./dom.js";

const MOST = 100; // bars or rows
const SVG = "http://www.w3.org/2000/svg";

/** The element of a component part. */
export function componentOf({ component_type: type, data }) {
  if (type === "chart" && isChart(data)) return chartOf(data);
  if (type === "table" && isTable(data)) return tableOf(data.columns, data.rows);
  return element("pre", "", `${type}: ${JSON.stringify(data, null, 1)}`);
}

const isChart = (data) =>
  Array.isArray(data?.labels) && Array.isArray(data.values) && data.labels.length === data.values.length &&
  data.values.length > 0 && data.values.every(Number.isFinite);

const isTable = (data) => Array.isArray(data?.columns) && Array.isArray(data.rows) && data.rows.every(Array.isArray);

/** Bars, with their numbers as a table for screen readers. */
function chartOf({ labels, values }) {
  const shown = values.slice(0, MOST);
  const [highest, lowest] = [Math.max(...shown, 0), Math.min(...shown, 0)];
  const scale = 120 / (highest - lowest || 1);
  const svg = drawn("svg", { viewBox: `0 0 ${shown.length * 40} 160`, width: shown.length * 40, height: 160, "aria-hidden": "true" });
  shown.forEach((value, place) => {
    const [x, top] = [place * 40, 18 + (highest - Math.max(value, 0)) * scale];
    svg.append(drawn("rect", { x: x + 6, y: top, width: 28, height: Math.max(Math.abs(value) * scale, 1), rx: 4 }));
    svg.append(drawn("text", { x: x + 20, y: top - 5 }, String(value)), drawn("text", { x: x + 20, y: 156 }, String(labels[place])));
  });
  const table = tableOf(["", ""], shown.map((value, place) => [labels[place], value]));
  table.className = "hidden";
  return element("figure", "chart", svg, table);
}

function drawn(tag, attributes, ...text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...text);
  return made;
}

function tableOf(columns, rows) {
  const row = (tag, cells) => element("tr", "", ...cells.map((cell) => element(tag, "", String(cell ?? ""))));
  const body = element("tbody", "", ...rows.slice(0, MOST).map((cells) => row("td", cells)));
  return element("table", "", element("thead", "", row("th", columns)), body);
}
