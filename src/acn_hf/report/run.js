// The page of a run: the slider is at a measurement.
(() => {
  const { data, at, element, place, markRow, start } = Page;
  const rows = data.measurements;

  function showCards(row) {
    place("c-metric", row.metric);
    place("c-change", `${row.change} against step ${rows[0].words}`, row.verdict);
    place("c-effective", row.effective || "–");
    place("c-at-effective", row.at_effective ? `${data.metric} ${row.at_effective}` : "not logged");
    place("c-layers", String(row.full));
    place("c-gone", row.gone ? `${row.gone} left before` : "none left before");
    if (at("c-loss")) place("c-loss", row.loss);
  }

  function showDepths(row) {
    place("cap-depths", `${data.metric} at every depth at step ${row.words}`);
    at("depths").tBodies[0].replaceChildren(...Object.entries(row.depths).map(([depth, said]) => {
      const [metric, against, verdict, since, change] = said;
      const line = element("tr", undefined, depth === row.effective ? { class: "chosen" } : {});
      line.append(
        element("th", depth, { scope: "row" }), element("td", metric), element("td", against, { class: verdict }),
        element("td", since, { class: change }),
        element("td", depth === row.effective ? "effective depth" : "", { class: "words" }));
      return line;
    }));
  }

  // The row of the slider comes into view within its box, and the page stays where it is.
  function showRow(index) {
    markRow("measurements", index);
    const line = at("measurements").tBodies[0].rows[index], box = line.closest(".scroll");
    box.scrollTop = line.offsetTop - (box.clientHeight - line.offsetHeight) / 2;
  }

  function effective(row) {
    return row.effective ? `, effective depth ${row.effective} of ${row.full}` : "";
  }

  function words(index) {
    const row = rows[index];
    return `step ${row.words}: ${data.metric} ${row.metric} at full depth, ${row.change} against step ` +
      `${rows[0].words}${effective(row)}${row.loss ? `, training loss ${row.loss}` : ""}` +
      (row.is_best ? ", best checkpoint" : "");
  }

  start({
    slider: "measurement", home: "to-last", homeAt: data.last, keys: rows.map((row) => row.step), words,
    now: (index) => `step ${rows[index].words}: ${data.metric} ${rows[index].metric}${effective(rows[index])}` +
      (rows[index].is_best ? ", best checkpoint" : ""),
    show: (index) => {
      showCards(rows[index]);
      showDepths(rows[index]);
      showRow(index);
    },
    still: [], signals: () => ({}),
  });
})();
