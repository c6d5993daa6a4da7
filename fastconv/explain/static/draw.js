// Numbers as text, as colours and as pictures; elements of the page.

const MINUS = "\u2212", TIMES = "\u00d7", DOT = "\u00b7";

function number(value, digits = 4) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return (0).toFixed(digits);
  return (value < 0 ? MINUS : "+") + text;
}

// A number that may be tiny, without a sign where it is positive.
function small(value) {
  const text = value === 0 || Math.abs(value) >= 0.001 ? value.toFixed(4) : value.toExponential(1);
  return text.replace(/-/g, MINUS);
}

// As many digits as fit a small cell.
const short = (value) => number(value, Math.abs(value) < 9.995 ? 2 : Math.abs(value) < 99.95 ? 1 : 0);
const percent = (value) => (value > 0 && value < 0.0005 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`);

const ENDS = { positive: [179, 88, 6], negative: [5, 78, 140] };

// Blue below zero, white at it, orange above; the root lifts small numbers out of the white.
function colour(value, most) {
  const share = Math.sqrt(Math.min(1, Math.abs(value) / most));
  const end = value < 0 ? ENDS.negative : ENDS.positive;
  return end.map((part) => Math.round(255 + (part - 255) * share));
}

const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
const ink = ([r, g, b]) => (0.3 * r + 0.59 * g + 0.11 * b < 140 ? "#fff" : "#111");
const grey = (value, most) => Array(3).fill(Math.round(255 * Math.max(0, Math.min(1, value / most))));
const shade = (step, value) => (step.kind === "pixels" ? grey(value, step.most) : colour(value, step.most));

function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name === "style") Object.assign(node.style, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function paint(canvas, width, height, colourOf) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    image.data.set(colourOf(index % width, Math.floor(index / width)), 4 * index);
    image.data[4 * index + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// A picture of one map that answers to the pointer: `pick(place, held)` is called with the pixel.
function picture(step, c, pick) {
  const canvas = h("canvas", { role: "img", "aria-label": `${step.name}, ${mapName(step, c)}` });
  return pictureOf(step, canvas, c, (x, y) => shade(step, at(step, c, y, x)), pick);
}

// All three maps of an image in one; its pixels stand for those of the first map.
function colourPicture(step, pick) {
  const canvas = h("canvas", { role: "img", "aria-label": `${step.name} in colour` });
  const byte = (value) => Math.round((255 * value) / step.most);
  return pictureOf(step, canvas, 0, (x, y) => [0, 1, 2].map((c) => byte(at(step, c, y, x))), pick);
}

function pictureOf(step, canvas, c, colourAt, pick) {
  paint(canvas, step.width, step.height, colourAt);
  const node = h("div", { class: "map", style: { aspectRatio: `${step.width} / ${step.height}` } }, canvas);
  onPixels(node, step.width, step.height, (x, y, held) => pick(element(c, y, x), held));
  return node;
}

// Numbers without a place in space: one square each, in lines of `across`.
const across = (step) => Math.ceil(Math.sqrt(step.maps / 2));

function vectorPicture(step, pick) {
  const columns = across(step), rows = Math.ceil(step.maps / columns);
  const canvas = h("canvas", { role: "img", "aria-label": `${step.name}, ${step.maps} numbers` });
  paint(canvas, columns, rows, (x, y) => {
    const index = y * columns + x;
    return index < step.maps ? shade(step, step.values[index]) : [235, 235, 235];
  });
  const node = h("div", { class: "map vector", style: { aspectRatio: `${columns} / ${rows}` } }, canvas);
  onPixels(node, columns, rows, (x, y, held) => {
    if (y * columns + x < step.maps) pick(element(y * columns + x, 0, 0), held);
  });
  return node;
}

function onPixels(node, width, height, report) {
  const tell = (event, held) => {
    const box = node.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * height);
    if (x >= 0 && y >= 0 && x < width && y < height) report(x, y, held);
  };
  node.addEventListener("pointermove", (event) => event.pointerType === "mouse" && tell(event, false));
  node.addEventListener("click", (event) => tell(event, true));
}

// A frame around some pixels of a picture, in pixels of its map.
function frame(node, width, height, { x, y, w = 1, h: high = 1 }) {
  node.append(h("i", {
    class: "mark",
    style: { left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`, width: `${(100 * w) / width}%`,
      height: `${(100 * high) / height}%` },
  }));
}

// The part of a map that a pixel looks at, as a frame; null where all of it is padding.
function reach(step, { y, x }) {
  const [rows, columns] = [step.taps[0][y], step.taps[1][x]].map((taps) => taps.filter((tap) => tap >= 0));
  if (!rows.length || !columns.length) return null;
  const [top, left] = [Math.min(...rows), Math.min(...columns)];
  return { x: left, y: top, w: Math.max(...columns) - left + 1, h: Math.max(...rows) - top + 1 };
}

// A grid of small cells: `cells` are rows of {value, kind, class}.
function grid(cells, colourOf, caption) {
  const small = cells[0].length > 7;
  const table = h("div", { class: `grid${small ? " small" : ""}`,
    style: { gridTemplateColumns: `repeat(${cells[0].length}, var(--cell))` } });
  for (const cell of cells.flat()) {
    const back = cell.kind === "real" || !cell.kind ? colourOf(cell.value) : null;
    table.append(h("span", {
      class: `cell ${cell.kind || ""} ${cell.class || ""}`, title: number(cell.value, 6),
      style: back ? { background: css(back), color: ink(back) } : {},
    }, cell.kind === "nothing" ? "" : cell.kind === "padding" ? "0" : small ? "" : short(cell.value)));
  }
  return h("figure", {}, table, caption ? h("figcaption", {}, caption) : null);
}

// The maps of a colour image have names.
const isColour = (step) => step.maps === 3 && !step.vector && (step.kind === "pixels" || step.name === "normalised");
const mapName = (step, c) => (isColour(step) ? ["red", "green", "blue"][c] : `map ${c}`);

const sign = (text) => h("span", { class: "sign" }, text);
