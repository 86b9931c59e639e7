// How convolution is computed: patches become columns (view "columns"), and what each method costs (view "cost").

// Output positions along one side, without padding.
export function outputs(size, k) { return size - k + 1; }

// The image as numbers: a digit for each channel, row and column.
export function pixel(channel, row, column) {
  return (7 * row * row + 3 * column * column + 5 * row * column + row * row * column + 2 * row + 9 * column +
    channel * (3 * row + column + 4)) % 10;
}

// The weights: right minus left, bottom minus top, a sum, a diagonal; each next channel starts one later.
export function weight(kernel, channel, row, column, k) {
  const edge = (at) => (at === k - 1) - (at === 0);
  return [edge(column), edge(row), 1, Number(row === column)][(kernel + channel) % 4];
}

// The top-left pixel of the patch at a step (0, 1, …), row by row.
export function patch(step, size, k) {
  const n = outputs(size, k);
  return { row: Math.floor(step / n), column: step % n };
}

// The matrix of patches: row (channel, i, j), column = step.
export function columns(size, k, channels) {
  const n = outputs(size, k), matrix = [];
  for (let c = 0; c < channels; c++) for (let i = 0; i < k; i++) for (let j = 0; j < k; j++) {
    matrix.push(Array.from({ length: n * n }, (_, s) => pixel(c, Math.floor(s / n) + i, (s % n) + j)));
  }
  return matrix;
}

// The matrix of kernels: one kernel in a row, channel by channel.
export function rows(k, channels, kernels) {
  return Array.from({ length: kernels }, (_, o) => Array.from({ length: channels * k * k }, (_, r) =>
    weight(o, Math.floor(r / (k * k)), Math.floor((r % (k * k)) / k), r % k, k)));
}

export function product(left, right) {
  return left.map((row) => right[0].map((_, j) => row.reduce((sum, value, i) => sum + value * right[i][j], 0)));
}

// The next length with no prime factor above 5.
export function fastLength(length) {
  for (;; length++) {
    let rest = length;
    for (const prime of [2, 3, 5]) while (rest % prime === 0) rest /= prime;
    if (rest === 1) return length;
  }
}

// Multiplications, and bytes of float32 stored besides image, kernels and result; null where a method does not apply.
// `side` is the side of the output, `batch` images share the kernels. A transform of n real values counts n log2(n)
// multiplications, a complex product 4.
export function costs({ side, k, channels, kernels, batch }) {
  const positions = batch * side * side, pairs = channels * kernels;
  const direct = positions * pairs * k * k;
  const tiles = batch * Math.ceil(side / 2) ** 2;
  const n = fastLength(side + k - 1), half = n * (Math.floor(n / 2) + 1);
  const planes = batch * channels + pairs + batch * kernels;
  return {
    direct: { multiplications: direct, bytes: 0 },
    im2col: { multiplications: direct, bytes: 4 * positions * channels * k * k },
    winograd: k !== 3 ? null :
      { multiplications: 16 * tiles * pairs, bytes: 4 * 16 * (tiles * channels + pairs + tiles * kernels) },
    fft: {
      multiplications: Math.round(planes * n * n * Math.log2(n * n)) + 4 * batch * half * pairs,
      bytes: 8 * half * planes,
    },
  };
}

const three = (value) => Number(value.toPrecision(3));

// A number in three digits: 1234567 is "1.23 million".
export function words(value) {
  if (value < 10000) return String(Math.round(value * 100) / 100);
  for (const [size, name] of [[1e12, " trillion"], [1e9, " billion"], [1e6, " million"], [1e3, " thousand"]]) {
    if (value >= size) return three(value / size) + name;
  }
}
export function memory(bytes) {
  for (const [size, name] of [[1e9, " GB"], [1e6, " MB"], [1e3, " kB"]]) {
    if (bytes >= size) return three(bytes / size) + name;
  }
  return bytes + " bytes";
}

const METHODS = { direct: "direct", im2col: "im2col", winograd: "Winograd F(2×2, 3×3)", fft: "FFT" };

// A number with a true minus sign.
const minus = (value) => (value < 0 ? "−" + -value : String(value));

// A grid of numbers; tint(value) in 0..1 colors a cell; pick(row, column) is called on hover and tap.
function grid(matrix, cell, label, tint, pick) {
  const height = matrix.length, width = matrix[0].length;
  const picture = cv.svg("svg", {
    viewBox: `-2 -2 ${width * cell + 4} ${height * cell + 4}`,
    width: width * cell + 4, role: "img", "aria-label": label,
  });
  matrix.forEach((line, i) => line.forEach((value, j) => {
    const place = { x: j * cell, y: i * cell, width: cell, height: cell };
    const size = Math.round(cell * [0.6, 0.52, 0.44][Math.min(3, minus(value).length) - 1]);
    picture.append(
      cv.svg("rect", { ...place, fill: "var(--panel)", stroke: "var(--line)", "stroke-width": 0.5 }),
      cv.svg("rect", { ...place, fill: "var(--sky)", "fill-opacity": tint(value) }),
      cv.svg("text", { x: (j + 0.5) * cell, y: (i + 0.5) * cell, "text-anchor": "middle", "dominant-baseline": "central",
        style: `font-size:${size}px;pointer-events:none` }, minus(value)));
  }));
  const find = (event) => {
    const box = picture.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left) / box.width * width);
    const i = Math.floor((event.clientY - box.top) / box.height * height);
    if (i >= 0 && j >= 0 && i < height && j < width) pick(i, j);
  };
  if (pick) for (const event of ["pointermove", "pointerdown"]) picture.addEventListener(event, find);
  return picture;
}

// A wide grid shrinks to cells of 14 pixels, which can still be read, and scrolls where that is too wide.
function wide(picture, columns) {
  picture.style.minWidth = 14 * columns + "px";
  return cv.html("div", { style: "overflow-x:auto" }, picture);
}

const titled = (title, ...children) => cv.html("figure", {}, cv.html("figcaption", {}, title), ...children);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function showColumns(model, parts) {
  const state = () => {
    const size = +model.get("size"), k = +model.get("kernel"), n = outputs(size, k);
    const step = Math.min(+model.get("step"), n * n - 1);
    return { size, k, n, step, channels: +model.get("channels"), kernels: +model.get("kernels") };
  };
  const go = (step) => { if (step !== state().step) { model.set("step", step); model.save_changes(); } };
  const stepper = cv.slider(model, { key: "step", label: "Patch", min: 0, max: 48,
    format: (step) => `${step + 1} of ${state().n ** 2}` });
  parts.controls.append(stepper,
    cv.slider(model, { key: "size", label: "Image side", min: 4, max: 7 }),
    cv.slider(model, { key: "kernel", label: "Kernel side", min: 1, max: 4 }),
    cv.slider(model, { key: "channels", label: "Channels", min: 1, max: 3 }),
    cv.slider(model, { key: "kernels", label: "Kernels", min: 1, max: 4 }));
  let follow = () => {};

  function draw() {
    const { size, k, channels, kernels, n } = state();
    stepper.querySelector("input").max = n * n - 1;
    model.set("step", state().step);
    const X = columns(size, k, channels), W = rows(k, channels, kernels), Y = product(W, X);
    const cell = 26, large = 32, small = X.length > 12 || n > 4 ? 15 : 22, frames = [];
    const gray = (value) => value / 9, sign = (value) => (value + 1) / 2;
    const range = Math.max(1, ...Y.flat().map(Math.abs)), shade = (value) => Math.abs(value) / range;
    // A red frame of height x width cells that follows the patch: where(row, column, step) gives its corner.
    const framed = (picture, unit, height, width, where) => {
      const box = cv.svg("rect", { width: width * unit, height: height * unit, fill: "transparent",
        stroke: "var(--red)", "stroke-width": 3, style: "pointer-events:none" });
      frames.push((row, column, step) => {
        const [i, j] = where(row, column, step);
        box.setAttribute("y", i * unit);
        box.setAttribute("x", j * unit);
      });
      picture.append(box);
      return box;
    };
    const side = () => cv.html("div", { style: "display:flex;flex-wrap:wrap;gap:.5rem" });
    const images = side(), maps = side();
    for (let c = 0; c < channels; c++) {
      const values = Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => pixel(c, i, j)));
      const picture = grid(values, large, `channel ${c + 1} of the image`, gray);
      const box = framed(picture, large, k, k, (row, column) => [row, column]);
      if (c === 0) {
        box.style.pointerEvents = "all";
        picture.setAttribute("role", "group"); // an img may not hold something to focus
        cv.draggable(box, {
          label: "Patch: drag it, or use the arrow keys",
          unit: () => picture.getBoundingClientRect().width / size,
          move(dx, dy) {
            const clip = (value) => Math.max(0, Math.min(n - 1, value)), now = patch(state().step, size, k);
            go(clip(now.row + dy) * n + clip(now.column + dx));
          },
        });
      }
      images.append(picture);
    }
    const left = grid(W, small, "matrix of kernels, one in each row", sign);
    const right = grid(X, small, "matrix of patches, one in each column", gray, (_, j) => go(j));
    framed(right, small, X.length, 1, (row, column, step) => [0, step]);
    const result = grid(Y, cell, "product of both matrices", shade, (_, j) => go(j));
    framed(result, cell, kernels, 1, (row, column, step) => [0, step]);
    Y.forEach((line, o) => {
      const map = Array.from({ length: n }, (_, i) => line.slice(i * n, (i + 1) * n));
      const picture = grid(map, cell, `output map ${o + 1}`, shade, (i, j) => go(i * n + j));
      framed(picture, cell, 1, 1, (row, column) => [row, column]);
      maps.append(picture);
    });
    parts.picture.replaceChildren(
      titled(`Image, ${plural(channels, "channel")} of ${size}×${size}`, images),
      titled(`Kernels as rows, ${kernels}×${X.length}`, wide(left, X.length)),
      titled(`Patches as columns, ${X.length}×${n * n}`, wide(right, n * n)),
      titled(`Their product, ${kernels}×${n * n}`, wide(result, n * n)),
      titled(`Each row, folded into a map of ${n}×${n}`, maps));
    const stored = X.length * n * n, given = channels * size * size;
    follow = () => {
      const { step } = state(), at = patch(step, size, k);
      frames.forEach((place) => place(at.row, at.column, step));
      for (const { parentNode: box } of [right, result]) { // bring the marked column into view
        if (!box.matches(":hover")) box.scrollLeft = box.scrollWidth * (step + 0.5) / (n * n) - box.clientWidth / 2;
      }
      parts.readout.textContent = `Patch ${step + 1} starts at row ${at.row + 1}, column ${at.column + 1}. As a column ` +
        `it reads ${X.map((line) => line[step]).join(", ")}. Times kernel 1 it gives ${minus(Y[0][step])}, one pixel of ` +
        `map 1. All patches together hold ${plural(stored, "number")}, ${three(stored / given)} times the image's ` +
        `${given}; the product takes ${stored * kernels} multiplications.`;
    };
    follow();
  }
  for (const key of ["size", "kernel", "channels", "kernels"]) model.on("change:" + key, draw);
  model.on("change:step", () => follow());
  draw();
}

function showCost(model, parts) {
  const SIDES = [7, 14, 28, 56, 112, 224];
  parts.controls.append(
    cv.slider(model, { key: "kernel", label: "Kernel side", min: 1, max: 31, step: 2 }),
    cv.slider(model, { key: "side", label: "Output side", min: 0, max: 5, format: (i) => `${SIDES[i]} pixels` }),
    cv.slider(model, { key: "channels", label: "Channels in and out", min: 0, max: 9, format: (e) => String(2 ** e) }),
    cv.slider(model, { key: "batch", label: "Images in a batch", min: 0, max: 6, format: (e) => String(2 ** e) }));

  function bars(title, values, say, low, high, ticks) {
    const width = 300, line = 46, x = (power) => (power - low) / (high - low) * width;
    const best = Math.min(...values.filter(([, value]) => value !== null).map(([, value]) => value));
    const heard = values.map(([name, value]) => `${name} ${value === null ? "not possible" : say(value)}`).join(", ");
    const picture = cv.svg("svg", { viewBox: `0 0 ${width} ${4 * line + 16}`, width, role: "img",
      "aria-label": `${title}: ${heard}` });
    values.forEach(([name, value], i) => {
      const length = value ? Math.max(3, x(Math.log10(value))) : 0;
      picture.append(
        cv.svg("text", { x: 0, y: i * line + 14 }, name),
        cv.svg("text", { x: width, y: i * line + 14, "text-anchor": "end" },
          value === null ? "3×3 kernels only" : say(value)),
        cv.svg("rect", { x: 0, y: i * line + 20, width, height: 14, fill: "var(--panel)" }),
        cv.svg("rect", { x: 0, y: i * line + 20, width: length, height: 14,
          fill: value === best ? "var(--green)" : "var(--blue)" }));
    });
    ticks.forEach((name, i) => {
      const at = x(3 * (i + 1));
      values.forEach((_, row) => picture.append(cv.svg("line", { x1: at, x2: at, y1: row * line + 20, y2: row * line + 34,
        stroke: "var(--line)" })));
      picture.append(cv.svg("text", { x: at, y: 4 * line + 8, "text-anchor": "middle", style: "font-size:12px" }, name));
    });
    return titled(title, picture);
  }

  function draw() {
    const k = +model.get("kernel"), side = SIDES[+model.get("side")], channels = 2 ** model.get("channels");
    const batch = 2 ** model.get("batch"), cost = costs({ side, k, channels, kernels: channels, batch });
    const list = (what) => Object.entries(METHODS).map(([key, name]) => [name, cost[key] && cost[key][what]]);
    parts.picture.replaceChildren(
      bars("Multiplications (log scale, least in green)", list("multiplications"), words, 1, 16,
        ["thousand", "million", "billion", "trillion"]),
      bars("Memory besides image, kernels, result", list("bytes"), memory, 1, 14,
        ["1 kB", "1 MB", "1 GB", "1 TB"]));
    const times = (a, b) => three(a >= b ? a / b : b / a), direct = cost.direct.multiplications;
    const spectra = cost.fft.multiplications, tiles = cost.winograd?.multiplications;
    parts.readout.textContent = `im2col stores every input value up to ${k}×${k} = ${k * k} times: ` +
      `${memory(cost.im2col.bytes)} for an input of ${memory(4 * batch * channels * side * side)}. ` +
      (tiles ? `Winograd multiplies ${times(direct, tiles)} times less than direct. ` : "") +
      `The FFT multiplies ${times(direct, spectra)} times ${direct >= spectra ? "less" : "more"} than direct.`;
  }
  for (const key of ["kernel", "side", "channels", "batch"]) model.on("change:" + key, draw);
  draw();
}

export default {
  render({ model, el }) {
    const parts = cv.mount(el);
    (model.get("view") === "cost" ? showCost : showColumns)(model, parts);
  },
};
