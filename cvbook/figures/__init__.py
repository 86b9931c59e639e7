"""Interactive figures: ES modules that run in the published page, in Colab and in JupyterLab, with no kernel.

Each figure is one file ``NAME.js`` beside this one, written on the small shared part ``common.js``: it exports its
arithmetic as plain functions (tested against Python) and, as default, ``{ render({ model, el }) }``, the interface of
anywidget. `Figure` writes both files into one inline module, so that a notebook's output is complete in itself.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Figure", "source"]

FOLDER = Path(__file__).parent


def source(name: str) -> str:
    """The complete ES module of a figure, shared part included, with its exports.

    Raises:
        ValueError: if there is no such figure.

    >>> "export default" in source("shapes")
    True
    """
    known = sorted(p.stem for p in FOLDER.glob("*.js") if p.stem != "common")
    if name not in known:
        raise ValueError(f"expected a figure among {', '.join(known)}, got {name!r}")
    return "\n".join((FOLDER / f"{part}.js").read_text(encoding="utf-8") for part in ("common", name))


class Figure:
    """One interactive figure.

    Args:
        name: the ES module ``cvbook/figures/NAME.js``.
        alt: what a reader who cannot see it needs: what is drawn, what can be moved, what one finds.
        state: initial state that the module reads with ``model.get(key)``: numbers, strings, lists, and arrays or
            tensors, which travel as bytes (unsigned as uint8, signed as int32, fractions as float32) and are decoded
            by ``cv.array``.

    Raises:
        TypeError: if a part of the state is of another kind.
        ValueError: if the figure is unknown, ``alt`` is shorter than 40 characters, or a number of an array does not
            fit into its bytes.
    """

    def __init__(self, name: str, alt: str, **state: object) -> None:
        if len(alt) < 40:
            raise ValueError(f"expected alt text of at least 40 characters, got {alt!r}")
        self.name, self.alt, self.state = name, alt, state
        packed = json.dumps(state, sort_keys=True, default=_packed)
        self._json = packed.replace("<", "\\u003c")  # neither </script> nor <!-- may reach the page
        code = source(name).replace("export default", "const widget =", 1)
        self.code = re.sub(r"^export (?=(?:async )?(?:function|const|let|class)\b)", "", code, flags=re.MULTILINE)

    def __repr__(self) -> str:
        return f"[interactive figure {self.name}: {self.alt}]"

    def _repr_html_(self) -> str:
        uid = "cv-" + hashlib.sha256((self.code + self._json).encode()).hexdigest()[:12]
        alt = html.escape(self.alt)
        return f"""<div id="{uid}" class="cv-fig" data-figure="{self.name}" role="group" aria-label="{alt}">
<p class="cv-fallback">{alt} (Open this page in a browser, or run the cell, to move it.)</p></div>
<script type="module">
{self.code}
const state = {self._json}, listeners = {{}};
const model = {{ get: (k) => state[k], save_changes() {{}},
  on(event, f) {{ (listeners[event] ??= []).push(f); }},
  set(k, v) {{ state[k] = v; (listeners["change:" + k] ?? []).forEach((f) => f()); }} }};
// A page may show a figure twice: each script starts the first that waits. No attribute: saved pages start, too.
const el = [...document.querySelectorAll('[id="{uid}"]')].find((e) => !e.cvStarted);
if (el) {{ el.cvStarted = true; el.replaceChildren(); widget.render({{ model, el }}); }}
</script>"""


def _packed(value: object) -> object:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.integer, np.floating)):
        return value.item()
    array = np.asarray(value)
    kinds: dict[str, Any] = {"u": np.uint8, "b": np.uint8, "i": np.int32, "f": np.float32}
    if array.dtype.kind not in kinds:
        raise TypeError(f"expected numbers, strings, lists, arrays or tensors as state, got {type(value).__name__}")
    kind, limits_of = kinds[array.dtype.kind], np.finfo if array.dtype.kind == "f" else np.iinfo
    limits: Any = limits_of(kind)
    numbers = array[np.isfinite(array)]
    for worst in (numbers.min(), numbers.max()) if numbers.size else ():
        if not limits.min <= worst <= limits.max:
            raise ValueError(f"expected numbers that fit into {kind.__name__}, got {worst}; scale or convert them")
    array = np.ascontiguousarray(array, dtype=kind)
    return {"shape": array.shape, "dtype": array.dtype.name, "data": base64.b64encode(array.tobytes()).decode()}
