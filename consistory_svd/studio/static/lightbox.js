// One dialog for the page shows the images of a comparison table at full size; Left and Right show the others.
() => {
  const dialog = document.createElement("dialog");
  dialog.id = "compare-large";
  dialog.innerHTML = '<figure><img alt=""><figcaption aria-live="polite"></figcaption></figure>'
    + '<button type="button" class="close">Close</button>';
  document.body.append(dialog);
  let shown = 0, grid = null;
  const all = () => [...(grid?.querySelectorAll("button.large") ?? [])];
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
    const button = event.target.closest("table.compare button.large");
    if (button) {
      grid = button.closest("#compare-grid, #library-comparison");
      show(all().indexOf(button));
    }
    else if (event.target === dialog || event.target.closest("#compare-large .close")) dialog.close();
  });
  dialog.addEventListener("close", () => all()[shown]?.focus());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(shown + 1);
    if (event.key === "ArrowLeft") show(shown - 1);
  });
}
