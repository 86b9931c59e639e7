// A stack of layers, the cone of one output unit, and the pixels of a photograph that it sees.
// A layer is [kernel, stride, dilation, padding]; the picture is square and padding adds nothing to see.

const PRESETS = {
  five: ["Five 3×3 convolutions", Array(5).fill([3, 1, 1, 1])],
  four: ["Four 3×3 convolutions", Array(4).fill([3, 1, 1, 1])],
  stem: ["ResNet stem and first stage", [[7, 2, 1, 3], [3, 2, 1, 1], ...Array(4).fill([3, 1, 1, 1])]],
  alexnet: ["AlexNet features", [[11, 4, 1, 2], [3, 2, 1, 0], [5, 1, 1, 2], [3, 2, 1, 0], ...Array(3).fill([3, 1, 1, 1]),
    [3, 2, 1, 0]]],
  vgg: ["VGG-16 features", [2, 2, 3, 3, 3].flatMap((n) => [...Array(n).fill([3, 1, 1, 1]), [2, 2, 1, 0]])],
};

// Field size, stride and center of unit 0 after every layer: r += (k - 1) d j, then j *= s.
export function recursion(layers) {
  let size = 1, stride = 1, offset = 0;
  return layers.map(([kernel, step, dilation, padding]) => {
    size += (kernel - 1) * dilation * stride;
    offset += ((kernel - 1) * dilation / 2 - padding) * stride;
    stride *= step;
    return { size, stride, offset };
  });
}

// First and last index that `unit` of the last layer needs, at every level from the output down to the image.
export function intervals(layers, unit) {
  const levels = [[unit, unit]];
  for (const [kernel, stride, dilation, padding] of [...layers].reverse()) {
    const [low, high] = levels[levels.length - 1];
    levels.push([low * stride - padding, high * stride - padding + (kernel - 1) * dilation]);
  }
  return levels;
}

// Share of all paths from one unit that end in each pixel of its field: its weight, if all kernels are uniform.
export function pathWeights(layers) {
  let weights = [1];
  for (const [kernel, stride, dilation] of [...layers].reverse()) {
    const next = Array((weights.length - 1) * stride + (kernel - 1) * dilation + 1).fill(0);
    weights.forEach((w, i) => {
      for (let t = 0; t < kernel; t++) next[i * stride + t * dilation] += w / kernel;
    });
    weights = next;
  }
  return weights;
}

export function spread(weights) {
  const mean = weights.reduce((sum, w, i) => sum + w * i, 0);
  return Math.sqrt(weights.reduce((sum, w, i) => sum + w * (i - mean) ** 2, 0));
}

export function outputSize(layers, size) {
  return layers.reduce((n, [k, s, d, p]) => Math.max(1, Math.floor((n + 2 * p - d * (k - 1) - 1) / s) + 1), size);
}

export default {
  render({ model, el }) {
    const { controls, picture, readout } = cv.mount(el);
    const photo = cv.array(model.get("photo")), side = photo.shape[0];
    let layers, chosen, row, column;
    const get = (key, fallback) => model.get(key) ?? fallback;
    model.set("preset", get("preset", "five"));
    model.set("weight", get("weight", true));
    for (const [key, value] of [["layer", "0"], ["kernel", 3], ["stride", 1], ["dilation", 1]]) model.set(key, value);

    const preset = cv.select(model, { key: "preset", label: "Network",
      options: [...Object.entries(PRESETS).map(([key, [name]]) => [key, name]), ["own", "Your own stack"]] });
    const layer = cv.select(model, { key: "layer", label: "Layer to edit", options: [["0", "1"]] });
    const sliders = [["kernel", 11], ["stride", 4], ["dilation", 12]].map(([key, max]) =>
      cv.slider(model, { key, label: key[0].toUpperCase() + key.slice(1), min: 1, max }));
    const add = cv.button("Add a layer", () => { edit(() => { layers.push([3, 1, 1, 1]); chosen = layers.length - 1; }); });
    const remove = cv.button("Remove this layer", () => {
      edit(() => { layers.splice(chosen, 1); chosen = Math.min(chosen, layers.length - 1); });
    });
    controls.append(preset, layer, ...sliders, add, remove, cv.checkbox(model, { key: "weight", label: "Show weights" }));

    const cone = cv.svg("svg", { viewBox: "0 0 360 300", width: 324, role: "img",
      "aria-label": "Cross-section: one unit at the top, the pixels it sees at the bottom" });
    const canvas = cv.canvas(side, side, "Photograph with the field of the unit");
    canvas.style.width = Math.min(2 * side, 270) + "px"; // as high as the side view, and beside it on a page
    const frame = cv.html("div", { style: "display:inline-block; border-radius:4px" }, canvas);
    cv.draggable(frame, { label: "Output unit; move it with the arrow keys", unit: () => Math.max(4,
      recursion(layers).at(-1).stride * canvas.clientWidth / side),
    move(dx, dy) {
      const n = outputSize(layers, side) - 1;
      column = Math.min(Math.max(column + dx, 0), n);
      row = Math.min(Math.max(row + dy, 0), n);
      draw();
    } });
    picture.append(
      cv.html("figure", {}, cone, cv.html("figcaption", {}, "Side view: the image is at the bottom")),
      cv.html("figure", {}, frame, cv.html("figcaption", {}, "What it sees; drag it, or use arrow keys")));

    let quiet = false;
    const quietly = (action) => { quiet = true; action(); quiet = false; };
    function center() { row = column = Math.floor(outputSize(layers, side) / 2); }
    function show() {
      quietly(() => {
        const input = layer.querySelector("select");
        input.replaceChildren(...layers.map((_, i) => cv.html("option", { value: i }, `${i + 1} of ${layers.length}`)));
        model.set("layer", String(chosen));
        input.value = String(chosen);
        ["kernel", "stride", "dilation"].forEach((key, i) => model.set(key, layers[chosen][i]));
      });
      add.disabled = layers.length >= 24;
      remove.disabled = layers.length <= 1;
      draw();
    }
    function edit(change) {
      change();
      quietly(() => model.set("preset", "own"));
      center();
      show();
    }
    model.on("change:preset", () => {
      if (quiet) return;
      const known = PRESETS[model.get("preset")];
      if (known) { layers = known[1].map((values) => [...values]); chosen = 0; center(); }
      show();
    });
    model.on("change:layer", () => { if (!quiet) { chosen = +model.get("layer"); show(); } });
    ["kernel", "stride", "dilation"].forEach((key, i) => model.on("change:" + key, () => {
      if (quiet) return;
      edit(() => {
        const values = layers[chosen];
        values[i] = +model.get(key);
        values[3] = Math.floor((values[0] - 1) * values[2] / 2);
      });
    }));
    model.on("change:weight", () => draw());

    function draw() {
      const fields = recursion(layers), last = fields.at(-1), weights = pathWeights(layers);
      drawCone(fields, weights);
      drawPhoto(last, weights);
      const [k, s, d] = layers[chosen], sigma = spread(weights), where = intervals(layers, column).at(-1);
      const over = where[0] < 0 || where[1] >= side || intervals(layers, row).at(-1)[0] < 0
        || intervals(layers, row).at(-1)[1] >= side;
      readout.textContent = `One unit after ${layers.length} layer${layers.length > 1 ? "s" : ""} sees ${last.size} × `
        + `${last.size} pixels; its neighbor's field lies ${last.stride} pixel${last.stride > 1 ? "s" : ""} further; unit 0 `
        + `centers on pixel ${last.offset}. If all kernels are uniform, the weight of the pixels has a standard deviation of `
        + `${sigma.toFixed(2)} pixels. Layer ${chosen + 1}: kernel ${k}, stride ${s}, dilation ${d}. `
        + `Unit (${row}, ${column}) ${over ? "reaches beyond the border, into padding." : "lies inside the image."}`;
    }

    function drawCone(fields, weights) {
      const levels = intervals(layers, column).reverse(), n = levels.length, all = [{ size: 1, stride: 1, offset: 0 }, ...fields];
      const [low, high] = levels[0], reach = Math.max((high - low + 1) * 0.6, 8), mid = (low + high) / 2;
      const x = (pixel) => 180 + (pixel - mid) / reach * 176, bottom = 232, y = (level) => bottom - level * (212 / (n - 1));
      const nodes = [];
      const left = Math.max(0, Math.min(360, x(-0.5))), right = Math.max(0, Math.min(360, x(side - 0.5)));
      for (const [from, to] of [[0, left], [right, 360]]) {
        if (to > from) nodes.push(cv.svg("rect", { x: from, y: 8, width: to - from, height: 282, fill: "var(--panel)" }));
      }
      const edge = (level, end) => {
        const { stride, offset } = all[level], [a, b] = levels[level];
        return end ? offset + b * stride + stride / 2 : offset + a * stride - stride / 2;
      };
      for (let i = 1; i < n; i++) {
        const points = [[edge(i, 0), i], [edge(i, 1), i], [edge(i - 1, 1), i - 1], [edge(i - 1, 0), i - 1]];
        nodes.push(cv.svg("polygon", { points: points.map(([p, l]) => `${x(p)},${y(l)}`).join(" "),
          fill: i - 1 === chosen ? "var(--sky)" : "var(--pale)", stroke: "var(--blue)", "stroke-width": 1 }));
      }
      levels.forEach(([a, b], i) => {
        const { stride, offset } = all[i], gap = stride / reach * 176;
        if (gap < 4) return;
        for (let u = Math.ceil((mid - reach - offset) / stride); offset + u * stride <= mid + reach; u++) {
          nodes.push(cv.svg("circle", { cx: x(offset + u * stride), cy: y(i), r: Math.min(3, gap / 3),
            fill: u >= a && u <= b ? "var(--blue)" : "var(--line)" }));
        }
      });
      const peak = Math.max(...weights);
      if (model.get("weight")) {
        const points = weights.map((w, i) => `${x(low + i)},${290 - 44 * w / peak}`);
        nodes.push(cv.svg("polygon", { points: `${x(low)},290 ${points.join(" ")} ${x(high)},290`, fill: "var(--amber)",
          stroke: "var(--orange)" }));
      }
      nodes.push(cv.svg("line", { x1: x(low - 0.5), x2: x(high + 0.5), y1: 290, y2: 290, stroke: "var(--ink)", "stroke-width": 3 }));
      cone.replaceChildren(...nodes);
    }

    function drawPhoto(last, weights) {
      const values = new Uint8ClampedArray(3 * side * side), peak = Math.max(...weights);
      const [top, bottom] = intervals(layers, row).at(-1), [left, right] = intervals(layers, column).at(-1);
      for (let i = 0; i < side; i++) {
        for (let j = 0; j < side; j++) {
          const inside = i >= top && i <= bottom && j >= left && j <= right;
          const border = inside && (i === top || i === bottom || j === left || j === right);
          const share = model.get("weight") ? weights[i - top] * weights[j - left] / peak ** 2 : 1;
          for (let c = 0; c < 3; c++) {
            const light = inside ? 0.4 + 0.6 * share : 0.4;
            values[3 * (i * side + j) + c] = border ? [230, 159, 0][c] : photo.data[i * side + j] * light;
          }
        }
      }
      cv.paint(canvas, values, 3);
      const n = last.offset + column * last.stride, m = last.offset + row * last.stride, pen = canvas.getContext("2d");
      pen.fillStyle = "#e69f00";
      pen.fillRect(Math.round(n) - 1, Math.round(m) - 1, 3, 3);
    }

    layers = (PRESETS[model.get("preset")] ?? PRESETS.five)[1].map((values) => [...values]);
    chosen = 0;
    center();
    show();
  },
};
