// What a network is made of, block by block: maps to scale, and what each block costs on three aligned axes.
// A block is [label, layers, C, H, W, parameters, multiply-adds, activations, sees, works]; sees 0 is the whole image;
// works is the side of the maps that its last convolution writes, before a pooling that may follow.

const COSTS = [["parameters", 5, "--blue"], ["multiply-adds", 6, "--amber"], ["activations", 7, "--green"]];

export const total = (blocks, column) => blocks.reduce((sum, block) => sum + block[column], 0);
export const largest = (networks, column) => Math.max(...networks.flatMap((blocks) => blocks.map((block) => block[column])));

// The same network with the mean of each map in place of its hidden fully connected layers; null where none flattens.
export function withMean(blocks) {
  const first = blocks.findIndex((block) => block[1] === "fully connected");
  if (first < 1) return null;
  const [, , C, H, W] = blocks[first - 1], classes = blocks[blocks.length - 1][2];
  if (H * W === 1 || blocks[first][6] !== C * H * W * blocks[first][2]) return null;
  return [...blocks.slice(0, first), ["mean", "global average pooling", C, 1, 1, 0, 0, 0, 0, 0],
    ["FC", "fully connected", classes, 1, 1, (C + 1) * classes, C * classes, classes, 0, 0]];
}

// Boxes [x, width, height] for maps [C, H]: one scale for all widths and one for all heights, 2 at least.
export function boxes(maps, width, height, gap, side) {
  const room = width - gap * (maps.length - 1), least = 2, most = maps.reduce((sum, [C]) => sum + C, 0);
  const thin = (scale) => maps.filter(([C]) => C * scale < least);
  let scale = room / most;
  for (let i = 0; i < maps.length; i++) { // what is drawn too wide is taken from the others
    const few = thin(scale), rest = most - few.reduce((sum, [C]) => sum + C, 0);
    scale = (room - least * few.length) / rest;
  }
  let x = 0;
  return maps.map(([C, H]) => {
    const box = [x, Math.max(C * scale, least), Math.max((H / side) * height, least)];
    x += box[1] + gap;
    return box;
  });
}

export function compact(n) {
  const [unit, name] = n >= 1e9 ? [1e9, " G"] : n >= 1e6 ? [1e6, " M"] : n >= 1e4 ? [1e3, " k"] : [1, ""];
  const value = n / unit;
  return (unit === 1 ? String(n) : value.toPrecision(value >= 100 ? Math.max(3, String(Math.round(value)).length) : 3)) + name;
}
export const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
export function percent(part, whole) {
  if (!whole || !part) return "0 %";
  const share = (100 * part) / whole;
  return share < 0.1 ? "under 0.1 %" : share.toFixed(1) + " %";
}
// "64 × 224² → 112²" where a block ends with a pooling.
export function size([, , C, H, W, , , , , works]) {
  if (H * W === 1) return String(C);
  return works && works !== H ? `${C} × ${works}² → ${H}²` : `${C} × ${H} × ${W}`;
}
// The block at the same depth of another network.
export const sameDepth = (index, before, after) => (before > 1 ? Math.round((index / (before - 1)) * (after - 1)) : 0);
export function extent(sees, side) {
  if (sees < 0) return "How far it sees is not known.";
  if (sees === 0) return "Each number sees the whole image.";
  const more = sees > side ? `, more than the image, which has ${side} × ${side}` : ` of ${side} × ${side}`;
  return `Each number sees ${sees} × ${sees} pixels${more}.`;
}

const STYLE = `
.cv-arch { flex:1 1 100%; min-width:0; touch-action:pan-y !important; border-radius:6px; }
.cv-arch > div { display:grid; grid-template-columns:6.3rem 7.6rem repeat(3, minmax(0, 1fr)); gap:0 .6rem; align-items:center;
  min-height:24px; padding:0 .4rem; border-radius:4px; font-size:14px; }
.cv-arch > .on { background:var(--pale); box-shadow:inset 0 0 0 2px var(--blue); }
.cv-arch .head { font-size:13px; color:var(--soft); align-items:end; border-bottom:1px solid var(--line); border-radius:0; }
.cv-arch .bar { display:flex; align-items:center; gap:.35rem; border-left:1px solid var(--line); }
.cv-arch .bar i { height:13px; min-width:0; flex:0 0 auto; } .cv-arch .bar span, .cv-arch .shape { font-size:12px; color:var(--soft); white-space:nowrap; }
@media (max-width:600px) { .cv-arch > div { grid-template-columns:5.2rem repeat(3, minmax(0, 1fr)); gap:0 .35rem; padding:0 .2rem; font-size:13px; }
  .cv-arch .shape, .cv-arch .bar span { display:none; } .cv-arch .head { font-size:11.5px; } }`;

export default {
  render({ model, el }) {
    const networks = model.get("networks"), names = networks.map((network) => network.name);
    for (const [key, value] of Object.entries({ network: names[0], block: 0, mean: false, together: false })) {
      if (model.get(key) === undefined) model.set(key, value);
    }
    const { controls, picture, readout } = cv.mount(el), { html, svg } = cv;
    el.prepend(html("style", {}, STYLE));
    const mean = cv.checkbox(model, { key: "mean", label: "mean of each map instead of hidden FC layers" });
    const together = cv.checkbox(model, { key: "together", label: "one scale for all networks" });
    if (names.length > 1) controls.append(cv.select(model, { key: "network", label: "Network", options: names }));
    controls.append(mean);
    if (names.length > 1) controls.append(together);

    const WIDTH = 700, HEIGHT = 170, GAP = 3;
    const maps = svg("g", {}), drawing = svg("svg", { viewBox: `-3 -3 ${WIDTH + 6} ${HEIGHT + 6}`, width: WIDTH });
    drawing.append(maps);
    const list = html("div", { class: "cv-arch" });
    const caption = html("figcaption", {});
    picture.append(html("figure", { style: "flex:1 1 100%" }, drawing, caption), list);

    const network = () => networks[Math.max(0, names.indexOf(model.get("network")))];
    const current = () => (model.get("mean") && withMean(network().blocks)) || network().blocks;
    const chosen = () => Math.min(Math.max(0, model.get("block")), current().length - 1);
    function choose(index) {
      model.set("block", Math.min(Math.max(0, index), current().length - 1));
      model.save_changes();
    }
    const move = (dx, dy) => choose(chosen() + (dy || dx));
    const label = (what) => `${what}; choose a block with the arrow keys, Home and End`;
    cv.draggable(drawing, { label: label("Outputs of the blocks, to scale"), move,
      unit: () => Math.max(12, drawing.getBoundingClientRect().width / current().length) });
    cv.draggable(list, { label: label("Costs of the blocks"), move: (dx, dy) => move(dy ? 0 : dx, dy), unit: () => 24 });
    for (const part of [drawing, list]) part.addEventListener("keydown", (event) => {
      const end = { Home: 0, End: current().length - 1 }[event.key];
      if (end !== undefined) { event.preventDefault(); choose(end); }
    });
    drawing.style.touchAction = "pan-y"; // a tap chooses; the page must still scroll
    drawing.addEventListener("pointerdown", (event) => {
      const { left, width } = drawing.getBoundingClientRect(), x = ((event.clientX - left) / width) * (WIDTH + 6) - 3;
      const distance = ([at, wide]) => Math.max(at - x, x - at - wide, 0), places = placed().slice(1);
      choose(places.reduce((best, box, i) => (distance(box) < distance(places[best]) ? i : best), 0));
    });
    const placed = () => {
      const { input: [C, side] } = network();
      return boxes([[C, side], ...current().map((block) => [block[2], block[3]])], WIDTH, HEIGHT, GAP, side);
    };

    let count = current().length; // of blocks, when last drawn
    function draw() {
      const blocks = current(), at = chosen(), { name, input: [C, side] } = network(), block = blocks[at];
      count = blocks.length;
      mean.querySelector("input").disabled = !withMean(network().blocks);
      maps.replaceChildren(...placed().map(([x, width, height], i) => svg("rect", { x, y: HEIGHT - height, width, height,
        style: i ? `fill:var(${i - 1 === at ? "--orange" : "--blue"})` : "fill:none;stroke:var(--ink)" })));
      caption.textContent = `Outputs to scale: as high as the map, as wide as it has channels. A vector is one pixel high; nothing `
        + `is drawn thinner than 2 points. Outlined: the image, ${C} × ${side} × ${side}.`;
      const [x, width, height] = placed()[at + 1]; // a thin box needs a mark
      maps.append(svg("path", { d: `M${x + width / 2} ${HEIGHT - height - 3}l-6 -10h12z`, style: "fill:var(--orange)",
        transform: height > HEIGHT - 14 ? `translate(0 ${15})` : undefined, stroke: "var(--paper)" }));

      const shown = model.get("together") ? networks.map((n) => n.blocks) : [network().blocks, blocks]; // as before "mean"
      const scales = COSTS.map(([, column]) => largest(shown, column));
      list.replaceChildren(html("div", { class: "head" }, html("span", {}, "block"), html("span", { class: "shape" }, "output"),
        ...COSTS.map(([what, column]) => html("span", {}, what, html("br", {}), compact(total(blocks, column))))));
      blocks.forEach((each, i) => list.append(html("div", { class: i === at ? "on" : "", onpointerdown: () => choose(i) },
        html("span", {}, each[0]), html("span", { class: "shape" }, size(each)),
        ...COSTS.map(([, column, color], k) => html("span", { class: "bar" },
          html("i", { style: `width:calc(${(each[column] / scales[k]).toFixed(4)} * (100% - var(--number, 0px)));background:var(${color})` }),
          html("span", {}, each[column] ? compact(each[column]) : ""))))));
      list.style.setProperty("--number", list.clientWidth > 540 ? "3.6rem" : "0px");

      const shape = block[3] * block[4] > 1 ? `${block[2]} maps of ${block[3]} × ${block[4]}` : `a vector of ${grouped(block[2])} numbers`;
      const costs = COSTS.map(([what, column]) => `${grouped(block[column])} ${what} (${percent(block[column], total(blocks, column))})`);
      const before = block[9] && block[9] !== block[3] && block[3] > 1
        ? `Its convolutions write maps of ${block[9]} × ${block[9]}, the pooling behind them makes them smaller. ` : "";
      readout.textContent = `${name}, block ${at + 1} of ${blocks.length}, ${block[0]}: ${block[1]}. Output: ${shape}. ${before}`
        + `It has ${costs[0]}, ${costs[1]} and ${costs[2]}. ${extent(block[8], side)} `
        + `A full bar, the largest block of ${model.get("together") ? "all networks" : "this network with its own layers"}, is `
        + COSTS.map(([what], k) => `${compact(scales[k])} ${what}`).join(", ") + ".";
    }
    model.on("change:network", () => { model.set("block", sameDepth(model.get("block"), count, current().length)); draw(); });
    for (const key of ["block", "mean", "together"]) model.on("change:" + key, draw);
    new ResizeObserver(() => list.style.setProperty("--number", list.clientWidth > 540 ? "3.6rem" : "0px")).observe(list);
    draw();
  },
};
