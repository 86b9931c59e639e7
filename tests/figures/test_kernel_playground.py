"""The kernel playground computes what PyTorch computes, and its presets are the kernels of cvbook.filters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cvbook import filters
from cvbook.figures import Figure

MODES = {"zeros": "constant", "replicate": "replicate", "reflect": "reflect"}


@pytest.fixture(scope="module")
def call(js: Any) -> Any:
    return js("kernel_playground")


@pytest.mark.parametrize("padding", ["zeros", "replicate", "reflect", "none"])
@pytest.mark.parametrize(("k", "height", "width"), [(3, 6, 9), (5, 9, 6), (3, 3, 3), (5, 5, 5), (1, 2, 3)])
def test_correlate_equals_conv2d(call: Any, padding: str, k: int, height: int, width: int) -> None:
    rng = np.random.default_rng(k * height + width)
    image = torch.from_numpy(rng.integers(0, 256, (height, width)).astype(float))
    kernel = torch.from_numpy(rng.integers(-4, 5, (k, k)).astype(float))
    got = call("correlate", image.flatten().tolist(), height, width, kernel.flatten().tolist(), 4, padding)
    padded = image[None, None]
    if padding != "none":
        padded = F.pad(padded, [k // 2] * 4, mode=MODES[padding])
    expected = F.conv2d(padded, kernel[None, None] / 4)[0, 0]
    assert (got["height"], got["width"]) == tuple(expected.shape)
    assert torch.equal(torch.tensor(got["values"], dtype=torch.float64).reshape(expected.shape), expected)


def test_window_holds_the_pixels_that_are_summed(call: Any) -> None:
    image = torch.arange(30.0).reshape(5, 6)
    padded = F.pad(image[None, None], [2] * 4, mode="reflect")[0, 0]
    for row, col in [(0, 0), (2, 3), (4, 5)]:
        seen = call("windowAt", image.flatten().tolist(), 5, 6, 5, row, col, "reflect")
        assert seen == padded[row : row + 5, col : col + 5].flatten().tolist()


@pytest.mark.parametrize("size", [3, 5])
def test_presets_are_the_kernels_of_the_package(call: Any, size: int) -> None:
    classic = filters.classic()
    assert call("presetNames") == list(classic)
    for name, kernel in classic.items():
        got = call("preset", name, size)
        shown = torch.tensor(got["kernel"]).reshape(size, size) / got["divisor"]
        if size == 5 and name in ("box blur", "Gaussian blur"):
            binomial = torch.tensor([1.0, 4, 6, 4, 1]) / 16
            kernel = filters.box(5) if name == "box blur" else torch.outer(binomial, binomial)
        else:
            kernel = F.pad(kernel, [(size - 3) // 2] * 4)
        assert torch.allclose(shown, kernel, atol=0.005), name
        assert (got["display"] == "clip") == (kernel.sum().item() > 0.5), name


def test_flip_is_half_a_turn(call: Any) -> None:
    kernel = torch.arange(25.0).reshape(5, 5)
    assert call("flipKernel", kernel.flatten().tolist()) == kernel.flip(0, 1).flatten().tolist()


def test_resize_keeps_the_center(call: Any) -> None:
    kernel = torch.arange(1.0, 10).reshape(3, 3)
    grown = call("resize", kernel.flatten().tolist(), 5)
    assert grown == F.pad(kernel, [1] * 4).flatten().tolist()
    assert call("resize", grown, 3) == kernel.flatten().tolist()


@pytest.mark.parametrize(
    ("value", "display", "expected"),
    [
        (-40, "clip", [0, 0, 0]),
        (99.6, "clip", [100, 100, 100]),
        (300, "clip", [255, 255, 255]),
        (-100, "grey", [0, 0, 0]),
        (0, "grey", [128, 128, 128]),
        (100, "grey", [255, 255, 255]),
        (-50, "size", [128, 128, 128]),
        (0, "color", [250, 250, 250]),
    ],
)
def test_shades(call: Any, value: float, display: str, expected: list[int]) -> None:
    assert call("shade", value, display, 100) == expected


def test_colors_tell_the_sign_and_nothing_is_drawn_from_nothing(call: Any) -> None:
    red, _, blue = call("shade", -100, "color", 100)
    assert blue > red
    red, _, blue = call("shade", 100, "color", 100)
    assert red > blue
    assert call("shade", 0, "grey", 0) == [128, 128, 128]


@pytest.mark.parametrize(("x", "text"), [(-3, "−3"), (0.25, "0.25"), (1 / 3, "0.33"), (-0.001, "0"), (123.456, "123")])
def test_numbers_are_short(call: Any, x: float, text: str) -> None:
    assert call("format", x) == text


@pytest.fixture
def page(browser: Any) -> Any:
    photos = torch.stack([torch.arange(400).reshape(20, 20) % 256, torch.zeros(20, 20)]).to(torch.uint8)
    figure = Figure("kernel_playground", "a" * 40, photos=photos, names=["ramp", "black"], row=5, col=5)
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(f"<!doctype html><body>{figure._repr_html_()}")
    yield page
    page.close()
    assert not errors


def test_the_pixel_explained_follows_keys_and_kernel(page: Any) -> None:
    readout = page.locator(".cv-readout")
    page.get_by_role("button", name="shift left").click()
    assert "row 5, column 5 the products add up to 106" in readout.inner_text()  # pixel (5, 6) of the ramp
    page.get_by_label("Flip the kernel").check()
    assert "Convolution with shift left: at row 5, column 5 the products add up to 104" in readout.inner_text()
    page.locator("[data-cv-drag]").focus()
    page.keyboard.press("ArrowDown")
    assert "row 6, column 5 the products add up to 124" in readout.inner_text()


def test_numbers_are_edited_by_typing_and_by_buttons(page: Any) -> None:
    page.get_by_role("button", name="identity", exact=True).click()
    cell = page.get_by_label("row 2, column 2", exact=True)
    cell.fill("3")
    assert "with your own: at row 5, column 5 the products add up to 315" in page.locator(".cv-readout").inner_text()
    page.get_by_label("Decrease the selected number").click()
    assert cell.input_value() == "2"
    cell.fill("1e9")
    assert cell.input_value() == "99"
    assert "the products add up to 10395" in page.locator(".cv-readout").inner_text()  # 99 times pixel (5, 5)
    cell.fill("")
    assert "the products add up to 0" in page.locator(".cv-readout").inner_text()
    cell.blur()
    assert cell.input_value() == "0"
    cell.fill("99")
    page.get_by_label("Divide the sum by").fill("0")
    assert "divided" not in page.locator(".cv-readout").inner_text()
    page.get_by_role("button", name="÷ 99: weights sum to 1").click()
    assert "divided by 99, 105" in page.locator(".cv-readout").inner_text()


def test_size_keeps_presets_and_own_numbers(page: Any) -> None:
    page.get_by_role("button", name="box blur").click()
    page.get_by_label("Kernel size").select_option("5")
    assert page.locator(".kp-grid input").count() == 25
    assert page.get_by_role("button", name="box blur").get_attribute("aria-pressed") == "true"
    assert "divided by 25" in page.locator(".cv-readout").inner_text()
    page.get_by_label("row 3, column 3", exact=True).fill("7")
    page.get_by_label("Kernel size").select_option("3")
    assert page.get_by_label("row 2, column 2", exact=True).input_value() == "7"
    page.get_by_label("Outside the border").select_option("none")
    assert "Output, 18 × 18" in page.locator(".cv-picture").inner_text()
