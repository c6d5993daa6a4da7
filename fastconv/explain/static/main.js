// What is chosen, and how the pointer, the keyboard and the page's address change it.

let chosen = null;  // {step, place}
let held = false;

function choose(step, place, reveal) {
  chosen = { step, place };
  showInspector(step, place, held);
  markRail(step, place, reveal);
}

// From the pointer: while a number is held, moving past others changes nothing.
function select(step, place, hold) {
  const same = chosen.step === step && ["c", "y", "x"].every((axis) => chosen.place[axis] === place[axis]);
  if (!hold && (held || same)) return;
  held = hold && !(held && same);
  choose(step, place, false);
  if (held) remember();
}

// From the keyboard and buttons.
function go(step, place) {
  held = true;
  choose(step, place, true);
  remember();
}

function forth() {
  const { step, place } = chosen, [next] = readers(step);
  if (next) go(next, destination(step, place, next));
}

function back() {
  const { step, place } = chosen;
  if (!step.sources.length) return;
  const from = origin(step, place);
  go(from.step, from.place);
}

function refresh(answer = false) {
  if (answer) showAnswer();
  choose(chosen.step, chosen.place, false);
}

function move(c, y, x) {
  const { step, place } = chosen;
  const wrap = (value, count) => (value + count) % count;
  go(step, element(wrap(place.c + c, step.maps), wrap(place.y + y, step.height), wrap(place.x + x, step.width)));
}

const keys = {
  ArrowRight: forth, ArrowLeft: back, ArrowDown: () => move(1, 0, 0), ArrowUp: () => move(-1, 0, 0),
  "Shift+ArrowRight": () => move(0, 0, 1), "Shift+ArrowLeft": () => move(0, 0, -1),
  "Shift+ArrowDown": () => move(0, 1, 0), "Shift+ArrowUp": () => move(0, -1, 0),
  Escape: () => { held = false; refresh(); },
};
for (let digit = 1; digit <= 9; digit++) {
  keys[digit] = () => {
    const way = ways(chosen.step, chosen.place)[digit - 1];
    if (way) go(way.to, way.target);
  };
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select")) return;
  const action = keys[(event.shiftKey ? "Shift+" : "") + event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// The address names what is held, so that a link can point at one number: #2,5,3,4 is step, map, row, column.
function remember() {
  const { step, place } = chosen;
  try {
    history.replaceState(null, "", `#${step.index},${place.c},${place.y},${place.x}`);
  } catch {
    // Some browsers forbid it to files; the page works without.
  }
}

function fromAddress() {
  const [index, c, y, x] = location.hash.slice(1).split(",").map(Number);
  const step = steps[index];
  if (!step || ![c, y, x].every(Number.isInteger)) return false;
  go(step, clamp(step, element(Math.max(0, c), Math.max(0, y), Math.max(0, x))));
  return true;
}

function showAnswer() {
  const last = steps[steps.length - 1], line = document.getElementById("answer");
  if (!isClasses(last)) return line.replaceChildren();
  const answer = strongest(last), verdict = page.label === null ? "" : page.label === answer
    ? " That is right." : ` That is wrong: it is ${className(page.label)}.`;
  const loss = page.label !== null && last.losses ? ` Cross-entropy ${small(last.losses[page.label])}.` : "";
  return line.replaceChildren("It says ", strong(className(answer)),
    last.kind === "softmax" ? `, ${percent(last.values[answer])} sure.` : ".", verdict, loss);
}

document.getElementById("rail").append(...flow(0, steps.length));
document.getElementById("source").textContent =
  `Written by fastconv ${page.version}; its ${page.isa} kernels computed the maps, and this page adds up the sums again.`;
document.addEventListener("keydown", press);
window.addEventListener("hashchange", fromAddress);
showAnswer();
startPlay();
if (!fromAddress()) {
  const first = steps.find((step) => step.kind === "conv") || steps[0];
  choose(first, bestPlace(first), false);
}
