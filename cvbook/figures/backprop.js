// Forward and backward through a small graph, one operation at a time, with the number on every edge.

// The arithmetic. A node is a leaf [name] or an operation [name, op, operands]; the last node is the output.
export const GRAPHS = {
  reuse: [["a"], ["b"], ["u", "·", ["a", "b"]], ["f", "+", ["u", "a"]]],
  neuron: [["w"], ["x"], ["b"], ["u", "·", ["w", "x"]], ["z", "+", ["u", "b"]], ["f", "tanh", ["z"]]],
  diamond: [["a"], ["b"], ["u", "+", ["a", "b"]], ["v", "·", ["u", "b"]], ["f", "+", ["v", "u"]]],
};
const RULES = { // value of the result, and its derivative by each operand
  "·": (x, y) => [x * y, [y, x]],
  "+": (x, y) => [x + y, [1, 1]],
  tanh: (x) => [Math.tanh(x), [1 - Math.tanh(x) ** 2]],
};
// Every step of both passes. After step i, values[name] and grads[name] hold what is known then; `assign` is the bug
// that writes = where += is right. Gradients start at 0.
export function trace(name, leaves, assign) {
  const graph = GRAPHS[name], values = {}, slopes = {}, grads = {}, steps = [];
  const snapshot = (step) => steps.push({ ...step, values: { ...values }, grads: { ...grads } });
  for (const [node, op] of graph) {
    grads[node] = 0;
    if (!op) values[node] = leaves[node];
  }
  snapshot({ pass: "start" });
  for (const [node, op, operands] of graph.filter((entry) => entry[1])) {
    [values[node], slopes[node]] = RULES[op](...operands.map((operand) => values[operand]));
    snapshot({ pass: "forward", node });
  }
  const output = graph.at(-1)[0];
  grads[output] = 1;
  snapshot({ pass: "seed", node: output });
  for (const [node, , operands] of graph.filter((entry) => entry[1]).reverse()) {
    const shares = operands.map((operand, i) => {
      const before = grads[operand], share = slopes[node][i] * grads[node];
      grads[operand] = assign ? share : before + share;
      return { operand, slope: slopes[node][i], share, before, after: grads[operand] };
    });
    snapshot({ pass: "backward", node, shares });
  }
  return { steps, slopes };
}
export const uses = (name, node) => GRAPHS[name].flatMap((entry) => entry[2] ?? []).filter((used) => used === node).length;

export function format(x) {
  const rounded = Math.round(x * 1000) / 1000 || 0;
  return String(rounded).replace("-", "−");
}
const factor = (x) => (x < 0 ? `(${format(x)})` : format(x));

// A button that has nothing to do keeps the keyboard's focus: it is not disabled, it says so and ignores presses.
function actor(label, act) {
  const button = cv.button(label, () => { if (button.getAttribute("aria-disabled") !== "true") act(); });
  button.setActive = (active) => {
    button.setAttribute("aria-disabled", !active);
    button.style.opacity = active ? "" : 0.55;
  };
  return button;
}

const PLACES = { // center of each box: x, and its row
  reuse: { a: [50, 0], b: [262, 0], u: [208, 1], f: [104, 2] },
  neuron: { w: [50, 0], x: [165, 0], b: [280, 0], u: [108, 1], z: [190, 2], f: [190, 3] },
  diamond: { a: [50, 0], b: [280, 0], u: [112, 1], v: [232, 2], f: [112, 3] },
};
const TITLES = [["reuse", "f = a·b + a"], ["neuron", "f = tanh(w·x + b)"], ["diamond", "u = a + b,  f = u·b + u"]];
const [WIDTH, BOX, HIGH, ROW] = [330, 92, 58, 116];
const spelled = (op, operands) => (op === "tanh" ? `tanh(${operands[0]})` : operands.join(` ${op} `));

export default {
  render({ model, el }) {
    const start = { graph: "reuse", a: 2, b: 3, w: 2, x: -1, step: 0, assign: false };
    for (const key in start) if (model.get(key) === undefined) model.set(key, start[key]);
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;

    // --- controls
    const sliders = Object.fromEntries(["a", "w", "x", "b"].map((key) =>
      [key, cv.slider(model, { key, label: key, min: -4, max: 4, step: 0.5, format })]));
    for (const label of Object.values(sliders)) label.querySelector("input").style.width = "min(8rem, 36vw)";
    const last = () => trace(model.get("graph"), {}, false).steps.length - 1;
    const now = () => Math.max(0, Math.min(+model.get("step"), last()));
    const go = (step) => () => {
      model.set("step", step(now()));
      model.save_changes();
    };
    const first = actor("Start", go(() => 0)), back = actor("◀ Back", go((i) => i - 1));
    const next = actor("Next ▶", go((i) => i + 1)), end = actor("End", go(last));
    const buttons = html("div", { role: "group", "aria-label": "steps", style: "display:flex;flex-wrap:wrap;gap:.4rem" },
      first, back, next, end);
    controls.append(cv.select(model, { key: "graph", label: "expression", options: TITLES }), ...Object.values(sliders),
      cv.checkbox(model, { key: "assign", label: "bug: write = for +=" }), buttons);

    // --- the picture: the graph, and the list of all steps
    const drawing = svg("svg", { role: "img", style: "flex:1 1 280px;max-width:400px;min-width:0" });
    const list = html("ol", { style: "margin:0;padding:0;list-style:none" });
    const tape = html("div", { style: "flex:1 1 260px;min-width:0;font-size:14px" }, list);
    picture.append(drawing, tape);

    const at = (node) => {
      const [x, row] = PLACES[model.get("graph")][node];
      return [x, 14 + HIGH / 2 + row * ROW];
    };
    const label = (x, y, text, style = "", anchor = "middle") =>
      svg("text", { x, y, "text-anchor": anchor, style: "font-size:13px;" + style }, text);

    // Lines go straight onto the page; the numbers on them are returned and drawn last.
    function drawEdge(from, to, slope, share, lit) {
      const [x1, y1] = at(from), [x2, y2] = at(to), color = lit ? "var(--orange)" : "var(--line)";
      const top = y1 + HIGH / 2, bottom = y2 - HIGH / 2, x = x1 + (x2 - x1) * 0.15, tip = x2 + (x1 - x2) * 0.22;
      drawing.append(svg("line", { x1: x, y1: top, x2: tip, y2: bottom, style: `stroke:${color};stroke-width:${lit ? 3.5 : 1.5}` }));
      const [px, py, way] = lit ? [x, top, 1] : [tip, bottom, -1]; // the head points where numbers flow
      const angle = (Math.atan2(bottom - top, tip - x) * 180) / Math.PI + (lit ? 180 : 0);
      drawing.append(svg("path", { d: "M0 0L-9 -4.5L-9 4.5Z", transform: `translate(${px} ${py + way}) rotate(${angle})`, style: `fill:${color}` }));
      if (slope === undefined) return [];
      const t = y2 - y1 > 1.5 * ROW ? 0.36 : 0.5, mx = x + (tip - x) * t, my = top + (bottom - top) * t;
      const text = "× " + factor(slope), wide = 7 * Math.max(text.length, share === undefined ? 0 : format(share).length + 1) + 4;
      const tall = share === undefined ? 16 : 32;
      return [svg("rect", { x: mx - wide / 2, y: my - tall / 2, width: wide, height: tall, style: "fill:var(--paper)" }),
        label(mx, my + (share === undefined ? 5 : -3), text),
        ...(share === undefined ? [] : [label(mx, my + 13, format(share), "fill:var(--orange);font-weight:700")])];
    }

    function drawNode([node, op, operands], { values, grads }, current, wrong, reached) {
      const [x, y] = at(node), twice = uses(model.get("graph"), node) > 1;
      const box = { x: x - BOX / 2, y: y - HIGH / 2, width: BOX, height: HIGH, rx: 8 };
      if (twice) {
        drawing.append(svg("rect", { ...box, style: "fill:none;stroke:var(--amber);stroke-width:14;stroke-opacity:.3" }),
          svg("rect", { ...box, style: "fill:none;stroke:var(--amber);stroke-width:8;stroke-opacity:.55" }));
      }
      const edge = wrong ? "var(--red)" : current ? "var(--orange)" : "var(--line)";
      const fill = current ? "var(--pale)" : "var(--panel)";
      drawing.append(svg("rect", { ...box, style: `fill:${fill};stroke:${edge};stroke-width:${current || wrong ? 3 : 1.2}` }));
      const known = values[node] !== undefined;
      drawing.append(
        label(x, y - 13, op ? `${node} = ${spelled(op, operands)}` : node + (twice ? " (2 uses)" : ""), "font-weight:700"),
        label(x, y + 5, known ? format(values[node]) : "?", "fill:var(--blue);font-weight:700;font-size:14px"),
        label(x, y + 22, (reached ? `grad ${format(grads[node])}` : "grad 0") + (wrong ? " ✗" : ""),
          `fill:var(${wrong ? "--red" : reached ? "--orange" : "--soft"});${reached ? "font-weight:700" : ""}`));
    }

    const sign = () => (model.get("assign") ? "=" : "+=");
    function sentences(step, done) {
      const [node, op, operands] = GRAPHS[model.get("graph")].find(([name]) => name === step.node);
      if (step.pass === "forward") {
        const numbers = operands.map((operand) => step.values[operand]);
        const filled = op === "tanh" ? `tanh(${format(numbers[0])})` : `${format(numbers[0])} ${op} ${factor(numbers[1])}`;
        return [`${node} = ${spelled(op, operands)}` + (done ? ` = ${filled} = ${format(step.values[node])}` : "")];
      }
      if (step.pass === "seed") return [`${node}.grad = 1`];
      return step.shares.map(({ operand, slope, share, before, after }) => {
        const sum = model.get("assign") ? "" : before ? `, ${format(before)} + ${factor(share)} = ${format(after)}` : "";
        return `${operand}.grad ${sign()} d${node}/d${operand} · ${node}.grad` +
          (done ? ` = ${format(slope)} · ${factor(step.grads[node])} = ${format(share)}${sum}` : "");
      });
    }

    function draw() {
      const name = model.get("graph"), graph = GRAPHS[name], leaves = graph.filter((entry) => !entry[1]).map(([leaf]) => leaf);
      for (const key in sliders) sliders[key].style.display = leaves.includes(key) ? "" : "none";
      const inputs = Object.fromEntries(leaves.map((leaf) => [leaf, +model.get(leaf)]));
      const assign = Boolean(model.get("assign")), { steps, slopes } = trace(name, inputs, assign);
      const right = trace(name, inputs, false).steps.at(-1).grads, index = now(), step = steps[index];
      const finished = index === steps.length - 1, wrong = (node) => finished && Math.abs(step.grads[node] - right[node]) > 1e-9;
      for (const button of [first, back]) button.setActive(index > 0);
      for (const button of [next, end]) button.setActive(!finished);

      const passed = steps.slice(0, index + 1), seeded = passed.some(({ pass }) => pass === "seed");
      const shareOf = (node, i) => passed.find((s) => s.pass === "backward" && s.node === node)?.shares[i].share;
      const height = 28 + HIGH + ROW * Math.max(...Object.values(PLACES[name]).map((place) => place[1]));
      drawing.replaceChildren();
      drawing.setAttribute("viewBox", `-8 0 ${WIDTH + 16} ${height}`);
      drawing.setAttribute("aria-label", `Graph of ${TITLES.find(([key]) => key === name)[1]}: ` + graph.map(([node]) =>
        `${node} ${step.values[node] === undefined ? "not yet known" : format(step.values[node])}, grad ${format(step.grads[node])}`).join("; "));
      const numbers = graph.flatMap(([node, , operands]) => (operands ?? []).flatMap((operand, i) => drawEdge(operand, node,
        step.values[node] === undefined ? undefined : slopes[node][i], shareOf(node, i), step.pass === "backward" && step.node === node)));
      const reached = new Set(passed.flatMap((s) => (s.shares ?? []).map(({ operand }) => operand)));
      if (seeded) reached.add(graph.at(-1)[0]);
      drawing.append(...numbers);
      for (const entry of graph) drawNode(entry, step, entry[0] === step.node, wrong(entry[0]), reached.has(entry[0]));

      list.replaceChildren();
      steps.forEach((s, i) => {
        if (i === 0) return;
        if (i === 1 || s.pass === "seed") {
          list.append(html("li", { style: "font-weight:700;margin-top:.3rem" }, i === 1 ? "Forward: values" : "Backward: gradients"));
        }
        const style = i === index ? "background:var(--pale);border-left:4px solid var(--orange)"
          : `border-left:4px solid transparent;${i > index ? "color:var(--soft)" : ""}`;
        list.append(html("li", { style: style + ";padding:.12rem .5rem", "aria-current": i === index && "step" },
          ...sentences(s, i <= index).map((text) => html("div", {}, text))));
      });

      const output = graph.at(-1)[0], all = leaves.map((leaf) => `d${output}/d${leaf} = ${format(right[leaf])}`).join(", ");
      const bad = leaves.filter(wrong);
      const said = {
        start: () => "Nothing is computed yet. Press Next.",
        forward: () => `Forward: ${sentences(step, true)[0]}. The edges into ${step.node} keep its local derivatives.`,
        seed: () => `Backward starts: ${output}.grad = 1, because d${output}/d${output} = 1.`,
        backward: () => `${step.node} passes on: ${sentences(step, true).join("; ")}.`,
      }[step.pass]();
      const verdict = !finished ? "" : bad.length
        ? ` Wrong: ${bad.map((leaf) => `${leaf}.grad is ${format(step.grads[leaf])}, right is ${format(right[leaf])}`).join("; ")}. A second share has overwritten the first.`
        : ` Done: ${all}.`;
      readout.textContent = `Step ${index} of ${steps.length - 1}. ${said}${verdict}`;
    }
    for (const key in start) {
      model.on("change:" + key, () => {
        if (key === "graph") model.set("step", 0); // a new expression starts anew
        draw();
      });
    }
    draw();
  },
};
