// For keyboards and screen readers: a voice for what the page says, and what Gradio's own markup leaves out.
// Gradio draws its parts again whenever it likes, so all of this is looked at after each change of the page.
(() => {
  const WAIT_MS = 60, SETTLED_MS = 400, KEPT_LINES = 4;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const set = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };

  // A region that was there before its words is the only one that every screen reader reads. What changes
  // many times a second is said once it has settled: a progress bar's words in `data-say`, a note's own.
  const voice = document.createElement("div");
  voice.id = "voice";
  voice.setAttribute("role", "log");
  voice.setAttribute("aria-live", "polite");
  voice.setAttribute("aria-label", "What the page has said");
  const said = new WeakMap(), timers = new WeakMap();

  function say(words) {
    const line = document.createElement("p");
    line.textContent = words;
    voice.append(line);
    while (voice.children.length > KEPT_LINES) voice.firstElementChild.remove();
  }

  function listen() {
    for (const element of all("[data-say]")) {
      const place = element.closest(".block"), words = element.dataset.say || element.textContent.trim();
      if (!place || !words || said.get(place) === words) continue;
      said.set(place, words);
      clearTimeout(timers.get(place));
      timers.set(place, setTimeout(() => say(words), SETTLED_MS));
    }
  }

  // Folded groups say whether they are open.
  function nameGroups() {
    for (const button of all("button.label-wrap")) {
      set(button, "aria-expanded", String(button.classList.contains("open")));
      for (const arrow of all(".icon", button)) set(arrow, "aria-hidden", "true");
    }
  }

  // "Thumbnail 1 of 4" says nothing of the picture. What lies below a large picture is out of reach, and
  // whoever closes it goes on where they were. (A label is not allowed on an empty gallery's plain element.)
  const enlarged = new WeakMap();

  // Below a picture stands its scene alone; its whole prompt is its words, and stands below it where it is large.
  function tellPrompts() {
    const subject = document.querySelector("#status [data-subject]")?.dataset.subject || "";
    for (const item of all("#pictures .thumbnail-lg")) {
      const scene = item.querySelector(".caption-label"), image = item.querySelector("img");
      if (!scene || !image) continue;
      const prompt = `${subject} ${scene.textContent}`.trim();
      set(image, "alt", prompt);
      set(image, "title", prompt);
    }
    const below = document.querySelector("#pictures .preview .caption");
    const large = document.querySelector("#pictures .preview [data-testid=detailed-image]");
    if (!below || !large) return;
    set(below, "data-subject", subject);
    for (const name of ["alt", "title"]) set(large, name, `${subject} ${below.textContent}`.trim());
  }

  function nameGalleries() {
    for (const item of all(".thumbnail-item[aria-label]")) {
      const place = /^(?:Thumbnail|Image) (\d+ of \d+)/.exec(item.getAttribute("aria-label"));
      const image = item.querySelector("img");
      if (!place || !image) continue;
      // The small ones below a large picture have no words of their own.
      const words = image.alt || item.closest(".preview")?.querySelector("[data-testid=detailed-image]")?.alt;
      const chosen = image.alt || item.classList.contains("selected");
      set(item, "aria-label", `Image ${place[1]}${chosen && words ? `: ${words}` : ""}`);
    }
    for (const empty of all(".block .empty[aria-label]")) {
      empty.removeAttribute("aria-label");
      empty.setAttribute("aria-hidden", "true");
    }
    for (const grid of all(".grid-wrap")) {
      const preview = grid.parentElement.querySelector(".preview");
      grid.inert = Boolean(preview);
      if (preview) {
        set(preview, "role", "dialog");
        set(preview, "aria-modal", "true");
        set(preview, "aria-label", "A picture, large");
        const at = all(".thumbnail-small", preview).findIndex((item) => item.classList.contains("selected"));
        enlarged.set(grid, at < 0 ? enlarged.get(grid) || 0 : at);
      } else if (enlarged.has(grid)) {
        if (document.activeElement === document.body) all(".thumbnail-item", grid)[enlarged.get(grid)]?.focus();
        enlarged.delete(grid);
      }
    }
  }

  // It fills the window: the keyboard stays within it, and Escape closes it from wherever the focus is.
  function keepToLarge() {
    const open = () => all(".preview[role=dialog]").find((preview) => preview.getClientRects().length);
    const close = (preview) => preview.querySelector("button[aria-label=Close]");
    addEventListener("focusin", (event) => {
      const preview = open();
      if (preview && !preview.contains(event.target)) close(preview).focus();
    });
    addEventListener("keydown", (event) => {
      const preview = event.key === "Escape" && open();
      if (preview && !preview.contains(event.target)) close(preview).click();
    });
  }

  // A message's heading folds it and holds the button that closes it: no button within a button.
  function nameMessages() {
    for (const heading of all(".toast-header[role=button]")) {
      heading.removeAttribute("role");
      heading.removeAttribute("tabindex");
    }
    for (const title of all(".toast-header > .toast-title-row")) {
      set(title, "role", "button");
      set(title, "tabindex", "0");
      set(title, "aria-expanded", String(Boolean(title.querySelector(".expanded"))));
    }
  }

  // What scrolls within its own frame can be scrolled by keyboard.
  function reachScrollers() {
    for (const frame of all(".wide, .compare-wide, .about-card pre")) {
      frame.toggleAttribute("tabindex", frame.scrollWidth > frame.clientWidth);
      if (frame.hasAttribute("tabindex")) frame.tabIndex = 0;
    }
  }

  // Three buttons of one name: each says what of.
  function nameFigures() {
    for (const button of all("#compare-choices .figure button")) {
      const title = button.closest(".figure").querySelector("strong").textContent;
      set(button, "aria-label", `${button.textContent.trim()}: ${title}`);
    }
  }

  // What is written again many times a minute stays unfolded, and keeps the keyboard's focus.
  const unfolded = new Set();
  let focused = "";

  function keepDetails() {
    for (const details of all("details[data-keep]")) {
      const name = details.dataset.keep;
      if (unfolded.has(name) && !details.open) details.open = true;
      if (focused === name && document.activeElement === document.body) {
        details.querySelector("summary").focus({preventScroll: true});
      }
    }
  }

  const keptName = (event) => event.target.closest?.("details[data-keep]")?.dataset.keep || "";
  // Not `toggle`, which comes later: by then the element may have been written again.
  document.addEventListener("click", (event) => {
    const name = event.target.closest?.("summary") ? keptName(event) : "";
    if (name) unfolded[event.target.closest("details").open ? "delete" : "add"](name);
  }, true);
  for (const kind of ["focusin", "pointerdown"]) {
    document.addEventListener(kind, (event) => { focused = keptName(event); });
  }

  let due = 0;
  function look() {
    due = 0;
    for (const part of [listen, tellPrompts, nameGroups, nameGalleries, nameMessages, nameFigures, reachScrollers]) part();
  }

  // Gradio leaves the list of a dropdown open when Tab leaves it, over what comes next.
  function closeList(event) {
    const box = event.target;
    if (box.getAttribute?.("role") !== "combobox") return;
    setTimeout(() => {
      if (box.ariaExpanded === "true" && box !== document.activeElement)
        box.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
    });
  }

  function begin() {
    document.addEventListener("focusout", closeList);
    const soon = () => { due = due || setTimeout(look, WAIT_MS); };
    document.body.append(voice);
    addEventListener("resize", soon);
    // At once, before the page is painted: or it would flicker. Gradio writes a block again by patching it: where
    // only words have changed, all that is seen of it is that `open`, which the server knows nothing of, is gone.
    new MutationObserver(keepDetails).observe(document.body, {
      childList: true,
      subtree: true,
      attributeFilter: ["open"],
    });
    addEventListener("say", (event) => say(event.detail));
    keepToLarge();
    new MutationObserver(soon).observe(document.body, {
      childList: true,
      subtree: true,
      characterData: true,
      attributeFilter: ["class", "alt", "aria-label", "data-say", "data-subject"],
    });
    look();
  }
  if (document.body) begin();
  else addEventListener("DOMContentLoaded", begin);
})();
