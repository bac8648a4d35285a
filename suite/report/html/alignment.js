"use strict";
// Without this script the page shows everything; it only adds lighting a chunk up in both rows.
const chunks = JSON.parse(document.getElementById("chunks").textContent);
const rows = [...document.querySelectorAll(".rows .row")];
const statusLine = document.getElementById("status");
const HINT = "Point at a chunk or tap it. In a row, the left and right arrow keys step through the chunks.";
let lit = null;
let isPinned = false;

function counted(count, noun, ids) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}` +
    (ids ? ` [${ids.join(" ")}]` : "");
}

// What is lit: the number of a chunk, an element that belongs to none, or null.
function tokensOf(target) {
  if (target === null) return [];
  if (target instanceof Element) return [target];
  return rows.map((row) => row.querySelector(`[data-c="${target}"]`));
}

function describe(target) {
  const text = document.createElement("bdi");
  if (target === null) return [HINT];
  if (target instanceof Element) {
    text.textContent = target.textContent;
    return ["Token ", text, ` [${target.dataset.id}] belongs to no chunk.`];
  }
  const [shown, isSpecial, numBytes, numTeacher, teacherIds, numStudent, studentIds] = chunks[target];
  text.textContent = shown;
  const sizes = [
    isSpecial ? "special" : counted(numBytes, "byte"),
    `teacher ${counted(numTeacher, "token", teacherIds)}`,
    `student ${counted(numStudent, "token", studentIds)}`,
  ];
  const of = `Chunk ${(target + 1).toLocaleString("en")} of ${chunks.length.toLocaleString("en")}: `;
  return [of, text, ` – ${sizes.join(", ")}.`];
}

function light(target, pin = false) {
  isPinned = pin;
  if (target !== lit) {
    tokensOf(lit).forEach((element) => element.classList.remove("on"));
    tokensOf(target).forEach((element) => element.classList.add("on"));
    lit = target;
  }
  statusLine.classList.toggle("pinned", pin);
  statusLine.replaceChildren(...describe(target), ...(pin ? [" Pinned; Escape lets it go."] : []));
}

// Scrolls only the row: scrollIntoView would move the page below the pointer as well, and knows
// nothing of the status line, which lies over the rows' lower end.
function reveal(target, exceptIn = null) {
  const covered = statusLine.getBoundingClientRect().top;
  for (const element of tokensOf(target)) {
    const row = element.closest(".row");
    const [box, place] = [row.getBoundingClientRect(), element.getBoundingClientRect()];
    const bottom = covered > box.top ? Math.min(box.bottom, covered) : box.bottom;
    if (row !== exceptIn && (place.top < box.top || place.bottom > bottom)) {
      row.scrollTop += place.top - box.top - (bottom - box.top) / 3;
    }
  }
}

function targetAt(event) {
  const element = event.target.closest("[data-c], [data-id]");
  if (element === null) return null;
  // A token outside all chunks can lie between the tokens of one.
  return "c" in element.dataset ? Number(element.dataset.c) : element;
}

for (const row of rows) {
  row.addEventListener("pointerover", (event) => {
    if (isPinned) return;
    const target = targetAt(event);
    light(target);
    reveal(target, row);
  });
  row.addEventListener("pointerleave", () => { if (!isPinned) light(null); });
  row.addEventListener("click", (event) => {
    const target = targetAt(event);
    light(target, target !== null && !(isPinned && target === lit));
    reveal(target, row);
  });
  row.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined || chunks.length === 0) return;
    event.preventDefault();
    const next = typeof lit === "number" ? lit + step : 0;
    light(Math.min(Math.max(next, 0), chunks.length - 1), true);
    reveal(lit);
  });
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") light(null); });
light(null);
