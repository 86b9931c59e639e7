"""The arithmetic of the figure im2col.js against torch and `cvbook.convolution`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook.convolution.fast import fast_length

Module = Callable[[str], Callable[..., Any]]
SETTINGS = [(size, k, channels) for size in (4, 7) for k in (1, 2, 3, 4) for channels in (1, 3)]


def picture(call: Callable[..., Any], size: int, channels: int) -> torch.Tensor:
    """The figure's image, whose pixels are its matrix of 1x1 patches."""
    return torch.tensor(call("columns", size, 1, channels), dtype=torch.float64).view(1, channels, size, size)


@pytest.mark.parametrize(("size", "k", "channels"), SETTINGS)
def test_matrices_equal_unfold_and_their_product_conv2d(js: Module, size: int, k: int, channels: int) -> None:
    call = js("im2col")
    image = picture(call, size, channels)
    assert image.min() >= 0
    assert image.max() <= 9
    columns = call("columns", size, k, channels)
    assert columns == F.unfold(image, k)[0].tolist()
    rows = call("rows", k, channels, 4)
    maps = F.conv2d(image, torch.tensor(rows, dtype=torch.float64).view(4, channels, k, k))
    assert call("product", rows, columns) == maps[0].flatten(1).tolist()
    n = call("outputs", size, k)
    assert maps.shape[2:] == (n, n)
    places = [call("patch", step, size, k) for step in range(n * n)]
    assert places == [{"row": i, "column": j} for i in range(n) for j in range(n)]


def test_kernels_differ_from_each_other(js: Module) -> None:
    rows = js("im2col")("rows", 3, 1, 4)
    assert len({tuple(row) for row in rows}) == 4
    assert rows[0] == [-1, 0, 1] * 3


@pytest.mark.parametrize(
    ("side", "k", "channels", "kernels", "batch"),
    [(7, 1, 1, 1, 1), (7, 3, 2, 5, 3), (14, 3, 4, 4, 1), (28, 5, 3, 8, 2), (56, 3, 64, 64, 1), (9, 31, 2, 3, 4)],
)
def test_costs_equal_the_sizes_of_real_tensors(
    js: Module, side: int, k: int, channels: int, kernels: int, batch: int
) -> None:
    costs = js("im2col")("costs", {"side": side, "k": k, "channels": channels, "kernels": kernels, "batch": batch})
    x, weight = torch.zeros(batch, channels, side + k - 1, side + k - 1), torch.zeros(kernels, channels, k, k)
    y = F.conv2d(x, weight)
    assert costs["direct"] == {"multiplications": y.numel() * weight[0].numel(), "bytes": 0}
    columns = F.unfold(x, k)
    assert costs["im2col"] == {"multiplications": kernels * columns.numel(), "bytes": 4 * columns.numel()}
    if k == 3:
        padded = F.pad(x, (0, side % 2, 0, side % 2))
        tiles = padded.unfold(2, 4, 2).unfold(3, 4, 2)
        products = batch * kernels * tiles[0, 0].numel()
        stored = tiles.numel() + 16 * channels * kernels + products
        assert costs["winograd"] == {"multiplications": products * channels, "bytes": 4 * stored}
    else:
        assert costs["winograd"] is None
    n = fast_length(side + k - 1)
    spectra = [torch.fft.rfft2(t, (n, n)).numel() for t in (x, weight, y[..., :n, :n])]
    assert costs["fft"]["bytes"] == 8 * sum(spectra)
    bins = spectra[0] // (batch * channels)
    transforms = (batch * channels + channels * kernels + batch * kernels) * n * n * math.log2(n * n)
    assert costs["fft"]["multiplications"] == pytest.approx(transforms + 4 * batch * channels * kernels * bins, abs=1)


def test_fast_length_equals_python(js: Module) -> None:
    call = js("im2col")
    for length in [*range(1, 90), 127, 251, 254, 509]:
        assert call("fastLength", length) == fast_length(length)


def test_numbers_in_words(js: Module) -> None:
    call = js("im2col")
    given = (0, 36, 9999, 12345, 115605504, 2.5e9, 7e12)
    assert [call("words", value) for value in given] == [
        "0", "36", "9999", "12.3 thousand", "116 million", "2.5 billion", "7 trillion",
    ]  # fmt: skip
    assert [call("memory", value) for value in (0, 999, 1000, 7225344, 4.2e9)] == [
        "0 bytes", "999 bytes", "1 kB", "7.23 MB", "4.2 GB",
    ]  # fmt: skip


def operate(page: Any, view: dict[str, Any]) -> Any:
    """Show the figure in a page; returns a function that reads picture and readout."""
    from cvbook.figures import Figure

    figure = Figure("im2col", "An image, its patches as columns, and the product with the kernels.", **view)
    page.set_content(f"<html><body>{figure._repr_html_()}</body></html>")
    page.wait_for_selector(".cv-picture svg")
    return lambda: page.inner_html(".cv-picture") + page.inner_text(".cv-readout")


def test_hovering_a_column_moves_the_patch_and_arrow_keys_move_it_on(browser: Any) -> None:
    page = browser.new_page()
    read = operate(page, {"view": "columns", "size": 5, "kernel": 3, "channels": 1, "kernels": 2, "step": 4})
    assert "Patch 5 starts at row 2, column 2" in read()
    box = page.locator("svg[aria-label='matrix of patches, one in each column']").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + 20)
    assert "Patch 9 starts at row 3, column 3" in read()
    page.focus("[data-cv-drag]")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert "Patch 5 starts at row 2, column 2" in read()
    patch = page.locator("[data-cv-drag]").bounding_box()
    page.mouse.move(patch["x"] + 20, patch["y"] + 20)
    page.mouse.down()
    page.mouse.move(patch["x"] + 20 + 40, patch["y"] + 20, steps=5)
    page.mouse.up()
    assert "Patch 6 starts at row 2, column 3" in read()
    page.close()


def test_a_smaller_image_keeps_the_patch_inside(browser: Any) -> None:
    page = browser.new_page()
    read = operate(page, {"view": "columns", "size": 7, "kernel": 3, "channels": 1, "kernels": 1, "step": 24})
    page.fill("input[data-key=size]", "4")
    assert "Patch 4 starts at row 2, column 2" in read()
    page.close()


def test_the_cost_view_counts(browser: Any) -> None:
    page = browser.new_page()
    read = operate(page, {"view": "cost", "kernel": 3, "side": 3, "channels": 6, "batch": 0})
    assert "Winograd multiplies 2.25 times less than direct" in read()
    page.fill("input[data-key=kernel]", "31")
    assert "3×3 kernels only" in read()
    assert "961 times" in read()
    page.close()


def test_on_a_phone_long_rows_scroll_and_stay_readable(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 900})
    operate(page, {"view": "columns", "size": 7, "kernel": 4, "channels": 3, "kernels": 4, "step": 12})
    row = page.locator("svg[aria-label='matrix of kernels, one in each row']")
    assert row.bounding_box()["width"] >= 14 * 48
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    result = page.locator("svg[aria-label='product of both matrices']")
    page.fill("input[data-key=kernel]", "1")
    page.fill("input[data-key=step]", "48")
    left, right = result.evaluate("(e) => [e.parentNode.scrollLeft, e.parentNode.clientWidth]")
    assert left + right >= 14 * 48
    page.close()
