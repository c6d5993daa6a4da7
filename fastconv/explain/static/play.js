// A small convolution to try: stride, padding and size of the kernel, on the page's own image.

const MOST_SIDE = 32;

const KERNELS = {
  "vertical edges": (n, y, x, middle) => (n === 1 ? 1 : (x - middle) / (n * sum(spread(n)))),
  "horizontal edges": (n, y, x, middle) => (n === 1 ? 1 : (y - middle) / (n * sum(spread(n)))),
  blur: (n) => 1 / (n * n),
  "spots and outlines": (n, y, x, middle) => (n === 1 ? 1 : (y === Math.floor(middle) && x === Math.floor(middle)) - 1 / (n * n)),
  "nothing at all": (n, y, x, middle) => Number(y === Math.floor(middle) && x === Math.floor(middle)),
};
const spread = (n) => Array.from({ length: n }, (_, i) => Math.abs(i - (n - 1) / 2) / 2);

const play = { kernel: "vertical edges", size: 3, stride: 1, padding: 1, at: null };

// The first step as one grey map of at most MOST_SIDE pixels a side, scaled to [0, 1].
function playImage() {
  const step = steps[0], every = Math.ceil(Math.max(step.height, step.width) / MOST_SIDE);
  const height = Math.max(1, Math.floor(step.height / every)), width = Math.max(1, Math.floor(step.width / every));
  const mean = (y, x) => sum(Array.from({ length: step.maps }, (_, c) => at(step, c, y * every, x * every))) / step.maps;
  const values = Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => mean(y, x) / step.most));
  return { height, width, values };
}

function playKernel() {
  const n = play.size, middle = (n - 1) / 2;
  return Array.from({ length: n }, (_, y) => Array.from({ length: n }, (_, x) => KERNELS[play.kernel](n, y, x, middle)));
}

function playTaps(image, kernel, y, x) {
  return kernel.map((row, r) => row.map((weight, s) => {
    const [top, left] = [y * play.stride - play.padding + r, x * play.stride - play.padding + s];
    const real = top >= 0 && left >= 0 && top < image.height && left < image.width;
    const value = real ? image.values[top][left] : 0;
    return { kind: real ? "real" : "padding", value, weight, product: value * weight };
  }));
}

const outputs = (extent) => Math.floor((extent + 2 * play.padding - play.size) / play.stride) + 1;

function slider(name, low, high, show) {
  const out = h("output", {}, String(play[name]));
  return h("label", {}, h("span", {}, show, " ", out), h("input", {
    type: "range", min: low, max: high, value: play[name], name,
    oninput: (event) => { play[name] = Number(event.target.value); out.textContent = event.target.value; play.at = null; drawPlay(); },
  }));
}

function startPlay() {
  if (steps[0].vector) return document.getElementById("play").remove();
  const choice = h("select", { name: "kernel", onchange: (event) => { play.kernel = event.target.value; drawPlay(); } },
    Object.keys(KERNELS).map((name) => h("option", { value: name }, name)));
  document.getElementById("play").append(
    h("h2", {}, "Try a convolution"),
    h("p", { class: "what" }, "The same image under a kernel of your choice. Move the sliders, and point at the result."),
    h("div", { class: "controls" }, h("label", {}, h("span", {}, "kernel for"), choice),
      slider("size", 1, 7, "kernel size"), slider("stride", 1, 4, "stride"), slider("padding", 0, 4, "padding")),
    h("div", { id: "play-work" }));
  return drawPlay();
}

function drawPlay() {
  const image = playImage(), kernel = playKernel(), work = document.getElementById("play-work");
  const height = outputs(image.height), width = outputs(image.width);
  const formula = (word, extent, out) => `${word}: (${extent} + 2${TIMES}${play.padding} ${MINUS} ${play.size}) ÷ ${play.stride}, ` +
    `rounded down, + 1 = ${out}`;
  if (height < 1 || width < 1) {
    work.replaceChildren(line("The kernel is larger than the padded image: there is no result."));
    return;
  }
  play.at ??= { y: Math.floor(height / 2), x: Math.floor(width / 2) };
  const results = Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) =>
    sum(playTaps(image, kernel, y, x).flat().map((tap) => tap.product))));
  const most = Math.max(...results.flat().map(Math.abs)) || 1, most_weight = Math.max(...kernel.flat().map(Math.abs)) || 1;
  const taps = playTaps(image, kernel, play.at.y, play.at.x), result = results[play.at.y][play.at.x];
  const [padded, made] = [paddedPicture(image), playPicture(results, (value) => colour(value, most))];
  frame(padded, image.width + 2 * play.padding, image.height + 2 * play.padding,
    { x: play.at.x * play.stride, y: play.at.y * play.stride, w: play.size, h: play.size });
  frame(made, width, height, play.at);
  onPixels(made, width, height, (x, y) => {
    if (play.at.x !== x || play.at.y !== y) { play.at = { x, y }; drawPlay(); }
  });
  const cells = (name) => taps.map((row) => row.map((tap) => ({ kind: name === "weight" ? "real" : tap.kind, value: tap[name] })));
  work.replaceChildren(
    h("div", { class: "work" },
      h("div", { class: "pictures" },
        h("figure", { class: "large" }, padded, h("figcaption", {}, `image${play.padding ? " with padding" : ""}`)), sign("→"),
        h("figure", { class: "large" }, made, h("figcaption", {}, `result, ${height}${TIMES}${width}`))),
      h("div", { class: "sums" },
        h("div", { class: "product" }, grid(cells("value"), (value) => grey(value, 1), "pixels from 0 to 1"), sign(TIMES),
          grid(cells("weight"), (value) => colour(value, most_weight), "kernel"), sign("="),
          grid(cells("product"), (value) => colour(value, most), "products")),
        line(`Sum of ${plural(taps.flat().length, "product")}: `, strong(number(result))),
        line(formula("rows", image.height, height)), line(formula("columns", image.width, width)))));
  Object.assign(work.dataset, { rows: height, columns: width, sum: result });
}

function playPicture(rows, colourOf) {
  const canvas = h("canvas", { role: "img", "aria-label": "result of the convolution" });
  paint(canvas, rows[0].length, rows.length, (x, y) => colourOf(rows[y][x]));
  return h("div", { class: "map", style: { aspectRatio: `${rows[0].length} / ${rows.length}` } }, canvas);
}

// The image with its padding around, which is drawn in a colour that no pixel has.
function paddedPicture(image) {
  const p = play.padding;
  const rows = Array.from({ length: image.height + 2 * p }, (_, y) => Array.from({ length: image.width + 2 * p }, (_, x) =>
    image.values[y - p]?.[x - p] ?? null));
  return playPicture(rows, (value) => (value === null ? [214, 206, 226] : grey(value, 1)));
}
