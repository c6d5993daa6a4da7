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

// The steps that this one is made of, and those that are made of it.
const sources = (step) => step.sources.map((index) => steps[index]);
const before = (step) => steps[step.sources[0]];
const readers = (step) => steps.filter((other) => other.sources.includes(step.index));
const isMeeting = (step) => step.kind === "sum" || step.kind === "join";

const at = (step, c, y, x) => step.values[(c * step.height + y) * step.width + x];
const element = (c, y, x) => ({ c, y, x });
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// Of a flat index, its place in the maps of a step.
function unravel(step, index) {
  const plane = step.height * step.width;
  return element(Math.floor(index / plane), Math.floor((index % plane) / step.width), index % step.width);
}

// The taps of one output pixel on one map of the step before: rows of {value, y, x, kind}.
function patch(step, from, c, y, x) {
  return step.taps[0][y].map((row) => step.taps[1][x].map((column) => {
    if (row === -2 || column === -2) return { kind: "nothing", value: 0 };
    if (row === -1 || column === -1) return { kind: "padding", value: 0 };
    return { kind: "real", value: at(from, c, row, column), y: row, x: column };
  }));
}

const arithmetic = {
  conv(step, from, { c, y, x }) {
    const [outputs, inputs, rows, columns] = step.weight.shape;
    const first = Math.floor(c / (outputs / step.groups)) * inputs;
    const parts = Array.from({ length: inputs }, (_, i) => {
      const taps = patch(step, from, first + i, y, x).map((line, r) => line.map((tap, s) => {
        const weight = step.weight[((c * inputs + i) * rows + r) * columns + s];
        return { ...tap, weight, product: tap.kind === "real" ? tap.value * weight : 0 };
      }));
      return { c: first + i, taps, sum: sum(taps.flat().map((tap) => tap.product)) };
    });
    return { parts, bias: step.bias[c], result: sum(parts.map((part) => part.sum)) + step.bias[c] };
  },

  pool(step, from, { c, y, x }) {
    const taps = patch(step, from, c, y, x);
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

  linear(step, from, { c }) {
    const inputs = step.weight.shape[1];
    const parts = Array.from({ length: inputs }, (_, i) => {
      const value = from.values[i], weight = step.weight[c * inputs + i];
      return { index: i, value, weight, product: value * weight };
    });
    return { parts, bias: step.bias[c], result: sum(parts.map((part) => part.product)) + step.bias[c] };
  },

  affine(step, from, { c, y, x }) {
    const given = at(from, c, y, x);
    return { given, result: (given - step.mean[c]) * step.factor[c] + step.shift[c] };
  },

  softmax(step, from, { c }) {
    const most = Math.max(...from.values);
    const powers = Array.from(from.values, (value) => Math.exp(value - most));
    return { most, powers, total: sum(powers), result: powers[c] / sum(powers) };
  },

  flatten(step, from, { c }) {
    const source = unravel(from, c);
    return { source, result: at(from, source.c, source.y, source.x) };
  },

  sum(step, _, { c, y, x }) {
    const parts = sources(step).map((from) => at(from, c, y, x));
    return { parts, result: sum(parts) };
  },

  join(step, _, { c, y, x }) {
    let branch = 0, map = c;
    while (map >= sources(step)[branch].maps) map -= sources(step)[branch++].maps;
    return { branch, map, result: at(sources(step)[branch], map, y, x) };
  },
};

// How the number at `place` of a step came about; `result` is computed here, in double precision, from what the kernels
// read. Where the arithmetic isn't known here, it is the kernels' number.
function explain(step, place) {
  const known = step.sources.length && arithmetic[step.kind];
  const value = at(step, place.c, place.y, place.x);
  return { value, result: value, ...(known ? known(step, before(step), place) : {}) };
}

const largest = (list, score) => list.reduce((best, item) => (score(item) > score(best) ? item : best));

// The number of a step before that contributed most to this one: {step, place}.
function origin(step, place) {
  const how = explain(step, place);
  if (step.kind === "sum") {
    const share = (from) => Math.abs(at(from, place.c, place.y, place.x));
    return { step: largest(sources(step), share), place };
  }
  if (step.kind === "join") return { step: sources(step)[how.branch], place: element(how.map, place.y, place.x) };
  return { step: before(step), place: originPlace(step, place, how) };
}

function originPlace(step, place, how) {
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
  if (step.kind === "linear") return unravel(before(step), largest(how.parts, (part) => Math.abs(part.product)).index);
  if (step.kind === "flatten") return how.source;
  return clamp(before(step), place);
}

// A number of `next`, which is made of this step, that this number has a part in.
function destination(step, place, next) {
  if (next.kind === "flatten") return element((place.c * step.height + place.y) * step.width + place.x, 0, 0);
  if (next.kind === "linear") return element(strongest(next), 0, 0);
  if (next.kind === "join") {
    const ahead = sources(next).slice(0, next.sources.indexOf(step.index));
    return element(place.c + sum(ahead.map((from) => from.maps)), place.y, place.x);
  }
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

// Where branches meet at a step, or part behind it: {name, meets, to, target} for each way.
function ways(step, place) {
  const back = !isMeeting(step) ? [] : sources(step).map((to, k) => ({
    name: step.branches[k][0], meets: true, to, target: clamp(to, wayBack(step, place, k)),
  }));
  const on = readers(step);
  return back.concat(on.length < 2 ? [] : on.map((to) => (
    { name: branchTo(step, to), meets: false, to, target: destination(step, place, to) })));
}

function wayBack(step, place, k) {
  const { branch, map } = explain(step, place);
  return step.kind === "sum" ? place : element(branch === k ? map : 0, place.y, place.x);
}

// The name of the branch by which a step is reached from one in front of the fork.
function branchTo(step, next) {
  if (isMeeting(next)) return next.branches[next.sources.indexOf(step.index)][0];
  const entered = steps.filter(isMeeting).flatMap((other) => other.branches)
    .filter(([, first, end]) => step.index < first && first <= next.index && next.index < end);
  return largest(entered, ([, first, end]) => first - end)[0];
}

function clamp(step, { c, y, x }) {
  return element(Math.min(c, step.maps - 1), Math.min(y, step.height - 1), Math.min(x, step.width - 1));
}

// The index of the largest number of a vector.
const strongest = (step) => step.values.indexOf(step.values.reduce((most, value) => Math.max(most, value)));
const className = (index) => page.classes[index] ?? `output ${index}`;
// Whether the numbers of a step belong to the classes.
const isClasses = (step) => step.vector && step.maps === page.classes.length && step.kind !== "flatten";
