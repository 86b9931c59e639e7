// Where the windows of a convolution lie: stride, padding, dilation, groups, and the sum behind one output pixel.

// The arithmetic. n: input size, k: taps, s: stride, p: padding at each end, d: dilation.
export const span = (k, d) => d * (k - 1) + 1;
export function outputSize(n, k, s, p, d) {
  const room = n + 2 * p - span(k, d);
  return room < 0 ? 0 : Math.floor(room / s) + 1;
}
// Pixels at the far end of the padded input that lie behind the last window.
export function leftover(n, k, s, p, d) {
  const m = outputSize(n, k, s, p, d);
  return m ? n + 2 * p - ((m - 1) * s + span(k, d)) : n + 2 * p;
}
// For each padded pixel along one axis: does any tap of any window read it?
export function read(n, k, s, p, d) {
  const seen = Array(n + 2 * p).fill(false);
  for (let i = 0; i < outputSize(n, k, s, p, d); i++) for (let u = 0; u < k; u++) seen[s * i + d * u] = true;
  return seen;
}
// Which input pixel the padded position i shows; -1 is a zero.
export function sourcePixel(i, n, p, mode) {
  const a = i - p;
  if (a >= 0 && a < n) return a;
  if (mode === "reflect") return n - 1 - Math.abs(n - 1 - Math.abs(a));
  if (mode === "replicate") return Math.min(Math.max(a, 0), n - 1);
  return mode === "circular" ? ((a % n) + n) % n : -1;
}
export const outputChannels = (groups) => Math.max(2, groups);
export function channelsSeen(out, channels, groups) {
  const each = channels / groups, group = Math.floor(out / (outputChannels(groups) / groups));
  return Array.from({ length: each }, (_, c) => group * each + c);
}
// Small whole numbers, the same at every visit; kernels are not symmetric.
export const inputValue = (c, i, j) =>
  ((37 * i * i + 53 * j * j + 29 * i * j + 11 * i + 17 * j + 23 * c * (i + 2 * j + 1) + 8) % 97) % 5;
export const weightValue = (o, c, u, v) => ((2 * u * u + 3 * v + 5 * c + 4 * o + u * v * (1 + c)) % 4) - 1;
export const biasValue = (o) => 2 - o;
// All products of one output pixel, channel by channel: [channel, u, v, padded row, padded column, x, w].
export function terms({ n, kernel, stride, padding, dilation, mode, channels, groups }, out, row, column) {
  const list = [];
  channelsSeen(out, channels, groups).forEach((c, within) => {
    for (let u = 0; u < kernel; u++) for (let v = 0; v < kernel; v++) {
      const i = row * stride + u * dilation, j = column * stride + v * dilation;
      const a = sourcePixel(i, n, padding, mode), b = sourcePixel(j, n, padding, mode);
      list.push([c, u, v, i, j, a < 0 || b < 0 ? 0 : inputValue(c, a, b), weightValue(out, within, u, v)]);
    }
  });
  return list;
}
export const outputValue = (state, out, row, column) =>
  terms(state, out, row, column).reduce((sum, t) => sum + t[5] * t[6], biasValue(out));
export function parameters({ kernel, channels, groups }) {
  const out = outputChannels(groups);
  return out * (channels / groups) * kernel * kernel + out;
}
// What a wrong prediction forgot.
export function mistake(guess, n, k, s, p, d) {
  const right = outputSize(n, k, s, p, d), room = n + 2 * p - span(k, d);
  if (guess === right) return "";
  if (room < 0) return "Compare the span of the taps with the padded input: does any window fit?";
  const known = [
    [outputSize(n, k, s, p, 1), `That leaves out the dilation: ${k} taps at distance ${d} span ${span(k, d)} pixels, not ${k}.`],
    [Math.floor((room - p) / s) + 1, "Padding is added at both ends, so it counts twice."],
    [Math.floor((room - 2 * p) / s) + 1, "That leaves out the padding."],
    [Math.ceil(room / s) + 1, "Round down: a window that does not fit completely is not used."],
    [Math.floor(room / s), "Add 1 after dividing: the first window takes no step."],
    [room + 1, "That leaves out the stride."],
  ];
  const found = known.find(([value]) => value === guess);
  return found ? found[1] : "Count how often the window fits along the top row; move it to see.";
}

const signed = (x) => (x < 0 ? "−" + -x : String(x));
const CELL = 23;

export default {
  render({ model, el }) {
    const start = { n: 7, kernel: 3, stride: 2, padding: 1, dilation: 1, mode: "zeros", channels: 1, groups: 1, out: 0,
      row: 0, column: 0, taps: 9, predict: false, guess: 0, more: true };
    for (const key in start) if (model.get(key) === undefined) model.set(key, start[key]);
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    const get = (key) => (key === "mode" ? model.get(key) : +model.get(key));
    const now = () => Object.fromEntries(Object.keys(start).map((key) => [key, get(key)]));
    const size = (t) => outputSize(t.n, t.kernel, t.stride, t.padding, t.dilation);

    // --- controls
    const slide = (key, label, min, max, format) => cv.slider(model, { key, label, min, max, format });
    const modes = [["zeros", "zeros"], ["reflect", "reflect"], ["replicate", "replicate"], ["circular", "circular"]];
    const border = cv.select(model, { key: "mode", label: "border holds", options: modes });
    const groups = cv.select(model, { key: "groups", label: "groups", options: [1, 2, 3, 4] });
    const out = slide("out", "output channel", 0, 1), guess = slide("guess", "your prediction", 0, 16);
    const taps = slide("taps", "products added", 0, 9);
    const check = cv.button("Check", () => {
      const t = now(), wrong = mistake(t.guess, t.n, t.kernel, t.stride, t.padding, t.dilation);
      if (!wrong) revealed = true;
      verdict = wrong ? `Not ${t.guess}. ${wrong}` : `Right: ${t.guess}.`;
      draw();
      (wrong ? guess : taps).querySelector("input").focus(); // the button is now disabled
    });
    const more = html("details", { open: get("more") > 0, style: "flex:1 1 100%" },
      html("summary", { style: "cursor:pointer;font-size:14px;min-height:28px" }, "dilation, border, channels, groups"),
      html("div", { class: "cv-controls", style: "margin:0" }, slide("dilation", "dilation d", 1, 3), border,
        slide("channels", "input channels", 1, 4), groups, out));
    controls.append(slide("n", "input size n", 4, 10), slide("kernel", "kernel k", 1, 5), slide("stride", "stride s", 1, 4),
      slide("padding", "padding p", 0, 3), cv.checkbox(model, { key: "predict", label: "predict first" }), guess, check, more);
    for (const input of controls.querySelectorAll("input[type=range]")) input.style.width = "min(9rem, 34vw)";
    const formula = html("p", { style: "margin:0 0 .4rem" });
    const sums = html("div", { style: "font-family:ui-monospace,monospace;font-size:14px;overflow-wrap:anywhere" });
    const work = html("div", { style: "flex:1 1 100%;min-width:0" }, formula, html("div", { class: "cv-controls" }, taps), sums);
    picture.append(work);

    // --- the picture: one panel for each input channel, one for the chosen output channel
    let panels = [], built = "", shape = "", revealed = false, verdict = "";
    function move(dx, dy) {
      const last = Math.max(size(now()) - 1, 0), clamp = (x) => Math.min(Math.max(x, 0), last);
      model.set("row", clamp(get("row") + dy));
      model.set("column", clamp(get("column") + dx));
      model.save_changes();
    }
    const caption = (text) => html("div", { style: "font-size:14px;color:var(--soft)" }, text);
    function panel(side, label, step) { // step: cells that the frame moves for one output pixel; 0: no frame
      const cells = svg("g", {}), width = side * CELL + 4;
      const drawing = svg("svg", { viewBox: `-2 -2 ${width} ${width}`, width, role: "group", "aria-label": label }, cells);
      const figure = html("div", {}, drawing, caption(label));
      figure.style.maxWidth = `min(100%, max(${width}px, 9.5rem))`;
      let frame = null, next = null; // the window, and a dashed one a stride to the right
      if (step) {
        frame = svg("rect", { fill: "transparent", stroke: "var(--orange)", "stroke-width": 3, rx: 3 });
        const unit = () => Math.max((drawing.getBoundingClientRect().width / width) * CELL * step, 8);
        next = svg("rect", { fill: "none", stroke: "var(--orange)", "stroke-width": 2, "stroke-dasharray": "5 4" });
        drawing.append(next, cv.draggable(frame, { label: `${label}: move the window with the arrow keys`, move, unit }));
      }
      work.before(figure);
      return { figure, cells, frame, next };
    }
    function cell(target, i, j, fill, text, { dash, current, cross } = {}) {
      const x = j * CELL, y = i * CELL;
      target.append(svg("rect", { x: x + 1, y: y + 1, width: CELL - 2, height: CELL - 2, fill,
        stroke: current ? "var(--orange)" : "var(--line)", "stroke-width": current ? 3 : 1, "stroke-dasharray": dash && "3 2" }));
      if (cross) target.append(svg("path", { d: `M${x + 3} ${y + CELL - 3}L${x + CELL - 3} ${y + 3}`, stroke: "var(--soft)" }),
        svg("rect", { x: x + 1, y: y + 1, width: CELL - 2, height: CELL - 2, fill: "var(--line)", "fill-opacity": 0.4 }));
      if (text !== "") target.append(svg("text", { x: x + CELL / 2, y: y + CELL / 2 + 4, "text-anchor": "middle",
        style: "font-size:12px" }, text));
    }
    const place = (frame, i, j, side) => {
      for (const [key, value] of Object.entries({ x: j * CELL, y: i * CELL, width: side * CELL, height: side * CELL })) {
        frame.setAttribute(key, value);
      }
    };

    function drawInput(t, c, { cells, frame, next }, seen, used, current) {
      const N = t.n + 2 * t.padding, reached = read(t.n, t.kernel, t.stride, t.padding, t.dilation);
      for (let i = 0; i < N; i++) for (let j = 0; j < N; j++) {
        const a = sourcePixel(i, t.n, t.padding, t.mode), b = sourcePixel(j, t.n, t.padding, t.mode);
        const inside = [i, j].every((x) => x >= t.padding && x < t.n + t.padding), lost = !(reached[i] && reached[j]);
        const tap = used.some((u) => u[0] === c && u[3] === i && u[4] === j);
        const value = a < 0 || b < 0 ? 0 : inputValue(c, a, b);
        cell(cells, i, j, tap ? "var(--sky)" : inside ? "var(--pale)" : "var(--paper)", seen && !lost ? signed(value) : "",
          { dash: !inside, cross: lost, current: current && current[0] === c && current[3] === i && current[4] === j });
      }
      if (!frame) return;
      const side = span(t.kernel, t.dilation), left = (t.column + 1) * t.stride;
      place(frame, t.row * t.stride, t.column * t.stride, side);
      place(next, t.row * t.stride, left, left + side > N ? 0 : side);
    }
    function drawKernel(t, c, within, figure, current) {
      const cells = svg("g", {}), side = t.kernel * CELL + 4, label = `kernel of output channel ${t.out} for input channel ${c}`;
      for (let u = 0; u < t.kernel; u++) for (let v = 0; v < t.kernel; v++) {
        cell(cells, u, v, "var(--panel)", signed(weightValue(t.out, within, u, v)),
          { current: current && current[0] === c && current[1] === u && current[2] === v });
      }
      figure.append(svg("svg", { viewBox: `-2 -2 ${side} ${side}`, width: side, role: "img", "aria-label": label }, cells),
        caption(`kernel slice w[${t.out}, ${within}]`));
    }

    function draw() {
      const t = now(), m = size(t), N = t.n + 2 * t.padding, hidden = Boolean(t.predict) && !revealed;
      const mine = channelsSeen(t.out, t.channels, t.groups), products = m ? terms(t, t.out, t.row, t.column) : [];
      const structure = [N, t.channels, t.groups, t.out, m, t.stride, hidden].join();
      if (structure !== built) {
        panels.forEach(({ figure }) => figure.remove());
        panels = [];
        for (let c = 0; c < t.channels; c++) {
          const seen = mine.includes(c);
          panels.push(panel(N, `input channel ${c}${seen ? "" : ": other group, not seen"}`, seen && m ? t.stride : 0));
        }
        if (m && !hidden) panels.push(panel(m, `output channel ${t.out} of ${outputChannels(t.groups)}, ${m} × ${m}`, 1));
        built = structure;
      }
      const current = t.taps > 0 && t.taps < products.length ? products[t.taps - 1] : null;
      for (const { cells, figure } of panels) {
        cells.replaceChildren();
        while (figure.childNodes.length > 2) figure.lastChild.remove();
      }
      for (let c = 0; c < t.channels; c++) {
        drawInput(t, c, panels[c], mine.includes(c), products.slice(0, t.taps), current);
        if (mine.includes(c)) drawKernel(t, c, mine.indexOf(c), panels[c].figure, current);
      }
      if (m && !hidden) {
        const { cells, frame, next } = panels.at(-1);
        for (let i = 0; i < m; i++) for (let j = 0; j < m; j++) {
          cell(cells, i, j, "var(--panel)", signed(outputValue(t, t.out, i, j)));
        }
        place(frame, t.row, t.column, 1);
        next.remove();
      }
      words(t, m, hidden, mine, products);
      guess.querySelector("input").disabled = !hidden;
      check.disabled = !hidden || verdict !== "";
      check.style.opacity = check.disabled ? 0.5 : 1;
    }

    function words(t, m, hidden, mine, products) {
      const { n, kernel: k, stride: s, padding: p, dilation: d } = t, room = n + 2 * p - span(k, d);
      const filled = `⌊(${n} + 2·${p} − ${d}·(${k} − 1) − 1) / ${s}⌋ + 1`;
      formula.textContent = "Output size = " + (hidden ? "?" : "⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1"
        + (m ? ` = ${filled} = ⌊${room} / ${s}⌋ + 1 = ${m}` : `: the taps span ${span(k, d)} pixels, the padded input has ${n + 2 * p}; no window fits.`));
      sums.replaceChildren();
      let total = 0;
      for (const c of mine) {
        const part = products.slice(0, t.taps).filter((term) => term[0] === c);
        if (!part.length) continue;
        const sum = part.reduce((a, term) => a + term[5] * term[6], 0);
        total += sum;
        const text = part.map((term) => `${signed(term[5])}·${term[6] < 0 ? `(${signed(term[6])})` : term[6]}`).join(" + ");
        sums.append(html("div", {}, `channel ${c}: ${text} = ${signed(sum)}`));
      }
      const done = t.taps >= products.length && m > 0;
      if (done) sums.append(html("div", {}, `all channels ${signed(total)}, plus bias ${signed(biasValue(t.out))}: output ${signed(total + biasValue(t.out))}`));
      const lost = leftover(n, k, s, p, d), reached = read(n, k, s, p, d), behind = reached.length - lost;
      const gaps = reached.filter((x, i) => !x && i < behind).length;
      const parts = [verdict];
      if (hidden) parts.push(`Predict the output size; your prediction is ${t.guess}. Then press Check.`);
      else if (!m) parts.push("No window fits: the output is empty.");
      else {
        parts.push(`Output ${m} × ${m}.`, lost ? `Crossed out: the last ${lost === 1 ? "row and column" : lost + " rows and columns"}`
          + ` of the padded input, which no window reaches.` : "The last window ends exactly at the border.");
        if (gaps) parts.push(`${gaps} more row${gaps > 1 ? "s" : ""} and column${gaps > 1 ? "s" : ""} in between are never read.`);
      }
      if (m) parts.push(`Window at row ${t.row}, column ${t.column}: ${done ? "sum with bias " + signed(total + biasValue(t.out)) : "sum so far " + signed(total)}.`);
      parts.push(`The layer has ${parameters(t)} parameters.`);
      readout.textContent = parts.filter(Boolean).join(" ");
    }

    // Keep the state possible whatever was moved, then draw once.
    let busy = false;
    function change(key) {
      if (busy) return;
      busy = true;
      const fix = (name, value) => { if (get(name) !== value) model.set(name, value); };
      if (get("channels") % get("groups")) fix("groups", 1);
      fix("out", Math.min(get("out"), outputChannels(get("groups")) - 1));
      const t = now(), last = Math.max(size(t) - 1, 0), total = size(t) ? (t.channels / t.groups) * t.kernel ** 2 : 0;
      fix("row", Math.min(t.row, last));
      fix("column", Math.min(t.column, last));
      const outs = out.querySelector("input"), many = taps.querySelector("input");
      outs.max = outputChannels(t.groups) - 1;
      if (+many.max !== total || many.disabled) { many.max = total; model.set("taps", total); }
      many.disabled = !total;
      for (const [label, value] of [[out, t.out], [taps, get("taps")]]) label.querySelector("input").value = value;
      border.querySelector("select").disabled = t.padding === 0;
      groups.querySelector("select").disabled = t.channels === 1;
      for (const option of groups.querySelectorAll("option")) option.disabled = t.channels % +option.value > 0;
      const asked = [t.n, t.kernel, t.stride, t.padding, t.dilation, t.predict].join();
      if (asked !== shape || key === "guess") verdict = "";
      if (asked !== shape) { shape = asked; revealed = false; }
      busy = false;
      draw();
    }
    for (const key in start) model.on("change:" + key, () => change(key));
    change("n");
  },
};
