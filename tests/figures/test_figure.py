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


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.array([2**40]), "int32"),
        (np.array([-(2**31) - 1]), "int32"),
        (np.array([300], dtype=np.uint16), "uint8"),
        (np.array([1e300]), "float32"),
        (torch.tensor([2**40]), "int32"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(value: object, kind: str) -> None:
    with pytest.raises(ValueError, match=f"expected numbers that fit into {kind}, got .*; scale or convert them"):
        Figure(NAMES[0], ALT, x=value)


def test_the_largest_numbers_and_infinities_fit() -> None:
    Figure(NAMES[0], ALT, a=np.array([2**31 - 1, -(2**31)]), b=np.array([255], np.uint16), c=np.array([np.inf, np.nan]))
    Figure(NAMES[0], ALT, a=np.empty(0), b=np.array([True]))


def test_a_comment_in_the_state_stays_text(browser: Any) -> None:
    page = Figure(NAMES[0], ALT, text="<!-- <script>")._repr_html_()
    assert "<!--" not in page.split("const state", 1)[1]
    assert page.count("<script") == 1
    state = json.loads(re.search(r"const state = (\{.*\}), listeners", page).group(1))
    assert state["text"] == "<!-- <script>"


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_same_figure_may_be_shown_twice(browser: Any, copies: int) -> None:
    page, view = Figure("shapes", ALT)._repr_html_(), browser.new_page()
    faults: list[Any] = []
    view.on("pageerror", lambda error: faults.append(error))
    view.set_content(copies * page)
    counts = view.evaluate(
        "() => [...document.querySelectorAll('.cv-fig')].map((e) => [e.querySelectorAll('.cv-readout').length,"
        " e.querySelectorAll('.cv-fallback').length])"
    )
    view.close()
    assert counts == copies * [[1, 0]]
    assert faults == []


def test_a_saved_page_starts_again(browser: Any) -> None:
    view = browser.new_page()
    view.set_content(Figure("shapes", ALT)._repr_html_())
    saved = view.content()
    view.set_content(saved)
    count = view.locator(".cv-readout").count()
    view.close()
    assert count == 1


@pytest.mark.parametrize("name", ["common", "../figures/shapes", ""])
def test_what_is_no_figure_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a figure among"):
        Figure(name, ALT)
