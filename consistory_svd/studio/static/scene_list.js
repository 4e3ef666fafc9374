// The list of scenes. `props.value` holds its rows, {text, seed}: the list writes it when the visitor edits, and is
// built again when the server sets it. "Edit as text" shows the texts in one text area, a line per scene.
const list = element.querySelector("ol");
const frame = element.querySelector("fieldset");
const status = element.querySelector(".scene-status");
const area = element.querySelector(".scene-text");
const rows = () => [...list.children];
const input = (row) => row.querySelector("textarea");
const seed = (row) => row.querySelector("input");
const read = () => rows().map((row) => ({text: input(row).value, seed: seed(row).value.trim() || null}));
const BULLET = /^\s*(?:[-*•]|\d+[.)])\s+/;
let before = []; // the rows when editing as text began; a line with the same text keeps its seed

function button(act, sign, row) {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.act = act;
  made.textContent = sign;
  row.append(made);
}

function newRow(text, after, ownSeed = null) {
  const row = document.createElement("li");
  // A text area, because it can show all of a long scene; its text stays one line.
  const line = document.createElement("textarea");
  line.rows = 1;
  line.value = text;
  line.autocomplete = "off";
  const number = document.createElement("input");
  number.inputMode = "numeric";
  number.placeholder = "seed";
  number.autocomplete = "off";
  number.value = ownSeed ?? "";
  row.append(line, number);
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
    seed(row).setAttribute("aria-label", `Seed of scene ${at + 1}`);
    row.classList.toggle("has-seed", seed(row).value !== "");
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
  props.value = read();
}

function build(value) {
  list.replaceChildren();
  for (const row of value?.length ? value : [{text: "", seed: null}]) newRow(row.text ?? "", null, row.seed);
  before = read();
  area.value = before.map((row) => row.text).join("\n");
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
  if (rows().length === 1) newRow("");
  row.remove();
  write();
  input(rows()[Math.min(at, rows().length - 1)]).focus();
  status.textContent = `Scene ${at + 1} removed.`;
}

function move(row, by, focused) {
  const at = rows().indexOf(row), to = at + by;
  if (to < 0 || to >= rows().length) return;
  if (by < 0) rows()[to].before(row);
  else rows()[to].after(row);
  write();
  (focused.disabled ? input(row) : focused).focus();
  status.textContent = `Scene ${at + 1} is now scene ${to + 1}.`;
}

function showText(on) {
  press("text", on);
  element.querySelector("[data-act=text]").textContent = on ? "Edit as list" : "Edit as text";
  frame.classList.toggle("as-text", on);
  area.hidden = !on;
  before = read();
  area.value = before.map((row) => row.text).join("\n");
  if (!on) fitAll();
}

function press(act, on) {
  element.querySelector(`[data-act=${act}]`).setAttribute("aria-pressed", String(on));
}

function readText() {
  const known = [...before];
  props.value = area.value.split("\n").map((text) => {
    const at = known.findIndex((row) => row.text.trim() === text.trim());
    return {text, seed: at < 0 ? null : known.splice(at, 1)[0].seed};
  });
  list.replaceChildren();
  for (const row of props.value) newRow(row.text, null, row.seed);
  number();
}

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("button");
  if (!pressed) return;
  const row = pressed.closest("li");
  switch (pressed.dataset.act) {
    case "add": add("", list.lastElementChild); break;
    case "text": showText(area.hidden); break;
    case "seeds": press("seeds", frame.classList.toggle("with-seeds")); break;
    case "up": move(row, -1, pressed); break;
    case "down": move(row, 1, pressed); break;
    case "remove": remove(row); break;
  }
});
area.addEventListener("input", readText);
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
  if (event.target.tagName !== "TEXTAREA") return;
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
  if (scenes.length > 1) status.textContent = `${scenes.length} scenes pasted.`;
});

// A narrower list needs more lines.
let width = 0;
new ResizeObserver(() => {
  if (list.clientWidth !== width) fitAll();
  width = list.clientWidth;
}).observe(list);

watch("value", () => build(props.value));
build(props.value);
