"use strict";
// What the pages share: one slider, and all that is on the page follows from its place. Texts of users are put in as
// text, never as HTML.
const Page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);

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

  // Colours the row of the slider in a table that has one for each of its places.
  function markRow(table, index) {
    at(table).querySelectorAll("tbody tr").forEach((line, number) => {
      if (number === index) line.setAttribute("aria-current", "true");
      else line.removeAttribute("aria-current");
    });
  }

  // `page` says: the ids of its `slider` and of the button that goes `home`; the `keys` that charts know the places of
  // the slider by; the place `homeAt`; the `words` and the short words, `now`, of a place; how to `show` one; which charts
  // are `still`; and what `signals` else there are.
  function start(page) {
    const slider = at(page.slider), views = {};
    let turns = 0;
    const index = () => Number(slider.value);

    // The key that all charts show, once they do, stands in the attribute `data-shown`.
    async function draw(change) {
      const root = document.documentElement, turn = ++turns;
      root.removeAttribute("data-shown");
      await Promise.all(Object.values(views).map((view) => change(view).runAsync()));
      if (turn === turns) root.setAttribute("data-shown", String(page.keys[index()]));
    }

    function show(number) {
      slider.setAttribute("aria-valuetext", page.words(number));
      place("now", page.now(number));
      page.show(number);
      draw((view) => view.signal("current", page.keys[number]));
    }

    slider.addEventListener("input", (event) => show(Number(event.target.value)));
    at(page.home).addEventListener("click", () => {
      slider.value = page.homeAt;
      show(page.homeAt);
    });
    slider.value = page.homeAt;  // a browser that is reloaded keeps what it was
    show(page.homeAt);

    // Expressions are interpreted and not compiled, so that the page need not allow programs made of text.
    const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "custom" } };
    Promise.all(Object.entries(data.charts).map(async ([name, specification]) => {
      const { view } = await vegaEmbed(`#chart-${name}`, specification, options);
      if (page.still.includes(name)) return;
      views[name] = view;
      const signals = { current: page.keys[index()], ...page.signals() };
      for (const [signal, value] of Object.entries(signals)) view.signal(signal, value);
    })).then(() => draw((view) => view));
    return { draw, index };
  }

  return { data, at, element, place, markRow, start };
})();
