// The panel below the layers: how the chosen number came about.

const FEW_PARTS = 3, FEW_TERMS = 10, MOST_TERMS = 256;
let showAll = false;

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const bySize = (list, score) => [...list].sort((one, other) => Math.abs(score(other)) - Math.abs(score(one)));

function toggle(total, few) {
  if (total <= few) return null;
  return h("button", { class: "more", onclick: () => { showAll = !showAll; refresh(); } },
    showAll ? `show the ${few} largest alone` : `show ${total}`);
}

// A line of arithmetic: pieces of text, some of them strong.
const line = (...pieces) => h("p", { class: "total" }, pieces);
const strong = (text) => h("strong", {}, text);

// A layer without a bias has zeros there.
const hasBias = (step) => step.bias.some((value) => value !== 0);

function totalLine(step, terms, { result, bias }) {
  const products = `Sum of ${plural(terms, "product")}: `;
  return hasBias(step) ? line(`${products}${number(result - bias)}, bias: ${number(bias)}, together `, strong(number(result)))
    : line(products, strong(number(result)));
}

const sentences = {
  pixels(step) {
    const range = `${step.values.reduce((a, b) => Math.min(a, b))} to ${step.values.reduce((a, b) => Math.max(a, b))}`;
    const kind = { 1: ", grey", 3: ", red, green and blue" }[step.maps] || "";
    return `To the network the image is numbers, here from ${range}: ${size(step)}${kind}.`;
  },
  affine: (step) => (step.name === "normalised"
    ? "From each pixel the mean of the training images is subtracted, and the rest is divided by their spread."
    : "Each map is shifted and scaled by numbers that training measured and learned for it."),
  conv(step) {
    const [outputs, inputs, rows, columns] = step.weight.shape;
    const count = inputs * rows * columns;
    const slides = step.transposed
      ? `Each of ${outputs} filters is laid down once for every pixel before it, ${step.stride.join(TIMES)} pixels apart, ` +
        "times that pixel; what overlaps is summed."
      : `Each of ${outputs} filters slides over ${inputs === 1 ? "the map" : `the ${inputs} maps`} before it, ` +
        `${step.stride[0] === step.stride[1] ? plural(step.stride[0], "pixel") : step.stride.join(TIMES) + " pixels"} ` +
        "at a time.";
    return `${slides} Each result is the sum of ${plural(count, "product")}, number times weight${hasBias(step) ? ", plus a bias" : ""}.`;
  },
  pool(step) {
    const words = { max: "the largest number", min: "the smallest number", avg: "the mean", sum: "the sum" };
    return `Of each window of ${step.kernel.join(TIMES)} ${words[step.operation]} is kept: fewer numbers, and small ` +
      "shifts of the image matter less.";
  },
  pointwise: (step) => `Each number by itself: ${step.formula}.` +
    (step.name === "ReLU" ? " What a filter found stays, its opposite becomes 0." : ""),
  sum: (step) => `Here ${step.branches.length} branches meet: the numbers at the same place are added. ` + (step.branches
    .some(([, first, end]) => first === end) ? "The input itself is one of them, so the layers only have to find what to change in it." : ""),
  join: (step) => `Here ${step.branches.length} branches meet: the maps of one are put behind those of the other.`,
  flatten: (step) => `The maps are laid out in one row of ${step.maps} numbers: map by map, line by line.`,
  linear: (step) => `Each of ${plural(step.maps, "result")} is a weighted sum of all ${step.weight.shape[1]} numbers` +
    `${hasBias(step) ? ", plus a bias" : ""}. A positive product speaks for it, a negative one against.`,
  same: (step) => `In training this layer drops ${percent(step.p)} of the numbers at random, so that none is relied on ` +
    "alone. When the network is asked, all pass.",
  softmax: () => "Powers of e make all numbers positive; divided by their sum they are probabilities.",
  opaque: (step) => `${step.name}: its results are shown, its arithmetic isn't.`,
};

const bodies = {
  pixels(step, { y, x }, how) {
    if (!isColour(step)) return [line("This pixel is ", strong(String(how.value)), ".")];
    const colours = [0, 1, 2].map((c) => `${at(step, c, y, x)} ${mapName(step, c)}`);
    return [line("This pixel is ", strong(colours.join(", ")), ".")];
  },

  affine: (step, { c }, how) => [line(
    `(${number(how.given)} ${MINUS} ${step.mean[c].toFixed(4)}) ${TIMES} ${step.factor[c].toFixed(4)}`,
    step.shift[c] ? ` ${number(step.shift[c])}` : "", " = ", strong(number(how.result)))],

  conv(step, place, how) {
    const from = before(step), most = step.weight.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
    const listed = bySize(how.parts, (part) => part.sum);
    const shown = listed.slice(0, showAll ? undefined : FEW_PARTS);
    const scale = largest(how.parts.flatMap((part) => part.taps.flat()), (tap) => Math.abs(tap.product)).product || 1;
    const rows = shown.map((part) => {
      const cells = (name) => part.taps.map((taps) => taps.map((tap) => ({ kind: tap.kind, value: tap[name] })));
      const weights = cells("weight").map((taps) => taps.map((tap) => ({ ...tap, kind: "real" })));
      return h("div", { class: "product" },
        grid(cells("value"), (value) => shade(from, value), `${from.name}, ${mapName(from, part.c)}`), sign(TIMES),
        grid(weights, (value) => colour(value, most), "weights"), sign("="),
        grid(cells("product"), (value) => colour(value, Math.abs(scale)), `sum ${number(part.sum)}`));
    });
    const rest = listed.slice(shown.length);
    const terms = how.parts.flatMap((part) => part.taps.flat()).length;
    return [
      ...rows, toggle(how.parts.length, FEW_PARTS),
      rest.length ? line(`The other ${plural(rest.length, "map")}: ${number(sum(rest.map((part) => part.sum)))}`) : null,
      totalLine(step, terms, how),
    ];
  },

  pool(step, place, how) {
    const cells = how.taps.map((taps) => taps.map((tap) => ({
      ...tap, class: how.winner && tap.kind === "real" && tap.y === how.winner.y && tap.x === how.winner.x ? "winner" : "",
    })));
    const result = {
      max: () => ["The largest is ", strong(number(how.result)), ", in the frame."],
      min: () => ["The smallest is ", strong(number(how.result)), ", in the frame."],
      sum: () => ["The sum is ", strong(number(how.result))],
      avg: () => [`The sum ${number(how.total)} divided by ${how.divisor} is `, strong(number(how.result))],
    }[step.operation]();
    return [
      h("div", { class: "product" }, grid(cells, (value) => shade(before(step), value), `window in map ${place.c}`)),
      line(...result),
    ];
  },

  pointwise(step, place, how) {
    const given = at(before(step), place.c, place.y, place.x);
    return [line(`x = ${number(given)} becomes `, strong(number(how.value)))];
  },

  flatten(step, { c }, { source, value }) {
    const { height, width } = before(step);
    return [
      line(`Map ${source.c}, row ${source.y}, column ${source.x} has place ${source.c} ${TIMES} ${height} ${TIMES} ` +
        `${width} + ${source.y} ${TIMES} ${width} + ${source.x} = ${c} in the row: `, strong(number(value))),
    ];
  },

  sum(step, place, how) {
    const most = Math.max(...how.parts.map(Math.abs)) || 1;
    const rows = how.parts.map((value, k) => h("tr", {}, h("td", {}, `${step.branches[k][0]}: ${sources(step)[k].name}`),
      h("td", {}, number(value)), h("td", { class: "wide" }, bar(value, most))));
    return [h("table", { class: "terms" }, h("tbody", {}, rows)), line("Together ", strong(number(how.result)))];
  },

  join: (step, place, how) => [line(`Map ${place.c} is map ${how.map} of ${step.branches[how.branch][0]}, ` +
    `${sources(step)[how.branch].name}: `, strong(number(how.value)))],

  linear(step, { c }, how) {
    const listed = bySize(how.parts, (part) => part.product);
    const shown = listed.slice(0, showAll ? MOST_TERMS : FEW_TERMS);
    const rest = listed.slice(shown.length), most = Math.abs(listed[0].product) || 1;
    const maps = unflattened(step);
    const rows = shown.map((part) => h("tr", {},
      h("td", {}, sourceName(maps, part.index)), h("td", {}, number(part.value)), h("td", {}, `${TIMES} ${number(part.weight)}`),
      h("td", {}, `= ${number(part.product)}`), h("td", { class: "wide" }, bar(part.product, most))));
    const weights = step.weight.subarray(c * how.parts.length, (c + 1) * how.parts.length);
    return [
      h("div", { class: "mosaics" },
        mosaic(weights, maps, `All ${how.parts.length} weights for ${nameOf(step, c)} or against it`),
        mosaic(how.parts.map((part) => part.product), maps, "What they make of this image: number times weight")),
      h("table", { class: "terms sources" }, h("tbody", {}, rows)), toggle(Math.min(how.parts.length, MOST_TERMS), FEW_TERMS),
      rest.length ? line(`The other ${plural(rest.length, "product")}: ${number(sum(rest.map((part) => part.product)))}`) : null,
      totalLine(step, how.parts.length, how),
    ];
  },

  softmax(step, { c }, how) {
    const given = before(step);
    const options = Array.from(step.values, (_, k) => h("option", { value: k, selected: k === page.label }, className(k)));
    const rows = Array.from(step.values, (value, k) => h("tr", { class: k === c ? "chosen" : "" },
      h("td", {}, className(k)), h("td", {}, number(given.values[k])), h("td", {}, small(how.powers[k])),
      h("td", {}, percent(value)), h("td", { class: "wide" }, bar(value, 1))));
    const heads = ["class", "dense result z", `e^(z ${MINUS} ${how.most.toFixed(2)})`, "share", ""];
    return [
      h("table", { class: "terms" }, h("thead", {}, h("tr", {}, heads.map((text) => h("th", {}, text)))), h("tbody", {}, rows)),
      line(`${small(how.powers[c])} ÷ ${how.total.toFixed(4)} = `, strong(percent(how.result)), ` for ${className(c)}`),
      h("p", { class: "total" }, h("label", {}, "How wrong was it, if the right answer is ",
        h("select", { onchange: (event) => { page.label = event.target.value === "" ? null : Number(event.target.value); refresh(true); } },
          h("option", { value: "", selected: page.label === null }, "…"), options)), "?"),
      ...lossLines(step),
    ];
  },

  same: (step, place, how) => [line("It stays ", strong(number(how.value)))],
  opaque: (step, place, how) => [line("The kernels' number: ", strong(number(how.value)))],
};

// The loss of the right class: what training makes smaller.
function lossLines(step) {
  const label = page.label;
  if (label === null) return [];
  const squares = sum(Array.from(step.values, (value, k) => (value - (k === label)) ** 2)) / step.maps;
  return [
    line(`Cross-entropy: ${MINUS}ln ${small(step.values[label])} = `, strong(small(step.losses[label])),
      ". 0 is certainty; a confident mistake costs without limit."),
    line(`Mean squared error would say ${small(squares)}, and never more than ${(2 / step.maps).toFixed(2)}: it hardly ` +
      "tells a mistake from a bad mistake."),
    line(`What training does next: it pushes the result of ${className(label)} up with a force of 1 ${MINUS} ` +
      `${small(step.values[label])} = ${small(1 - step.values[label])}, and each other result down with a force of its share.`),
  ];
}

function bar(value, most) {
  return h("span", { class: "track" }, h("span", {
    class: "bar", style: { width: `${(100 * Math.abs(value)) / most}%`, background: css(colour(Math.sign(value), 1)) },
  }));
}

// The shape of the maps behind a dense layer's row of numbers; null where they were never maps.
function unflattened(step) {
  let from = before(step);
  while (from.sources.length && (from.kind === "same" || from.kind === "pointwise") && from.vector) from = before(from);
  return from.kind === "flatten" && !before(from).vector ? before(from) : null;
}

function sourceName(maps, index) {
  if (!maps) return `number ${index}`;
  const { c, y, x } = unravel(maps, index);
  return `map ${c}, row ${y}, column ${x}`;
}

const nameOf = (step, c) => (isClasses(step) ? className(c) : `result ${c}`);

// All numbers of a row in one picture, as the maps they were.
function mosaic(values, maps, caption) {
  const [count, rows, columns] = maps ? [maps.maps, maps.height, maps.width] : [values.length, 1, 1];
  const lines = Math.max(1, Math.round(Math.sqrt((count * columns) / rows / 3)));
  const wide = Math.ceil(count / lines), most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
  const gap = rows * columns > 1 ? 1 : 0;
  const canvas = h("canvas", { role: "img", "aria-label": caption });
  paint(canvas, wide * (columns + gap) - gap, lines * (rows + gap) - gap, (px, py) => {
    const [i, x] = [Math.floor(px / (columns + gap)), px % (columns + gap)];
    const [j, y] = [Math.floor(py / (rows + gap)), py % (rows + gap)];
    const c = j * wide + i;
    return x === columns || y === rows || c >= count ? [255, 255, 255] : colour(values[(c * rows + y) * columns + x], most);
  });
  canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  return h("figure", { class: "mosaic" }, canvas, h("figcaption", {}, caption));
}

// The pictures at both ends of the arithmetic, large.
function pictures(step, place, how) {
  const made = [], ends = !step.sources.length || step.vector ? []
    : step.kind === "sum" ? sources(step).map((from) => ({ step: from, place })) : [origin(step, place)];
  for (const from of ends.filter((end) => !end.step.vector)) {
    const node = picture(from.step, from.place.c, (target, held) => held && select(from.step, target, true));
    const seen = step.taps ? reach(step, place) : from.place;
    if (seen) frame(node, from.step.width, from.step.height, seen);
    if (made.length) made.push(sign("+"));
    made.push(h("figure", { class: "large" }, node, h("figcaption", {}, `${from.step.name}, ${mapName(from.step, from.place.c)}`)));
  }
  if (made.length) made.push(sign("→"));
  if (!step.vector) {
    const node = picture(step, place.c, (target, held) => select(step, target, held));
    frame(node, step.width, step.height, place);
    made.push(h("figure", { class: "large" }, node, h("figcaption", {}, `${step.name}, ${mapName(step, place.c)}: ${number(how.value)}`)));
  }
  return made.length ? h("div", { class: "pictures" }, made) : null;
}

// Buttons for the ways that meet at a step or part behind it; the digits press them.
function crossing(step, place) {
  const choices = ways(step, place);
  if (!choices.length) return null;
  const buttons = choices.map(({ name, meets, to, target }, index) => h("button", { class: "way", onclick: () => go(to, target) },
    h("kbd", {}, String(index + 1)), ` ${meets ? "from" : "on through"} ${name}: ${to.name}`));
  return h("div", { class: "ways" }, buttons);
}

function position(step, { c, y, x }) {
  if (step.vector) return isClasses(step) ? `class ${className(c)}` : `number ${c}, counted from 0`;
  return `${mapName(step, c)}, row ${y}, column ${x}, counted from 0`;
}

function showInspector(step, place, held) {
  const how = explain(step, place), panel = document.getElementById("inspector");
  panel.replaceChildren(
    h("div", { class: "bar-top" },
      h("button", { "aria-label": "back to what contributed most", disabled: !step.sources.length, onclick: back }, "←"),
      h("h2", {}, step.name, h("small", {}, position(step, place))),
      h("span", { class: "held", hidden: !held, title: "Esc lets go" }, "held"),
      h("button", { "aria-label": "on to the next layer", disabled: !readers(step).length, onclick: forth }, "→")),
    h("p", { class: "what" }, sentences[step.kind](step)), ...[crossing(step, place)].filter(Boolean),
    h("div", { class: "work" }, [pictures(step, place, how), h("div", { class: "sums" }, bodies[step.kind](step, place, how))].filter(Boolean)));
  Object.assign(panel.dataset, { step: step.index, map: place.c, y: place.y, x: place.x, sum: how.result, value: how.value });
}
