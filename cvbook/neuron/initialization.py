"""How large the first weights should be: Xavier, He, and what torch does by itself; and the gradient, layer by layer.

Glorot & Bengio 2010, *Understanding the difficulty of training deep feedforward neural networks*
(https://proceedings.mlr.press/v9/glorot10a.html), and He et al. 2015, *Delving deep into rectifiers* (arXiv:1502.01852,
§2.2). ``fan_in`` and ``fan_out`` are the numbers of inputs and outputs of a layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook._arguments import floating, tensor, whole

__all__ = ["ACTIVATIONS", "INITIALIZATIONS", "default_std", "gradient_norms", "he_std", "mlp", "xavier_std"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
INITIALIZATIONS = ("default", "xavier", "he")


def xavier_std(fan_in: int, fan_out: int) -> float:
    """sqrt(2 / (fan_in + fan_out)): a compromise between forward and backward, for symmetric activations.

    It is the standard deviation of ``torch.nn.init.xavier_normal_`` (Glorot & Bengio 2010, Equation 12).

    >>> xavier_std(100, 100)
    0.1
    """
    return math.sqrt(2 / (_positive("fan_in", fan_in) + _positive("fan_out", fan_out)))


def he_std(fan_in: int) -> float:
    """sqrt(2 / fan_in): keeps the mean square of the sums from layer to layer, for ReLU.

    It is the standard deviation of ``torch.nn.init.kaiming_normal_`` (He et al. 2015, Equation 10).

    >>> he_std(200)
    0.1
    """
    return math.sqrt(2 / _positive("fan_in", fan_in))


def default_std(fan_in: int) -> float:
    """1 / sqrt(3 fan_in): what `torch.nn.Linear` draws by itself, uniform between ±1 / sqrt(fan_in).

    >>> round(default_std(100), 4)
    0.0577
    """
    return math.sqrt(1 / (3 * _positive("fan_in", fan_in)))


def mlp(widths: Sequence[int], *, activation: str = "relu", init: str = "default") -> nn.Sequential:
    """A multilayer perceptron: flatten, then linear layers with an activation between two of them.

    Random numbers come from torch's global generator; call ``torch.manual_seed`` before.

    Args:
        widths: numbers in each layer from the inputs to the outputs, at least two; 784 inputs for 28x28 pixels.
        activation: ``"sigmoid"``, ``"tanh"`` or ``"relu"``; none follows the last layer.
        init: ``"xavier"`` or ``"he"`` draws normal weights of that standard deviation and sets biases to 0;
            ``"default"`` leaves the layers as torch makes them, biases included.

    Returns:
        A network that maps ``(B, ...)`` with ``widths[0]`` numbers in each row to ``(B, widths[-1])`` logits.

    Raises:
        TypeError: if the widths are no list of whole numbers.
        ValueError: if a name is unknown, a width is below 1, or fewer than two are given.

    >>> net = mlp([784, 128, 10], init="he")
    >>> net(torch.zeros(5, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([5, 10]), 101770)
    """
    if isinstance(widths, str) or not hasattr(widths, "__len__"):
        raise TypeError(f"expected widths as a list of ints, got {widths!r:.60}; for example [784, 128, 10]")
    widths = [_positive("each width", width) for width in widths]
    if len(widths) < 2:
        raise ValueError(f"expected at least two widths, inputs and outputs, got {widths}; for example [784, 128, 10]")
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation among {', '.join(ACTIVATIONS)}, got {activation!r}")
    if init not in INITIALIZATIONS:
        raise ValueError(f"expected an initialization among {', '.join(INITIALIZATIONS)}, got {init!r}")
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(widths):
        linear = nn.Linear(fan_in, fan_out)
        if init != "default":
            std = he_std(fan_in) if init == "he" else xavier_std(fan_in, fan_out)
            nn.init.normal_(linear.weight, 0, std)
            nn.init.zeros_(linear.bias)
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def gradient_norms(model: nn.Sequential, images: Tensor, labels: Tensor) -> list[float]:
    """The Euclidean norm of the gradient of the mean cross-entropy by the sums z of each linear layer, first to last.

    The gradient by a layer's weights is this gradient times the layer's input, so what vanishes here vanishes there.

    Args:
        model: layers in a row, as `mlp` makes them; one that works in place may follow a linear layer.
        images: ``(B, ...)`` float, what the model takes; at least one.
        labels: ``(B,)`` int64.

    Returns:
        One number for each linear layer, the last one included. Squares are added in float64: in float32 those of a
        gradient of 1e-23 would already be 0.

    Raises:
        TypeError: if the model is no `torch.nn.Sequential`, or the images are no floating-point tensor.
        ValueError: if the model has no linear layer, or parts that hold layers themselves, or there are no images.

    >>> _ = torch.manual_seed(0)
    >>> norms = gradient_norms(mlp([4, 9, 9, 3], activation="sigmoid"), torch.ones(2, 4), torch.tensor([0, 2]))
    >>> len(norms), norms[0] < norms[1] < norms[2]
    (3, True)
    """
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"expected layers in an nn.Sequential, got {type(model).__name__}; put them into one")
    if held := [type(layer).__name__ for layer in model if next(layer.children(), None) is not None]:
        raise ValueError(f"expected single layers in a row, got a {held[0]} that holds others; unpack it")
    if not any(isinstance(layer, nn.Linear) for layer in model):
        raise ValueError("expected at least one nn.Linear in the model, got none; add one")
    if not len(floating("images", images)) or len(images) != len(tensor("labels", labels)):
        raise ValueError(
            f"expected images and one label for each, got {len(images)} and {len(labels)}; see how they were selected"
        )
    x, sums = images, []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            sums.append(x)
            x = x.clone()  # the next layer may work in place, which would make the sums its outputs
    gradients = torch.autograd.grad(F.cross_entropy(x, labels), sums)
    return [gradient.double().norm().item() for gradient in gradients]


def _positive(name: str, fan: int) -> int:
    if (fan := whole(name, fan)) < 1:
        raise ValueError(f"expected at least one input and one output, got {fan}; use a positive int for {name}")
    return fan
