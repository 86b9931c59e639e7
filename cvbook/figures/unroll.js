// Cut blocks out of a residual network: which paths are left, and what it and its plain twin then get right.

// A network of n blocks has 2^n subsets of blocks; bit i of an index says whether block i is kept. The same numbers
// count paths: each path goes through the blocks of one subset and takes the shortcut at all others.
export const indexOf = (kept) => kept.reduce((sum, k, i) => sum + (k ? 2 ** i : 0), 0);
export const ones = (x) => { let n = 0; for (; x; x &= x - 1) n++; return n; };
// A path is alive if every block it goes through is kept.
export const alive = (path, index) => (path & ~index) === 0;
// All paths by length, those of one length in a fixed order: lists of indices.
export function byLength(n) {
  const lists = Array.from({ length: n + 1 }, () => []);
  for (let path = 0; path < 2 ** n; path++) lists[ones(path)].push(path);
  return lists;
}
export const alivePerLength = (n, index) => byLength(n).map((list) => list.filter((path) => alive(path, index)).length);
// counts[kind, seed, index] of `tested` images; kind 0 is residual, 1 plain.
export function accuracy({ shape, data }, kind, seed, index, tested) {
  return (100 * data[(kind * shape[1] + seed) * shape[2] + index]) / tested;
}
export function cutWords(kept) {
  const cut = kept.flatMap((k, i) => (k ? [] : [i + 1])), last = cut.length - 1;
  if (last < 0) return "No block is cut";
  if (last === kept.length - 1) return "All blocks are cut";
  if (last === 0) return `Block ${cut[0]} is cut`;
  return `Blocks ${cut.slice(0, last).join(", ")} and ${cut[last]} are cut`;
}
export function sentence(kept, residual, plain) {
  const n = kept.length, m = kept.filter(Boolean).length, left = 2 ** m;
  return `${cutWords(kept)}: ${left} of ${2 ** n} paths ${left === 1 ? "is" : "are"} left in the residual network, and it gets ` +
    `${residual.toFixed(1)} % of the test images right. The plain network has one path and gets ${plain.toFixed(1)} %.`;
}

const WIDTH = 340, CELL = 5, ACROSS = 5, NAMES = ["residual", "plain"], COLORS = ["var(--blue)", "var(--orange)"];

export default {
  render({ model, el }) {
    const start = { kept: [1, 1, 1, 1, 1, 1, 1, 1, 1], stages: [3, 3, 3], sides: [14, 7, 4], seed: 0 };
    for (const key in start) if (model.get(key) === undefined) model.set(key, start[key]);
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    const counts = cv.array(model.get("counts")), tested = +model.get("tested"), stages = model.get("stages"), sides = model.get("sides");
    const n = Math.log2(counts.shape[2]), lists = byLength(n), kept = () => model.get("kept");
    const first = new Set(stages.map((_, s) => stages.slice(0, s).reduce((a, b) => a + b, 0)));
    const change = (blocks) => { model.set("kept", blocks); model.save_changes(); };
    const toggle = (i) => change(kept().map((k, j) => (j === i ? 1 - k : k)));

    const toggles = Array.from({ length: n }, (_, i) =>
      cv.button(String(i + 1), () => toggle(i), { style: "min-width:30px;padding:.15rem .3rem" }));
    const all = cv.button("Put all back", () => { change(kept().map(() => 1)); toggles[0].focus(); });
    const seeds = Array.from({ length: counts.shape[1] }, (_, s) => [s, `trained with seed ${s}`]);
    controls.append(
      html("div", { role: "group", "aria-label": "Blocks of the network: pressed is kept", style: "display:flex;flex-wrap:wrap;gap:.2rem" }, ...toggles),
      all, cv.select(model, { key: "seed", label: "Both networks", options: seeds }));

    const figure = (height, text) => {
      const node = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", style: "width:100%" });
      picture.append(html("figure", { style: "flex:1 1 300px;max-width:370px" }, node, html("figcaption", {}, text)));
      return node;
    };
    const chain = figure(112, "Blocks of two convolutions, and the shortcuts around them. Click a block to cut it. ▾: the map is halved.");
    const paths = figure(182, "Each square is a path from input to output: at every block it goes through, or around. Lit: alive.");
    const cloud = figure(214, "Ringed: yours. Faint: every other way to cut as many blocks, or fewer; a column opens when you cut that many.");
    const text = (x, y, words, style = "", anchor = "middle") => svg("text", { x, y, style, "text-anchor": anchor }, words);
    const squares = (list, size) => list.map(([x, y]) => `M${x} ${y}h${size}v${size}h-${size}z`).join("");

    function drawChain(blocks) {
      const step = (WIDTH - 44) / n, wide = step - 10, mid = 66, x = (i) => 22 + step * i + 5;
      chain.replaceChildren(svg("path", { d: `M4 ${mid}H${WIDTH - 4}`, stroke: "var(--line)", "stroke-width": 1.5, "stroke-dasharray": "2 4" }));
      blocks.forEach((k, i) => {
        const arc = `M${x(i) - 4} ${mid}V40Q${x(i) - 4} 26 ${x(i) + wide / 2} 26Q${x(i) + wide + 4} 26 ${x(i) + wide + 4} 40V${mid}`;
        const box = svg("rect", { x: x(i), y: 48, width: wide, height: 36, rx: 4, fill: k ? "var(--pale)" : "var(--paper)",
          stroke: k ? "var(--blue)" : "var(--line)", "stroke-width": k ? 2 : 1.5, "stroke-dasharray": k ? false : "3 3" });
        const cross = k ? null : svg("path", { d: `M${x(i) + 3} 52l${wide - 6} 28m0 -28l${6 - wide} 28`, stroke: "var(--red)", "stroke-width": 2, "pointer-events": "none" });
        chain.append(svg("path", { d: arc, fill: "none", stroke: "var(--green)", "stroke-width": 2 }),
          svg("g", { onclick: () => toggle(i), style: "cursor:pointer" }, box, cross,
            k ? text(x(i) + wide / 2, 71, String(i + 1), "font-weight:600") : null),
          first.has(i) && i ? text(x(i) + wide / 2, 20, "▾", "fill:var(--soft)") : "");
      });
      stages.forEach((size, s) => {
        const begin = [...first][s];
        chain.append(text((x(begin) + x(begin + size - 1) + wide) / 2, 104, `${sides[s]}×${sides[s]}`));
      });
      chain.setAttribute("aria-label", `A chain of ${n} blocks with shortcuts. ${cutWords(blocks)}.`);
    }

    function drawPaths(index) {
      const step = (WIDTH - 6) / (n + 1), bottom = 162, lit = [], out = [];
      paths.replaceChildren(text(2, 12, "paths, by how many blocks they go through", "font-weight:600", "start"));
      lists.forEach((list, length) => {
        const left = 3 + step * length + (step - CELL * Math.min(ACROSS, list.length)) / 2;
        list.forEach((path, i) => (alive(path, index) ? lit : out).push([left + CELL * (i % ACROSS), bottom - CELL * (1 + Math.floor(i / ACROSS))]));
        const living = list.filter((path) => alive(path, index)).length;
        const top = bottom - CELL * Math.ceil(list.length / ACROSS) - 4;
        paths.append(text(3 + step * (length + 0.5), 178, String(length)),
          text(3 + step * (length + 0.5), top, String(living), living ? "fill:var(--blue);font-weight:600" : "fill:var(--soft)"));
      });
      paths.append(svg("path", { d: squares(out, CELL - 1), fill: "var(--line)", opacity: 0.35 }), svg("path", { d: squares(lit, CELL - 1), fill: "var(--blue)" }));
      const counted = alivePerLength(n, index).map((c, k) => `${c} of length ${k}`).join(", ");
      paths.setAttribute("aria-label", `Paths that are alive: ${counted}.`);
    }

    let opened = 0; // the most blocks cut so far: the answers to larger cuts stay hidden until they are tried
    function drawCloud(index, seed) {
      opened = Math.max(opened, n - ones(index));
      const left = 34, right = WIDTH - 4, bottom = 168, top = 24, step = (right - left) / (n + 1);
      const y = (percent) => bottom - (percent / 100) * (bottom - top);
      cloud.replaceChildren(text(2, 12, "test accuracy in %, by blocks cut", "font-weight:600", "start"));
      for (const percent of [0, 10, 50, 100]) {
        cloud.append(svg("path", { d: `M${left} ${y(percent)}H${right}`, stroke: "var(--line)", opacity: 0.5, "stroke-dasharray": percent === 10 ? "4 3" : false }),
          text(left - 5, y(percent) + 4, String(percent), "", "end"));
      }
      const at = (kind, path) => { // a fixed place in its column: residual on the left half, plain on the right
        const list = lists[ones(path)], share = list.length > 1 ? list.indexOf(path) / (list.length - 1) : 0.5;
        return [left + step * (n - ones(path) + 0.06 + 0.44 * kind + 0.38 * share), y(accuracy(counts, kind, seed, path, tested))];
      };
      NAMES.forEach((_, kind) => {
        const dots = lists.slice(n - opened).flat().map((path) => { const [px, py] = at(kind, path); return `M${px.toFixed(1)} ${py.toFixed(1)}h.01`; });
        cloud.append(svg("path", { d: dots.join(""), stroke: COLORS[kind], "stroke-width": 2.6, "stroke-linecap": "round", opacity: 0.55 }));
      });
      for (let cut = 0; cut <= n; cut++) cloud.append(text(left + step * (cut + 0.5), bottom + 16, String(cut)));
      NAMES.forEach((name, kind) => {
        const [px, py] = at(kind, index);
        cloud.append(svg("circle", { cx: px, cy: py, r: 6, fill: COLORS[kind], stroke: "var(--ink)", "stroke-width": 2 }),
          svg("circle", { cx: 12 + 150 * kind, cy: 203, r: 5, fill: COLORS[kind] }),
          text(22 + 150 * kind, 207, `${name} ${accuracy(counts, kind, seed, index, tested).toFixed(1)} %`, "font-weight:600", "start"));
      });
      cloud.append(text(left + 2, y(10) + 13, "guessing", "fill:var(--soft)", "start"));
      cloud.setAttribute("aria-label", `Dots: accuracy of residual and plain network for all ways to cut up to ${opened} of ${n} blocks. Chosen: residual ` +
        `${accuracy(counts, 0, seed, index, tested).toFixed(1)} %, plain ${accuracy(counts, 1, seed, index, tested).toFixed(1)} %.`);
    }

    function draw() {
      const blocks = kept(), index = indexOf(blocks), seed = +model.get("seed");
      toggles.forEach((node, i) => {
        node.setAttribute("aria-pressed", blocks[i] ? "true" : "false");
        node.setAttribute("aria-label", `Block ${i + 1}`);
      });
      all.disabled = blocks.every(Boolean);
      drawChain(blocks);
      drawPaths(index);
      drawCloud(index, seed);
      readout.textContent = sentence(blocks, accuracy(counts, 0, seed, index, tested), accuracy(counts, 1, seed, index, tested));
    }
    for (const key of ["kept", "seed"]) model.on("change:" + key, draw);
    draw();
  },
};
