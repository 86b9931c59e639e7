// Move the picture: does its feature map move along? f = Sobel, ReLU, then every s-th pixel in one of three ways.
// Arrays are flat, row by row; T moves positions on the torus, what leaves on one side enters on the other.
export const KERNEL = [-1, 0, 1, -2, 0, 2, -1, 0, 1].map((weight) => weight / 4);
export const REACH = 8;
const mod = (i, n) => ((i % n) + n) % n;

// The index that padding reads for position i outside 0..n-1; -1 stands for a zero.
function source(i, n, padding) {
  if (i >= 0 && i < n) return i;
  if (padding === "circular") return mod(i, n);
  if (padding === "zeros") return -1;
  return i < 0 ? -i : 2 * (n - 1) - i; // reflect, without repeating the edge
}

export function translate(x, height, width, dy, dx) {
  return Array.from({ length: height * width }, (_, index) => {
    const i = Math.floor(index / width), j = index % width;
    return x[mod(i - dy, height) * width + mod(j - dx, width)];
  });
}

// Cross-correlation with a k x k kernel, keeping every stride-th row and column.
export function correlate(x, height, width, kernel, stride, padding) {
  const k = Math.round(Math.sqrt(kernel.length)), before = Math.floor((k - 1) / 2);
  const rows = Math.ceil(height / stride), columns = Math.ceil(width / stride), out = new Array(rows * columns).fill(0);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
    for (let a = 0; a < k; a++) for (let b = 0; b < k; b++) {
      const row = source(i * stride + a - before, height, padding);
      const column = source(j * stride + b - before, width, padding);
      if (row >= 0 && column >= 0) out[i * columns + j] += kernel[a * k + b] * x[row * width + column];
    }
  }
  return out;
}

export function blurKernel(width) {
  let row = [1];
  for (let n = 1; n < width; n++) row = [...row, 0].map((value, i) => value + (row[i - 1] ?? 0));
  const sum = 2 ** (width - 1);
  return row.flatMap((a) => row.map((b) => (a * b) / sum ** 2));
}

export function maxPool(x, height, width, stride) {
  const rows = Math.floor(height / stride), columns = Math.floor(width / stride);
  return Array.from({ length: rows * columns }, (_, index) => {
    const i = Math.floor(index / columns) * stride, j = (index % columns) * stride;
    let best = -Infinity;
    for (let a = 0; a < stride; a++) for (let b = 0; b < stride; b++) best = Math.max(best, x[(i + a) * width + j + b]);
    return best;
  });
}

// shrink: "stride" keeps every stride-th pixel; "max" and "blur" halve, and halve again for stride 4, as a network does
export function featureMap(x, height, width, shrink, stride, padding) {
  const border = padding === "zeros" ? "reflect" : padding;
  let map = correlate(x, height, width, KERNEL, 1, padding).map((value) => Math.max(value, 0));
  if (shrink === "stride") return correlate(map, height, width, [1], stride, border);
  for (let done = 1; done < stride; done *= 2) {
    const rows = height / done, columns = width / done;
    map = shrink === "max" ? maxPool(map, rows, columns, 2) : correlate(map, rows, columns, blurKernel(3), 2, border);
  }
  return map;
}

// Move a map by a fraction of a pixel: along each axis a phase in its Fourier transform, summed up in closed form.
export function fractionalShift(x, height, width, dy, dx) {
  const weights = (n, d) => Array.from({ length: n }, (_, m) => {
    let sum = 0;
    for (let k = -Math.floor(n / 2); k < Math.ceil(n / 2); k++) sum += Math.cos((2 * Math.PI * k * (m - d)) / n);
    return sum / n;
  });
  const down = weights(height, dy), right = weights(width, dx), half = new Array(height * width).fill(0), out = [...half];
  for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) {
    for (let m = 0; m < height; m++) half[i * width + j] += down[mod(i - m, height)] * x[m * width + j];
  }
  for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) {
    for (let m = 0; m < width; m++) out[i * width + j] += right[mod(j - m, width)] * half[i * width + m];
  }
  return out;
}

const norm = (x) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));

// A shift in words, and the size of a difference compared with f(x).
export function inWords(dy, dx) {
  return `${Math.abs(dy)} ${dy < 0 ? "up" : "down"}, ${Math.abs(dx)} ${dx < 0 ? "left" : "right"}`;
}
export function ofSize(error) {
  if (error > 1) return `${error.toFixed(1)} times the size of f(x)`;
  return `${error < 5e-7 ? "0" : (100 * error).toFixed(1)} % of the size of f(x)`;
}

// f(Tx), T'f(x), their difference, its size as a share of |f(x)|, and the share of positions that differ.
export function compare(x, height, width, dy, dx, shrink, stride, padding) {
  const rows = height / stride, columns = width / stride;
  const plain = featureMap(x, height, width, shrink, stride, padding);
  const ofMoved = featureMap(translate(x, height, width, dy, dx), height, width, shrink, stride, padding);
  const whole = dy % stride === 0 && dx % stride === 0;
  const moved = (whole ? translate : fractionalShift)(plain, rows, columns, dy / stride, dx / stride);
  const difference = ofMoved.map((value, i) => Math.abs(value - moved[i])), top = Math.max(...plain.map(Math.abs), 1e-12);
  const differing = difference.filter((value) => value > 1e-6 * top).length / difference.length;
  return { ofMoved, moved, difference, top, whole, differing, error: norm(difference) / Math.max(norm(plain), 1e-12) };
}

export default {
  render({ model, el }) {
    const { controls, picture, readout } = cv.mount(el);
    const { shape, data } = cv.array(model.get("image"));
    const [height, width] = shape, x = Array.from(data, (value) => value / 255);
    const accuracy = model.get("accuracy");
    const pixels = (n) => `${n} ${Math.abs(n) === 1 ? "pixel" : "pixels"}`;
    controls.append(
      cv.slider(model, { key: "dx", label: "Shift right", min: -REACH, max: REACH, format: pixels }),
      cv.slider(model, { key: "dy", label: "Shift down", min: -REACH, max: REACH, format: pixels }),
      cv.select(model, { key: "sampling", label: "The map keeps", options: [
        ["stride 1", "every pixel"], ["stride 2", "every 2nd pixel"], ["max 2", "maximum of 2×2"],
        ["blur 2", "blur, then every 2nd"], ["stride 4", "every 4th pixel"], ["max 4", "maximum of 2×2, twice"],
        ["blur 4", "blur, then every 2nd, twice"]] }),
    );
    if (!accuracy) { // those networks pad circularly
      controls.append(cv.select(model, { key: "padding", label: "Padding", options: [["circular", "circular (torus)"], "zeros"] }));
    }

    const panel = (element, caption) => cv.html("figure", { style: "flex:1 1 130px;max-width:220px" }, element, caption);
    const caption = () => cv.html("figcaption", {});
    const wide = "width:100%;height:auto";
    const input = cv.canvas(width, height, "The moved input, sampled pixels marked");
    input.style.cssText = wide;
    const handle = cv.draggable(cv.html("div", {}, input), {
      label: "Drag the picture, or move it with the arrow keys",
      unit: () => Math.max(input.getBoundingClientRect().width / width, 1),
      move(right, down) {
        const limit = (value) => Math.min(REACH, Math.max(-REACH, value));
        model.set("dx", limit(+model.get("dx") + right));
        model.set("dy", limit(+model.get("dy") + down));
        model.save_changes();
      },
    });
    const captions = [caption(), caption(), caption(), caption()];
    const names = ["Map of the moved input", "Moved map of the input", "Difference of the two maps"];
    const maps = names.map((name) => {
      const canvas = cv.canvas(width, height, name);
      canvas.style.cssText = wide;
      return canvas;
    });
    picture.append(panel(handle, captions[0]), ...maps.map((map, i) => panel(map, captions[i + 1])));
    const plot = accuracy && cv.html("figure", { style: "flex:1 1 100%" });
    if (plot) picture.append(plot);

    function paintInput(dy, dx, stride) {
      const moved = translate(x, height, width, dy, dx), rgb = new Array(3 * height * width);
      const strength = stride === 2 ? 0.45 : 0.8; // a dense grid must not hide the picture
      moved.forEach((value, i) => {
        const kept = stride > 1 && Math.floor(i / width) % stride === 0 && (i % width) % stride === 0;
        [255, 170, 0].forEach((tint, c) => { rgb[3 * i + c] = kept ? (1 - strength) * 255 * value + strength * tint : 255 * value; });
      });
      cv.paint(input, rgb, 3);
    }

    function draw() {
      const dy = +model.get("dy"), dx = +model.get("dx"), padding = model.get("padding");
      const [shrink, s] = model.get("sampling").split(" "), stride = +s;
      const result = compare(x, height, width, dy, dx, shrink, stride, padding);
      paintInput(dy, dx, stride);
      const rows = height / stride, columns = width / stride;
      for (const map of maps) [map.width, map.height] = [columns, rows];
      const grey = (value) => 255 * Math.sqrt(Math.min(Math.max(value / result.top, 0), 1)); // brighter dark tones
      cv.paint(maps[0], result.ofMoved.map(grey));
      cv.paint(maps[1], result.moved.map(grey));
      const red = result.difference.flatMap((value) => {
        const level = Math.min(1, Math.sqrt(value / result.top));
        return value > 1e-6 * result.top ? [60 + 195 * level, 150 * level, 90 * level] : [0, 0, 0];
      });
      cv.paint(maps[2], red, 3);
      const amount = ofSize(result.error);
      captions[0].textContent = stride > 1 ? `Tx, drag it. Amber: the ${rows}×${columns} pixels a stride of ${stride} starts from` : "Tx: the moved input. Drag it";
      captions[1].textContent = `f(Tx): its map, ${rows}×${columns}`;
      captions[2].textContent = `T f(x): the first map, moved ${inWords(dy / stride, dx / stride)}${result.whole ? "" : " (interpolated)"}`;
      captions[3].textContent = `f(Tx) − T f(x): ${amount}`;
      const border = padding === "zeros" ? " Zero padding changes the border." : "";
      const aliased = result.whole ? "" : ` The shift is no multiple of the stride ${stride}, so the map sees other samples`
        + (result.error > 1 ? ", here quite unlike the first." : ".");
      const why = dy === 0 && dx === 0 ? " Nothing has moved yet: drag the picture." : border + aliased;
      readout.textContent = `Shift ${inWords(dy, dx)}: the maps differ at ${Math.round(100 * result.differing)} % of the positions, ` +
        `by ${amount}.` + (result.error < 5e-7 && (dy || dx) ? " They agree: f commutes with this shift." : why);
      if (plot) plot.replaceChildren(...curves(accuracy, dy, dx));
    }
    for (const key of ["dx", "dy", "sampling", "padding"]) model.on("change:" + key, draw);
    draw();
  },
};

// Accuracy of a trained network at a shift, from one measured period (rows dy, columns dx).
export function accuracyAt(grid, dy, dx) {
  return grid[mod(dy, grid.length)][mod(dx, grid[0].length)];
}

// The measured curves along dx, for the current dy, with a marker at the current dx.
function curves(accuracy, dy, dx) {
  const left = 44, right = 250, top = 12, bottom = 168, high = 0.9;
  const low = Math.floor(10 * Math.min(...Object.values(accuracy).flat(2))) / 10;
  const px = (shift) => left + ((shift + REACH) / (2 * REACH)) * (right - left);
  const py = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const shifts = Array.from({ length: 2 * REACH + 1 }, (_, i) => i - REACH);
  const root = cv.svg("svg", { viewBox: "0 0 400 212", role: "img", style: "width:100%;max-width:470px",
    "aria-label": "Accuracy of four trained networks against the shift to the right, at the current shift down" });
  for (let value = high; value > low - 0.05; value -= 0.1) {
    root.append(cv.svg("line", { x1: left, x2: right, y1: py(value), y2: py(value), style: "stroke:var(--line);opacity:.35" }),
      cv.svg("text", { x: left - 6, y: py(value) + 4, "text-anchor": "end" }, Math.round(100 * value) + " %"));
  }
  for (const shift of [-8, -4, 0, 4, 8]) {
    root.append(cv.svg("line", { x1: px(shift), x2: px(shift), y1: top, y2: bottom, style: "stroke:var(--line);opacity:.35" }),
      cv.svg("text", { x: px(shift), y: bottom + 17, "text-anchor": "middle" }, String(shift).replace("-", "−")));
  }
  root.append(cv.svg("text", { x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" }, `shift right in pixels, at ${String(dy).replace("-", "−")} down`),
    cv.svg("line", { x1: px(dx), x2: px(dx), y1: top, y2: bottom, style: "stroke:var(--ink);stroke-width:1.5;stroke-dasharray:4 3" }));
  const rows = [["stride", "strided", "--red", ""], ["max", "max-pool", "--green", "5 3"], ["blur", "blur", "--blue", "2 2"],
    ["maxblur", "max + blur", "--ink", "8 3 2 3"]].filter(([name]) => accuracy[name]);
  const here = rows.map(([name]) => accuracyAt(accuracy[name], dy, dx));
  const order = here.map((_, i) => i).sort((a, b) => here[b] - here[a]);
  let last = -Infinity;
  for (const i of order) {
    const [name, text, color, dash] = rows[i];
    const points = shifts.map((shift) => `${px(shift)},${py(accuracyAt(accuracy[name], dy, shift))}`).join(" ");
    last = Math.max(py(here[i]) + 4, last + 17);
    root.append(
      cv.svg("polyline", { points, style: `fill:none;stroke:var(${color});stroke-width:2;stroke-dasharray:${dash || "none"}` }),
      cv.svg("circle", { cx: px(dx), cy: py(here[i]), r: 4.5, style: `fill:var(${color})` }),
      cv.svg("text", { x: right + 10, y: last, style: `fill:var(${color});font-weight:600` }, `${text} ${(100 * here[i]).toFixed(1)} %`));
  }
  return [root, cv.html("figcaption", {}, "Accuracy on 2 000 moved test images (networks of total stride 4, trained without moving any). Lines every 4 pixels: their period.")];
}
