"""Standard deviations and networks against torch.nn.init, gradient norms against torch's own backward pass."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvbook.neuron.initialization import (
    ACTIVATIONS,
    INITIALIZATIONS,
    default_std,
    gradient_norms,
    he_std,
    mlp,
    xavier_std,
)

fans = st.integers(1, 5000)


@given(fans, fans)
@settings(deadline=None)
def test_formulas_are_those_of_torch(fan_in: int, fan_out: int) -> None:
    tensor = torch.empty(fan_out, fan_in, device="meta")
    gain = nn.init.calculate_gain("relu")
    assert he_std(fan_in) == pytest.approx(gain / math.sqrt(nn.init._calculate_correct_fan(tensor, "fan_in")))
    both = sum(nn.init._calculate_fan_in_and_fan_out(tensor))
    assert xavier_std(fan_in, fan_out) == pytest.approx(math.sqrt(2 / both))


@pytest.mark.parametrize(("fan_in", "fan_out"), [(400, 100), (100, 400), (784, 128)])
def test_weights_are_distributed_like_those_of_torch(fan_in: int, fan_out: int) -> None:
    theirs = {
        "xavier": lambda w: nn.init.xavier_normal_(w),
        "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
        "default": lambda w: nn.init.uniform_(w, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in)),
    }
    formulas = {"xavier": xavier_std(fan_in, fan_out), "he": he_std(fan_in), "default": default_std(fan_in)}
    for init in INITIALIZATIONS:
        torch.manual_seed(1)
        ours = mlp([fan_in, fan_out], init=init)[1].weight.detach()
        torch.manual_seed(2)
        reference = theirs[init](torch.empty(fan_out, fan_in))
        assert ours.std().item() == pytest.approx(formulas[init], rel=0.02)
        ranks = torch.linspace(0.05, 0.95, 31)  # the whole distribution, not its width alone
        apart = (ours.flatten().quantile(ranks) - reference.flatten().quantile(ranks)).abs().max().item()
        assert apart < 0.05 * formulas[init], init


@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_computes_what_its_layers_say(activation: str, init: str) -> None:
    net = mlp([12, 7, 5, 3], activation=activation, init=init)
    x = torch.randn(4, 1, 3, 4)
    h = x.flatten(1)
    f = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu}[activation]
    weights = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer in weights[:-1]:
        h = f(F.linear(h, layer.weight, layer.bias))
    torch.testing.assert_close(net(x), F.linear(h, weights[-1].weight, weights[-1].bias))
    assert [layer.weight.shape[::-1] for layer in weights] == [(12, 7), (7, 5), (5, 3)]
    assert all(bool(layer.bias.any()) == (init == "default") for layer in weights)


def test_default_leaves_torch_as_it_is() -> None:
    torch.manual_seed(3)
    ours = mlp([9, 4, 2])
    torch.manual_seed(3)
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_norms_equal_those_of_backward(activation: str) -> None:
    net = mlp([6, 8, 7, 5], activation=activation, init="he").double()
    x, y = torch.randn(9, 6).double().requires_grad_(), torch.randint(5, (9,))
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_full_backward_hook(lambda module, before, after: seen.append(after[0]))
        for layer in net
        if isinstance(layer, nn.Linear)
    ]
    F.cross_entropy(net(x), y).backward()
    for hook in hooks:
        hook.remove()
    expected = [gradient.norm().item() for gradient in reversed(seen)]
    assert gradient_norms(net, x, y) == pytest.approx(expected)
    last = (F.softmax(net(x), 1) - F.one_hot(y, 5)) / len(x)  # the known gradient of the loss by the logits
    assert gradient_norms(net, x, y)[-1] == pytest.approx(last.norm().item())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.ELU])
def test_gradient_norms_are_by_the_sums_also_where_activations_work_in_place(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 5)]
    x, y = torch.randn(9, 6), torch.randint(5, (9,))
    apart, in_place = (
        nn.Sequential(*(part for layer in layers for part in (layer, activation(inplace=inplace))))[:-1]
        for inplace in (False, True)
    )
    assert gradient_norms(in_place, x, y) == pytest.approx(gradient_norms(apart, x, y), rel=1e-5)


def test_tiny_gradients_are_not_lost() -> None:
    torch.manual_seed(0)
    deep = mlp([20] + [100] * 30 + [5], activation="sigmoid")
    norms = gradient_norms(deep, torch.rand(8, 20), torch.arange(8) % 5)
    assert 0 < norms[0] < 1e-22  # the squares underflow in float32
    ratio = (norms[0] / norms[-2]) ** (1 / 29)
    assert ratio == pytest.approx(0.25 * default_std(100) * 10, rel=0.1)  # slope 1/4 at most, times sqrt(n) std


@given(st.sampled_from(["xavier", "he"]), st.integers(2, 4))
@settings(max_examples=10, deadline=None)
def test_parameter_count(init: str, layers: int) -> None:
    widths = list(range(5, 5 + layers))
    count = sum(p.numel() for p in mlp(widths, init=init).parameters())
    assert count == sum((a + 1) * b for a, b in itertools.pairwise(widths))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"expected at least two widths, inputs and outputs, got \[784\]"):
        mlp([784])
    with pytest.raises(ValueError, match="expected an activation among sigmoid, tanh, relu, got 'gelu'"):
        mlp([4, 2], activation="gelu")
    with pytest.raises(ValueError, match="expected an initialization among default, xavier, he, got 'lecun'"):
        mlp([4, 2], init="lecun")
    for widths in ([784, 0], [784, 0, 3], [784, -1, 3]):
        with pytest.raises(ValueError, match=r"expected at least one input and one output, got .*; use a positive int"):
            mlp(widths)
    for widths, what in (([4, 1.5], "1.5"), (["a", "b"], "'a'"), ([4, None], "None")):
        with pytest.raises(TypeError, match=f"expected each width as a whole number, got {what}"):
            mlp(widths)  # type: ignore[arg-type]
    for widths in (None, 5, "43"):
        with pytest.raises(TypeError, match="expected widths as a list of ints, got"):
            mlp(widths)  # type: ignore[arg-type]
    for fan in (math.nan, 1.5, "a", None):
        with pytest.raises(TypeError, match="expected fan_in as a whole number, got"):
            he_std(fan)  # type: ignore[arg-type]
    for call in (lambda: he_std(0), lambda: xavier_std(3, 0), lambda: default_std(-1)):
        with pytest.raises(ValueError, match="expected at least one input and one output"):
            call()


def test_gradient_norms_refuses_what_it_would_count_wrongly() -> None:
    x, y = torch.randn(5, 4), torch.arange(5) % 3
    nested = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="expected single layers in a row, got a Sequential that holds others; unpack"):
        gradient_norms(nested, x, y)
    with pytest.raises(ValueError, match="expected at least one nn.Linear"):
        gradient_norms(nn.Sequential(nn.ReLU()), x, y)
    with pytest.raises(TypeError, match="expected layers in an nn.Sequential, got Linear"):
        gradient_norms(nn.Linear(4, 3), x, y)  # type: ignore[arg-type]
    for images, labels in ((x[:0], y[:0]), (x, y[:3])):
        with pytest.raises(ValueError, match=r"expected images and one label for each, got \d and \d"):
            gradient_norms(mlp([4, 3]), images, labels)
    with pytest.raises(TypeError, match="images with floating-point numbers, got torch.int64"):
        gradient_norms(mlp([4, 3]), x.long(), y)
