"use strict";
// One state, the depth that the slider is at; whatever is on the page follows from it. Texts of the data are put in as
// text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const views = {};
  let showsAllClasses = false, turns = 0;

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function place(id, text, verdict) {
    at(id).textContent = text;
    if (verdict !== undefined) at(id).className = verdict;
  }

  function showCards(row) {
    place("c-metric", row.metric);
    place("c-change", `${row.change} against full depth`, row.verdict);
    for (const name of ["latency", "parameters", "mb"]) {
      place(`c-${name}`, row[name] || "–");
      const ratio = row[`${name}_ratio`];
      place(`c-${name}-ratio`, ratio ? `${ratio} of full depth` : "not measured");
    }
  }

  function showTable(index) {
    at("depths").querySelectorAll("tbody tr").forEach((line, number) => {
      if (number === index) line.setAttribute("aria-current", "true");
      else line.removeAttribute("aria-current");
    });
  }

  function verdictOf(change) {
    return change > 0 ? "better" : change < 0 ? "worse" : "";
  }

  function showClasses(depth) {
    if (!data.classes) return;
    const table = at("classes"), all = data.classes[depth];
    const rows = showsAllClasses ? all : all.slice(0, data.shownClasses);
    const of = rows.length < all.length ? `, ${rows.length} of ${all.length}` : "";
    place("cap-classes", `Precision and recall at depth ${depth}${of}`);
    table.tBodies[0].replaceChildren(...rows.map((row) => {
      const line = element("tr");
      line.append(
        element("th", row.name, { scope: "row" }), element("td", row.support), element("td", row.precision),
        element("td", row.precision_change_words, { class: verdictOf(row.precision_change) }),
        element("td", row.recall), element("td", row.recall_change_words, { class: verdictOf(row.recall_change) }));
      return line;
    }));
    at("all-classes").hidden = all.length <= data.shownClasses;
    const list = at("confusions");
    if (!list) return;
    const pairs = data.confusions[depth];
    list.replaceChildren(...(pairs.length ? pairs : [null]).map((pair) => element("li", pair === null
      ? "Nothing is." : `${pair.label} taken for ${pair.answer}: ${pair.count} times, at full depth ${pair.count_full}`)));
  }

  function showResiduals(depth) {
    if (!data.residuals) return;
    const line = element("tr");
    line.append(element("th", String(depth), { scope: "row" }),
      ...data.residuals[depth].map((word) => element("td", word)));
    at("residuals").tBodies[0].replaceChildren(line);
  }

  function said(answer, certainty) {
    return certainty === null ? answer : `${answer} (${certainty.toFixed(3)})`;
  }

  function exampleOf(example, depth) {
    const item = element("li");
    const answers = `right: ${example.label} · full depth: ${said(example.full, example.full_certainty)} · ` +
      `depth ${depth}: ${said(...example.at[depth])}`;
    if (example.picture) {
      const image = element("img", undefined, { alt: `row ${example.row}, ${example.label}`, src: example.picture });
      image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth <= 32));
      item.append(image);
    }
    item.append(element("p", example.text || `Row ${example.row}`, { dir: "auto" }), element("p", answers, { class: "said" }));
    return item;
  }

  function showExamples(depth) {
    if (!data.examples) return;
    const isNumber = data.examples.by === "error";
    const words = isNumber
      ? { lost: `Farther off at depth ${depth}`, gained: `Nearer at depth ${depth}` }
      : { lost: `Right at full depth, wrong at depth ${depth}`, gained: `Wrong at full depth, right at depth ${depth}` };
    for (const name of ["lost", "gained"]) {
      const list = data.examples[name][depth];
      const some = list.shown.length < list.count ? `${list.shown.length} of ` : "";
      place(`h-${name}`, `${words[name]}: ${some}${list.count.toLocaleString("en")}`);
      at(name).replaceChildren(...list.shown.map((number) => exampleOf(data.examples.examples[number], depth)));
    }
  }

  function show(index) {
    const row = data.depths[index];
    const words = `depth ${row.depth} of ${data.full}: ${data.metric} ${row.metric}, ${row.change} against full depth, ` +
      `${row.parameters_ratio} of the parameters${row.latency ? `, ${row.latency} ms` : ""}; ${row.how}` +
      (row.is_chosen ? ", chosen" : "");
    at("depth").setAttribute("aria-valuetext", words);
    const here = `depth ${row.depth} of ${data.full}: ${data.metric} ${row.metric} (${row.change})`;
    place("now", `${here}${row.latency ? `, ${row.latency} ms` : ""}${row.is_chosen ? ", chosen" : ""}`);
    showCards(row);
    showTable(index);
    showClasses(row.depth);
    showResiduals(row.depth);
    showExamples(row.depth);
    draw((view) => view.signal("current", row.depth));
  }

  // The depth that all charts show, once they do, stands in the attribute `data-shown`.
  async function draw(change) {
    const root = document.documentElement, turn = ++turns;
    root.removeAttribute("data-shown");
    await Promise.all(Object.values(views).map((view) => change(view).runAsync()));
    if (turn === turns) root.setAttribute("data-shown", String(data.depths[Number(at("depth").value)].depth));
  }

  at("depth").addEventListener("input", (event) => show(Number(event.target.value)));
  at("to-chosen").addEventListener("click", () => {
    at("depth").value = data.chosen;
    show(data.chosen);
  });
  at("closeup").addEventListener("change", (event) => {
    draw((view) => view.signal("closeup", event.target.checked).resize());
  });
  if (data.classes) {
    at("all-classes").addEventListener("click", () => {
      showsAllClasses = !showsAllClasses;
      at("all-classes").setAttribute("aria-expanded", String(showsAllClasses));
      at("all-classes").textContent = showsAllClasses ? "Show fewer" : `Show all ${Object.values(data.classes)[0].length}`;
      showClasses(data.depths[Number(at("depth").value)].depth);
    });
  }
  at("depth").value = data.chosen;  // a browser that is reloaded keeps what it was
  show(data.chosen);

  // Expressions are interpreted and not compiled, so that the page need not allow programs made of text.
  const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "custom" } };
  Promise.all(Object.entries(data.charts).map(async ([name, specification]) => {
    const { view } = await vegaEmbed(`#chart-${name}`, specification, options);
    if (name === "exits") return;
    views[name] = view;
    view.signal("current", data.depths[Number(at("depth").value)].depth).signal("closeup", at("closeup").checked);
  })).then(() => draw((view) => view));
})();
