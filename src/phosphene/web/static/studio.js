() => {
  // Gradio's empty boxes have a label but no role, which screen readers then may not read out.
  const boxes = () => document.querySelectorAll("div.empty[aria-label]:not([role])");
  const mend = () => boxes().forEach(box => box.setAttribute("role", "img"));
  mend();
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });

  // Pictures come and go, so the page listens for all of them. Pixels are shown as squares where a picture has few, and
  // else smoothly, or the captions of a sheet could not be read.
  document.addEventListener("load", ({ target }) => {
    if (target.tagName === "IMG") target.classList.toggle("small", target.naturalWidth < 128);
  }, true);
  document.addEventListener("click", event => {
    const button = event.target.closest(".studio-look button");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true", { css, first, other } = button.dataset;
    const [picture, instead] = button.querySelectorAll("img");
    button.setAttribute("aria-pressed", on);
    if (instead) [picture.hidden, instead.hidden] = [on, !on];
    else if (css === "invert") picture.style.filter = on ? "invert(1)" : "";
    else picture.style.transform = on ? css : "";
    button.parentNode.querySelector("output").textContent = on ? other : first;
  });
  document.addEventListener("input", event => {
    const look = event.target.closest(".studio-look");
    if (!look) return;
    const away = event.target.value / 100, { style } = look.querySelector("img");
    style.filter = `blur(${18 * away * (1 - 0.75 * away)}px)`;
    style.transform = `scale(${1 - 0.8 * away})`;
  });
}
