// What a convolution costs, dense, in groups, or depthwise and pointwise: counted to scale, and measured beside it.

// The axes of the measured table: times[kernel, channels, side, kind], in milliseconds.
export const KERNELS = [3, 5, 7], CHANNELS = [32, 64, 128, 256, 512], SIDES = [7, 14, 28, 56];
export const KINDS = ["dense", "depthwise", "pointwise", "groups 2", "groups 4", "groups 8", "groups 16", "groups 32"];

// Multiply-adds and parameters of one layer without bias, stride 1, padded to keep the size.
export function cost({ k, m, n, side, groups = 1 }) {
  const pixels = side * side, entry = (parameters) => ({ parameters, multiplyAdds: parameters * pixels });
  const depthwise = entry(k * k * m), pointwise = entry(m * n);
  const grouped = m % groups || n % groups ? null : entry(k * k * m * n / groups);
  return { dense: entry(k * k * m * n), depthwise, pointwise, separable: entry(depthwise.parameters + pointwise.parameters), grouped };
}
export const ratio = (k, n) => ({ depthwise: 1 / n, pointwise: 1 / (k * k), sum: 1 / n + 1 / (k * k) });
// The layer that is left when alpha thins the channels and rho = steps / 7 shrinks the map.
export const scaled = ({ k, m, n, side, groups }, alpha, steps) =>
  ({ k, m: Math.round(alpha * m), n: Math.round(alpha * n), side: Math.round(side * steps / 7), groups });

// Where in the measured table a layer is, or its nearest neighbor on a logarithmic scale.
export const nearest = (axis, value) =>
  axis.reduce((best, x, i) => (Math.abs(Math.log(x / value)) < Math.abs(Math.log(axis[best] / value)) - 1e-9 ? i : best), 0);
export function measured({ shape, data }, { k, m, n, side, groups }) {
  const at = [nearest(KERNELS, k), nearest(CHANNELS, Math.sqrt(m * n)), nearest(SIDES, side)];
  const row = ((at[0] * shape[1] + at[1]) * shape[2] + at[2]) * shape[3], time = (kind) => data[row + KINDS.indexOf(kind)];
  const found = { k: KERNELS[at[0]], channels: CHANNELS[at[1]], side: SIDES[at[2]] };
  const exact = found.k === k && found.channels === m && m === n && found.side === side;
  return { ...found, exact, row, dense: time("dense"), depthwise: time("depthwise"),
    pointwise: time("pointwise"), separable: time("depthwise") + time("pointwise"), grouped: time(`groups ${groups}`) };
}

export function count(x) { // 462 M, 1.2 k
  const [size, unit] = [[1e9, " G"], [1e6, " M"], [1e3, " k"], [1, ""]].find(([s]) => x >= 0.9995 * s) ?? [1, ""];
  return (size === 1 ? String(x) : (x / size).toPrecision(3)) + unit;
}
export const milliseconds = (t) => `${t >= 99.5 ? t.toFixed(0) : t.toPrecision(2)} ms`;
const times = (x) => (x >= 10 ? x.toFixed(0) : x.toFixed(1));

// Layers of two papers: exponents of two, side = 7 times two to the power.
export const LAYERS = {
  "MobileNet, layers 7 to 11": { kernel: 3, inputs: 9, outputs: 9, side: 1, groups: 5 },
  "MobileNet, first": { kernel: 3, inputs: 5, outputs: 6, side: 4, groups: 5 },
  "ResNeXt-50, stage 1": { kernel: 3, inputs: 7, outputs: 7, side: 3, groups: 5 },
  "ResNeXt-50, stage 3": { kernel: 3, inputs: 9, outputs: 9, side: 1, groups: 5 },
};
const OWN = "your own", MOBILE = [64, 1024].map((n) => ratio(3, n).sum), RESNEXT = 1 / 32;
const WIDTH = 340, LEFT = 90, RIGHT = 270;

export const timed = (found) => `${found.k}×${found.k}, ${found.channels} → ${found.channels} channels, map ${found.side}×${found.side}`;

export function sentence(layer, whole, found, before) {
  const c = cost(layer), r = ratio(layer.k, layer.n), fewer = c.dense.multiplyAdds / c.separable.multiplyAdds;
  const shrunk = layer.m !== whole.m || layer.side !== whole.side;
  const words = `Kernel ${layer.k}×${layer.k}, ${layer.m} → ${layer.n} channels, map ${layer.side}×${layer.side}: 1/N + 1/k² = ` +
    `${r.depthwise.toFixed(4)} + ${r.pointwise.toFixed(4)} = ${r.sum.toFixed(3)}, so depthwise and pointwise together need ` +
    `${times(fewer)} times fewer multiply-adds than dense. `;
  const faster = found.dense / found.separable;
  const clock = `${found.exact ? "Measured" : `This layer was not timed; the nearest that was, ${timed(found)}`}: ${times(faster)} times as fast`;
  // Two layers that share an entry of the table, or only lie near one, cannot be compared by it.
  const both = found.exact && before.exact ? `, measured ${times(before.dense / found.separable)} times as fast` : "";
  const rest = shrunk ? ` Against the dense layer before α and ρ: ${times(cost(whole).dense.multiplyAdds / c.separable.multiplyAdds)} ` +
    `times fewer multiply-adds${both}.` : "";
  return `${words}${clock}.${rest}`;
}

export default {
  render({ model, el }) {
    const start = { layer: "MobileNet, layers 7 to 11", ...LAYERS["MobileNet, layers 7 to 11"], alpha: 1, rho: 7 };
    for (const key in start) if (model.get(key) === undefined) model.set(key, start[key]);
    const { controls, picture, readout } = cv.mount(el), { svg, html } = cv, table = cv.array(model.get("times"));
    const power = (x) => String(2 ** x), map = (x) => `${7 * 2 ** x}×${7 * 2 ** x}`;
    const sliders = ["kernel", "inputs", "outputs", "side", "groups"];
    controls.append(
      cv.select(model, { key: "layer", label: "real layers", options: [...Object.keys(LAYERS), OWN] }),
      cv.slider(model, { key: "kernel", label: "kernel k", min: 3, max: 7, step: 2, format: (k) => `${k}×${k}` }),
      cv.slider(model, { key: "inputs", label: "channels in M", min: 5, max: 10, format: power }),
      cv.slider(model, { key: "outputs", label: "channels out N", min: 5, max: 10, format: power }),
      cv.slider(model, { key: "side", label: "map", min: 0, max: 4, format: map }),
      cv.slider(model, { key: "groups", label: "groups g", min: 1, max: 5, format: power }),
      cv.slider(model, { key: "alpha", label: "width α", min: 0.25, max: 1, step: 0.25 }),
      cv.slider(model, { key: "rho", label: "resolution ρ", min: 4, max: 7, format: (s) => (s === 7 ? "1" : `${s}/7`) }),
    );
    const reset = cv.button("Reset", () => setAll(start));
    controls.append(reset);
    controls.style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(136px,1fr))"; // two columns on a phone
    controls.firstChild.style = "grid-column:span 2";
    for (const input of controls.querySelectorAll("input")) input.style = "width:100%";
    const panel = () => {
      const layer = svg("g", {}), drawing = svg("svg", { viewBox: `0 0 ${WIDTH} 104`, role: "img", style: "width:100%" }, layer);
      const caption = html("figcaption", {});
      picture.append(html("figure", { style: "flex:1 1 300px;min-width:min(100%,300px);max-width:620px" }, drawing, caption));
      return { layer, drawing, caption };
    };
    const panels = [panel(), panel(), panel(), panel()];
    const text = (x, y, words, anchor = "start", style = "") => svg("text", { x, y, "text-anchor": anchor, style }, words);
    const rect = (x, y, width, height, style) => svg("rect", { x, y, width: Math.max(width, 0), height, style });

    // Three rows of bars, to one scale: `full` is the whole width. The line marks where the bar of `before` ends.
    function bars({ layer, drawing }, title, rows, full, before, name) {
      const x = (value) => LEFT + (RIGHT - LEFT) * value / full;
      layer.replaceChildren(text(2, 13, title, "start", "font-weight:600"));
      rows.forEach(({ label, parts, words }, i) => {
        const y = 24 + 27 * i;
        let at = LEFT; // a part of less than two units would not be seen
        layer.append(text(2, y + 14, label));
        for (const [value, color] of parts) {
          const width = value > 0 ? Math.max(x(value) - LEFT, 2) : 0;
          layer.append(rect(at, y, width, 19, `fill:var(${color})`));
          at += width;
        }
        layer.append(text(at + 5, y + 14, words));
      });
      layer.append(svg("line", { x1: x(before), x2: x(before), y1: 20, y2: 98, style: "stroke:var(--ink);stroke-dasharray:3 3" }));
      drawing.setAttribute("aria-label", `${title}: ` + rows.map((r) => `${r.label} ${r.words}`).join(", "));
    }

    function draw() {
      const [k, M, N, S, G] = sliders.map((key) => +model.get(key));
      const whole = { k, m: 2 ** M, n: 2 ** N, side: 7 * 2 ** S, groups: 2 ** G };
      const layer = scaled(whole, +model.get("alpha"), +model.get("rho")), c = cost(layer), first = cost(whole);
      const found = measured(table, layer), before = measured(table, whole);
      const rows = (value, write) => [
        { label: "dense", parts: [[value("dense"), "--line"]], words: write(value("dense")) },
        { label: `${layer.groups} groups`, parts: c.grouped ? [[value("grouped"), "--green"]] : [],
          words: c.grouped ? write(value("grouped")) : "does not divide" },
        { label: "depth+point", parts: [[value("depthwise"), "--blue"], [value("pointwise"), "--amber"]], words: write(value("separable")) },
      ];
      ["multiplyAdds", "parameters"].forEach((what, i) => bars(panels[i], i ? "parameters" : "multiply-adds",
        rows((kind) => c[kind]?.[what] ?? 0, count), first.dense[what], first.dense[what]));
      const clock = rows((kind) => found[kind], milliseconds), all = clock.flatMap((r) => r.parts.reduce((sum, [v]) => sum + v, 0));
      bars(panels[2], "time, measured on one CPU core", clock, Math.max(before.dense, ...all), before.dense);
      panels[0].caption.textContent = "Blue: depthwise. Yellow: pointwise (1×1). Dashed: dense before α and ρ.";
      panels[1].caption.textContent = "ρ moves no bar here: a convolution has the same weights for every map size.";
      panels[2].caption.textContent = `One image, ${found.exact ? "this layer" : "the nearest layer that was timed"}: ${timed(found)}.`;
      const r = ratio(layer.k, layer.n), top = r.sum > 0.15 ? 0.4 : 0.16, x = (v) => 8 + 300 * v / top, g = panels[3].layer;
      g.replaceChildren(text(2, 13, "share of the dense cost, magnified", "start", "font-weight:600"),
        rect(x(0), 24, x(r.depthwise) - x(0), 17, "fill:var(--blue)"),
        rect(x(r.depthwise), 24, x(r.sum) - x(r.depthwise), 17, "fill:var(--amber)"),
        rect(x(0), 46, Math.min(x(1 / layer.groups), WIDTH) - x(0), 9, "fill:var(--green)"),
        svg("line", { x1: x(0), x2: x(top), y1: 60, y2: 60, style: "stroke:var(--ink)" }));
      for (const tick of top > 0.2 ? [0, 0.1, 0.2, 0.3, 0.4] : [0, 0.05, 0.1, 0.15]) {
        g.append(svg("line", { x1: x(tick), x2: x(tick), y1: 60, y2: 64, style: "stroke:var(--ink)" }), text(x(tick), 77, String(tick), tick ? "middle" : "start"));
      }
      const framed = layer.k === 3; // MobileNet's kernels are all 3x3
      if (framed) {
        g.append(rect(x(MOBILE[1]), 18, x(MOBILE[0]) - x(MOBILE[1]), 42, "fill:none;stroke:var(--ink);stroke-width:1.5"),
          text(x((MOBILE[0] + MOBILE[1]) / 2), 97, "MobileNet’s layers", "middle"));
      }
      g.append(svg("line", { x1: x(RESNEXT), x2: x(RESNEXT), y1: 42, y2: 60, style: "stroke:var(--ink);stroke-width:2.5" }),
        text(x(RESNEXT), 97, "ResNeXt: 1/32", "middle"));
      panels[3].drawing.setAttribute("aria-label", `One over N is ${r.depthwise.toFixed(4)}, one over k squared ${r.pointwise.toFixed(4)}`);
      panels[3].caption.textContent = "Blue 1/N, yellow 1/k², green 1/g." + (framed ? " The frame spans N = 64 to 1024." : "");
      reset.disabled = Object.keys(start).every((key) => String(model.get(key)) === String(start[key]));
      readout.textContent = sentence(layer, whole, found, before);
    }
    let choosing = false; // several values change at once: draw once, and do not call the layer your own
    function setAll(values) {
      choosing = true;
      for (const key in values) model.set(key, values[key]);
      choosing = false;
      draw();
    }
    model.on("change:layer", () => {
      const chosen = LAYERS[model.get("layer")];
      if (chosen && !choosing) setAll({ ...chosen, alpha: 1, rho: 7 });
    });
    for (const key of sliders) {
      model.on("change:" + key, () => {
        if (choosing) return;
        model.set("layer", OWN);
        draw();
      });
    }
    for (const key of ["alpha", "rho"]) model.on("change:" + key, () => { if (!choosing) draw(); });
    draw();
  },
};
