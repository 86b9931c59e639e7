"""The arithmetic of the figure ``activations`` against Python and torch, and the figure itself in a browser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cvbook.figures import Figure
from cvbook.neuron import activations as act

Call = Callable[..., Any]
ALT = "Explorer of activations: choose a function, move the input; see value, tangent and slope there."
INPUTS = [-6.0, -1.3, 0.0, 0.3, 2.6, 6.0]
PYTHON: dict[str, tuple[Callable, Callable]] = {  # value and slope as functions of z and the parameter
    "step": (lambda z, p: act.step(z), lambda z, p: act.step_derivative(z)),
    "sigmoid": (lambda z, p: act.sigmoid(z), lambda z, p: act.sigmoid_derivative(z)),
    "tanh": (lambda z, p: act.tanh(z), lambda z, p: act.tanh_derivative(z)),
    "relu": (lambda z, p: act.relu(z), lambda z, p: act.relu_derivative(z)),
    "leaky": (act.leaky_relu, act.leaky_relu_derivative),
    "elu": (act.elu, act.elu_derivative),
    "gelu": (lambda z, p: act.gelu(z), lambda z, p: act.gelu_derivative(z)),
    "silu": (lambda z, p: act.silu(z), lambda z, p: act.silu_derivative(z)),
    "softmax": (
        lambda z, p: act.softmax(_scores(z), temperature=p)[..., 0],
        lambda z, p: act.softmax_derivative(_scores(z), p)[..., 0, 0],
    ),
}


def _scores(z: torch.Tensor) -> torch.Tensor:
    """What softmax sees in the figure: z and two fixed scores."""
    return torch.stack([z, torch.ones_like(z), torch.zeros_like(z)], dim=-1)


@pytest.mark.parametrize("name", PYTHON)
@pytest.mark.parametrize("parameter", [0.3, 2.0])
def test_values_and_slopes_are_those_of_python(js: Callable[[str], Call], name: str, parameter: float) -> None:
    call = js("activations")
    z = torch.tensor(INPUTS, dtype=torch.float64)
    for function, python in zip(("value", "slope"), PYTHON[name], strict=True):
        found = [call(function, name, x, parameter) for x in INPUTS]
        assert found == pytest.approx(python(z, parameter).tolist(), rel=1e-9, abs=1e-12), function


def test_the_error_function(js: Callable[[str], Call]) -> None:
    call = js("activations")
    for x in (-5.0, -1.7, -0.2, 0.0, 1e-6, 0.9, 3.0, 4.3):
        assert call("erf", x) == pytest.approx(math.erf(x), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_softmax(js: Callable[[str], Call], temperature: float) -> None:
    for scores in ([4.0, 1.0, 0.0], [-6.0, 1.0, 0.0], [1e4, 0.0, -1e4]):
        expected = torch.softmax(torch.tensor(scores, dtype=torch.float64) / temperature, dim=0)
        assert js("activations")("softmax", scores, temperature) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", PYTHON)
def test_shaded_zones_are_where_the_slope_is_small_out_to_the_end(js: Callable[[str], Call], name: str) -> None:
    for parameter in (0.02, 2.0):
        zones = js("activations")("saturated", name, parameter)
        z = torch.linspace(-6, 6, 241, dtype=torch.float64)
        flat = PYTHON[name][1](z, parameter).abs() < 0.05
        expected = torch.zeros_like(flat)  # only what is connected with an end of the axis
        expected |= flat.cumprod(0).bool() | flat.flip(0).cumprod(0).flip(0).bool()
        shaded = torch.zeros_like(flat)
        for low, high in zones:
            assert -6 in (low, high) or 6 in (low, high)
            shaded |= (z >= low - 1e-9) & (z <= high + 1e-9)
        assert torch.equal(shaded, expected)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100 % of the gradient"),
        (0.01766, "1.8 % of the gradient"),
        (0.0, "none of the gradient"),
        (1e-6, "less than 0.01 % of the gradient"),
        (0.0005, "0.05 % of the gradient"),
        (-0.127, "13 % of the gradient, with its sign turned"),
    ],
)
def test_shares_in_words(js: Callable[[str], Call], share: float, words: str) -> None:
    assert js("activations")("passes", share) == words


@pytest.mark.parametrize(
    ("name", "z", "words"),
    [
        ("sigmoid", 4, "At z = 4 the sigmoid gives 0.98 and passes on 1.8 % of the gradient. Here it is saturated."),
        ("sigmoid", 0, "At z = 0 the sigmoid gives 0.50 and passes on 25 % of the gradient."),
        ("relu", -0.5, "At z = −0.5 ReLU gives 0.00 and passes on none of the gradient. Here it is saturated."),
        ("relu", 6, "At z = 6 ReLU gives 6.00 and passes on 100 % of the gradient."),
        ("gelu", -1.5, "At z = −1.5 GELU gives −0.10 and passes on 13 % of the gradient, with its sign turned."),
    ],
)
def test_sentences(js: Callable[[str], Call], name: str, z: float, words: str) -> None:
    assert js("activations")("sentence", name, z, 1) == words


def show(page: Any, **state: Any) -> None:
    page.set_content("<!doctype html><body style='margin:8px'>" + Figure("activations", ALT, **state)._repr_html_())
    page.wait_for_selector(".cv-picture svg")


def said(page: Any) -> str:
    return page.locator(".cv-readout").inner_text()


def test_the_point_moves_by_keyboard_and_by_mouse_and_stays_on_the_axis(page: Any) -> None:
    show(page)
    assert "At z = 4 the sigmoid" in said(page)
    handle = page.locator("[data-cv-drag]")
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert "At z = 3.7 " in said(page)
    box = handle.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 1000, middle[1] + 30, steps=4)
    assert "At z = −6 " in said(page)
    page.mouse.up()
    assert page.locator("[data-key=z]").input_value() == "-6"


def test_only_the_parameter_of_the_function_is_shown(page: Any) -> None:
    show(page)
    for name, key in {"sigmoid": None, "leaky": "a", "elu": "alpha", "softmax": "temperature", "gelu": None}.items():
        page.locator("[data-key=activation]").select_option(name)
        visible = [k for k in ("a", "alpha", "temperature") if page.locator(f"[data-key={k}]").is_visible()]
        assert visible == ([key] if key else [])
        assert page.locator(".cv-picture svg").last.is_visible() == (name == "softmax")


def test_parameters_change_the_slope(page: Any) -> None:
    show(page, activation="leaky", z=-2, a=0.01)
    assert "gives −0.02 and passes on 1.0 %" in said(page)
    page.locator("[data-key=a]").fill("0.25")
    assert "gives −0.50 and passes on 25 %" in said(page)
    show(page, activation="softmax", z=2)
    assert "66.5 %, 24.5 % and 9.0 %" in said(page)
    page.locator("[data-key=temperature]").fill("4")
    assert "41.9 %, 32.6 % and 25.4 %" in said(page)


def test_every_function_fits_a_phone(page: Any) -> None:
    show(page)
    for name in PYTHON:
        page.locator("[data-key=activation]").select_option(name)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
