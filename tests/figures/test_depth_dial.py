"""The arithmetic of the figure ``depth_dial`` against Python, and the figure itself in a browser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cvbook.figures import Figure
from cvbook.neuron.initialization import ACTIVATIONS, INITIALIZATIONS

Call = Callable[..., Any]
ALT = "Bars on a logarithmic axis: what each hidden layer gets of the gradient; depth and start can be turned."


def table(longest: int = 12) -> torch.Tensor:
    """Made-up norms: each combination loses or wins by its own factor for each layer."""
    norms = torch.zeros(3, 3, longest - 1, longest)
    for a in range(3):
        for i in range(3):
            for depth in range(2, longest + 1):
                factor = 10.0 ** (i - 2 + 0.3 * a)
                norms[a, i, depth - 2, :depth] = 0.01 * factor ** torch.arange(depth - 1, -1, -1)
    return norms


def test_names_are_those_of_python(browser: Any) -> None:
    code = Figure("depth_dial", ALT, norms=table()).code
    assert f"ACTIVATIONS = {list(ACTIVATIONS)}".replace("'", '"') in code
    assert f"STARTS = {list(INITIALIZATIONS)}".replace("'", '"') in code


@pytest.mark.parametrize("depth", [2, 5, 12])
def test_the_right_row_is_taken(js: Callable[[str], Call], depth: int) -> None:
    norms = table()
    packed = {"shape": list(norms.shape), "data": norms.flatten().tolist()}
    call = js("depth_dial")
    for a, activation in enumerate(ACTIVATIONS):
        for i, init in enumerate(INITIALIZATIONS):
            row = norms[a, i, depth - 2, :depth]
            found = call("layers", packed, activation, init, depth)
            assert found == row.tolist()
            assert call("relative", found) == pytest.approx((row / row[-1]).tolist())
            expected = math.exp(math.log(row[0] / row[-1]) / (depth - 1))
            assert call("perLayer", found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "floor"), [([1, 0.2], -3), ([0.002, 1], -6), ([1e-7, 1], -12), ([1e-13, 5], -27), ([1e-40, 1], -27)]
)
def test_the_axis_shows_every_bar(js: Callable[[str], Call], values: list[float], floor: int) -> None:
    call = js("depth_dial")
    assert call("floorFor", values) == floor
    for x in values:
        expected = min(1, max(0, (math.log10(x) - floor) / (1 - floor)))
        assert call("height", x, floor) == pytest.approx(expected)
    assert call("height", 0, floor) == 0  # not minus infinity
    assert call("height", 1e9, floor) == 1


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (0.342, "0.34"), (1.0, "1.0"), (0.9951, "1.0"), (0.994, "0.99"), (6.54, "6.5"), (9.96, "10"), (0.0123, "0.01"),
        (0.00994, "9.9·10⁻³"), (3.23e-4, "3.2·10⁻⁴"), (2.1e-25, "2.1·10⁻²⁵"), (250, "2.5·10²"),
    ],
)  # fmt: skip
def test_numbers_in_words(js: Callable[[str], Call], x: float, words: str) -> None:
    assert js("depth_dial")("number", x) == words


def test_sentences(js: Callable[[str], Call]) -> None:
    call = js("depth_dial")
    assert call("sentence", "relu", "default", [0.0001, 0.01, 1.0]) == (
        "3 hidden layers, ReLU, PyTorch’s default: each layer hands on 1 % of the gradient, so layer 1 gets 1.0·10⁻⁴ "
        "times what layer 3 gets. The gradient has vanished before it gets there."
    )
    for ratio, words in [(0.0009, "vanished"), (0.1, "fades"), (1, "arrives"), (2.9, "arrives"), (5, "grows")]:
        assert words in call("verdict", ratio)


def show(page: Any, **state: Any) -> None:
    figure = Figure("depth_dial", ALT, norms=table(), **state)
    page.set_content("<!doctype html><body style='margin:8px'>" + figure._repr_html_())
    page.wait_for_selector(".cv-picture rect")


def test_every_setting_draws_one_bar_for_each_layer_and_fits_a_phone(page: Any) -> None:
    show(page)
    for depth in (2, 7, 12):
        page.locator("[data-key=depth]").fill(str(depth))
        for activation in ACTIVATIONS:
            page.locator("[data-key=activation]").select_option(activation)
            for init in INITIALIZATIONS:
                page.locator("[data-key=init]").select_option(init)
                assert page.locator(".cv-picture rect").count() == depth
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("[data-key=depth]").get_attribute("max") == "12"


def test_bars_have_the_heights_that_python_computes(page: Any) -> None:
    show(page, depth=4, activation="sigmoid", init="xavier", compare="")
    heights = [float(bar.get_attribute("height")) for bar in page.locator(".cv-picture rect").all()]
    floor = -6  # the smallest bar is 0.001, which would be nothing at -3
    shares = [(math.log10(10.0**-k) - floor) / (1 - floor) for k in (3, 2, 1, 0)]
    assert [h / heights[-1] for h in heights] == pytest.approx([s / shares[-1] for s in shares], rel=1e-4)


def test_the_outline_speaks_too_and_can_be_switched_off(page: Any) -> None:
    show(page, depth=3, activation="relu", init="he", compare="sigmoid xavier")
    said = page.locator(".cv-readout")
    assert "With sigmoid, Xavier it would be 0.01 times." in said.inner_text()
    lines = page.locator(".cv-picture line").count()
    page.locator("[data-key=compare]").select_option("")
    assert "With" not in said.inner_text()
    assert page.locator(".cv-picture line").count() == lines - 3


def test_the_picture_is_described_as_it_is(page: Any) -> None:
    show(page, depth=5)
    page.locator("[data-key=init]").select_option("xavier")
    assert "5 hidden layers, ReLU, Xavier" in page.locator(".cv-picture svg").get_attribute("aria-label")
