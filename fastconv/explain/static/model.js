// The data of the page, and the arithmetic of one number of it.

const page = JSON.parse(document.getElementById("data").textContent);

function floats(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (char) => char.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

const steps = page.steps.map((step, index) => {
  const vector = step.shape.length === 1;
  const [maps, height, width] = vector ? [step.shape[0], 1, 1] : step.shape;
  const values = floats(step);
  const most = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
  const arrays = {};
  for (const name of ["weight", "bias"]) {
    if (step[name]) arrays[name] = Object.assign(floats(step[name]), { shape: step[name].shape });
  }
  return { ...step, ...arrays, index, vector, maps, height, width, values, most };
});

const at = (step, c, y, x) => step.values[(c * step.height + y) * step.width + x];
const element = (c, y, x) => ({ c, y, x });
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// Of a flat index, its place in the maps of a step.
function unravel(step, index) {
  const plane = step.height * step.width;
  return element(Math.floor(index / plane), Math.floor((index % plane) / step.width), index % step.width);
}

// The taps of one output pixel on one map of the step before: rows of {value, y, x, kind}.
function patch(step, before, c, y, x) {
  return step.taps[0][y].map((row) => step.taps[1][x].map((column) => {
    if (row === -2 || column === -2) return { kind: "nothing", value: 0 };
    if (row === -1 || column === -1) return { kind: "padding", value: 0 };
    return { kind: "real", value: at(before, c, row, column), y: row, x: column };
  }));
}

const arithmetic = {
  conv(step, before, { c, y, x }) {
    const [outputs, inputs, rows, columns] = step.weight.shape;
    const first = Math.floor(c / (outputs / step.groups)) * inputs;
    const parts = Array.from({ length: inputs }, (_, i) => {
      const taps = patch(step, before, first + i, y, x).map((line, r) => line.map((tap, s) => {
        const weight = step.weight[((c * inputs + i) * rows + r) * columns + s];
        return { ...tap, weight, product: tap.kind === "real" ? tap.value * weight : 0 };
      }));
      return { c: first + i, taps, sum: sum(taps.flat().map((tap) => tap.product)) };
    });
    return { parts, bias: step.bias[c], result: sum(parts.map((part) => part.sum)) + step.bias[c] };
  },

  pool(step, before, { c, y, x }) {
    const taps = patch(step, before, c, y, x);
    const real = taps.flat().filter((tap) => tap.kind === "real");
    if (step.operation === "max" || step.operation === "min") {
      const sign = step.operation === "max" ? 1 : -1;
      const winner = real.reduce((best, tap) => (sign * tap.value > sign * best.value ? tap : best));
      return { taps, winner, result: winner.value };
    }
    const total = sum(real.map((tap) => tap.value));
    if (step.operation === "sum") return { taps, total, result: total };
    const counted = taps.flat().filter((tap) => tap.kind === "real" || (step.counts_padding && tap.kind === "padding"));
    const divisor = step.divisor || counted.length;
    return { taps, total, divisor, result: total / divisor };
  },

  linear(step, before, { c }) {
    const inputs = step.weight.shape[1];
    const parts = Array.from({ length: inputs }, (_, i) => {
      const value = before.values[i], weight = step.weight[c * inputs + i];
      return { index: i, value, weight, product: value * weight };
    });
    return { parts, bias: step.bias[c], result: sum(parts.map((part) => part.product)) + step.bias[c] };
  },

  affine(step, before, { c, y, x }) {
    const given = at(before, c, y, x);
    return { given, result: (given - step.mean[c]) * step.factor[c] + step.shift[c] };
  },

  softmax(step, before, { c }) {
    const most = Math.max(...before.values);
    const powers = Array.from(before.values, (value) => Math.exp(value - most));
    return { most, powers, total: sum(powers), result: powers[c] / sum(powers) };
  },

  flatten(step, before, { c }) {
    const source = unravel(before, c);
    return { source, result: at(before, source.c, source.y, source.x) };
  },
};

// How the number at `place` of a step came about; `result` is computed here, in double precision, from what the kernels
// read. Where the arithmetic isn't known here, it is the kernels' number.
function explain(step, place) {
  const before = steps[step.index - 1];
  const known = before && arithmetic[step.kind];
  const value = at(step, place.c, place.y, place.x);
  return { value, result: value, ...(known ? known(step, before, place) : {}) };
}

const largest = (list, score) => list.reduce((best, item) => (score(item) > score(best) ? item : best));

// The number of the step before that contributed most to this one.
function origin(step, place) {
  const before = steps[step.index - 1], how = explain(step, place);
  if (step.kind === "conv") {
    const taps = how.parts.flatMap((part) => part.taps.flat().filter((tap) => tap.kind === "real")
      .map((tap) => ({ ...tap, c: part.c })));
    if (!taps.length) return element(0, 0, 0);
    const tap = largest(taps, (one) => Math.abs(one.product));
    return element(tap.c, tap.y, tap.x);
  }
  if (step.kind === "pool") {
    const tap = how.winner || largest(how.taps.flat().filter((one) => one.kind === "real"), (one) => Math.abs(one.value));
    return element(place.c, tap.y, tap.x);
  }
  if (step.kind === "linear") return unravel(before, largest(how.parts, (part) => Math.abs(part.product)).index);
  if (step.kind === "flatten") return how.source;
  return clamp(before, place);
}

// A number of the next step that this one has a part in.
function destination(step, place) {
  const next = steps[step.index + 1];
  if (next.kind === "flatten") return element((place.c * step.height + place.y) * step.width + place.x, 0, 0);
  if (next.kind === "linear") return element(strongest(next), 0, 0);
  if (next.kind !== "conv" && next.kind !== "pool") return clamp(next, place);
  const [y, x] = [place.y, place.x].map((position, axis) => {
    const middle = (next.taps[axis][0].length - 1) / 2;
    const uses = next.taps[axis].flatMap((taps, output) => taps.map((tap, t) => ({ tap, output, off: Math.abs(t - middle) })))
      .filter((use) => use.tap === position);
    return uses.length ? largest(uses, (use) => -use.off).output : 0;
  });
  if (next.kind === "pool") return element(place.c, y, x);
  const maps = Array.from({ length: next.maps }, (_, c) => c);
  return element(largest(maps, (c) => at(next, c, y, x)), y, x);
}

function clamp(step, { c, y, x }) {
  return element(Math.min(c, step.maps - 1), Math.min(y, step.height - 1), Math.min(x, step.width - 1));
}

// The index of the largest number of a vector.
const strongest = (step) => step.values.indexOf(step.values.reduce((most, value) => Math.max(most, value)));
const className = (index) => page.classes[index] ?? `output ${index}`;
// Whether the numbers of a step belong to the classes.
const isClasses = (step) => step.vector && step.maps === page.classes.length && step.kind !== "flatten";
