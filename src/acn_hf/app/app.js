() => {
  // gradio gives buttons that show a picture no name.
  const name = () =>
    document.querySelectorAll(".gallery-item").forEach((button, place) => {
      if (!button.innerText.trim()) button.setAttribute("aria-label", `Example ${place + 1} of this page`);
    });
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
