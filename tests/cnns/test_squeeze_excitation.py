"""Squeeze-and-excitation against torchvision's and against its formula."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from cvbook.cnns.squeeze_excitation import SqueezeExcitation


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
def test_equals_torchvision(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    our = SqueezeExcitation(12, 3, activation=activation).double()
    their = torchvision.ops.SqueezeExcitation(12, 3, activation=activation).double()
    their.load_state_dict(our.state_dict())
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    results = []
    for block in (our, their):
        y = block(x)
        results.append((y, *torch.autograd.grad((y * direction).sum(), [x, *block.parameters()])))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_equals_two_linear_layers_on_the_channel_means() -> None:
    torch.manual_seed(0)
    block, x = SqueezeExcitation(8, 2).double(), torch.randn(3, 8, 4, 6).double()
    w1, w2 = block.fc1.weight[:, :, 0, 0], block.fc2.weight[:, :, 0, 0]
    s = torch.sigmoid((x.mean((2, 3)) @ w1.T + block.fc1.bias).relu() @ w2.T + block.fc2.bias)  # (B, C)
    torch.testing.assert_close(block.gates(x)[:, :, 0, 0], s)
    torch.testing.assert_close(block(x), x * s[:, :, None, None])


def test_gates_ignore_where_things_are() -> None:
    block, x = SqueezeExcitation(8, 2).double(), torch.randn(1, 8, 6, 6).double()
    torch.testing.assert_close(block.gates(x), block.gates(x.roll((1, 2), (2, 3))))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 8, H, W\)"):
        SqueezeExcitation(8, 2)(torch.zeros(2, 4, 5, 5))
    with pytest.raises(TypeError, match="type torch.float32, got torch.float64"):
        SqueezeExcitation(8, 2)(torch.zeros(2, 8, 5, 5).double())
    with pytest.raises(ValueError, match="expected squeeze >= 1, got 0"):
        SqueezeExcitation(8, 8 // 16)
