// Train a perceptron by hand, one mistake at a time. A point is [x1, x2, label]; weights are [w1, w2, b].
// Coordinates are multiples of STEP, a power of two, so sums are exact and weights that come back are found.
export const STEP = 0.25;
const LOW = -0.5, HIGH = 1.5; // where points may go
const EDGE = [-1.1, 1.9]; // what is drawn
const corners = (labels) => [[0, 0], [0, 1], [1, 0], [1, 1]].map((x, i) => [...x, labels[i]]);
export const DATA = {
  AND: corners([0, 0, 0, 1]), OR: corners([0, 1, 1, 1]), XOR: corners([0, 1, 1, 0]),
  free: [[-0.25, 0.5, 0], [0, 1, 0], [0.25, 0, 0], [0.5, 0.5, 0], [0.25, 1.25, 1], [1, 0.25, 1], [0.75, 1, 1], [1.25, 0.75, 1]],
};

export const score = ([w1, w2, b], [x1, x2]) => w1 * x1 + w2 * x2 + b;
export const answer = (weights, point) => (score(weights, point) >= 0 ? 1 : 0);
// The first mistake from `start` on, going round; -1 if every point is right.
export function nextMistake(points, weights, start) {
  for (let k = 0; k < points.length; k++) {
    const i = (start + k) % points.length;
    if (answer(weights, points[i]) !== points[i][2]) return i;
  }
  return -1;
}
export function corrected(weights, [x1, x2, label]) {
  const sign = label ? 1 : -1;
  return [weights[0] + sign * x1, weights[1] + sign * x2, weights[2] + sign];
}
// At most `count` corrections from zero: [w1, w2, b, index of the mistake] after each.
export function learn(points, count) {
  const list = [];
  let weights = [0, 0, 0], start = 0;
  for (let n = 0; n < count; n++) {
    const i = nextMistake(points, weights, start);
    if (i < 0) break;
    weights = corrected(weights, points[i]);
    start = i + 1;
    list.push([...weights, i]);
  }
  return list;
}
// How many corrections ago the last weights of the list were there before; 0 if never.
export function cycle(history) {
  const last = history.at(-1);
  for (let ago = 1; ago < history.length; ago++) {
    if (history.at(-1 - ago).every((value, i) => value === last[i])) return ago;
  }
  return 0;
}
// The part of the square from low to high where the neuron answers 1: corners of a polygon.
export function region(weights, low, high) {
  const square = [[low, low], [high, low], [high, high], [low, high]], polygon = [];
  square.forEach((p, i) => {
    const q = square[(i + 1) % 4], a = score(weights, p), b = score(weights, q);
    if (a >= 0) polygon.push(p);
    if ((a >= 0) !== (b >= 0)) polygon.push(p.map((value, k) => value + (a / (a - b)) * (q[k] - value)));
  });
  return polygon;
}

// A button that has nothing to do keeps the keyboard's focus: it is not disabled, it says so and ignores presses.
function actor(label, act) {
  const button = cv.button(label, () => { if (button.getAttribute("aria-disabled") !== "true") act(); });
  button.setActive = (active) => {
    button.setAttribute("aria-disabled", !active);
    button.style.opacity = active ? "" : 0.55;
  };
  return button;
}

const SIDE = 300, PLANE = 200;
const show = (x) => String(Math.round(100 * x) / 100).replace("-", "−");
const pair = (x) => `(${show(x[0])}, ${show(x[1])})`;
const zero = (weights) => !weights[0] && !weights[1];

export default {
  render({ model, el }) {
    if (model.get("data") === undefined) model.set("data", "AND");
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    let points, history, mistakes, start, chosen, moved;

    // --- controls
    const step = actor("Correct the mistake", () => {
      const i = nextMistake(points, history.at(-1), start);
      history.push(corrected(history.at(-1), points[i]));
      mistakes.push(i);
      start = i + 1;
      draw();
    });
    const back = actor("Back", () => {
      history.pop();
      start = mistakes.pop();
      draw();
    });
    const again = actor("Weights to zero", () => { fresh([0, 0, 0]); draw(); });
    const home = actor("Points back", load);
    const flip = cv.button("", () => { points[chosen][2] = 1 - points[chosen][2]; changed(); });
    controls.append(
      cv.select(model, { key: "data", label: "Learn", options: ["AND", "OR", "XOR", ["free", "a free set"]] }),
      step, back, again, flip, home);

    // --- the pixel plane, the weight plane, the list of corrections
    const at = (x) => ((x - EDGE[0]) / (EDGE[1] - EDGE[0])) * SIDE, up = (y) => SIDE - at(y);
    const marker = `cv-tip-${Math.random().toString(36).slice(2)}`;
    const tip = (id, color) => svg("marker", { id: marker + id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 6,
      markerHeight: 6, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z", fill: color }));
    const under = svg("g", {}), over = svg("g", {});
    const plane = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, width: SIDE, role: "group", style: "background:var(--panel)",
      "aria-label": "The plane of the two pixels, with the points and the line of the neuron" },
      svg("defs", {}, tip("w", "var(--blue)"), tip("x", "var(--orange)")), under, over);
    const path = svg("svg", { viewBox: `0 0 ${PLANE} ${PLANE}`, width: PLANE, role: "img", style: "background:var(--panel)",
      "aria-label": "The plane of the two weights, with the path that training took" });
    const list = html("table", { style: "border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums" });
    const panel = (node, width, text) => html("figure", { style: `width:${width}px;max-width:100%` }, node, html("figcaption", {}, text));
    picture.append(panel(plane, SIDE, "Pixel 1 across, pixel 2 up. Shaded: the neuron answers 1"),
      panel(path, PLANE, "w₁ across, w₂ up. Blue: the weights. Orange: the last correction"), html("div", { style: "flex:1 1 11rem" }, list));

    const arrow = (x1, y1, x2, y2, color, id) => svg("line", { x1, y1, x2, y2, stroke: color, "stroke-width": 2.5,
      "marker-end": `url(#${marker}${id})` });

    function handles() { // one for each point: draggable, and choosable for the flip
      over.replaceChildren(...points.map((_, i) => {
        const node = cv.draggable(svg("g", { onfocus: () => { chosen = i; draw(); } }), {
          label: "",
          unit: () => (plane.getBoundingClientRect().width / (EDGE[1] - EDGE[0])) * STEP,
          move(right, down) {
            const put = (value) => Math.min(Math.max(value, LOW), HIGH);
            points[i][0] = put(points[i][0] + STEP * right);
            points[i][1] = put(points[i][1] - STEP * down);
            changed();
          },
        });
        return node;
      }));
    }

    function drawPlane(weights, wrong) {
      const grid = [0, 1].flatMap((x) => [
        svg("path", { d: `M${at(x)} 0V${SIDE}M0 ${up(x)}H${SIDE}`, stroke: "var(--line)", "stroke-opacity": 0.4 }),
        svg("text", { x: at(x) + 3, y: SIDE - 4 }, x), svg("text", { x: 4, y: up(x) - 4 }, x)]);
      const shade = svg("polygon", { points: region(weights, ...EDGE).map(([x, y]) => `${at(x)},${up(y)}`).join(" "),
        fill: "var(--sky)", "fill-opacity": 0.35 });
      under.replaceChildren(shade, ...grid);
      const border = (v, attributes) => {
        if (zero(v)) return;
        const size = Math.hypot(v[0], v[1]), off = score(v, [0.5, 0.5]) / size, n = [v[0] / size, v[1] / size];
        const foot = [0.5 - off * n[0], 0.5 - off * n[1]], far = (t) => [foot[0] - t * n[1], foot[1] + t * n[0]];
        const [a, b] = [far(-4), far(4)];
        under.append(svg("line", { x1: at(a[0]), y1: up(a[1]), x2: at(b[0]), y2: up(b[1]), ...attributes }));
        return { foot, n, size };
      };
      if (history.length > 1) border(history.at(-2), { stroke: "var(--line)", "stroke-width": 1.5, "stroke-dasharray": "5 4" });
      const line = border(weights, { stroke: "var(--blue)", "stroke-width": 2.5 });
      if (line) {
        const long = Math.min(0.2 * line.size, 0.7), { foot, n } = line;
        under.append(arrow(at(foot[0]), up(foot[1]), at(foot[0] + long * n[0]), up(foot[1] + long * n[1]), "var(--blue)", "w"));
      }
      points.forEach((point, i) => {
        const node = over.childNodes[i], [x, y, label] = point, x0 = at(x), y0 = up(y);
        node.setAttribute("aria-label", `Point ${pair(point)} of class ${label}: move it with the arrow keys`);
        node.replaceChildren(...[
          i === wrong && svg("circle", { cx: x0, cy: y0, r: 19, fill: "none", stroke: "var(--orange)", "stroke-width": 4 }),
          svg("circle", { cx: x0, cy: y0, r: 13, fill: label ? "var(--blue)" : "var(--paper)", stroke: "var(--ink)",
            "stroke-width": i === chosen ? 3.5 : 1.5 }),
          svg("text", { x: x0, y: y0 + 5, "text-anchor": "middle", style: `font-weight:600;fill:var(--${label ? "paper" : "ink"})` }, label),
        ].filter(Boolean));
      });
    }

    function drawPath(weights) {
      const reach = Math.max(2, ...history.flatMap((v) => [Math.abs(v[0]), Math.abs(v[1])])) * 1.15;
      const px = (v) => PLANE / 2 + (v / reach) * (PLANE / 2), py = (v) => PLANE - px(v), last = history.at(-2);
      path.replaceChildren(
        svg("path", { d: `M0 ${PLANE / 2}H${PLANE}M${PLANE / 2} 0V${PLANE}`, stroke: "var(--line)", "stroke-opacity": 0.6 }),
        svg("path", { d: "M" + history.map((v) => `${px(v[0])} ${py(v[1])}`).join("L"), fill: "none", stroke: "var(--soft)" }),
        ...history.map((v) => svg("circle", { cx: px(v[0]), cy: py(v[1]), r: 3.5, fill: "var(--soft)" })));
      if (!zero(weights)) path.append(arrow(px(0), py(0), px(weights[0]), py(weights[1]), "var(--blue)", "w"));
      if (last && (last[0] !== weights[0] || last[1] !== weights[1])) {
        path.append(arrow(px(last[0]), py(last[1]), px(weights[0]), py(weights[1]), "var(--orange)", "x"));
      }
      path.append(svg("text", { x: 6, y: PLANE - 8 }, `w = ${pair(weights)}, b = ${show(weights[2])}`));
    }

    function drawList(period) {
      const cell = (text, tag = "td") => html(tag, { style: "padding:.1rem .5rem;text-align:left;font-weight:400" }, text);
      const head = html("tr", { style: "color:var(--soft)" }, ...["#", "mistake", "w", "b"].map((text) => cell(text, "th")));
      const n = history.length - 1, first = Math.max(0, n - 7);
      list.replaceChildren(head, ...history.slice(first).map((v, k) => {
        const number = first + k, point = number ? points[mistakes[number - 1]] : null;
        const same = period && (number === n || number === n - period);
        return html("tr", { style: same ? "background:var(--pale);box-shadow:inset 3px 0 var(--orange)" : "" }, cell(number),
          cell(point ? `${point[2] ? "+" : "−"} ${pair(point)}` : "start"), cell(pair(v)), cell(show(v[2])));
      }));
    }

    function draw() {
      const weights = history.at(-1), wrong = nextMistake(points, weights, start), n = history.length - 1, period = cycle(history);
      drawPlane(weights, wrong);
      drawPath(weights);
      drawList(period);
      step.setActive(wrong >= 0);
      for (const button of [back, again]) button.setActive(n > 0);
      home.setActive(moved);
      flip.textContent = `Flip class of ${pair(points[chosen])}`;
      const count = `${n} ${n === 1 ? "correction" : "corrections"}.`, parts = [];
      if (wrong < 0) parts.push(`${count} Every point is right: this line separates the classes, and the rule has nothing more to do.`);
      else {
        const x = points[wrong], z = score(weights, x), should = x[2];
        parts.push(`${count} Point ${pair(x)} is wrong: w·x + b = ${show(z)} ${z >= 0 ? "≥" : "<"} 0, so the neuron answers ${1 - should} `
          + `instead of ${should}. ${should ? "Add the point to w and 1 to b." : "Subtract the point from w and 1 from b."}`);
      }
      if (period) parts.push(`The weights were ${pair(weights)}, ${show(weights[2])} before, ${period} corrections ago: `
        + "they go round for ever, and no line separates these points.");
      readout.textContent = parts.join(" ");
    }

    function fresh(weights) { history = [weights]; mistakes = []; start = 0; }
    function changed() { moved = true; fresh(history.at(-1)); draw(); } // training goes on from the weights it had
    function load() {
      points = DATA[model.get("data")].map((point) => [...point]);
      chosen = points.length - 1;
      moved = false;
      fresh([0, 0, 0]);
      handles();
      draw();
    }
    model.on("change:data", load);
    load();
  },
};
