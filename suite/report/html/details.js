// Filtering the table, opening the task a link points at, and the items that changed.
function startFilter() {
  const form = document.getElementById("filter");
  const status = document.getElementById("filter-status");
  const contains = (text, part) => text.toLowerCase().includes(part.trim().toLowerCase());

  function apply() {
    const { model, task, section } = form.elements;
    let numShown = 0;
    let numRows = 0;
    for (const body of table.tBodies) {
      const rows = modelRows(body);
      const inSection = !section || !section.value || body.dataset.section === section.value;
      rows.forEach((row) => {
        row.hidden = !(inSection && contains(row.cells[0].dataset.value, model.value));
      });
      const shown = rows.filter((row) => !row.hidden).length;
      body.hidden = shown === 0;
      numShown += shown;
      numRows += rows.length;
    }
    headings.slice(1).forEach((heading, place) => {
      heading.hidden = !contains(heading.querySelector("button").textContent, task.value);
      for (const body of table.tBodies) {
        modelRows(body).forEach((row) => { row.cells[place + 1].hidden = heading.hidden; });
      }
    });
    const numTasks = headings.filter((heading) => !heading.hidden).length - 1;
    const all = numShown === numRows && numTasks === headings.length - 1;
    status.textContent = all ? "" :
      `${numShown} of ${numRows} rows, ${numTasks} of ${headings.length - 1} columns`;
  }

  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) {
    target.open = true;
    target.scrollIntoView();
  }
}

// Text of models and data gets into the page as textContent only.
function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => String(value) === before)) select.value = before;
}

const signed = (number) =>
  (number > 0 ? "+" : number < 0 ? "−" : "") + Math.abs(number).toLocaleString("en");

// One pair as seen from `first` to `second`: read backwards, what was lost is gained.
function pairOf(data, task, first, second) {
  for (const pair of data.pairs) {
    if (pair.task !== task) continue;
    if (pair.first === first && pair.second === second) {
      return {
        ...pair,
        groups: pair.groups.map(([feature, group, n, lost, gained]) => ({ feature, group, n, lost, gained })),
        flips: pair.flips.map(([prompt, target, before, after, isGain, groups]) =>
          ({ prompt, target, before, after, isGain: isGain === 1, groups })),
      };
    }
    if (pair.first === second && pair.second === first) {
      const swapped = pairOf(data, task, second, first);
      return {
        ...swapped,
        lost: swapped.gained,
        gained: swapped.lost,
        groups: swapped.groups.map((one) => ({ ...one, lost: one.gained, gained: one.lost })),
        flips: swapped.flips.map((one) =>
          ({ ...one, before: one.after, after: one.before, isGain: !one.isGain })),
      };
    }
  }
  return null;
}

function groupTable(data, pair) {
  const element = make("table", undefined, "numbers");
  const head = element.createTHead().insertRow();
  for (const name of ["group", "items", "right → wrong", "wrong → right", "net"]) {
    const cell = make("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = element.createTBody();
  const add = (name, one) => {
    const row = body.insertRow();
    const heading = make("th", name);
    heading.scope = "row";
    row.append(heading);
    for (const text of [one.n, one.lost, one.gained]) {
      row.append(make("td", text.toLocaleString("en")));
    }
    row.append(make("td", signed(one.gained - one.lost)));
  };
  add("all items", pair);
  pair.groups.forEach((one) => add(`${data.features[one.feature]}: ${one.group}`, one));
  return element;
}

function itemView(data, names, flip) {
  const article = make("article");
  article.append(make("p", flip.isGain ? "✓ wrong → right" : "✗ right → wrong", "change"));
  const list = make("dl");
  const parts = [
    ["Prompt", flip.prompt],
    ["Target", flip.target],
    [names[0], flip.before],
    [names[1], flip.after],
  ];
  for (const [name, place] of parts) {
    const value = make("dd");
    value.append(make("pre", data.texts[place]));
    list.append(make("dt", name), value);
  }
  article.append(list);
  return article;
}

function startFlips() {
  const STEP = 20;
  const data = JSON.parse(document.getElementById("flip-data").textContent);
  const form = document.getElementById("flip-choice");
  const [items, more] = ["flip-items", "flip-more"].map((id) => document.getElementById(id));
  const { task, first, second, change, group } = form.elements;
  let waiting = [];
  let pair = null;

  const names = () => [Number(first.value), Number(second.value)].map((place) => data.models[place]);

  function modelsOf(number) {
    const pairs = data.pairs.filter((one) => one.task === number);
    const found = new Set(pairs.flatMap((one) => [one.first, one.second]));
    return data.models.map((name, place) => [place, name]).filter(([place]) => found.has(place));
  }

  function showMore() {
    items.append(...waiting.splice(0, STEP).map((flip) => itemView(data, names(), flip)));
    more.hidden = waiting.length === 0;
  }

  function showItems() {
    const fits = (flip) =>
      (!change.value || flip.isGain === (change.value === "gained")) &&
      (!group.value || flip.groups.includes(Number(group.value)));
    waiting = pair ? pair.flips.filter(fits) : [];
    items.replaceChildren();
    tell();
    showMore();
  }

  function tell() {
    const status = document.getElementById("flip-status");
    if (first.value === second.value) {
      status.textContent = "Choose two different models.";
    } else if (pair === null) {
      status.textContent = "These two were not measured alike on this task, so they are not compared.";
    } else {
      const count = (number) => number.toLocaleString("en");
      status.textContent =
        `${count(pair.lost)} right → wrong, ${count(pair.gained)} wrong → right of ` +
        `${count(pair.n)} items, net ${signed(pair.gained - pair.lost)}; ` +
        `${count(waiting.length)} of them on this page${change.value || group.value ? " as chosen" : ""}.`;
    }
  }

  function showPair() {
    pair = pairOf(data, Number(task.value), Number(first.value), Number(second.value));
    fill(group, [["", "all"], ...(pair ? pair.groups : []).map((one, place) =>
      [place, `${data.features[one.feature]}: ${one.group}`])]);
    document.getElementById("flip-groups").replaceChildren(...(pair ? [groupTable(data, pair)] : []));
    showItems();
  }

  function showTask() {
    const models = modelsOf(Number(task.value));
    fill(first, models);
    fill(second, models);
    if (first.value === second.value) second.selectedIndex = first.selectedIndex === 0 ? 1 : 0;
    showPair();
  }

  const tasks = [...new Set(data.pairs.map((one) => one.task))];
  fill(task, tasks.map((number) => [number, data.tasks[number]]));
  task.addEventListener("change", showTask);
  for (const select of [first, second]) select.addEventListener("change", showPair);
  for (const select of [change, group]) select.addEventListener("change", showItems);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  form.hidden = false;
  showTask();
}

if (document.getElementById("filter")) startFilter();
if (document.getElementById("flip-data")) startFlips();
addEventListener("hashchange", openTarget);
openTarget();
