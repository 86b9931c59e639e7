"""The non-local block against torch's attention, and against sums over all pairs of pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cvbook.cnns.non_local import NonLocal


@pytest.fixture
def block() -> NonLocal:
    """A block that no longer is the identity."""
    torch.manual_seed(0)
    block = NonLocal(6).double().eval()
    torch.nn.init.uniform_(block.norm.weight, 0.5, 1.5)
    torch.nn.init.uniform_(block.norm.running_mean, -0.5, 0.5)
    torch.nn.init.uniform_(block.norm.running_var, 0.5, 1.5)
    return block


def test_equals_torchs_attention(block: NonLocal) -> None:
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    q, k, v = (layer(x).flatten(2).transpose(1, 2) for layer in (block.theta, block.phi, block.g))  # (B, N, C / 2)
    y = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    expected = x + block.norm(block.out(y.transpose(1, 2).unflatten(2, (4, 5))))
    direction = torch.randn_like(x)
    gradients = [
        torch.autograd.grad((z * direction).sum(), [x, *block.parameters()], retain_graph=True)
        for z in (block(x), expected)
    ]
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(*gradients)


def test_equals_the_papers_sums(block: NonLocal) -> None:
    x = torch.randn(1, 6, 3, 4, dtype=torch.float64)
    theta, phi, g = (layer(x) for layer in (block.theta, block.phi, block.g))
    y = torch.zeros_like(g)
    places = [(i, j) for i in range(3) for j in range(4)]
    for a, b in places:
        weights = {p: torch.exp((theta[0, :, a, b] * phi[0, :, p[0], p[1]]).sum()) for p in places}
        y[0, :, a, b] = sum(w * g[0, :, i, j] for (i, j), w in weights.items()) / sum(weights.values())
        row = torch.stack(list(weights.values())) / sum(weights.values())
        torch.testing.assert_close(block.attention(x)[0, 4 * a + b], row)
    torch.testing.assert_close(block(x), x + block.norm(block.out(y)))


def test_starts_as_the_identity_in_training_too() -> None:
    block, x = NonLocal(4).train(), torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_sees_far_away_in_one_step(block: NonLocal) -> None:
    x = torch.randn(1, 6, 16, 16, dtype=torch.float64, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    assert x.grad[0, :, 15, 15].abs().max() > 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="expected an even number of channels, got 5"):
        NonLocal(5)
    with pytest.raises(ValueError, match=r"expected images \(B, 4, H, W\)"):
        NonLocal(4)(torch.zeros(4, 5, 5))
    with pytest.raises(TypeError, match="type torch.float32, got torch.float64"):
        NonLocal(4)(torch.zeros(2, 4, 5, 5).double())
    with pytest.raises(ValueError, match="expected channels >= 1, got 0"):
        NonLocal(0)
