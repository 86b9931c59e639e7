"""MobileNet (v1) against the numbers of its paper, and its separable convolution against a full one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cvbook.cnns.mobilenet_v1 import DepthwiseSeparable, mobilenet_v1, scaled


def multiply_adds(model: nn.Module, x: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("width", "size", "millions", "multiply_add_millions"),  # Tables 6 and 7
    [
        (1.0, 224, 4.2, 569), (0.75, 224, 2.6, 325), (0.5, 224, 1.3, 149), (0.25, 224, 0.5, 41),
        (1.0, 192, 4.2, 418), (1.0, 160, 4.2, 290), (1.0, 128, 4.2, 186),
    ],
)  # fmt: skip
def test_costs_are_the_papers(width: float, size: int, millions: float, multiply_add_millions: float) -> None:
    with torch.device("meta"):
        model, x = mobilenet_v1(width=width).eval(), torch.zeros(1, 3, size, size)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
    assert multiply_adds(model, x) / 1e6 == pytest.approx(multiply_add_millions, abs=1)


def test_where_the_parameters_and_the_work_are() -> None:
    """Table 2: three quarters of the parameters and 95 % of the multiply-adds are in 1x1 convolutions."""
    with torch.device("meta"):
        model, x = mobilenet_v1().eval(), torch.zeros(1, 3, 224, 224)
    pointwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    work = 0

    def count(layer: nn.Conv2d, _: object, y: torch.Tensor) -> None:
        nonlocal work
        work += layer.weight.numel() * y[0, 0].numel()

    for layer in pointwise:
        layer.register_forward_hook(count)
    total = multiply_adds(model, x)
    share = sum(layer.weight.numel() for layer in pointwise) / sum(p.numel() for p in model.parameters())
    assert 100 * share == pytest.approx(74.6, abs=0.5)
    assert 100 * work / total == pytest.approx(94.9, abs=0.1)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_separable_is_a_full_convolution_of_rank_one_kernels(stride: int) -> None:
    """Without activations, the two steps equal one convolution with kernel ``mix[o, i] * look[i]``."""
    torch.manual_seed(0)
    block, x = DepthwiseSeparable(5, 7, stride=stride).double().eval(), torch.randn(2, 5, 9, 8).double()
    assert block(x).shape == (2, 7, -(-9 // stride), 8 // stride)
    look, mix = block[0][0].weight, block[1][0].weight  # (5, 1, 3, 3), (7, 5, 1, 1)
    expected = F.conv2d(x, mix * look.transpose(0, 1), stride=stride, padding=1)
    torch.testing.assert_close(block[1][0](block[0][0](x)), expected)
    assert block[0][0].weight.numel() + block[1][0].weight.numel() == 9 * 5 + 5 * 7  # what the docstring says


def test_network_is_28_layers_written_out() -> None:
    """A second route through the same weights: the functional calls, one after the other."""
    torch.manual_seed(0)
    model = mobilenet_v1(width=0.25, num_classes=6).double().eval()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) + 1 == 28
    strides = [2, *(s for t in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1) for s in (t, 1))]
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    x = y = torch.randn(2, 3, 50, 64, dtype=torch.float64)
    for i, (conv, norm, stride) in enumerate(zip(convs, norms, strides, strict=True)):
        depthwise = i % 2 == 1
        groups = y.shape[1] if depthwise else 1
        y = F.conv2d(y, conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2, groups=groups)
        y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(model(x), F.linear(y.mean((2, 3)), model.classifier.weight, model.classifier.bias))


def test_every_parameter_gets_a_gradient_with_grey_images() -> None:
    torch.manual_seed(0)
    model = mobilenet_v1(width=0.25, num_classes=4, in_channels=1)
    model(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("channels", [16, 24, 32, 96, 160, 320, 1280])
@pytest.mark.parametrize("width", [0.1, 0.35, 0.5, 1.0, 1.1, 1.4, 2.0])
def test_scaled_channels(channels: int, width: float) -> None:
    result, exact = scaled(channels, width), channels * width
    assert result % 8 == 0
    assert 0.9 * exact <= result <= max(8, exact + 8)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="width multiplier > 0, got -1"):
        mobilenet_v1(width=-1)
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        mobilenet_v1(width=0.25)(torch.zeros(2, 64, 64, 3))
