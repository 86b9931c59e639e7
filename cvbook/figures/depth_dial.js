// What is left of the gradient in each hidden layer: depth, activation and initialization can be turned.

// The numbers come from Python: norms[activation, initialization, depth - 2, layer - 1], one for each hidden layer.
export const ACTIVATIONS = ["sigmoid", "tanh", "relu"], STARTS = ["default", "xavier", "he"];
export const SHORTEST = 2;
export function layers({ shape, data }, activation, start, depth) {
  const [, starts, depths, most] = shape;
  const row = (ACTIVATIONS.indexOf(activation) * starts + STARTS.indexOf(start)) * depths + depth - SHORTEST;
  return Array.from(data.slice(row * most, row * most + depth));
}
// What a layer gets, relative to the last hidden layer.
export const relative = (norms) => norms.map((x) => x / norms[norms.length - 1]);
// What one layer passes on to the layer before it: the geometric mean.
export const perLayer = (norms) => Math.pow(norms[0] / norms[norms.length - 1], 1 / (norms.length - 1));

// The lower end of the axis, as a power of ten: the first that leaves something of every bar.
export const FLOORS = [-3, -6, -12, -27], CEILING = 1;
export const floorFor = (values) => FLOORS.find((f) => Math.min(...values) > 3 * 10 ** f) ?? FLOORS[FLOORS.length - 1];
// Height of a bar, as a share of the axis; what lies outside ends at its ends.
export const height = (x, floor) => Math.min(1, Math.max(0, (Math.log10(x) - floor) / (CEILING - floor)));
export const LITTLE = 1e-3;

const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const raised = (n) => [...String(n)].map((c) => SUPER[c]).join("");
export function number(x) { // two digits: 0.34, 1.1, 3.2·10⁻⁴
  if (x >= 0.00995 && x < 99.5) return x >= 9.95 ? x.toFixed(0) : x >= 0.995 ? x.toFixed(1) : x.toFixed(2);
  const [digits, power] = x.toExponential(1).split("e");
  return `${digits}·10${raised(+power)}`;
}
const NAMES = { sigmoid: "sigmoid", tanh: "tanh", relu: "ReLU", default: "PyTorch’s default", xavier: "Xavier", he: "He" };
const titled = (activation, start) => `${NAMES[activation]}, ${NAMES[start]}`;
export function verdict(ratio) {
  if (ratio < 1e-3) return "The gradient has vanished before it gets there.";
  if (ratio < 0.3) return "The gradient fades.";
  return ratio <= 3 ? "The gradient arrives." : "The gradient grows on its way.";
}
export function sentence(activation, start, norms) {
  const depth = norms.length, ratio = norms[0] / norms[depth - 1], share = 100 * perLayer(norms);
  return `${depth} hidden layers, ${titled(activation, start)}: each layer hands on ${share.toFixed(0)} % of the gradient, so ` +
    `layer 1 gets ${number(ratio)} times what layer ${depth} gets. ${verdict(ratio)}`;
}

const WIDTH = 340, HEIGHT = 236, LEFT = 42, RIGHT = 334, TOP = 22, BOTTOM = 196;

export default {
  render({ model, el }) {
    const start = { activation: "relu", init: "default", depth: 10, compare: "relu he" };
    for (const key in start) if (model.get(key) === undefined) model.set(key, start[key]);
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    const norms = cv.array(model.get("norms")), longest = norms.shape[2] + SHORTEST - 1;
    const pairs = ACTIVATIONS.flatMap((a) => STARTS.map((s) => [`${a} ${s}`, titled(a, s)]));
    controls.append(
      cv.slider(model, { key: "depth", label: "hidden layers", min: SHORTEST, max: longest }),
      cv.select(model, { key: "activation", label: "activation", options: ACTIVATIONS.map((a) => [a, NAMES[a]]) }),
      cv.select(model, { key: "init", label: "initialization", options: STARTS.map((s) => [s, NAMES[s]]) }),
      cv.select(model, { key: "compare", label: "outline for comparison", options: [["", "none"], ...pairs] }),
    );
    const layer = svg("g", {}), caption = html("figcaption", {});
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", style: "width:100%" }, layer);
    picture.append(html("figure", { style: "flex:1 1 300px;max-width:520px" }, drawing, caption));
    const text = (x, y, words, style = "", anchor = "middle") => svg("text", { x, y, style, "text-anchor": anchor }, words);
    const line = (x1, y1, x2, y2, style) => svg("line", { x1, y1, x2, y2, style });

    function draw() {
      const depth = +model.get("depth"), activation = model.get("activation"), init = model.get("init");
      const compare = model.get("compare"), mine = layers(norms, activation, init, depth), bars = relative(mine);
      const other = compare ? layers(norms, ...compare.split(" "), depth) : null, outline = other ? relative(other) : [];
      const floor = floorFor([...bars, ...outline]), step = (RIGHT - LEFT) / depth, wide = Math.max(step - Math.min(6, 0.3 * step), 2);
      const y = (x) => BOTTOM - height(x, floor) * (BOTTOM - TOP);
      layer.replaceChildren(text(2, 12, "gradient, relative to the last hidden layer", "font-weight:600", "start"));
      for (let power = 0; power >= floor; power += floor / 3) {
        layer.append(line(LEFT, y(10 ** power), RIGHT, y(10 ** power), `stroke:var(--line);opacity:${power ? 0.4 : 0.9}`),
          text(LEFT - 5, y(10 ** power) + 4, power ? "10" + raised(power) : "1", "", "end"));
      }
      const place = (i) => LEFT + step * (i + 0.5);
      bars.forEach((x, i) => {
        const color = x < LITTLE ? "--amber" : "--blue";
        layer.append(svg("rect", { x: place(i) - wide / 2, y: y(x), width: wide, height: Math.max(BOTTOM - y(x), 1), style: `fill:var(${color})` }));
      });
      outline.forEach((x, i) => layer.append(line(place(i) - step / 2, y(x), place(i) + step / 2, y(x), "stroke:var(--ink);stroke-width:2.5")));
      layer.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "stroke:var(--ink)"));
      const every = [1, 2, 5].find((n) => depth / n <= 10);
      for (let i = 1; i <= depth; i++) {
        if (i === 1 || i === depth || (i % every === 0 && depth - i >= every)) layer.append(text(place(i - 1), BOTTOM + 16, String(i)));
      }
      layer.append(text(LEFT, BOTTOM + 34, "← input", "", "start"), text((LEFT + RIGHT) / 2, BOTTOM + 34, "hidden layer"),
        text(RIGHT, BOTTOM + 34, "loss →", "", "end"));
      const said = sentence(activation, init, mine);
      drawing.setAttribute("aria-label", `Bars on a logarithmic axis. ${said}`);
      caption.textContent = `Logarithmic axis: equal steps are equal factors. ${bars[0] < LITTLE ? "Yellow: less than a thousandth. " : ""}` +
        (other ? `Thick lines: ${titled(...compare.split(" "))}.` : "");
      readout.textContent = said + (other ? ` With ${titled(...compare.split(" "))} it would be ${number(other[0] / other[depth - 1])} times.` : "");
    }
    for (const key in start) model.on("change:" + key, draw);
    draw();
  },
};
