"""The Figure class: complete, escaped, deterministic HTML."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from cvbook.figures import FOLDER, Figure, source

ALT = "An interactive test figure with nothing in it; nothing moves."
NAMES = sorted(p.stem for p in FOLDER.glob("*.js") if p.stem != "common")


def test_state_and_alt_text_cannot_break_out_of_the_page() -> None:
    page = Figure(NAMES[0], ALT + ' "<b>"', text="</script><b>")._repr_html_()
    assert "</script><b>" not in page
    assert page.count("</script>") == 1
    assert '"<b>' not in page.split("<script")[0]


def test_arrays_and_tensors_travel_as_bytes(browser: Any) -> None:
    page = Figure(
        NAMES[0], ALT, a=np.arange(6).reshape(2, 3), b=torch.tensor([0.5, -1.0]), c=torch.ones(2, dtype=torch.uint8),
        d=np.float32(2.5), e=[True],
    )._repr_html_()  # fmt: skip
    state = json.loads(re.search(r"const state = (\{.*\}), listeners", page).group(1))
    assert state["d"] == 2.5
    view = browser.new_page()
    common = (FOLDER / "common.js").read_text()
    decoded = view.evaluate(
        "([common, state]) => { const cv = new Function(common + '; return cv')();"
        "return Object.fromEntries(['a', 'b', 'c'].map((k) => [k, [...cv.array(state[k]).data]])) }",
        [common, state],
    )
    view.close()
    assert decoded == {"a": [0, 1, 2, 3, 4, 5], "b": [0.5, -1.0], "c": [1, 1]}


def test_same_state_same_bytes() -> None:
    assert Figure(NAMES[0], ALT, x=1, y=2)._repr_html_() == Figure(NAMES[0], ALT, y=2, x=1)._repr_html_()
    assert Figure(NAMES[0], ALT, x=1)._repr_html_() != Figure(NAMES[0], ALT, x=2)._repr_html_()
    assert NAMES[0] in repr(Figure(NAMES[0], ALT))


@pytest.mark.parametrize("name", NAMES)
def test_no_figure_asks_the_network(name: str) -> None:
    code = source(name)
    assert not re.search(r"\b(fetch|XMLHttpRequest|importScripts|WebSocket)\s*\(|import\s*\(|\bimport\s", code)
    assert set(re.findall(r"https?://[^\"'\s)]+", code)) <= {"http://www.w3.org/2000/svg"}
    assert "export default" in code


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="expected a figure among .*got 'nothing'"):
        Figure("nothing", ALT)
    with pytest.raises(ValueError, match="at least 40 characters"):
        Figure(NAMES[0], "short")
    with pytest.raises(TypeError, match="expected numbers, strings, lists, arrays or tensors as state, got complex"):
        Figure(NAMES[0], ALT, z=1j)._repr_html_()
