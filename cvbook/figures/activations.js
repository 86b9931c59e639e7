// An activation and its slope at one input z: value, tangent, derivative, and where hardly any gradient gets through.

// The arithmetic. p is the function's parameter: slope (leaky), alpha (elu) or temperature (softmax); others ignore it.
export function erf(x) { // a series of positive terms, so nothing cancels
  let term = x, sum = x;
  for (let n = 1; n < 200 && Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const normal = (z) => (1 + erf(z / Math.SQRT2)) / 2;
export const OTHERS = [1, 0]; // the two scores beside z that softmax sees
export function softmax(scores, temperature) {
  const top = Math.max(...scores), e = scores.map((score) => Math.exp((score - top) / temperature));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / sum);
}
const first = (z, temperature) => softmax([z, ...OTHERS], temperature)[0];
const FUNCTIONS = { // value, slope, formula; at a kink the slope is the one that torch takes
  step: [(z) => +(z >= 0), () => 0, "1 if z ≥ 0, else 0"],
  sigmoid: [sigmoid, (z) => sigmoid(z) * (1 - sigmoid(z)), "1 / (1 + e⁻ᶻ)"],
  tanh: [Math.tanh, (z) => 1 - Math.tanh(z) ** 2, "(eᶻ − e⁻ᶻ) / (eᶻ + e⁻ᶻ)"],
  relu: [(z) => Math.max(z, 0), (z) => +(z > 0), "max(z, 0)"],
  leaky: [(z, p) => (z > 0 ? z : p * z), (z, p) => (z > 0 ? 1 : p), "z if z > 0, else s·z"],
  elu: [(z, p) => (z > 0 ? z : p * Math.expm1(z)), (z, p) => (z > 0 ? 1 : p * Math.exp(z)), "z if z > 0, else α(eᶻ − 1)"],
  gelu: [(z) => z * normal(z), (z) => normal(z) + (z * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI), "z · Φ(z)"],
  silu: [(z) => z * sigmoid(z), (z) => sigmoid(z) * (1 + z * (1 - sigmoid(z))), "z / (1 + e⁻ᶻ)"],
  softmax: [first, (z, p) => (first(z, p) * (1 - first(z, p))) / p, "first share of z, 1 and 0"],
};
export const value = (name, z, p) => FUNCTIONS[name][0](z, p);
export const slope = (name, z, p) => FUNCTIONS[name][1](z, p);

export const REACH = 6, LITTLE = 0.05;
// Saturated zones: from each end of the axis inwards, as far as |slope| stays below LITTLE. Pairs [from, to].
export function saturated(name, p) {
  const steps = 240, at = (i) => -REACH + (2 * REACH * i) / steps, flat = (z) => Math.abs(slope(name, z, p)) < LITTLE;
  let left = 0, right = steps;
  while (left <= steps && flat(at(left))) left++;
  if (left > steps) return [[-REACH, REACH]];
  while (flat(at(right))) right--;
  const zones = [];
  if (left > 0) zones.push([-REACH, at(left - 1)]);
  if (right < steps) zones.push([at(right + 1), REACH]);
  return zones;
}
const NAMES = { step: "step", sigmoid: "sigmoid", tanh: "tanh", relu: "ReLU", leaky: "leaky ReLU", elu: "ELU", gelu: "GELU",
  silu: "SiLU", softmax: "softmax" };
const minus = (text) => text.replace("-", "−").replace(/^−(0(\.0*)?)$/, "$1");
export const number = (x, digits = 2) => minus(x.toFixed(digits));
const short = (x) => number(x, 1).replace(".0", "");
// How much of the gradient that arrives gets through, in words.
export function passes(share) {
  const size = Math.abs(100 * share);
  if (size < 0.005) return size === 0 ? "none of the gradient" : "less than 0.01 % of the gradient";
  const percent = size < 0.095 ? size.toFixed(2) : size < 9.95 ? size.toFixed(1) : size.toFixed(0);
  return `${percent} % of the gradient${share < 0 ? ", with its sign turned" : ""}`;
}
export function sentence(name, z, p) {
  const at = `At z = ${short(z)} ${["step", "sigmoid"].includes(name) ? "the " : ""}${NAMES[name]}`, through = passes(slope(name, z, p));
  const flat = saturated(name, p).some(([from, to]) => z >= from - 1e-9 && z <= to + 1e-9);
  const why = flat ? " Here it is saturated." : "";
  if (name !== "softmax") return `${at} gives ${number(value(name, z, p))} and passes on ${through}.${why}`;
  const shares = softmax([z, ...OTHERS], p).map((share) => number(100 * share, 1) + " %");
  return `At z = ${short(z)}, softmax turns the scores ${short(z)}, 1 and 0 into ${shares.slice(0, 2).join(", ")} and ` +
    `${shares[2]}, and passes on ${through} from the first probability to its own score.${why}`;
}

const LEFT = 34, RIGHT = 322, TOP = 26, BOTTOM = 210, WIDTH = 330, HEIGHT = 248;
const PARAMETERS = {
  leaky: { key: "a", label: "slope s on the left", min: 0, max: 0.5, step: 0.01, format: (x) => x.toFixed(2) },
  elu: { key: "alpha", label: "α", min: 0.25, max: 2, step: 0.05, format: (x) => x.toFixed(2) },
  softmax: { key: "temperature", label: "temperature T", min: 0.25, max: 4, step: 0.05, format: (x) => x.toFixed(2) },
};

export default {
  render({ model, el }) {
    const start = { activation: "sigmoid", z: 4, a: 0.1, alpha: 1, temperature: 1 };
    for (const key in start) if (model.get(key) === undefined) model.set(key, start[key]);
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    const parameter = () => +model.get(PARAMETERS[model.get("activation")]?.key ?? "a");

    const sliders = Object.fromEntries(Object.entries(PARAMETERS).map(([name, spec]) => [name, cv.slider(model, spec)]));
    const options = Object.entries({ ...NAMES, leaky: "leaky ReLU, PReLU", silu: "SiLU (swish)", softmax: "softmax of three scores" });
    controls.append(cv.select(model, { key: "activation", label: "activation", options }),
      cv.slider(model, { key: "z", label: "input z", min: -REACH, max: REACH, step: 0.1, format: short }),
      ...Object.values(sliders));

    const panel = (label) => {
      const layer = svg("g", {}), caption = html("figcaption", {});
      const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": label, style: "width:100%" }, layer);
      const figure = html("figure", { style: "flex:1 1 290px;max-width:470px" }, drawing, caption);
      picture.append(figure);
      return { layer, drawing, figure, caption };
    };
    const values = panel("The activation, with its tangent at the input"), slopes = panel("The derivative of the activation");
    const bars = panel("The three probabilities of softmax");
    const px = (z) => LEFT + ((z + REACH) / (2 * REACH)) * (RIGHT - LEFT);
    const py = ([low, high], y) => BOTTOM - ((y - low) / (high - low)) * (BOTTOM - TOP);
    const line = (x1, y1, x2, y2, style) => svg("line", { x1, y1, x2, y2, style });
    const text = (x, y, words, style = "", anchor = "middle") => svg("text", { x, y, style, "text-anchor": anchor }, words);
    const point = (x, y, color) => svg("circle", { cx: x, cy: y, r: 6, style: `fill:var(${color});stroke:var(--paper);stroke-width:1.5` });

    // The handle that is dragged: a dot with room for a finger around it; it stays the same element all the time.
    const reachable = svg("circle", { r: 18, style: "fill:transparent" });
    const dot = svg("circle", { r: 7, style: "fill:var(--orange);stroke:var(--paper);stroke-width:2" });
    const handle = cv.draggable(svg("g", {}, reachable, dot), {
      label: "Input z: drag it, or use the arrow keys, Home and End",
      unit: () => Math.max((values.drawing.getBoundingClientRect().width / WIDTH) * (RIGHT - LEFT) / (20 * REACH), 1),
      move(dx) {
        model.set("z", Math.min(REACH, Math.max(-REACH, Math.round(10 * (+model.get("z") + dx / 10)) / 10)));
        model.save_changes();
      },
    });
    handle.addEventListener("keydown", (event) => { // a slider's keys for both ends
      const end = { Home: -REACH, End: REACH }[event.key];
      if (end === undefined) return;
      event.preventDefault();
      model.set("z", end);
      model.save_changes();
    });
    values.drawing.append(handle);

    // Axes, shaded zones and one curve, drawn in two halves because it may jump at 0.
    function plot({ layer }, title, range, ticks, f, color, zones) {
      layer.replaceChildren(text(LEFT, 15, title, "font-weight:600", "start"));
      for (const [from, to] of zones) {
        layer.append(svg("rect", { x: px(from), y: TOP, width: px(to) - px(from), height: BOTTOM - TOP, style: "fill:var(--amber);fill-opacity:.2" }));
      }
      for (const tick of ticks) {
        layer.append(line(LEFT, py(range, tick), RIGHT, py(range, tick), `stroke:var(--line);opacity:${tick ? 0.3 : 0.9}`),
          text(LEFT - 5, py(range, tick) + 4, number(tick, tick % 1 ? 1 : 0), "font-size:12px", "end"));
      }
      for (const tick of [-6, -4, -2, 0, 2, 4, 6]) {
        layer.append(line(px(tick), TOP, px(tick), BOTTOM, `stroke:var(--line);opacity:${tick ? 0.3 : 0.9}`),
          text(px(tick), BOTTOM + 16, number(tick, 0), "font-size:12px"));
      }
      layer.append(text((LEFT + RIGHT) / 2, BOTTOM + 33, "input z"));
      const half = (from, to) => "M" + Array.from({ length: 121 }, (_, i) => from + ((to - from) * i) / 120)
        .map((z) => `${px(z).toFixed(1)} ${py(range, f(z)).toFixed(1)}`).join("L");
      layer.append(svg("path", { d: half(-REACH, -1e-9) + half(1e-9, REACH), style: `fill:none;stroke:var(${color});stroke-width:2.5` }));
    }

    function draw() {
      const name = model.get("activation"), z = +model.get("z"), p = parameter(), y = value(name, z, p), dy = slope(name, z, p);
      for (const key in sliders) sliders[key].style.display = key === name ? "" : "none";
      bars.figure.style.display = name === "softmax" ? "" : "none";
      const bounded = ["step", "sigmoid", "tanh", "softmax"].includes(name), zones = saturated(name, p);
      const range = bounded ? [-1.3, 1.3] : [-2.4, 6.4], steep = name === "elu" ? [-0.3, 2.2] : [-0.3, 1.3];

      plot(values, `${NAMES[name]}: ${FUNCTIONS[name][2]}`, range, bounded ? [-1, -0.5, 0, 0.5, 1] : [-2, 0, 2, 4, 6], (x) => value(name, x, p), "--blue", zones);
      const tangent = [z - 1.6, z + 1.6].map((x) => Math.min(Math.max(x, -REACH), REACH));
      values.layer.append(line(px(z), py(range, 0), px(z), py(range, y), "stroke:var(--orange);stroke-dasharray:3 3"),
        line(px(tangent[0]), py(range, y + dy * (tangent[0] - z)), px(tangent[1]), py(range, y + dy * (tangent[1] - z)), "stroke:var(--orange);stroke-width:2.5"));
      handle.setAttribute("transform", `translate(${px(z)} ${py(range, y)})`);
      values.caption.textContent = "Drag the orange point. The orange line is the tangent; " + (zones.length ? `shaded: less than ${100 * LITTLE} % of a gradient gets through.` : "no zone is saturated.");

      plot(slopes, "its slope (derivative)", steep, name === "elu" ? [0, 0.5, 1, 1.5, 2] : [0, 0.5, 1], (x) => slope(name, x, p), "--green", zones);
      slopes.layer.append(line(px(z), py(steep, 0), px(z), py(steep, dy), "stroke:var(--orange);stroke-dasharray:3 3"), point(px(z), py(steep, dy), "--orange"));
      slopes.caption.textContent = `Slope ${number(dy, 3)}: what a change of z is multiplied by, and what a gradient is multiplied by on its way back.`;

      if (name === "softmax") drawBars([z, ...OTHERS], p);
      readout.textContent = sentence(name, z, p);
    }

    function drawBars(scores, p) {
      bars.layer.replaceChildren(text(LEFT, 15, "three probabilities, together 100 %", "font-weight:600", "start"),
        line(LEFT, BOTTOM, RIGHT, BOTTOM, "stroke:var(--line)"));
      softmax(scores, p).forEach((share, i) => {
        const x = LEFT + 20 + 92 * i, top = BOTTOM - share * (BOTTOM - TOP - 20);
        bars.layer.append(svg("rect", { x, y: top, width: 64, height: BOTTOM - top, style: `fill:var(${i ? "--sky" : "--blue"})` }),
          text(x + 32, top - 6, number(100 * share, 1) + " %"), text(x + 32, BOTTOM + 17, `score ${short(scores[i])}`));
      });
      bars.caption.textContent = "Softmax is no function of one number: each probability depends on all scores.";
    }
    for (const key in start) model.on("change:" + key, draw);
    draw();
  },
};
