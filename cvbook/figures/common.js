// Shared by every figure: colors for light, dark and print, labelled controls, SVG, canvases, dragging.
const cv = (() => {
  const CSS = `
.cv-fig { --ink:#222; --soft:#59595f; --paper:#fff; --panel:#f4f5f7; --line:#8a8d94; --blue:#0072b2; --orange:#b35c00;
  --amber:#e69f00; --green:#00795a; --red:#b8420b; --sky:#8cc8ee; --pale:#dcecf7; --focus:#0072b2;
  color:var(--ink); background:var(--paper); border:1px solid var(--line); border-radius:8px; padding:.9rem;
  margin:.6rem 0 1.2rem; font:15px/1.45 system-ui,sans-serif; }
html[data-theme="dark"] .cv-fig, body[data-jp-theme-light="false"] .cv-fig, html[theme="dark"] .cv-fig {
  --ink:#eaeaf0; --soft:#b9bbc4; --paper:#14181e; --panel:#20262e; --line:#7d828c; --blue:#6db9ee; --orange:#f2ab4d;
  --amber:#e69f00; --green:#4fc9a4; --red:#ff8a5c; --sky:#2f6f9c; --pale:#1d3648; --focus:#8cc8ee; }
.cv-fig svg, .cv-fig canvas { max-width:100%; height:auto; }
.cv-fig svg { display:block; } .cv-fig svg text { fill:var(--ink); font:13px system-ui,sans-serif; }
.cv-fig canvas { image-rendering:pixelated; display:block; background:#000; }
.cv-fig .cv-controls { display:flex; flex-wrap:wrap; gap:.5rem 1.1rem; align-items:end; margin-bottom:.8rem; }
.cv-fig .cv-controls label { display:flex; flex-direction:column; font-size:14px; color:var(--ink); }
.cv-fig .cv-controls label.cv-check { flex-direction:row; align-items:center; gap:.4em; min-height:32px; }
.cv-fig .cv-controls output { margin-left:.35em; }
.cv-fig input[type=range] { width:10.5rem; height:32px; margin:0; accent-color:var(--blue); touch-action:pan-y; }
.cv-fig input[type=checkbox] { width:20px; height:20px; accent-color:var(--blue); }
.cv-fig input[type=number] { width:4.2em; }
.cv-fig select, .cv-fig button, .cv-fig input[type=number] { font:inherit; color:var(--ink); background:var(--panel);
  border:1px solid var(--line); border-radius:6px; min-height:34px; padding:.15rem .6rem; }
.cv-fig button { cursor:pointer; } .cv-fig :disabled { opacity:.55; cursor:default; } .cv-fig button[aria-pressed=true] { background:var(--pale); border-color:var(--blue);
  box-shadow:inset 0 0 0 1px var(--blue); }
.cv-fig :focus-visible { outline:3px solid var(--focus); outline-offset:2px; }
.cv-fig .cv-picture { display:flex; flex-wrap:wrap; gap:1rem; align-items:flex-start; }
.cv-fig .cv-picture > figure { margin:0; min-width:0; } .cv-fig figcaption { font-size:14px; color:var(--soft); }
.cv-fig .cv-readout { margin:.6rem 0 0; min-height:1.4em; }
.cv-fig [data-cv-drag] { cursor:grab; touch-action:none; }
@media print { .cv-fig .cv-controls { display:none; } .cv-fig { break-inside:avoid; } }
@media (prefers-reduced-motion:reduce) { .cv-fig * { transition:none !important; animation:none !important; } }`;
  const SVG = "http://www.w3.org/2000/svg";

  function put(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== undefined && child !== null));
    return node;
  }
  const html = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);

  // The three parts of a figure: controls, picture, and a sentence that screen readers hear when it changes.
  function mount(el) {
    if (!document.getElementById("cv-fig-style")) {
      document.head.append(html("style", { id: "cv-fig-style" }, CSS));
    }
    el.classList.add("cv-fig");
    const controls = html("div", { class: "cv-controls" });
    const picture = html("div", { class: "cv-picture" });
    const readout = html("p", { class: "cv-readout", "aria-live": "polite" });
    el.append(controls, picture, readout);
    return { controls, picture, readout };
  }

  // A slider bound to model[key]; `format` turns the value into the words shown and spoken.
  function slider(model, { key, label, min, max, step = 1, format = String }) {
    const input = html("input", { type: "range", min, max, step, "data-key": key });
    const value = html("output", {});
    const sync = () => {
      input.value = model.get(key);
      value.textContent = " " + format(+model.get(key));
      input.setAttribute("aria-valuetext", format(+model.get(key)));
    };
    input.addEventListener("input", () => { model.set(key, +input.value); model.save_changes(); });
    model.on("change:" + key, sync);
    sync();
    return html("label", {}, html("span", {}, label + ":", value), input);
  }

  function select(model, { key, label, options }) {
    const input = html("select", { "data-key": key });
    for (const option of options) {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      input.append(html("option", { value }, String(text)));
    }
    const sync = () => { input.value = String(model.get(key)); };
    input.addEventListener("change", () => { model.set(key, input.value); model.save_changes(); });
    model.on("change:" + key, sync);
    sync();
    return html("label", {}, label, input);
  }

  function checkbox(model, { key, label }) {
    const input = html("input", { type: "checkbox", "data-key": key });
    const sync = () => { input.checked = Boolean(model.get(key)); };
    input.addEventListener("change", () => { model.set(key, input.checked); model.save_changes(); });
    model.on("change:" + key, sync);
    sync();
    return html("label", { class: "cv-check" }, input, label);
  }

  const button = (label, press, attributes = {}) => html("button", { type: "button", onclick: press, ...attributes }, label);

  // Make an element movable by pointer and by arrow keys: move(dx, dy) gets steps in units of `unit()` pixels.
  function draggable(element, { label, move, unit = () => 1 }) {
    put(element, { tabindex: 0, role: "application", "aria-label": label, "data-cv-drag": true }, []);
    let last = null;
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      last = [event.clientX, event.clientY];
      event.preventDefault();
      element.focus({ focusVisible: false });
    });
    document.addEventListener("pointermove", (event) => { // not on the element: it may lag behind the pointer
      if (!last) return;
      const size = unit();
      const dx = Math.trunc((event.clientX - last[0]) / size), dy = Math.trunc((event.clientY - last[1]) / size);
      if (dx || dy) { last = [last[0] + dx * size, last[1] + dy * size]; move(dx, dy); }
    });
    for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { last = null; });
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step) { event.preventDefault(); move(...step); }
    });
    return element;
  }

  // Decode an array sent from Python: { shape, data } with data a typed array.
  function array(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const kind = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array }[packed.dtype];
    return { shape: packed.shape, data: new kind(bytes.buffer) };
  }

  // A canvas that shows an image: values 0..255, channels 1 (grey) or 3, row by row, channel last.
  function canvas(width, height, alt) {
    return html("canvas", { width, height, role: "img", "aria-label": alt });
  }
  function paint(target, values, channels = 1) {
    const context = target.getContext("2d"), image = context.createImageData(target.width, target.height);
    for (let i = 0, n = target.width * target.height; i < n; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = values[channels === 3 ? 3 * i + c : i];
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  return { mount, html, svg, slider, select, checkbox, button, draggable, array, canvas, paint };
})();
