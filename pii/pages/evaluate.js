
// An error is [row, kind, language, gold, predicted, text, gold mark, predicted mark]; a span is [start, end, label].
const filters = Object.fromEntries(
  ["kind", "gold", "predicted", "language", "text"].map((id) => [id, document.getElementById(id)]));
const labelOf = (span) => span ? data.labels[span[2]] : "";
const fields = {
  kind: (error) => data.kinds[error[1]],
  gold: (error) => labelOf(error[3]),
  predicted: (error) => labelOf(error[4]),
  language: (error) => error[2],
};

// The plain text that is shown of an error, for the search.
function textOf(error) {
  return data.texts[error[5]][0].map(([, ...parts]) => parts.join("")).join("").toLowerCase();
}

function drawSpan(name, span) {
  if (!span) return element("span", {}, `${name}: none`);
  const [start, end] = span;
  return element("span", {}, `${name}: `, element("strong", {}, labelOf(span)),
    ` ${start} to ${end} (${end - start})`);
}

// One line of a row's text, the span in question outlined.
function drawLine(name, pieces, mark, cutLeft, cutRight) {
  const line = drawText(pieces);
  if (mark >= 0) line.querySelectorAll("mark")[mark].classList.add("outlined");
  if (cutLeft) line.prepend(element("span", { class: "muted" }, "[…] "));
  if (cutRight) line.append(element("span", { class: "muted" }, " […]"));
  return element("div", { class: "line" }, element("span", { class: "muted" }, name), line);
}

function drawError(error) {
  const [row, , language, gold, predicted, text, goldMark, predictedMark] = error;
  const entry = element("article", { class: "row" }, element("header", {},
    element("strong", {}, fields.kind(error)), element("span", {}, `row ${row}, ${language}`),
    drawSpan("gold", gold), drawSpan("predicted", predicted)));
  if (text !== undefined) {
    const [goldPieces, predictedPieces, ...cut] = data.texts[text];
    entry.append(drawLine("gold", goldPieces, goldMark, ...cut),
      drawLine("predicted", predictedPieces, predictedMark, ...cut));
  }
  return entry;
}

function showErrors() {
  const wanted = Object.entries(fields).filter(([name]) => filters[name].value);
  const words = filters.text ? filters.text.value.toLowerCase() : "";
  const found = data.errors.filter((error) =>
    wanted.every(([name, field]) => field(error) === filters[name].value) && (!words || textOf(error).includes(words)));
  document.getElementById("count").textContent = `${found.length} of ${data.errors.length} errors`;
  drawList(document.getElementById("errors"), found, drawError);
}

for (const [name, field] of Object.entries(fields)) {
  const values = new Set(data.errors.map(field));
  addOptions(filters[name], name === "kind" ? data.kinds : [...values].filter((value) => value).sort());
}
for (const name of Object.keys(fields)) filters[name].addEventListener("change", showErrors);
filters.text?.addEventListener("input", showErrors);
showErrors();
