// The layers from left to right, every map a picture.

const FEW_MAPS = 9, MOST_MAPS = 96;
const thumbs = steps.map(() => []);

function size(step) {
  if (step.vector) return plural(step.maps, "number");
  return `${plural(step.maps, "map")} of ${step.height}${TIMES}${step.width}`;
}

function layer(step) {
  const maps = h("div", { class: step.vector ? "numbers" : `maps${step.maps <= FEW_MAPS ? " few" : ""}${step.maps === 1 ? " single" : ""}` });
  if (isClasses(step)) maps.append(classBars(step));
  else if (step.vector) maps.append(keep(step, vectorPicture(step, (place, held) => select(step, place, held)), 0));
  else addMaps(step, maps, 0, MOST_MAPS);
  return h("section", { class: "layer", "data-step": step.index },
    h("button", { class: "head", onclick: () => select(step, bestPlace(step), true) },
      h("b", {}, step.name), h("small", {}, size(step))), maps);
}

function keep(step, node, c) {
  thumbs[step.index][c] = node;
  return node;
}

function addMaps(step, maps, first, end) {
  for (let c = first; c < Math.min(end, step.maps); c++) {
    maps.append(keep(step, picture(step, c, (place, held) => select(step, place, held)), c));
  }
  if (end < step.maps) {
    maps.append(h("button", { class: "more", onclick: (event) => {
      event.target.remove();
      addMaps(step, maps, end, step.maps);
    } }, `${step.maps - end} more`));
  }
}

function classBars(step) {
  const probabilities = step.kind === "softmax";
  return h("div", { class: "classes" }, Array.from(step.values, (value, k) => keep(step, h("button", {
    class: "class", onclick: () => select(step, element(k, 0, 0), true),
    onpointermove: (event) => event.pointerType === "mouse" && select(step, element(k, 0, 0), false),
  }, h("span", { class: "name" }, className(k)), bar(value, step.most),
  h("span", { class: "figure" }, probabilities ? percent(value) : short(value))), k)));
}

// Where to look first: the largest number.
function bestPlace(step) {
  let best = 0;
  step.values.forEach((value, index) => { if (Math.abs(value) > Math.abs(step.values[best])) best = index; });
  return step.vector ? element(isClasses(step) ? strongest(step) : best, 0, 0) : unravel(step, best);
}

function markRail(step, place, reveal) {
  document.querySelectorAll("#rail .mark").forEach((mark) => mark.remove());
  document.querySelectorAll("#rail .here").forEach((node) => node.classList.remove("here"));
  const rail = document.getElementById("rail"), section = rail.children[step.index];
  section.classList.add("here");
  mark(step, place);
  const before = steps[step.index - 1];
  if (before) markSources(step, before, place);
  if (reveal) {
    const room = rail.clientWidth - section.offsetWidth;
    rail.scrollTo({ left: section.offsetLeft - rail.offsetLeft - Math.max(0, room / 2), behavior: "auto" });
  }
}

function mark(step, { c, y, x }) {
  if (isClasses(step)) return thumbs[step.index][c].classList.add("here");
  const node = thumbs[step.index][step.vector ? 0 : c];
  if (!node) return undefined;
  if (step.vector) {
    const columns = across(step);
    return frame(node, columns, Math.ceil(step.maps / columns), { x: c % columns, y: Math.floor(c / columns) });
  }
  return frame(node, step.width, step.height, { x, y });
}

// Frames around all that the number is made of.
function markSources(step, before, place) {
  if (step.kind === "conv" && !before.vector) {
    const [outputs, inputs] = step.weight.shape, first = Math.floor(place.c / (outputs / step.groups)) * inputs;
    const seen = reach(step, place);
    for (let c = first; seen && c < first + inputs; c++) {
      if (thumbs[before.index][c]) frame(thumbs[before.index][c], before.width, before.height, seen);
    }
  } else if (step.kind === "pool") {
    const node = thumbs[before.index][place.c];
    if (node) frame(node, before.width, before.height, reach(step, place));
  } else if (step.kind !== "linear" && step.kind !== "softmax" && step.kind !== "opaque") {
    mark(before, origin(step, place));
  }
}
