// Edit a kernel over a photograph: see the output, and how one output pixel comes about. Brightness runs 0..255.
// A kernel is a flat list of k*k numbers, row by row, with one common divisor.

const K3 = {
  identity: [[0, 0, 0, 0, 1, 0, 0, 0, 0], 1, "clip"],
  "shift left": [[0, 0, 0, 0, 0, 1, 0, 0, 0], 1, "clip"],
  "box blur": [[1, 1, 1, 1, 1, 1, 1, 1, 1], 9, "clip"],
  "Gaussian blur": [[1, 2, 1, 2, 4, 2, 1, 2, 1], 16, "clip"],
  sharpen: [[0, -1, 0, -1, 5, -1, 0, -1, 0], 1, "clip"],
  "edge 4": [[0, -1, 0, -1, 4, -1, 0, -1, 0], 1, "grey"],
  "edge 8": [[-1, -1, -1, -1, 8, -1, -1, -1, -1], 1, "grey"],
  "Sobel x": [[-1, 0, 1, -2, 0, 2, -1, 0, 1], 1, "grey"],
  "Sobel y": [[-1, -2, -1, 0, 0, 0, 1, 2, 1], 1, "grey"],
  emboss: [[-2, -1, 0, -1, 1, 1, 0, 1, 2], 1, "clip"],
};
const K5 = { "box blur": [Array(25).fill(1), 25, "clip"],
  "Gaussian blur": [[1, 4, 6, 4, 1].flatMap((a) => [1, 4, 6, 4, 1].map((b) => a * b)), 256, "clip"] };

export function presetNames() { return Object.keys(K3); }
// { kernel, divisor, display } of a named kernel in size 3 or 5; names without a 5x5 form are framed by zeros.
export function preset(name, size) {
  const [kernel, divisor, display] = (size === 5 && K5[name]) || K3[name];
  return { kernel: resize(kernel, size), divisor, display };
}

// The kernel in another odd size, center on center: zeros around it, or its rim cut off.
export function resize(kernel, size) {
  const old = Math.round(Math.sqrt(kernel.length)), shift = (old - size) / 2, out = [];
  for (let u = 0; u < size; u++) {
    for (let v = 0; v < size; v++) {
      const a = u + shift, b = v + shift;
      out.push(a >= 0 && b >= 0 && a < old && b < old ? kernel[a * old + b] : 0);
    }
  }
  return out;
}

// Half a turn: what tells a convolution from a cross-correlation.
export function flipKernel(kernel) { return [...kernel].reverse(); }

// Where position i of a line of n pixels is read from; -1 means the value 0.
export function source(i, n, padding) {
  if (i >= 0 && i < n) return i;
  if (padding === "replicate") return i < 0 ? 0 : n - 1;
  if (padding === "reflect") return i < 0 ? -i : 2 * (n - 1) - i;
  return -1;
}

// The k*k pixels around (row, col), border filled by `padding`: "zeros", "replicate" or "reflect".
export function windowAt(image, height, width, k, row, col, padding) {
  const out = [], r = (k - 1) / 2;
  for (let u = -r; u <= r; u++) {
    for (let v = -r; v <= r; v++) {
      const i = source(row + u, height, padding), j = source(col + v, width, padding);
      out.push(i < 0 || j < 0 ? 0 : image[i * width + j]);
    }
  }
  return out;
}

// Cross-correlation of a grey image, row by row; with padding "none" the output loses k - 1 rows and columns.
export function correlate(image, height, width, kernel, divisor, padding) {
  const k = Math.round(Math.sqrt(kernel.length)), rim = padding === "none" ? (k - 1) / 2 : 0;
  const values = [];
  for (let row = rim; row < height - rim; row++) {
    for (let col = rim; col < width - rim; col++) {
      const pixels = windowAt(image, height, width, k, row, col, padding);
      let sum = 0;
      for (let t = 0; t < kernel.length; t++) sum += pixels[t] * kernel[t];
      values.push(sum / divisor);
    }
  }
  return { values, height: height - 2 * rim, width: width - 2 * rim };
}

// One value as color [r, g, b]; `top` is the largest absolute value, which the signed displays scale to.
export function shade(value, display, top) {
  const clip = (x) => Math.max(0, Math.min(255, Math.round(x)));
  if (display === "clip") return Array(3).fill(clip(value));
  const t = top > 0 ? Math.max(-1, Math.min(1, value / top)) : 0;
  if (display === "grey") return Array(3).fill(clip(127.5 + 127.5 * t));
  if (display === "size") return Array(3).fill(clip(255 * Math.abs(t)));
  const end = t < 0 ? [5, 78, 150] : [176, 38, 10];
  return end.map((e) => clip(250 + (e - 250) * Math.abs(t)));
}

// A number in few characters, with a true minus sign.
export function format(x) {
  const text = Number.isInteger(x) ? String(x) : Math.abs(x) >= 100 ? x.toFixed(0) : String(+x.toFixed(2));
  return text.replace("-", "−").replace(/^−0$/, "0");
}

const DISPLAYS = [["clip", "Clip them to black"], ["grey", "Mid-grey is 0"], ["color", "Blue −, red +"], ["size", "Forget the sign"]];
const PADDINGS = [["zeros", "Zeros"], ["replicate", "The edge, repeated"], ["reflect", "The picture, mirrored"],
  ["none", "Nothing: output shrinks"]];
const STYLE = `
.kp { container-type:inline-size; width:100%; }
.kp-chips { display:flex; flex-wrap:wrap; gap:.35rem; width:100%; }
.cv-fig .kp-chips button { border-radius:17px; padding:.1rem .75rem; font-size:14px; }
.kp-photos { display:grid; grid-template-columns:1fr auto 1fr; gap:.3rem .7rem; align-items:center; }
.kp-photos > figure { margin:0; min-width:0; }
.kp-op { font-size:24px; color:var(--soft); text-align:center; line-height:1.2; } .kp-op > small { display:block; font-size:14px; }
.kp-hold { position:relative; line-height:0; border-radius:6px; }
.cv-fig .kp-hold, .cv-fig .kp-hold[data-cv-drag] { touch-action:pan-y; cursor:crosshair; }
.cv-fig .kp-hold canvas { width:100%; border-radius:6px; }
.kp-probe { position:absolute; border:2px solid #ffb000; outline:1px solid #000; pointer-events:none;
  box-sizing:content-box; margin:-3px 0 0 -3px; padding:1px; }
.kp-bar { height:9px; border-radius:3px; border:1px solid var(--line); }
.kp-scale { font-size:14px; color:var(--soft); display:flex; justify-content:space-between; gap:.5em; font-variant-numeric:tabular-nums; }
.kp-sums { display:flex; flex-wrap:wrap; gap:.8rem .5rem; align-items:center; justify-content:center; margin-top:1rem; }
.kp-part { display:flex; flex-direction:column; gap:.3rem; align-items:center; }
.kp-part > span { font-size:14px; color:var(--soft); text-align:center; }
.kp-grid { display:grid; gap:2px; font-size:13px; font-variant-numeric:tabular-nums; } .kp-grid.kp-small { font-size:11.5px; }
.kp-cell { display:flex; align-items:center; justify-content:center; height:34px; border-radius:3px; }
.cv-fig .kp-grid input { box-sizing:border-box; width:100%; height:34px; min-height:34px; padding:0; margin:0; text-align:center;
  border-radius:3px; font-size:14px; } .kp input[type=number] { appearance:textfield; -moz-appearance:textfield; }
.kp input::-webkit-inner-spin-button { -webkit-appearance:none; margin:0; } .kp button:disabled { opacity:.6; cursor:default; }
.cv-fig .kp-grid input.kp-on { border:2px solid var(--amber); }
.kp-row { display:flex; gap:.4rem; align-items:center; justify-content:center; font-variant-numeric:tabular-nums; }
.cv-fig .kp-row button { min-width:44px; font-size:18px; padding:0; } .cv-fig .kp-row input { width:4em; padding:0; text-align:center; }
.kp-value { font-size:21px; } .kp-swatch { width:34px; height:34px; border-radius:6px; border:1px solid var(--line); }
.cv-fig .kp-wide { font-size:13px; padding:.1rem .5rem; } .kp > .cv-controls { margin:1rem 0 0; }
@container (max-width:560px) { .kp-photos { grid-template-columns:1fr 1fr; gap:.4rem; } .kp .kp-op { display:none; }
  .kp-edit { order:-1; width:100%; } .kp-applied { order:-1; } }`;

function render({ model, el }) {
  const start = { photo: 0, size: 3, preset: "Sobel x", flip: false, padding: "replicate", row: 60, col: 60 };
  const get = (key) => model.get(key);
  const set = (values) => { Object.entries(values).forEach(([key, value]) => model.set(key, value)); model.save_changes(); };
  for (const [key, value] of Object.entries(start)) if (get(key) === undefined) model.set(key, value);
  for (const [key, value] of Object.entries(preset(get("preset"), +get("size")))) if (get(key) === undefined) model.set(key, value);
  const stack = cv.array(get("photos")), names = get("names"), [, H, W] = stack.shape;
  const photo = () => stack.data.subarray(H * W * get("photo"), H * W * (+get("photo") + 1));
  const used = () => (get("flip") ? flipKernel(get("kernel")) : get("kernel"));
  const total = () => +get("kernel").reduce((a, b) => a + b, 0).toFixed(6);
  let cells = [], chosen = 0, result = null;

  // Parts of the page.
  const { controls, picture, readout } = cv.mount(el);
  const chips = cv.html("div", { class: "kp-chips", role: "group", "aria-label": "Kernels" }, ...presetNames().map(
    (name) => cv.button(name, () => load(name), { "data-name": name })));
  controls.append(chips, cv.checkbox(model, { key: "flip", label: "Flip the kernel (true convolution)" }));
  const input = screen(true), output = screen(false);
  const scale = cv.html("div", { class: "kp-scale" }), bar = cv.html("div", { class: "kp-bar" });
  const op = (...text) => cv.html("div", { class: "kp-op", "aria-hidden": "true" }, ...text);
  const sign = cv.html("small", {}), inputName = cv.html("figcaption", {}), outputName = cv.html("figcaption", {});
  const photos = cv.html("div", { class: "kp-photos" }, inputName, op(), outputName, input.hold, op(sign, "→"), output.hold,
    cv.html("figcaption", {}, "Touch a pixel, or move there with the arrow keys."), op(), cv.html("div", {}, bar, scale));
  const part = (label, ...nodes) => cv.html("div", { class: "kp-part" }, cv.html("span", {}, label), ...nodes);
  const grid = (role) => cv.html("div", { class: "kp-grid", role });
  const pixels = grid("img"), products = grid("img"), applied = grid("img"), editor = grid("group");
  editor.setAttribute("aria-label", "Kernel");
  const editPart = part("Kernel: edit it", editor, cv.html("div", { class: "kp-row" },
    cv.button("−", () => nudge(-1), { "aria-label": "Decrease the selected number" }),
    cv.button("+", () => nudge(1), { "aria-label": "Increase the selected number" })));
  const appliedPart = part("turned by half a turn", applied), appliedOp = op("→");
  editPart.classList.add("kp-edit");
  appliedPart.classList.add("kp-applied");
  const divisor = cv.html("input", { type: "number", step: "any", "aria-label": "Divide the sum by" });
  const bySum = cv.button("", () => { set({ divisor: total() }); own(); }, { class: "kp-wide" });
  const sum = cv.html("div", { class: "kp-value" }), value = cv.html("div", { class: "kp-value" }),
    swatch = cv.html("div", { class: "kp-swatch" });
  const sums = cv.html("div", { class: "kp-sums" }, editPart, appliedOp, appliedPart, op("×"),
    part("Pixels under it", pixels), op("="), part("Products", products), part("Their sum", sum,
      cv.html("div", { class: "kp-row" }, "÷", divisor), bySum, cv.html("div", { class: "kp-row" }, "=", value, swatch)));
  const more = cv.html("div", { class: "cv-controls" },
    cv.select(model, { key: "photo", label: "Photograph", options: names.map((name, index) => [index, name]) }),
    cv.select(model, { key: "size", label: "Kernel size", options: [[3, "3 × 3"], [5, "5 × 5"]] }),
    cv.select(model, { key: "display", label: "Negative values", options: DISPLAYS }),
    cv.select(model, { key: "padding", label: "Outside the border", options: PADDINGS }));
  picture.append(cv.html("div", { class: "kp" }, cv.html("style", {}, STYLE), photos, sums, more));

  // A canvas with a frame around the pixel that is explained; the input's can be moved by arrow keys.
  function screen(main) {
    const canvas = cv.canvas(W, H, ""), probe = cv.html("div", { class: "kp-probe" });
    const hold = cv.html("div", { class: "kp-hold" }, canvas, probe);
    const point = (event) => {
      const box = canvas.getBoundingClientRect(), rim = (H - canvas.height) / 2;
      move(Math.floor((event.clientY - box.top) / box.height * canvas.height) + rim,
        Math.floor((event.clientX - box.left) / box.width * canvas.width) + rim);
    };
    for (const name of ["pointermove", "pointerdown"]) hold.addEventListener(name, point);
    if (main) {
      cv.draggable(hold, { label: "Pixel to explain: arrow keys move it, with Shift by ten", move: () => {} });
      hold.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
        const far = event.shiftKey ? 10 : 1;
        if (step) move(+get("row") + far * step[0], +get("col") + far * step[1]);
      });
    }
    return { canvas, probe, hold };
  }
  function move(row, col) {
    const rim = (H - result.height) / 2, keep = (x, size) => Math.max(rim, Math.min(size - 1 - rim, x));
    set({ row: keep(row, H), col: keep(col, W) });
    explain();
  }

  // Changing the kernel.
  function load(name) { set({ preset: name, ...preset(name, +get("size")) }); rebuild(); }
  function own() { set({ preset: "your own" }); compute(); }
  function put(index, x) {
    const kernel = [...get("kernel")];
    kernel[index] = Math.max(-99, Math.min(99, +x.toFixed(6)));
    set({ kernel });
    own();
  }
  function nudge(by) { put(chosen, get("kernel")[chosen] + by); cells[chosen].value = get("kernel")[chosen]; }
  function choose(index) { chosen = index; cells.forEach((cell, i) => cell.classList.toggle("kp-on", i === index)); }
  const number = (box) => (box.value !== "" && Number.isFinite(+box.value) ? +box.value : null);

  function rebuild() {
    const k = +get("size");
    for (const box of [pixels, products, applied, editor]) {
      box.style.gridTemplateColumns = `repeat(${k}, ${k === 3 ? 42 : box === editor ? 35 : 30}px)`;
      box.classList.toggle("kp-small", k === 5);
    }
    cells = get("kernel").map((x, index) => {
      const cell = cv.html("input", { type: "number", step: "any", min: -99, max: 99, value: x,
        "aria-label": `row ${Math.floor(index / k) + 1}, column ${index % k + 1}` });
      cell.addEventListener("focus", () => choose(index));
      cell.addEventListener("input", () => { // an emptied cell counts as 0, a number beyond 99 as 99
        put(index, number(cell) ?? 0);
        if (Math.abs(number(cell)) > 99) cell.value = get("kernel")[index];
      });
      cell.addEventListener("blur", () => { cell.value = get("kernel")[index]; });
      return cell;
    });
    editor.replaceChildren(...cells);
    choose((k * k - 1) / 2);
    compute();
  }

  // The output and its scale.
  function compute() {
    const display = get("display"), flip = get("flip"), name = get("preset");
    result = correlate(photo(), H, W, used(), +get("divisor"), get("padding"));
    result.top = result.values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    Object.assign(output.canvas, { width: result.width, height: result.height });
    cv.paint(input.canvas, photo());
    cv.paint(output.canvas, result.values.flatMap((x) => shade(x, display, result.top)), 3);
    const top = format(result.top), both = ["−" + top, "0", top];
    const ends = { clip: ["0 and less", "255 and more"], grey: both, color: both, size: ["0", "±" + top] }[display];
    scale.replaceChildren(...ends.map((text) => cv.html("span", {}, text)));
    const stops = [-1, -0.5, 0, 0.5, 1].map((t) => (display === "clip" ? 127.5 * (t + 1) : display === "size" ? (t + 1) / 2 : t));
    bar.style.background = `linear-gradient(90deg, ${stops.map((t) => `rgb(${shade(t, display, 1)})`).join()})`;
    sign.textContent = flip ? "∗ kernel" : "⋆ kernel";
    inputName.textContent = `Input: ${names[get("photo")]}, ${H} × ${W}`;
    outputName.textContent = `Output, ${result.height} × ${result.width}`;
    input.canvas.setAttribute("aria-label", `the photograph ${names[get("photo")]}`);
    output.canvas.setAttribute("aria-label", `the photograph after the kernel: ${name}`);
    for (const chip of chips.children) chip.setAttribute("aria-pressed", chip.dataset.name === name);
    if (number(divisor) !== +get("divisor")) divisor.value = get("divisor");
    bySum.textContent = total() === 0 ? "weights sum to 0" : `÷ ${format(total())}: weights sum to 1`;
    bySum.disabled = total() === 0 || total() === +get("divisor");
    appliedPart.style.display = appliedOp.style.display = flip ? "" : "none";
    move(+get("row"), +get("col"));
  }

  // The sum behind one output pixel.
  const tint = (x, top) => (x === 0 || top === 0 ? "var(--panel)"
    : `color-mix(in srgb, var(--${x < 0 ? "blue" : "red"}) ${Math.round(8 + 40 * Math.abs(x) / top)}%, var(--paper))`);
  function fill(box, numbers, label, style) {
    box.replaceChildren(...numbers.map((x) => cv.html("div", { class: "kp-cell", style: style(x) }, format(x))));
    box.setAttribute("aria-label", label + " " + numbers.map(format).join(", "));
  }
  function explain() {
    const k = +get("size"), row = +get("row"), col = +get("col"), by = +get("divisor"), kernel = used();
    const seen = windowAt(photo(), H, W, k, row, col, get("padding")), terms = seen.map((x, t) => x * kernel[t]);
    const sumOf = terms.reduce((a, b) => a + b, 0), answer = sumOf / by, rim = (H - result.height) / 2;
    const largest = Math.max(...kernel.map(Math.abs)), high = Math.max(...terms.map(Math.abs));
    fill(pixels, seen, "pixels", (x) => `background:rgb(${x},${x},${x});color:${x < 117 ? "#fff" : "#000"}`);
    fill(applied, kernel, "flipped kernel", (x) => `background:${tint(x, largest)}`);
    fill(products, terms, "products", (x) => `background:${tint(x, high)}`);
    cells.forEach((box, t) => { box.style.background = tint(get("kernel")[t], largest); });
    [sum.textContent, value.textContent] = [format(sumOf), format(answer)];
    swatch.style.background = `rgb(${shade(answer, get("display"), result.top)})`;
    frame(input.probe, row - (k - 1) / 2, col - (k - 1) / 2, k, H, W);
    frame(output.probe, row - rim, col - rim, 1, result.height, result.width);
    const same = kernel.every((x, t) => x === kernel[kernel.length - 1 - t]);
    readout.textContent = `${get("flip") ? "Convolution" : "Cross-correlation"} with ${get("preset")}: at row ${row}, `
      + `column ${col} the products add up to ${format(sumOf)}${by === 1 ? "" : `; divided by ${format(by)}, ${format(answer)}`}. `
      + (same ? "Half a turn leaves this kernel as it is, so flipping changes nothing."
        : "Half a turn changes this kernel, so flipping changes the output.");
  }
  function frame(probe, row, col, size, height, width) {
    const part = (name, x, whole) => { probe.style[name] = `${100 * x / whole}%`; };
    part("left", col, width); part("top", row, height); part("width", size, width); part("height", size, height);
  }

  divisor.addEventListener("input", () => { if (number(divisor)) { set({ divisor: number(divisor) }); own(); } }); // not 0
  divisor.addEventListener("blur", () => { divisor.value = get("divisor"); });
  rebuild();
  const settled = () => cells.length === get("kernel").length; // false while a kernel of another size is loaded
  for (const key of ["photo", "flip", "padding", "display"]) model.on("change:" + key, () => settled() && compute());
  model.on("change:size", () => {
    if (presetNames().includes(get("preset"))) return load(get("preset"));
    set({ kernel: resize(get("kernel"), +get("size")) });
    return rebuild();
  });
}

export default { render };
