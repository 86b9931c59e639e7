"""The figure's arithmetic in JavaScript against Python, and what it says in a browser."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cvbook import cnns
from cvbook.cost import summary
from cvbook.figures import Figure
from cvbook.recipes.architectures import browse

NETWORKS = {entry["name"]: entry for entry in browse()}


@pytest.mark.parametrize("name", NETWORKS)
def test_totals(js: Callable, name: str) -> None:
    blocks = NETWORKS[name]["blocks"]
    for column in (5, 6, 7):
        assert js("architecture")("total", blocks, column) == sum(block[column] for block in blocks)
        assert js("architecture")("largest", [blocks, blocks[:1]], column) == max(block[column] for block in blocks)


@pytest.mark.parametrize(("name", "build", "shape"), [
    ("LeNet-5", cnns.lenet5, (1, 32, 32)),
    ("AlexNet (2012)", lambda: cnns.alexnet(original=True), (3, 224, 224)),
    ("VGG-16", cnns.vgg16, (3, 224, 224)),
])  # fmt: skip
def test_with_mean_is_the_network_with_another_head(js: Callable, name: str, build: Any, shape: tuple) -> None:
    with torch.device("meta"):
        model = build()
        classes = model.classifier[-1].out_features
        channels = [layer.out_channels for layer in model.features if isinstance(layer, nn.Conv2d)][-1]
        other = nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    table = summary(other, shape)
    blocks = js("architecture")("withMean", NETWORKS[name]["blocks"])
    assert sum(block[5] for block in blocks) == table.parameters
    assert sum(block[6] for block in blocks) == table.multiply_adds


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"LeNet-5", "AlexNet (2012)", "VGG-16"}))
def test_networks_that_average_already_are_left_alone(js: Callable, name: str) -> None:
    assert js("architecture")("withMean", NETWORKS[name]["blocks"]) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_are_to_scale(js: Callable, name: str) -> None:
    """Widths over 2 are proportional to the channels, heights to the sides, and they fill the width."""
    channels, side, _ = NETWORKS[name]["input"]
    maps = [[channels, side], *([block[2], block[3]] for block in NETWORKS[name]["blocks"])]
    boxes = js("architecture")("boxes", maps, 700, 150, 3, side)
    ratios = [width / c for (_, width, _), (c, _) in zip(boxes, maps, strict=True) if width > 2.001]
    assert max(ratios) == pytest.approx(min(ratios))
    assert all(width >= 2 - 1e-9 for _, width, _ in boxes)
    heights = [height / h for (_, _, height), (_, h) in zip(boxes, maps, strict=True) if height > 2.001]
    assert max(heights) == pytest.approx(min(heights)) == pytest.approx(150 / side)
    assert all(b[0] == pytest.approx(a[0] + a[1] + 3) for a, b in itertools.pairwise(boxes))
    assert boxes[-1][0] + boxes[-1][1] == pytest.approx(700)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (850, "850"), (9999, "9999"), (48_120, "48.1 k"), (659_176, "659 k"), (61_706, "61.7 k"),
     (1_025_000, "1.02 M"), (37_752_832, "37.8 M"), (138_357_544, "138 M"), (1_814_073_344, "1.81 G"),
     (15_470_264_320, "15.5 G")],
)  # fmt: skip
def test_compact_numbers(js: Callable, number: int, words: str) -> None:
    got = js("architecture")("compact", number)
    assert got == words
    value, unit = re.fullmatch(r"([\d.]+)(?: ([kMG]))?", got).groups()
    assert float(value) * {"k": 1e3, "M": 1e6, "G": 1e9, None: 1}[unit] == pytest.approx(number, rel=0.006)


def test_other_words(js: Callable) -> None:
    call = js("architecture")
    assert call("grouped", 61100840) == "61\u202f100\u202f840"
    assert [call("percent", *pair) for pair in ((1, 3), (0, 5), (1, 10**6), (5, 0))] == [
        "33.3 %", "0 %", "under 0.1 %", "0 %",
    ]  # fmt: skip
    assert "whole image" in call("extent", 0, 224)
    assert "195 × 195 pixels of 224 × 224" in call("extent", 195, 224)
    assert "more than the image" in call("extent", 427, 224)
    assert "not known" in call("extent", -1, 224)


def test_sizes(js: Callable) -> None:
    call = js("architecture")
    blocks = {block[0]: block for block in NETWORKS["VGG-16"]["blocks"]}
    assert call("size", blocks["conv 1-1"]) == "64 × 224 × 224"
    assert call("size", blocks["conv 1-2"]) == "64 × 224² → 112²"
    assert call("size", blocks["FC 14"]) == "4096"


def test_same_depth(js: Callable) -> None:
    call = js("architecture")
    assert [call("sameDepth", index, 11, 19) for index in (0, 5, 10)] == [0, 9, 18]
    assert call("sameDepth", 0, 1, 19) == 0


def test_the_browser(browser: Any) -> None:
    """Keys, taps and both check boxes; the second network's block is told with its share."""
    alt = "Two networks, block by block, with bars to scale."
    figure = Figure("architecture", alt, networks=browse("AlexNet (2012)", "ResNet-18"), block=8)
    page = browser.new_page(viewport={"width": 1000, "height": 1200})
    page.set_content(f"<html><body>{figure._repr_html_()}</body></html>")

    def says() -> str:
        return page.inner_text(".cv-readout").replace("\u202f", " ")

    assert "FC 6: fully connected" in says()
    assert "37 752 832 parameters (61.9 %)" in says()
    assert "whole image" in says()
    page.locator(".cv-arch").focus()
    page.keyboard.press("ArrowUp")
    assert "pool 5: max pooling 3×3 / 2" in says()
    page.locator(".cv-arch > div").nth(1).click()
    assert "conv 1: conv 11×11 / 4" in says()
    page.check("input[data-key=mean]")
    assert page.locator(".cv-arch > div").count() == 1 + 8 + 2
    assert "2.59 M" in page.inner_text(".cv-arch .head")
    first = page.locator(".cv-arch > div .bar:nth-child(3) i")  # parameters, on the scale of the whole network
    assert first.evaluate_all("(all) => Math.max(...all.map((e) => e.offsetWidth))") < 10
    page.locator(".cv-arch").focus()
    page.keyboard.press("End")
    assert "block 10 of 10, FC" in says()
    page.keyboard.press("Home")
    assert "conv 1: conv 11×11 / 4" in says()
    page.select_option("select", "ResNet-18")
    assert "stem: conv 7×7 / 2" in says()
    assert page.is_disabled("input[data-key=mean]")
    wide = page.locator(".cv-arch .bar i").evaluate_all("(all) => Math.max(...all.map((e) => e.offsetWidth))")
    page.check("input[data-key=together]")  # AlexNet's FC 6 is eight times as large as any block here
    assert first.evaluate_all("(all) => Math.max(...all.map((e) => e.offsetWidth))") < 0.2 * wide
    page.keyboard.press("End")
    page.select_option("select", "AlexNet (2012)")
    assert "of 10, " in says()  # the check box is still set
    page.close()


def test_the_data_is_small() -> None:
    alt = "All networks, block by block, with bars to scale."
    assert len(Figure("architecture", alt, networks=browse())._json) < 40_000
