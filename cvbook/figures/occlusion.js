// Cover a part of a photograph: what does the network answer now? All answers were measured beforehand, on a grid.
// A photograph is { label, source, names, whole, covered, start: [row, column] }: whole[k] is the probability of class k for the open picture,
// covered is an array (rows, columns, classes) with the patch's corner at row i * stride, column j * stride.

// The grid index along one axis for which the patch's middle is nearest to a pixel.
export function nearest(pixel, patch, stride, count) {
  return Math.min(Math.max(Math.round((pixel - patch / 2) / stride), 0), count - 1);
}

// The probabilities at one place; the last entry is their sum.
export function answers(probabilities) {
  const list = Array.from(probabilities);
  return [...list, list.reduce((sum, p) => sum + p, 0)];
}
export function under({ shape, data }, i, j) {
  const start = (i * shape[1] + j) * shape[2];
  return answers(data.slice(start, start + shape[2]));
}

// How far the probability of class k falls at every place, row by row; negative where it rises.
export function drops(whole, covered, k) {
  const [rows, columns] = covered.shape, before = answers(whole)[k];
  return Array.from({ length: rows * columns }, (_, n) => before - under(covered, Math.floor(n / columns), n % columns)[k]);
}

// Orange where covering lowers the probability, blue where it raises it; clear where nothing changes.
export function tint(drop, limit) {
  const strength = Math.min(Math.abs(drop) / limit, 1);
  return { fill: drop > 0 ? "#d55e00" : "#0072b2", opacity: Math.round(85 * strength) / 100 };
}

export const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
export function change(before, after) {
  const points = Math.round(1000 * (after - before)) / 10;
  return points === 0 ? "±0" : (points > 0 ? "+" : "−") + Math.abs(points).toFixed(1);
}

export default {
  render({ model, el }) {
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    const { size, patch, stride } = model.get("geometry"), photos = model.get("photographs");
    for (const photo of Object.values(photos)) photo.covered = cv.array(photo.covered);
    const opening = Object.keys(photos)[0], [row, column] = photos[opening].start;
    const start = { photo: opening, row, column, heat: false, shown: 0 };
    for (const key in start) model.set(key, start[key]);
    const photo = () => photos[model.get("photo")], labels = () => [...photo().names, "all three"];

    // --- controls
    const shown = cv.select(model, { key: "shown", label: "heat map of", options: [0, 1, 2, 3] });
    const reset = cv.button("Reset", () => {
      for (const key in start) model.set(key, start[key]);
      cover.focus({ focusVisible: false });
    });
    controls.append(
      cv.select(model, { key: "photo", label: "Photograph", options: Object.entries(photos).map(([key, p]) => [key, p.label]) }),
      cv.checkbox(model, { key: "heat", label: "heat map" }), shown, reset);

    // --- the photograph with its patch
    const image = svg("image", { width: size, height: size, preserveAspectRatio: "none" }), cells = svg("g", {});
    const cover = svg("rect", { width: patch, height: patch, fill: "#808080", stroke: "#fff", "stroke-width": 1.5, tabindex: 0,
      role: "application", "data-cv-drag": true, "aria-label": "Patch over the photograph: move it with the arrow keys" });
    const scene = svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "group", "aria-label": "Photograph under a grey patch",
      style: "width:100%;border-radius:4px;cursor:crosshair" }, image, cells, cover);
    const scale = svg("svg", { viewBox: "0 0 224 34", role: "img", style: "width:100%;margin-top:4px" });
    const caption = html("figcaption", {});
    const bars = svg("svg", { viewBox: "0 0 300 226", role: "img", style: "width:100%" });
    picture.append(html("figure", { style: "flex:1 1 240px;max-width:340px" }, scene, scale, caption),
      html("figure", { style: "flex:1 1 250px;max-width:380px" }, bars,
        html("figcaption", {}, "Probability now (bar) and without the patch (line); change in points.")));

    const limit = (x, n) => Math.min(Math.max(x, 0), n - 1);
    function go(row, column) {
      const [rows, columns] = photo().covered.shape;
      model.set("row", limit(row, rows));
      model.set("column", limit(column, columns));
      model.save_changes();
    }
    function follow(event) {
      const box = scene.getBoundingClientRect(), [rows, columns] = photo().covered.shape, unit = size / box.width;
      go(nearest((event.clientY - box.top) * unit, patch, stride, rows), nearest((event.clientX - box.left) * unit, patch, stride, columns));
    }
    scene.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" || event.buttons) follow(event); });
    scene.addEventListener("pointerdown", (event) => { follow(event); cover.focus({ focusVisible: false, preventScroll: true }); });
    cover.addEventListener("pointerdown", (event) => cover.setPointerCapture(event.pointerId)); // a finger may leave it
    cover.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (step) { event.preventDefault(); go(model.get("row") + step[0], model.get("column") + step[1]); }
    });

    function drawHeat(k) {
      cells.replaceChildren();
      scale.replaceChildren();
      scale.style.display = model.get("heat") ? "" : "none";
      if (!model.get("heat")) return;
      const { whole, covered } = photo(), fall = drops(whole, covered, k), most = Math.max(...fall.map(Math.abs), 1e-6);
      const columns = covered.shape[1], edge = (patch - stride) / 2;
      fall.forEach((drop, n) => {
        const { fill, opacity } = tint(drop, most);
        cells.append(svg("rect", { x: (n % columns) * stride + edge, y: Math.floor(n / columns) * stride + edge, width: stride,
          height: stride, fill, "fill-opacity": opacity }));
      });
      for (let n = 0; n < 32; n++) {
        const { fill, opacity } = tint(((n - 15.5) / 15.5) * most, most);
        scale.append(svg("rect", { x: n * 7, y: 0, width: 7.2, height: 12, fill, "fill-opacity": opacity }));
      }
      const points = (100 * most).toFixed(1);
      for (const [x, anchor, text] of [[0, "start", `rises ${points}`], [112, "middle", "0"], [224, "end", `falls ${points}`]]) {
        scale.append(svg("text", { x, y: 29, "text-anchor": anchor, style: "font-size:12px" }, text));
      }
    }

    function drawBars(before, now) {
      const nodes = [];
      labels().forEach((name, k) => {
        const y = 56 * k, color = k === 3 ? "var(--line)" : now[k] >= before[k] ? "var(--blue)" : "var(--orange)";
        nodes.push(
          svg("text", { x: 0, y: y + 15, style: "font-weight:600" }, name),
          svg("text", { x: 300, y: y + 15, "text-anchor": "end" }, `${percent(now[k])}  (${change(before[k], now[k])})`),
          svg("rect", { x: 0, y: y + 22, width: 300, height: 18, fill: "var(--panel)", stroke: "var(--line)" }),
          svg("rect", { x: 0, y: y + 22, width: 300 * now[k], height: 18, fill: color }),
          svg("line", { x1: 300 * before[k], x2: 300 * before[k], y1: y + 18, y2: y + 44, stroke: "var(--ink)", "stroke-width": 2.5 }));
      });
      bars.replaceChildren(...nodes);
      bars.setAttribute("aria-label", `Bars: ${labels().map((name, k) => `${name} ${percent(now[k])}`).join(", ")}`);
    }

    function draw() {
      const { source, whole, covered } = photo(), i = model.get("row"), j = model.get("column"), k = +model.get("shown");
      image.setAttribute("href", source);
      image.style.filter = model.get("heat") ? "grayscale(1)" : "none"; // so that only the heat has a color
      cover.setAttribute("x", j * stride);
      cover.setAttribute("y", i * stride);
      cover.setAttribute("fill-opacity", model.get("heat") ? 0.35 : 1);
      const before = answers(whole), now = under(covered, i, j), names = labels();
      shown.querySelector("select").disabled = !model.get("heat");
      shown.querySelectorAll("option").forEach((option, n) => { option.textContent = names[n]; });
      reset.disabled = Object.keys(start).every((key) => String(model.get(key)) === String(start[key]));
      drawHeat(k);
      drawBars(before, now);
      caption.textContent = model.get("heat") ? `What covering does to “${names[k]}”, in points; one cell for each place of the patch.`
        : "Point, tap or drag; or use the arrow keys.";
      const moved = (up) => names.slice(0, 3).filter((_, n) => (up ? now[n] - before[n] : before[n] - now[n]) > 0.0005);
      const say = (list, verb) => (list.length ? `${list.join(" and ")} ${list.length > 1 ? verb : verb + "s"}` : "");
      readout.textContent = `Patch over rows ${i * stride} to ${i * stride + patch - 1}, columns ${j * stride} to ${j * stride + patch - 1}: `
        + `${[say(moved(false), "fall"), say(moved(true), "rise")].filter(Boolean).join("; ") || "nothing changes"}. `
        + `All three together: ${percent(before[3])} before, ${percent(now[3])} now.`;
    }
    model.on("change:photo", () => go(...photo().start)); // where the last patch lay means nothing here
    for (const key in start) model.on("change:" + key, draw);
    draw();
  },
};
