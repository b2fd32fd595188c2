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
    const images = look.querySelectorAll("img"), at = event.target.value / 100;
    if (images.length > 1) return images.forEach((image, k) => { image.hidden = k !== Math.round(at * (images.length - 1)); });
    const blur = 1.5 * at * event.target.dataset.blur; // in widths of the picture: beyond where its bands part
    images[0].style.filter = `blur(${blur * images[0].clientWidth}px)`; // before it shrinks, so the bands part at any size
    images[0].style.transform = `scale(${1 - 0.6 * at})`;
  });
}
