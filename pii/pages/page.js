"use strict";
// Text of rows is only ever set as text, never as HTML: what a row holds cannot act.
const data = JSON.parse(document.getElementById("data").textContent);
const AT_ONCE = 50; // rows drawn before the reader asks for more

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A text, with characters that cannot be seen or that turn the reading direction written as what they are.
function visible(text) {
  return text.split(/((?![\n\t])[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029])/u).map((part, i) =>
    i % 2 ? element("i", {}, "U+" + part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")) : part);
}

// A row's text from its pieces: [label id, token, token, ...], 0 where there is no span.
function drawText(pieces) {
  const drawn = pieces.map(([label, ...tokens]) => {
    const parts = tokens.map((token) => element("span", { class: "token" }, ...visible(token)));
    if (!label) return parts;
    return [element("mark", { class: "label" + data.colours[label] }, ...parts, element("b", {}, data.labels[label]))];
  });
  return element("div", { class: "text", dir: "auto" }, ...drawn.flat());
}

// Draws the first of `items` into `list`, and the others when the reader asks.
function drawList(list, items, draw) {
  let drawn = 0;
  list.replaceChildren();
  const more = element("button", { class: "more", type: "button" });
  const next = () => {
    more.remove();
    list.append(...items.slice(drawn, drawn + AT_ONCE).map(draw));
    drawn = Math.min(drawn + AT_ONCE, items.length);
    more.textContent = `show more (${drawn} of ${items.length})`;
    if (drawn < items.length) list.append(more);
  };
  more.addEventListener("click", next);
  next();
}

// Fills a <select> with values.
function addOptions(select, values) {
  select.append(...values.map((value) => element("option", { value }, value)));
}

// A table sorts by the column whose head is clicked: numbers by size, largest first, names by letter.
function sortBy(head) {
  const table = head.closest("table"), column = head.cellIndex, body = table.tBodies[0];
  const first = column ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? (column ? "ascending" : "descending") : first;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const key = (row) => column ? parseFloat(row.cells[column].textContent) : row.cells[0].textContent;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (order === "ascending" ? 1 : -1);
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
}
for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = element("button", { type: "button" }, head.textContent);
  button.addEventListener("click", () => sortBy(head));
  head.replaceChildren(button);
}
