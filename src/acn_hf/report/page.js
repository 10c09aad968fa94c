// The page of a compression: the slider is at a depth.
(() => {
  const { data, at, element, place, markRow, start } = Page;
  let showsAllClasses = false;

  function showCards(row) {
    place("c-metric", row.metric);
    place("c-change", `${row.change} against full depth`, row.verdict);
    for (const name of ["latency", "parameters", "mb"]) {
      place(`c-${name}`, row[name] || "–");
      const ratio = row[`${name}_ratio`];
      place(`c-${name}-ratio`, ratio ? `${ratio} of full depth` : "not measured");
    }
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

  function words(index) {
    const row = data.depths[index];
    return `depth ${row.depth} of ${data.full}: ${data.metric} ${row.metric}, ${row.change} against full depth, ` +
      `${row.parameters_ratio} of the parameters${row.latency ? `, ${row.latency} ms` : ""}; ${row.how}` +
      (row.is_chosen ? ", chosen" : "");
  }

  function now(index) {
    const row = data.depths[index];
    return `depth ${row.depth} of ${data.full}: ${data.metric} ${row.metric} (${row.change})` +
      `${row.latency ? `, ${row.latency} ms` : ""}${row.is_chosen ? ", chosen" : ""}`;
  }

  function show(index) {
    const row = data.depths[index];
    showCards(row);
    markRow("depths", index);
    showClasses(row.depth);
    showResiduals(row.depth);
    showExamples(row.depth);
  }

  const { draw, index } = start({
    slider: "depth", home: "to-chosen", homeAt: data.chosen, keys: data.depths.map((row) => row.depth),
    words, now, show, still: ["exits"], signals: () => ({ closeup: at("closeup").checked }),
  });
  at("closeup").addEventListener("change", (event) => {
    draw((view) => view.signal("closeup", event.target.checked).resize());
  });
  if (data.classes) {
    at("all-classes").addEventListener("click", () => {
      showsAllClasses = !showsAllClasses;
      at("all-classes").setAttribute("aria-expanded", String(showsAllClasses));
      at("all-classes").textContent = showsAllClasses ? "Show fewer" : `Show all ${Object.values(data.classes)[0].length}`;
      showClasses(data.depths[index()].depth);
    });
  }
})();
