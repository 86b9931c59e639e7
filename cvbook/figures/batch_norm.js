// Which numbers of a batch share one mean: batch, layer, instance and group normalization on real feature maps.

const NAMES = { batch: "Batch", layer: "Layer", instance: "Instance", group: "Group" };

// Do tiles a and b, each [image, channel], share their mean and variance?
export function shares(kind, perGroup, a, b) {
  if (kind === "batch") return a[1] === b[1];
  if (a[0] !== b[0]) return false;
  if (kind === "instance") return a[1] === b[1];
  return kind === "layer" || Math.floor(a[1] / perGroup) === Math.floor(b[1] / perGroup);
}

export function countMeans(kind, images, channels, perGroup) {
  return { batch: channels, layer: images, instance: images * channels, group: (images * channels) / perGroup }[kind];
}

// Mean and biased variance of all numbers that share them with tile [image, channel]; values lie as (B, C, pixels).
export function statistics(values, [B, C, pixels], kind, perGroup, tile) {
  let sum = 0, squares = 0, count = 0;
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < C; c++) {
      if (!shares(kind, perGroup, tile, [b, c])) continue;
      for (let i = 0; i < pixels; i++) sum += values[(b * C + c) * pixels + i];
      count += pixels;
    }
  }
  const mean = sum / count;
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < C; c++) {
      if (!shares(kind, perGroup, tile, [b, c])) continue;
      for (let i = 0; i < pixels; i++) squares += (values[(b * C + c) * pixels + i] - mean) ** 2;
    }
  }
  return { mean, variance: squares / count, count };
}

export function normalize(values, shape, kind, perGroup, eps = 1e-5) {
  const [B, C, pixels] = shape, result = new Array(values.length);
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < C; c++) {
      const { mean, variance } = statistics(values, shape, kind, perGroup, [b, c]);
      for (let i = 0; i < pixels; i++) {
        const at = (b * C + c) * pixels + i;
        result[at] = (values[at] - mean) / Math.sqrt(variance + eps);
      }
    }
  }
  return result;
}

export default {
  render({ model, el }) {
    const { controls, picture, readout } = cv.mount(el);
    const { shape: [B, C, side], data } = cv.array(model.get("maps"));
    const shape = [B, C, side * side], values = Array.from(data);
    const TILE = 44, STEP = 56, LEFT = 68, TOP = 42, WIDTH = LEFT + C * STEP, HEIGHT = TOP + B * STEP;
    const divisors = [];
    for (let n = 2; n < C; n++) if (C % n === 0) divisors.push([n, `${n} channels`]);
    const size = cv.select(model, { key: "perGroup", label: "In a group", options: divisors });
    controls.append(
      cv.select(model, { key: "kind", label: "Normalization", options: Object.entries(NAMES) }),
      size, cv.checkbox(model, { key: "normalized", label: "Show the result" }),
    );

    const at = (b, c) => [LEFT + c * STEP, TOP + b * STEP];
    const drawing = cv.svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH * 1.3 });
    drawing.append(cv.svg("text", { x: LEFT, y: 14 }, "channels →"));
    [["orange", "below 0", 186], ["blue", "above 0", 90]].forEach(([color, words, fromRight]) => drawing.append(
      cv.svg("rect", { x: WIDTH - fromRight, y: 3, width: 12, height: 12, fill: `var(--${color})` }),
      cv.svg("text", { x: WIDTH - fromRight + 18, y: 14 }, words)));
    const tiles = [];
    for (let c = 0; c < C; c++) {
      drawing.append(cv.svg("text", { x: LEFT + c * STEP + TILE / 2, y: 34, "text-anchor": "middle" }, String(c + 1)));
    }
    for (let b = 0; b < B; b++) {
      drawing.append(cv.svg("text", { x: LEFT - 8, y: TOP + b * STEP + TILE / 2 + 5, "text-anchor": "end" }, `image ${b + 1}`));
      for (let c = 0; c < C; c++) {
        const [x, y] = at(b, c), pixel = TILE / side, cells = [];
        const frame = cv.svg("rect", { x: x - 1.5, y: y - 1.5, width: TILE + 3, height: TILE + 3, rx: 3 });
        const tile = cv.svg("g", { onpointerdown: () => choose(b, c) }, frame);
        for (let i = 0; i < side * side; i++) {
          const cell = cv.svg("rect", { x: x + (i % side) * pixel, y: y + Math.floor(i / side) * pixel,
            width: pixel + 0.1, height: pixel + 0.1 });
          cells.push(cell);
          tile.append(cell);
        }
        tiles.push({ b, c, frame, cells });
        drawing.append(tile);
      }
    }
    const chosen = () => [Math.min(B - 1, model.get("image")), Math.min(C - 1, model.get("channel"))];
    const clamp = (value, most) => Math.max(0, Math.min(most, value));
    function choose(b, c) {
      model.set("image", clamp(b, B - 1));
      model.set("channel", clamp(c, C - 1));
      model.save_changes();
    }
    cv.draggable(drawing, {
      label: `Feature maps of ${B} images by ${C} channels; move the choice with the arrow keys`,
      move: (dx, dy) => { const [b, c] = chosen(); choose(b + dy, c + dx); },
      unit: () => STEP * (drawing.getBoundingClientRect().width / WIDTH || 1),
    });
    drawing.style.touchAction = "pan-y"; // a tap chooses; a page of this height must still scroll
    const marker = cv.svg("rect", { width: TILE + 11, height: TILE + 11, rx: 6, fill: "none", stroke: "var(--ink)",
      "stroke-width": 2.5, "pointer-events": "none" }); // around the green frame, not over it
    drawing.append(marker);
    picture.append(drawing);

    function draw() {
      const kind = model.get("kind"), perGroup = +model.get("perGroup"), tile = chosen();
      size.querySelector("select").disabled = kind !== "group";
      const shown = model.get("normalized") ? normalize(values, shape, kind, perGroup) : values;
      const limit = model.get("normalized") ? 3 : Math.max(...values.map(Math.abs)) * 0.8;
      for (const { b, c, frame, cells } of tiles) {
        const one = shares(kind, perGroup, tile, [b, c]);
        frame.setAttribute("style", `fill:var(--paper);stroke:var(${one ? "--green" : "--line"});stroke-width:${one ? 4 : 0.6}`);
        cells.forEach((cell, i) => {
          const value = shown[(b * C + c) * shape[2] + i];
          const strength = Math.min(1, Math.abs(value) / limit).toFixed(3);
          cell.setAttribute("style", `fill:var(${value < 0 ? "--orange" : "--blue"});fill-opacity:${strength}`);
        });
      }
      const [x, y] = at(...tile);
      marker.setAttribute("x", x - 5.5);
      marker.setAttribute("y", y - 5.5);
      const { mean, variance, count } = statistics(values, shape, kind, perGroup, tile);
      const who = {
        batch: "this channel in all images",
        layer: "all channels of this image",
        instance: "this channel of this image alone",
        group: `${perGroup} neighboring channels of this image`,
      }[kind];
      const map = statistics(shown, shape, "instance", 1, tile);
      const after = model.get("normalized") ? " After normalization the framed maps together have mean 0 and standard " +
        `deviation 1, and the chosen map alone ${(Math.round(100 * map.mean) / 100 + 0).toFixed(2)} and ${Math.sqrt(map.variance).toFixed(2)}.` : "";
      readout.textContent = `${NAMES[kind]} normalization: image ${tile[0] + 1}, channel ${tile[1] + 1} shares one mean with ` +
        `the framed maps: ${who}, ${count} numbers. Their mean is ${mean.toFixed(2)} and their standard deviation ` +
        `${Math.sqrt(variance).toFixed(2)}. The whole batch has ${countMeans(kind, B, C, perGroup)} means.` + after;
    }
    for (const key of ["kind", "perGroup", "normalized", "image", "channel"]) model.on("change:" + key, draw);
    draw();
  },
};
