"""Activation functions and their derivatives, each as its formula reads.

Every function takes a floating-point tensor of any shape and works on each number alone; the last one, `softmax`, turns
whole vectors into probabilities. ``NAME_derivative`` is the slope by z at the same z; at a kink it is what torch takes.
Values equal torch's namesakes up to rounding: tanh of a tiny z, for example, rounds to 0 here. For reading: in networks
use torch's, which are faster and the only ones to differentiate by autograd. Through the formulas here, sigmoid, tanh
and silu have NaN for a gradient where exp(-z) becomes infinite (in float32 below z = -89, tanh below -45).

"Saturates" means: the slope goes to zero out there. "Zero-centered" means: outputs are as often negative as positive
when inputs are, because the function is odd.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvbook._arguments import floating, number

__all__ = [
    "elu", "elu_derivative", "gelu", "gelu_derivative", "leaky_relu", "leaky_relu_derivative", "linear",
    "linear_derivative", "prelu", "prelu_derivative", "relu", "relu_derivative", "sigmoid", "sigmoid_derivative",
    "silu", "silu_derivative", "softmax", "softmax_derivative", "step", "step_derivative", "tanh", "tanh_derivative",
]  # fmt: skip


def linear(z: Tensor) -> Tensor:
    """No activation: z itself. Range: all numbers. Never saturates. Zero-centered, but layers of it collapse.

    >>> linear(torch.tensor([-1.0, 2.0]))
    tensor([-1.,  2.])
    """
    return _checked(z)


def linear_derivative(z: Tensor) -> Tensor:
    """1 everywhere."""
    return torch.ones_like(_checked(z))


def step(z: Tensor) -> Tensor:
    """1 if z >= 0, else 0 (McCulloch & Pitts 1943, https://doi.org/10.1007/BF02478259). It is ``torch.heaviside``.

    Range: {0, 1}. Saturates everywhere. Not zero-centered.

    >>> step(torch.tensor([-0.1, 0.0, 3.0]))
    tensor([0., 1., 1.])
    """
    return (_checked(z) >= 0).to(z.dtype)


def step_derivative(z: Tensor) -> Tensor:
    """0 everywhere, by convention also at 0, where the step has no slope: nothing can be learned through it."""
    return torch.zeros_like(_checked(z))


def sigmoid(z: Tensor) -> Tensor:
    """1 / (1 + exp(-z)), the logistic function.

    Range: (0, 1). Saturates on both sides. Not zero-centered. (For very negative z, exp becomes infinite, and 1 over
    infinity is the right 0.)

    >>> sigmoid(torch.tensor([-1000.0, 0.0, 4.0]))
    tensor([0.0000, 0.5000, 0.9820])
    """
    return 1 / (1 + torch.exp(-_checked(z)))


def sigmoid_derivative(z: Tensor) -> Tensor:
    """s (1 - s) with s = sigmoid(z); largest at 0, where it is 1/4.

    >>> sigmoid_derivative(torch.tensor([0.0, 4.0]))
    tensor([0.2500, 0.0177])
    """
    s = sigmoid(z)
    return s * (1 - s)


def tanh(z: Tensor) -> Tensor:
    """(exp(z) - exp(-z)) / (exp(z) + exp(-z)), computed as a stretched sigmoid, which cannot overflow.

    Range: (-1, 1). Saturates on both sides. Zero-centered.

    >>> tanh(torch.tensor([-1000.0, 0.0, 0.5]))
    tensor([-1.0000,  0.0000,  0.4621])
    """
    return 2 * sigmoid(2 * z) - 1


def tanh_derivative(z: Tensor) -> Tensor:
    """1 - tanh(z)**2; largest at 0, where it is 1."""
    return 1 - tanh(z) ** 2


def relu(z: Tensor) -> Tensor:
    """max(z, 0), the rectified linear unit.

    Fukushima 1969 (https://doi.org/10.1109/TSSC.1969.300225) has it for visual features, Nair & Hinton 2010
    (https://icml.cc/Conferences/2010/papers/432.pdf) the name. Range: [0, inf). Saturates on the left. Not
    zero-centered.

    >>> relu(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([0., 0., 3.])
    """
    return _checked(z).clamp(min=0)


def relu_derivative(z: Tensor) -> Tensor:
    """1 if z > 0, else 0."""
    return (_checked(z) > 0).to(z.dtype)


def leaky_relu(z: Tensor, slope: float = 0.01) -> Tensor:
    """z if z > 0, else slope * z (Maas, Hannun & Ng 2013, ICML workshop on deep learning for audio, speech, language).

    Range: all numbers if slope > 0. Does not saturate, though a small slope passes on little. Not zero-centered.

    Args:
        z: any shape.
        slope: on the left; a constant.

    >>> leaky_relu(torch.tensor([-2.0, 3.0]))
    tensor([-0.0200,  3.0000])
    """
    return torch.where(_checked(z) > 0, z, slope * z)


def leaky_relu_derivative(z: Tensor, slope: float = 0.01) -> Tensor:
    """1 if z > 0, else slope."""
    return torch.where(_checked(z) > 0, torch.ones_like(z), slope)


def prelu(z: Tensor, weight: Tensor) -> Tensor:
    """A leaky ReLU whose slope on the left is learned (He et al. 2015, arXiv:1502.01852, Equation 1).

    Range: all numbers if weight > 0. Does not saturate unless weight = 0. Not zero-centered unless weight = 1.

    Args:
        z: ``(B, C, ...)``.
        weight: ``(1,)`` for one slope, or ``(C,)`` for one each channel; torch starts it at 0.25. Its own derivative
            is min(z, 0).

    >>> prelu(torch.tensor([[-2.0, -2.0, 3.0]]), torch.tensor([0.25, 0.5, 0.5]))
    tensor([[-0.5000, -1.0000,  3.0000]])
    """
    return torch.where(_checked(z) > 0, z, _per_channel(weight, z) * z)


def prelu_derivative(z: Tensor, weight: Tensor) -> Tensor:
    """1 if z > 0, else the weight of that channel. (The derivative by z.)"""
    return torch.where(_checked(z) > 0, torch.ones_like(z), _per_channel(weight, z))


def elu(z: Tensor, alpha: float = 1.0) -> Tensor:
    """z if z > 0, else alpha * (exp(z) - 1) (Clevert, Unterthiner & Hochreiter 2016, arXiv:1511.07289).

    Range: (-alpha, inf). Saturates on the left. Not zero-centered, though its mean is nearer to 0 than ReLU's.

    >>> elu(torch.tensor([-1000.0, 0.0, 3.0]), alpha=2.0)
    tensor([-2.,  0.,  3.])
    """
    return torch.where(
        _checked(z) > 0, z, alpha * torch.expm1(torch.where(z > 0, 0, z))
    )  # far to the right, exp is inf


def elu_derivative(z: Tensor, alpha: float = 1.0) -> Tensor:
    """1 if z > 0, else alpha * exp(z)."""
    return torch.where(_checked(z) > 0, torch.ones_like(z), alpha * torch.exp(z.clamp(max=0)))


def gelu(z: Tensor) -> Tensor:
    """z * Phi(z), Phi the distribution function of the normal distribution (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    This is the exact form, not the approximation by tanh. Range: about [-0.17, inf), with the minimum near z = -0.75.
    Saturates on the left. Not zero-centered.

    >>> gelu(torch.tensor([-10.0, -0.75, 3.0]))
    tensor([-0.0000, -0.1700,  2.9960])
    """
    return z * _normal_cdf(z)


def gelu_derivative(z: Tensor) -> Tensor:
    """Phi(z) + z * phi(z), phi the density of the normal distribution. Negative left of z = -0.75."""
    return _normal_cdf(z) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def silu(z: Tensor) -> Tensor:
    """z * sigmoid(z), also called swish (named in arXiv:1606.08415; studied by Elfwing et al. 2018, arXiv:1702.03118).

    Range: about [-0.28, inf), with the minimum near z = -1.28. Saturates on the left. Not zero-centered.

    >>> silu(torch.tensor([-100.0, -1.278, 3.0]))
    tensor([-0.0000, -0.2785,  2.8577])
    """
    return z * sigmoid(z)


def silu_derivative(z: Tensor) -> Tensor:
    """s + z s (1 - s) with s = sigmoid(z). Negative left of z = -1.28."""
    s = sigmoid(z)
    return s + z * s * (1 - s)


def softmax(z: Tensor, dim: int = -1, temperature: float = 1.0) -> Tensor:
    """exp(z_i / T) / sum_j exp(z_j / T): scores become positive numbers that add up to 1 (Bridle 1990, NIPS 2).

    The largest score is subtracted first: this changes nothing, and no exp can overflow. Range: (0, 1). Saturates where
    one score is far above the others.

    Args:
        z: scores (logits), any shape.
        dim: the axis whose numbers will add up to 1.
        temperature: T > 0; below 1 sharpens the choice, above 1 evens it out.

    Raises:
        TypeError: if the scores are no floating-point tensor, or the temperature is no number.
        ValueError: if the temperature is not positive, or ``dim`` has no scores.

    >>> softmax(torch.tensor([[1e4, 1e4, -torch.inf], [0.0, 0.0, 0.0]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.3333, 0.3333, 0.3333]])
    """
    if not number("temperature", temperature) > 0:  # not: true for NaN too
        raise ValueError(f"expected temperature > 0, got {temperature}; for the limit 0, use argmax")
    if _checked(z).ndim and not z.size(dim):
        raise ValueError(f"expected scores along dim={dim}, got shape {tuple(z.shape)}; give at least one")
    e = torch.exp((z - z.amax(dim, keepdim=True)) / temperature)
    return e / e.sum(dim, keepdim=True)


def softmax_derivative(z: Tensor, temperature: float = 1.0) -> Tensor:
    """All slopes of softmax over the last axis: ``(..., K)`` becomes ``(..., K, K)``, entry (i, j) is dp_i / dz_j.

    It is (diag(p) - p p^T) / T: raising one score raises its own probability and lowers all others. Rows add up to 0.

    >>> softmax_derivative(torch.tensor([0.0, 0.0]))
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]])
    """
    p = softmax(z, temperature=temperature)
    return (torch.diag_embed(p) - p[..., :, None] * p[..., None, :]) / temperature


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(_checked(z) / math.sqrt(2)))


def _per_channel(weight: Tensor, z: Tensor) -> Tensor:
    channels = z.shape[1] if z.ndim > 1 else 1
    if floating("weight", weight).ndim != 1 or len(weight) not in (1, channels):
        raise ValueError(
            f"expected a weight of shape (1,) or ({channels},), got {tuple(weight.shape)}; one per channel"
        )
    return weight.view(-1, *[1] * (z.ndim - 2)) if z.ndim > 1 else weight


def _checked(z: Tensor) -> Tensor:
    if not isinstance(z, Tensor):
        raise TypeError(f"expected a tensor, got {type(z).__name__}; write torch.tensor(...) around it")
    if not z.is_floating_point():
        raise TypeError(f"expected a tensor of floating-point numbers, got {z.dtype}; call .float() on it")
    return z
