"use strict";
// Without this script the page shows everything; it only adds sorting by a click on a heading.
const table = document.getElementById("score-table");
const headings = [...table.tHead.rows[0].cells];
const modelRows = (body) => [...body.rows].filter((row) => row.className !== "section");

function compare(first, second) {
  const numbers = [Number(first), Number(second)];
  return numbers.some(Number.isNaN) ? first.localeCompare(second) : numbers[0] - numbers[1];
}

function sortBy(index) {
  const heading = headings[index];
  const opposite = { ascending: "descending", descending: "ascending" };
  const order = opposite[heading.getAttribute("aria-sort")] || heading.dataset.first || "ascending";
  headings.forEach((other) => other.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[index].dataset.value;
  // Sections stay apart, each with its heading first.
  for (const body of table.tBodies) {
    const rows = modelRows(body);
    // A missing score is last in both directions: it is neither the best nor the worst.
    const known = rows.filter((row) => value(row) !== undefined);
    const missing = rows.filter((row) => value(row) === undefined);
    known.sort((a, b) => sign * compare(value(a), value(b)));
    body.append(...known, ...missing);
  }
}

headings.forEach((heading, index) =>
  heading.querySelector("button").addEventListener("click", () => sortBy(index)));
