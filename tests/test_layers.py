"""Every layer against torch.nn.functional in float64, values and gradients, and the edges of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvbook import layers

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def agree(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """The same values, and the same gradient of one random linear function of them."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours(a), theirs(b)
    assert y.shape == z.shape
    torch.testing.assert_close(y, z, rtol=1e-10, atol=1e-10)
    direction = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    (y * direction).sum().backward()
    (z * direction).sum().backward()
    assert a.grad is not None
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-10)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


sizes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(4, 11), st.integers(4, 11))


@QUICK
@given(sizes, st.integers(1, 4), st.integers(1, 5), st.integers(0, 2))
def test_pooling_equals_torch(shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> None:
    x, padding = normal(*shape), min(padding, kernel // 2)
    agree(
        lambda t: layers.max_pool2d(t, kernel, stride=stride, padding=padding),
        lambda t: F.max_pool2d(t, kernel, stride, padding),
        x,
    )
    agree(lambda t: layers.avg_pool2d(t, kernel, stride=stride), lambda t: F.avg_pool2d(t, kernel, stride), x)


@QUICK
@given(sizes, st.integers(1, 13))
def test_adaptive_and_global_pooling_equal_torch(shape: tuple[int, ...], size: int) -> None:
    x = normal(*shape)
    agree(lambda t: layers.adaptive_avg_pool2d(t, size), lambda t: F.adaptive_avg_pool2d(t, size), x)
    agree(layers.global_avg_pool, lambda t: F.adaptive_avg_pool2d(t, 1).flatten(1), x)


def test_stride_defaults_to_the_kernel() -> None:
    x = normal(1, 2, 7, 7)
    assert layers.max_pool2d(x, 3).shape == layers.avg_pool2d(x, 3).shape == (1, 2, 2, 2)


def test_of_equal_values_the_first_gets_the_gradient() -> None:
    agree(lambda t: layers.max_pool2d(t, 2), lambda t: F.max_pool2d(t, 2), torch.zeros(1, 1, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (2, 3, 1, 1), (8, 3), (1, 3, 2, 2)])
@pytest.mark.parametrize("momentum", [0.1, 0.9, 0.0, 1.0])
def test_batch_norm_equals_torch(shape: tuple[int, ...], momentum: float) -> None:
    x, weight, bias = 3 * normal(*shape) + 5, normal(3, seed=1), normal(3, seed=2)
    ours, theirs = [(torch.zeros(3).double(), torch.ones(3).double()) for _ in range(2)]
    for training in (True, True, False):  # two steps move the running statistics twice, then they are used
        agree(
            lambda t, on=training: layers.batch_norm(t, *ours, weight, bias, training=on, momentum=momentum),
            lambda t, on=training: F.batch_norm(t, *theirs, weight, bias, on, momentum),
            x,
        )
        torch.testing.assert_close(ours, theirs)


def test_batch_norm_parameter_gradients() -> None:
    x = normal(4, 3, 5, 6)
    grads = []
    for function in (
        lambda t, w, b: layers.batch_norm(t, torch.zeros(3).double(), torch.ones(3).double(), w, b, training=True),
        lambda t, w, b: F.batch_norm(t, None, None, w, b, True),
    ):
        weight, bias = normal(3, seed=1).requires_grad_(), normal(3, seed=2).requires_grad_()
        function(x, weight, bias).square().sum().backward()
        grads.append((weight.grad, bias.grad))
    torch.testing.assert_close(*grads)


def test_running_statistics_keep_their_dtype() -> None:
    mean, var = torch.zeros(3), torch.ones(3)
    layers.batch_norm(normal(4, 3, 2, 2), mean, var, normal(3), normal(3), training=True)
    assert mean.dtype == var.dtype == torch.float32


@pytest.mark.parametrize(("shape", "tail"), [((2, 3, 4, 5), (3, 4, 5)), ((2, 7, 8), (8,)), ((3, 4), (3, 4))])
def test_layer_norm_equals_torch(shape: tuple[int, ...], tail: tuple[int, ...]) -> None:
    weight, bias = normal(*tail, seed=1), normal(*tail, seed=2)
    x = 4 * normal(*shape) - 2
    agree(lambda t: layers.layer_norm(t, tail), lambda t: F.layer_norm(t, tail), x)
    agree(lambda t: layers.layer_norm(t, tail, weight, bias), lambda t: F.layer_norm(t, tail, weight, bias), x)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_equals_torch(groups: int) -> None:
    x, weight, bias = 4 * normal(2, 6, 3, 5) - 2, normal(6, seed=1), normal(6, seed=2)
    agree(lambda t: layers.group_norm(t, groups), lambda t: F.group_norm(t, groups), x)
    agree(lambda t: layers.group_norm(t, groups, weight, bias), lambda t: F.group_norm(t, groups, weight, bias), x)


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_local_response_norm_is_the_papers(size: int) -> None:
    x = 3 * normal(2, 6, 3, 4)
    agree(
        lambda t: layers.local_response_norm(t, size=size, alpha=0.1),
        lambda t: F.local_response_norm(t, size, alpha=0.1 * size, beta=0.75, k=2.0),
        x,
    )
    by_hand = torch.empty_like(x)
    for i in range(6):
        around = x[:, max(0, i - size // 2) : i + size // 2 + 1]
        by_hand[:, i] = x[:, i] / (2 + 0.1 * (around**2).sum(1)) ** 0.75
    torch.testing.assert_close(layers.local_response_norm(x, size=size, alpha=0.1), by_hand)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_scales_what_it_keeps(p: float) -> None:
    x = normal(200, 50) + 3
    y = layers.dropout(x, p, training=True, generator=torch.Generator().manual_seed(0))
    kept = y != 0
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.02)
    torch.testing.assert_close(y[kept], (x / max(1 - p, 1e-9))[kept])
    assert layers.dropout(x, p, training=False) is x


def test_dropout_draws_as_torch_does_and_passes_the_gradient_of_what_it_keeps() -> None:
    x = normal(30, 40).requires_grad_()
    torch.manual_seed(3)
    ours = layers.dropout(x, 0.3, training=True)
    ours.sum().backward()
    torch.manual_seed(3)
    torch.testing.assert_close(ours, F.dropout(x, 0.3, True))
    torch.testing.assert_close(x.grad, torch.where(ours == 0, 0.0, 1 / 0.7).double())


IMAGES = torch.zeros(2, 4, 6, 6)
ONES = torch.ones(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.max_pool2d(torch.zeros(6, 6), 2), r"got \(6, 6\); add the missing axes: x\[None, None\]"),
        (lambda: layers.avg_pool2d(torch.zeros(1, 6, 6), 2), r"x\[None\]"),
        (lambda: layers.global_avg_pool(torch.zeros(6)), r"expected images \(B, C, H, W\), got \(6,\)$"),
        (lambda: layers.max_pool2d(IMAGES, 2, padding=2), r"padding in 0..1 \(half the kernel\), got 2"),
        (lambda: layers.max_pool2d(IMAGES, 0), "kernel and stride >= 1, got 0 and 0"),
        (lambda: layers.avg_pool2d(IMAGES, 2, stride=0), "kernel and stride >= 1, got 2 and 0"),
        (lambda: layers.avg_pool2d(IMAGES, 7), "at least 7x7"),
        (lambda: layers.adaptive_avg_pool2d(IMAGES, 0), "size >= 1, got 0"),
        (lambda: layers.batch_norm(IMAGES[0], ONES, ONES, ONES, ONES, training=True), r"\(B, C\), got \(4, 6, 6\)"),
        (lambda: layers.batch_norm(IMAGES, ONES[:3], ONES, ONES, ONES, training=True), r"running_mean of shape \(4,\)"),
        (lambda: layers.batch_norm(IMAGES, ONES, ONES, ONES[:3], ONES, training=True), r"weight of shape \(4,\)"),
        (lambda: layers.batch_norm(torch.zeros(1, 4), ONES, ONES, ONES, ONES, training=True), "use eval"),
        (lambda: layers.layer_norm(IMAGES, (4,)), r"ends in \(4,\), got \(2, 4, 6, 6\)"),
        (lambda: layers.layer_norm(IMAGES, ()), "ends in"),
        (lambda: layers.layer_norm(IMAGES, (6,), bias=ONES), r"bias of shape \(6,\)"),
        (lambda: layers.group_norm(IMAGES, 3), "divide the 4 channels, got 3"),
        (lambda: layers.local_response_norm(IMAGES, size=4), "odd size"),
        (lambda: layers.dropout(IMAGES, 1.5, training=True), r"\[0, 1\], got 1.5"),
    ],
)
def test_values_that_do_not_fit_are_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.max_pool2d([[1.0]], 2), "expected a torch tensor, got list"),
        (lambda: layers.dropout(3.0, 0.5, training=True), "got float"),
        (lambda: layers.layer_norm(torch.ones(3, dtype=torch.uint8), (3,)), r"torch.uint8; convert with x.float\(\)"),
    ],
)
def test_other_kinds_are_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.global_avg_pool(torch.zeros(1, 2, 0, 3)), "at least one pixel"),
        (lambda: layers.adaptive_avg_pool2d(torch.zeros(1, 2, 3, 0), 2), "at least one pixel"),
        (lambda: layers.batch_norm(IMAGES, ONES, ONES, ONES, ONES, training=False, eps=-1), "eps >= 0, got -1"),
        (lambda: layers.layer_norm(IMAGES, (6,), eps=float("nan")), "eps >= 0, got nan"),
        (lambda: layers.group_norm(IMAGES, 2, eps=-1e-5), "eps >= 0"),
        (lambda: layers.batch_norm(IMAGES, ONES, ONES, ONES, ONES, training=True, momentum=2), r"\[0, 1\], got 2"),
        (lambda: layers.batch_norm(torch.zeros(2, 0), *[torch.zeros(0)] * 4, training=True), "more than one value"),
        (lambda: layers.max_pool2d(IMAGES, -3), "kernel and stride >= 1"),
    ],
)
def test_what_would_give_nan_is_refused(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.max_pool2d(IMAGES, 2.0), r"kernel as a whole number, got 2.0; windows are square"),
        (lambda: layers.avg_pool2d(IMAGES, (2, 2)), r"kernel as a whole number, got \(2, 2\)"),
        (lambda: layers.avg_pool2d(IMAGES, 2, stride="2"), "stride as a whole number, got '2'"),
        (lambda: layers.max_pool2d(IMAGES, 2, padding=0.5), "padding as a whole number"),
        (lambda: layers.adaptive_avg_pool2d(IMAGES, (2, 2)), "size as a whole number"),
        (lambda: layers.group_norm(IMAGES, 2.0), "groups as a whole number"),
        (lambda: layers.local_response_norm(IMAGES, size="5"), "size as a whole number"),
        (lambda: layers.local_response_norm(IMAGES, alpha=None), "alpha as a number, got None"),
        (lambda: layers.dropout(IMAGES, "0.5", training=True), "p as a number, got '0.5'"),
        (lambda: layers.layer_norm(IMAGES, 6), r"normalized_shape as a tuple, such as \(8,\), got 6"),
        (lambda: layers.layer_norm(IMAGES, (6,), eps="small"), "eps as a number"),
        (lambda: layers.batch_norm(IMAGES, None, None, ONES, ONES, training=True), "running_mean as a torch tensor"),
        (lambda: layers.batch_norm(IMAGES, ONES.long(), ONES, ONES, ONES, training=True), "running_mean with floating"),
        (lambda: layers.batch_norm(IMAGES, ONES, ONES, ONES.numpy(), ONES, training=True), "weight as a torch tensor"),
        (lambda: layers.global_avg_pool(IMAGES.numpy()), "got ndarray; convert with torch.as_tensor"),
    ],
)
def test_settings_of_other_kinds_are_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("wrong", [{"weight": ONES[:3]}, {"bias": ONES[:3]}, {"eps": -1}, {"momentum": 1.5}])
def test_a_refused_batch_leaves_the_running_statistics_alone(wrong: dict) -> None:
    mean, var = torch.zeros(4), torch.ones(4)
    settings = {"weight": ONES, "bias": ONES, **wrong}
    with pytest.raises(ValueError):
        layers.batch_norm(IMAGES + 3, mean, var, training=True, **settings)
    assert torch.equal(mean, torch.zeros(4))
    assert torch.equal(var, torch.ones(4))


def test_whole_numbers_of_every_kind_are_sizes() -> None:
    assert layers.max_pool2d(IMAGES, np.int64(2), stride=torch.tensor(3)).shape == (2, 4, 2, 2)
