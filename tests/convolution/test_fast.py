"""The fast convolutions against torch: values, gradients, shapes, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvbook.convolution import conv2d
from cvbook.convolution.fast import col2im, conv2d_fft, conv2d_im2col, conv2d_winograd, fast_length, im2col

CHEAP = settings(max_examples=60, deadline=None, derandomize=True)
MODES = ("zeros", "reflect", "replicate", "circular")


@st.composite
def geometries(draw: Any, kernel: int | None = None) -> dict[str, Any]:
    """Shapes and settings for which at least one window fits; height and width differ."""
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    size = (kernel, kernel) if kernel else pair(1, 4)
    stride, dilation = pair(1, 3), pair(1, 3)
    image = tuple(d * (k - 1) + 1 + draw(st.integers(0, 6)) for k, d in zip(size, dilation, strict=True))
    groups = draw(st.integers(1, 3))
    padding = pair(0, 2)
    fits = max(padding) < min(image)
    return {
        "x": (draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), *image),
        "kernel": size,
        "out": groups * draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "mode": draw(st.sampled_from(MODES)) if fits else "zeros",
        "settings": {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    }


def tensors(case: dict[str, Any]) -> list[Tensor | None]:
    torch.manual_seed(0)
    per_group = case["x"][1] // case["settings"]["groups"]
    shapes = [case["x"], (case["out"], per_group, *case["kernel"]), (case["out"],)]
    made: list[Tensor | None] = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return made if case["bias"] else [*made[:2], None]


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, mode: str, padding: Any, **rest: Any) -> Tensor:
    if mode == "zeros":
        return F.conv2d(x, weight, bias, padding=padding, **rest)
    return F.conv2d(F.pad(x, (padding[1],) * 2 + (padding[0],) * 2, mode=mode), weight, bias, **rest)


def assert_same(ours: Tensor, theirs: Tensor, inputs: list[Tensor | None]) -> None:
    """Equal values and equal gradients for the same random cotangent."""
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)
    leaves = [leaf for leaf in inputs if leaf is not None]
    cotangent = torch.randn_like(theirs)
    expected = torch.autograd.grad(theirs, leaves, cotangent)
    for got, want in zip(torch.autograd.grad(ours, leaves, cotangent), expected, strict=True):
        assert torch.allclose(got, want, rtol=0, atol=1e-10)


@CHEAP
@given(geometries())
@pytest.mark.parametrize("convolve", [conv2d_im2col, conv2d_fft])
def test_equals_torch_for_any_geometry(convolve: Callable[..., Tensor], case: dict[str, Any]) -> None:
    inputs = tensors(case)
    ours = convolve(*inputs, padding_mode=case["mode"], **case["settings"])
    assert_same(ours, reference(*inputs, case["mode"], **case["settings"]), inputs)


@CHEAP
@given(geometries(kernel=3))
def test_winograd_equals_torch(case: dict[str, Any]) -> None:
    inputs = tensors(case)
    settings = {key: case["settings"][key] for key in ("padding", "groups")}
    ours = conv2d_winograd(*inputs, padding_mode=case["mode"], **settings)
    assert_same(ours, reference(*inputs, case["mode"], **settings), inputs)


@CHEAP
@given(geometries())
def test_im2col_and_col2im_equal_unfold_and_fold_and_are_adjoint(case: dict[str, Any]) -> None:
    x = tensors(case)[0]
    assert x is not None
    plain = {key: case["settings"][key] for key in ("stride", "padding", "dilation")}
    columns = im2col(x, case["kernel"], **plain)
    assert torch.equal(columns, F.unfold(x, case["kernel"], **plain))
    other = torch.randn_like(columns)
    back = col2im(other, case["x"][2:], case["kernel"], **plain)
    assert torch.allclose(back, F.fold(other, case["x"][2:], case["kernel"], **plain), rtol=0, atol=1e-12)
    left, right = (columns * other).sum().item(), (x * back).sum().item()
    assert math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    (gradient,) = torch.autograd.grad(columns, x, other)
    assert torch.allclose(gradient, back, rtol=0, atol=1e-12)


def test_col2im_is_differentiable() -> None:
    columns = torch.randn(2, 8, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: col2im(c, (3, 4), 2), (columns,))


@pytest.mark.parametrize("convolve", [conv2d_im2col, conv2d_fft, conv2d_winograd])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype_and_takes_an_empty_batch(convolve: Callable[..., Tensor], dtype: torch.dtype) -> None:
    x, weight = torch.rand(2, 3, 7, 8).to(dtype), torch.rand(4, 3, 3, 3).to(dtype) / 27
    y = convolve(x, weight, padding=1)
    assert y.dtype == dtype
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    tolerance = 1e-6 if dtype in (torch.float32, torch.float64) else 0.05
    assert torch.allclose(y.double(), exact, rtol=0, atol=tolerance)
    empty = convolve(x[:0], weight.requires_grad_(), padding=1)
    assert empty.shape == (0, 4, 7, 8)
    (gradient,) = torch.autograd.grad(empty.sum(), weight)
    assert torch.equal(gradient, torch.zeros_like(weight))


@pytest.mark.parametrize("convolve", [conv2d_im2col, conv2d_fft, conv2d_winograd])
def test_errors_are_one_sentence(convolve: Callable[..., Tensor]) -> None:
    x, weight = torch.zeros(1, 2, 5, 5), torch.zeros(3, 2, 3, 3)
    with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\)"):
        convolve(x[0], weight)
    with pytest.raises(ValueError, match="2 input channels"):
        convolve(x, weight[:, :1])
    with pytest.raises(ValueError, match="expected bias"):
        convolve(x, weight, torch.zeros(2))
    with pytest.raises(ValueError, match="fits into the padded input"):
        convolve(x[..., :2], weight)
    with pytest.raises(ValueError, match="padding_mode"):
        convolve(x, weight, padding_mode="mirror")
    with pytest.raises(TypeError, match="floating dtype"):
        convolve(x.long(), weight)


def test_winograd_refuses_other_kernels() -> None:
    with pytest.raises(ValueError, match=r"expected a 3x3 kernel for F\(2x2, 3x3\), got 5x3; use conv2d_im2col"):
        conv2d_winograd(torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 5, 3))


def test_errors_of_im2col_and_col2im() -> None:
    with pytest.raises(ValueError, match=r"expected x \(B, C, H, W\), got \(5, 5\)"):
        im2col(torch.zeros(5, 5), 3)
    with pytest.raises(ValueError, match="fits into the padded input"):
        im2col(torch.zeros(1, 1, 5, 5), 6)
    with pytest.raises(ValueError, match="stride"):
        im2col(torch.zeros(1, 1, 5, 5), 3, stride=0)
    with pytest.raises(ValueError, match=r"expected columns \(B, C\*4, 9\) for an image of 4x4, got \(1, 4, 8\)"):
        col2im(torch.zeros(1, 4, 8), (4, 4), 2)
    with pytest.raises(ValueError, match="expected columns"):
        col2im(torch.zeros(1, 5, 9), (4, 4), 2)
    with pytest.raises(ValueError, match="expected columns"):
        col2im(torch.zeros(4, 9), (4, 4), 2)


def test_what_is_no_tensor_or_integer() -> None:
    with pytest.raises(TypeError, match="expected x to be a tensor, got ndarray"):
        im2col(np.zeros((1, 1, 5, 5)), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected columns to be a tensor, got ndarray"):
        col2im(np.zeros((1, 4, 9)), (4, 4), 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected kernel_size to be an integer or a pair"):
        im2col(torch.zeros(1, 1, 5, 5), "3")  # type: ignore[arg-type]
    for length in ("7", 7.0, None):
        with pytest.raises(TypeError, match="expected length to be an integer"):
            fast_length(length)  # type: ignore[arg-type]


@pytest.mark.parametrize("convolve", [conv2d, conv2d_im2col, conv2d_fft, conv2d_winograd])
def test_groups_may_be_any_integer(convolve: Callable[..., Tensor]) -> None:
    x, weight = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3)
    for groups in (True, np.int64(1), torch.tensor(1)):
        assert torch.allclose(convolve(x, weight, groups=groups), F.conv2d(x, weight), atol=1e-5)


def test_fast_length_is_the_least_smooth_length() -> None:
    powers = [2**a * 3**b * 5**c for a in range(10) for b in range(7) for c in range(5)]
    for length in range(1, 400):
        assert fast_length(length) == min(n for n in powers if n >= length)
    with pytest.raises(ValueError, match="length >= 1"):
        fast_length(0)
