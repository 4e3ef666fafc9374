// The list of scenes. The text box holds the form's value: the list writes it, and follows when others do.
const list = element.querySelector("ol");
const frame = element.querySelector("fieldset");
const spoken = element.querySelector(".scene-said");
const asText = element.querySelector("[data-act=text]");
const block = () => document.getElementById("scenes");
const box = () => block() && block().querySelector("textarea");
const rows = () => [...list.children];
const input = (row) => row.querySelector("textarea");
const listed = () => rows().map((row) => input(row).value).join("\n");
const BULLET = /^\s*(?:[-*•]|\d+[.)])\s+/;

function button(act, sign, row) {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.act = act;
  made.textContent = sign;
  row.append(made);
}

function newRow(text, after) {
  const row = document.createElement("li");
  // A text area, because it can show all of a long scene; what is in it stays one line.
  const line = document.createElement("textarea");
  line.rows = 1;
  line.value = text;
  line.autocomplete = "off";
  row.append(line);
  button("up", "↑", row);
  button("down", "↓", row);
  button("remove", "×", row);
  if (after) after.after(row);
  else list.append(row);
  return row;
}

// As high as its text; nothing is done while the list is not shown.
function fit(line) {
  line.style.height = "";
  if (line.offsetHeight) line.style.height = `${line.scrollHeight + line.offsetHeight - line.clientHeight}px`;
}

function fitAll() {
  rows().forEach((row) => fit(input(row)));
}

function number() {
  const all = rows();
  all.forEach((row, at) => {
    const name = `scene ${at + 1}`;
    input(row).setAttribute("aria-label", `Scene ${at + 1} of ${all.length}`);
    const [up, down, remove] = row.querySelectorAll("button");
    up.disabled = at === 0;
    down.disabled = at === all.length - 1;
    up.setAttribute("aria-label", `Move ${name} up`);
    down.setAttribute("aria-label", `Move ${name} down`);
    remove.setAttribute("aria-label", `Remove ${name}`);
    for (const one of [up, down, remove]) one.title = one.getAttribute("aria-label");
  });
}

function write() {
  number();
  fitAll();
  const area = box();
  if (!area || area.value === listed()) return;
  area.value = listed();
  area.dispatchEvent(new Event("input", {bubbles: true}));
}

function follow() {
  const area = box();
  if (!area || (list.children.length && area.value === listed())) return;
  const lines = area.value.split("\n");
  while (rows().length > lines.length) list.lastElementChild.remove();
  lines.forEach((line, at) => {
    const row = rows()[at];
    if (row) input(row).value = line;
    else newRow(line);
  });
  number();
  fitAll();
}

function add(text, after) {
  const row = newRow(text, after);
  write();
  input(row).focus();
  return row;
}

function remove(row) {
  const at = rows().indexOf(row);
  if (rows().length === 1) input(row).value = "";
  else row.remove();
  write();
  input(rows()[Math.min(at, rows().length - 1)]).focus();
  spoken.textContent = `Scene ${at + 1} removed.`;
}

function move(row, by, focused) {
  const at = rows().indexOf(row), to = at + by;
  if (to < 0 || to >= rows().length) return;
  if (by < 0) rows()[to].before(row);
  else rows()[to].after(row);
  write();
  (focused.disabled ? input(row) : focused).focus();
  spoken.textContent = `Scene ${at + 1} is now scene ${to + 1}.`;
}

function show(text) {
  asText.setAttribute("aria-pressed", String(text));
  asText.textContent = text ? "Edit as list" : "Edit as text";
  frame.classList.toggle("as-text", text);
  block().toggleAttribute("data-as-text", text);
  block().setAttribute("aria-hidden", String(!text));
  box().tabIndex = text ? 0 : -1;
}

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("button");
  if (!pressed) return;
  const row = pressed.closest("li");
  switch (pressed.dataset.act) {
    case "add": add("", list.lastElementChild); break;
    case "text": show(!block().hasAttribute("data-as-text")); follow(); break;
    case "up": move(row, -1, pressed); break;
    case "down": move(row, 1, pressed); break;
    case "remove": remove(row); break;
  }
});
list.addEventListener("input", (event) => {
  const line = event.target, at = line.selectionStart;
  if (line.value.includes("\n")) {
    line.value = line.value.replaceAll("\n", " ");
    line.setSelectionRange(at, at);
  }
  write();
});
list.addEventListener("keydown", (event) => {
  const row = event.target.closest("li");
  if (event.target.tagName !== "TEXTAREA" || event.isComposing) return;
  if (event.key === "Enter") {
    event.preventDefault();
    add("", row);
  } else if (event.key === "Backspace" && !event.target.value && rows().length > 1) {
    event.preventDefault();
    const before = row.previousElementSibling || row.nextElementSibling;
    row.remove();
    write();
    input(before).focus();
  } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    move(row, event.key === "ArrowUp" ? -1 : 1, event.target);
  }
});
list.addEventListener("paste", (event) => {
  const lines = event.clipboardData.getData("text").split(/\r?\n/);
  if (lines.length < 2) return;
  const scenes = lines.map((line) => line.replace(BULLET, "").trim()).filter((line) => line);
  if (!scenes.length) return;
  event.preventDefault();
  const line = event.target, [from, to] = [line.selectionStart, line.selectionEnd];
  line.value = line.value.slice(0, from) + scenes[0] + line.value.slice(to);
  let row = line.closest("li");
  for (const scene of scenes.slice(1)) row = newRow(scene, row);
  write();
  input(row).focus();
  if (scenes.length > 1) spoken.textContent = `${scenes.length} scenes pasted.`;
});

// A narrower list needs more lines; its height is of our own making.
let width = 0;
new ResizeObserver(() => {
  if (list.clientWidth !== width) fitAll();
  width = list.clientWidth;
}).observe(list);

window.sceneList = {follow};
// The box is laid out after the list: wait for it.
(function begin() {
  if (!box()) return requestAnimationFrame(begin);
  show(false);
  follow();
})();
