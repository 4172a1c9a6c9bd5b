
const form = document.querySelector(".filters"), list = document.getElementById("list");
for (const row of data.rows) {
  row.text = row.pieces.flatMap(([, ...tokens]) => tokens).join("").toLowerCase();
  row.labels = new Set(row.pieces.map(([label]) => data.labels[label]));
}

function drawRow(row) {
  const windows = row.tokens > data.max_length ? `, longer than ${data.max_length}: read in windows` : "";
  const head = `row ${row.row}, ${row.language}, ${row.tokens} tokens, ${row.spans} spans${windows}`;
  const lost = row.lost.map(([start, end, label]) => `${start}:${end} ${data.labels[label]}`).join(", ");
  const drawn = element("article", { class: "row" }, element("header", {}, head), drawText(row.pieces));
  if (lost) drawn.append(element("p", { class: "note" }, `the tags do not give back ${lost}`));
  return drawn;
}

function filterRows() {
  const { label, language, text, lost } = form.elements, wanted = text.value.toLowerCase();
  const found = data.rows.filter((row) =>
    (!label.value || row.labels.has(label.value)) && (!language.value || row.language === language.value) &&
    (!lost.checked || row.lost.length) && row.text.includes(wanted));
  document.getElementById("count").textContent = `${found.length} of ${data.rows.length} rows`;
  drawList(list, found, drawRow);
}

const drawBorders = () => list.classList.toggle("token-borders", form.elements.borders.checked);

addOptions(form.elements.label, data.labels.slice(1).filter((label) => data.rows.some((row) => row.labels.has(label))));
addOptions(form.elements.language, [...new Set(data.rows.map((row) => row.language))].sort());
form.elements.text.addEventListener("input", filterRows);
for (const name of ["label", "language", "lost"]) form.elements[name].addEventListener("change", filterRows);
form.elements.borders.addEventListener("change", drawBorders);
form.addEventListener("submit", (event) => event.preventDefault());
drawBorders(); // a reloaded page keeps what was chosen
filterRows();
