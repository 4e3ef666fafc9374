// One dialog for the page: pictures of the grid are shown large in it. Left and right go on to the next.
() => {
  const dialog = document.createElement("dialog");
  dialog.id = "compare-large";
  dialog.innerHTML = '<figure><img alt=""><figcaption aria-live="polite"></figcaption></figure>'
    + '<button type="button" class="close">Close</button>';
  document.body.append(dialog);
  let shown = 0;
  const all = () => [...document.querySelectorAll("#compare-grid button.large")];
  const show = (at) => {
    const buttons = all();
    if (!buttons.length) return;
    shown = (at + buttons.length) % buttons.length;
    const image = dialog.querySelector("img");
    image.src = buttons[shown].querySelector("img").src;
    image.alt = dialog.querySelector("figcaption").textContent = buttons[shown].dataset.caption;
    if (!dialog.open) dialog.showModal();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#compare-grid button.large");
    if (button) show(all().indexOf(button));
    else if (event.target === dialog || event.target.closest("#compare-large .close")) dialog.close();
  });
  dialog.addEventListener("close", () => all()[shown]?.focus());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(shown + 1);
    if (event.key === "ArrowLeft") show(shown - 1);
  });
}
