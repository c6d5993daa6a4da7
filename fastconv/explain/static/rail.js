// The layers from left to right, every map a picture.

const FEW_MAPS = 9, MOST_MAPS = 96;
const thumbs = steps.map(() => []), sections = [];

function size(step) {
  if (step.vector) return plural(step.maps, "number");
  return `${plural(step.maps, "map")} of ${step.height}${TIMES}${step.width}`;
}

function layer(step) {
  const maps = h("div", { class: step.vector ? "numbers" : `maps${step.maps <= FEW_MAPS ? " few" : ""}${step.maps === 1 ? " single" : ""}` });
  if (isClasses(step)) maps.append(classBars(step));
  else if (step.vector) maps.append(keep(step, vectorPicture(step, (place, held) => select(step, place, held)), 0));
  else addMaps(step, maps, 0, MOST_MAPS);
  const whole = step.kind === "pixels" && isColour(step)
    ? h("div", { class: "whole" }, colourPicture(step, (place, held) => select(step, place, held))) : null;
  sections[step.index] = h("section", { class: "layer", "data-step": step.index },
    h("button", { class: "head", onclick: () => select(step, bestPlace(step), true) },
      h("b", {}, step.name), h("small", {}, size(step))), h("div", { class: "flow" }, ...[whole, maps].filter(Boolean)));
  return sections[step.index];
}

// The layers of some steps in order; branches stand one below the other, in front of the step where they meet.
function flow(first, end) {
  const nodes = [];
  for (let index = end - 1; index >= first;) {
    const step = steps[index];
    nodes.unshift(layer(step));
    if (isMeeting(step)) nodes.unshift(h("div", { class: "fork" }, step.branches.map(branch)));
    index = isMeeting(step) ? step.branches[0][1] - 1 : index - 1;
  }
  return nodes;
}

function branch([name, first, end]) {
  return h("div", { class: "branch" }, h("small", {}, first === end ? `${name}: passes on what comes` : name),
    h("div", { class: "flow" }, flow(first, end)));
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
  const rail = document.getElementById("rail"), section = sections[step.index];
  section.classList.add("here");
  mark(step, place);
  if (step.sources.length) markSources(step, place);
  if (reveal) {
    const centred = (edge, side) => section[edge] - rail[edge] - Math.max(0, (rail[`client${side}`] - section[`offset${side}`]) / 2);
    rail.scrollTo({ left: centred("offsetLeft", "Width"), top: centred("offsetTop", "Height"), behavior: "auto" });
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
function markSources(step, place) {
  const from = before(step);
  if (step.kind === "conv" && !from.vector) {
    const [outputs, inputs] = step.weight.shape, first = Math.floor(place.c / (outputs / step.groups)) * inputs;
    const seen = reach(step, place);
    for (let c = first; seen && c < first + inputs; c++) {
      if (thumbs[from.index][c]) frame(thumbs[from.index][c], from.width, from.height, seen);
    }
  } else if (step.kind === "pool") {
    const node = thumbs[from.index][place.c];
    if (node) frame(node, from.width, from.height, reach(step, place));
  } else if (step.kind === "sum") {
    sources(step).forEach((one) => mark(one, place));
  } else if (step.kind !== "linear" && step.kind !== "softmax" && step.kind !== "opaque") {
    const { step: one, place: its } = origin(step, place);
    mark(one, its);
  }
}
