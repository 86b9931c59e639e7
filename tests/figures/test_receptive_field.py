"""The figure's arithmetic against receptive_field and against gradients."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from cvbook.convolution.receptive import effective_receptive_field, receptive_field


def stacks(count):
    draw = random.Random(0)
    for _ in range(count):
        yield [
            [k := draw.randint(1, 5), draw.randint(1, 3), d := draw.randint(1, 3), d * (k - 1) // 2]
            for _ in range(draw.randint(1, 5))
        ]


def module(layers):
    net = nn.Sequential(*[nn.Conv2d(1, 1, k, s, p, d, bias=False) for k, s, d, p in layers])
    for part in net:
        nn.init.constant_(part.weight, 1 / part.weight.numel())
    return net


def test_recursion_equals_the_analysis(js):
    recursion = js("receptive_field")
    for layers in [*stacks(20), [[11, 4, 1, 2], [3, 2, 1, 0], [5, 1, 1, 2]], [[1, 1, 1, 0]]]:
        field = receptive_field(module(layers))
        assert recursion("recursion", layers)[-1] == {
            "size": field.size[0],
            "stride": field.stride[0],
            "offset": field.offset[0],
        }


def test_intervals_and_weights_equal_the_gradient(js):
    call = js("receptive_field")
    for layers in stacks(8):
        net, size = module(layers), 160
        field = effective_receptive_field(net, (1, size, size)).sum(0)
        unit = net(torch.zeros(1, 1, size, size)).shape[-1] // 2
        assert call("outputSize", layers, size) // 2 == unit
        low, high = call("intervals", layers, unit)[-1]
        weights = torch.tensor(call("pathWeights", layers))
        assert len(weights) == high - low + 1
        if low >= 0 and high < size:
            expected = torch.zeros(size)
            expected[low : high + 1] = weights
            torch.testing.assert_close(field, expected, atol=1e-5, rtol=1e-4)


def test_spread_of_uniform_stacks(js):
    call = js("receptive_field")
    for n in (1, 5, 10):
        weights = call("pathWeights", [[3, 1, 1, 1]] * n)
        assert call("spread", weights) == pytest.approx((2 * n / 3) ** 0.5)


def test_the_exercise_can_be_tried_but_is_not_solved_by_a_preset(browser):
    from cvbook.figures import Figure

    figure = Figure("receptive_field", "Receptive field tracer on a grey photograph.", photo=torch.zeros(64, 64).byte())
    page = browser.new_page()
    page.set_content(f"<html><body>{figure._repr_html_()}</body></html>")
    for preset in page.locator("select[data-key=preset] option").evaluate_all("(all) => all.map((o) => o.value)"):
        page.select_option("select[data-key=preset]", preset)
        assert "sees 31 × 31" not in page.inner_text(".cv-readout")
    page.select_option("select[data-key=preset]", "four")
    for layer, dilation in enumerate((1, 2, 4, 8)):
        page.select_option("select[data-key=layer]", str(layer))
        page.fill("input[data-key=dilation]", str(dilation))
    assert "sees 31 × 31" in page.inner_text(".cv-readout")
    page.close()
