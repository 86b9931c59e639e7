"""Shifts, their error and blur pooling, each by a second route."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvbook.equivariance import (
    MODES,
    SHRINKS,
    ShiftNet,
    blur_kernel,
    blur_pool,
    equivariance_error,
    on_canvas,
    translate,
)

sizes, shifts = st.integers(1, 7), st.integers(-9, 9)
cheap = settings(max_examples=40, deadline=None, derandomize=True)


@cheap
@given(sizes, sizes, shifts, shifts)
def test_translate_equals_numpy_and_scipy(height: int, width: int, dy: int, dx: int) -> None:
    x = np.arange(1.0, height * width + 1).reshape(height, width)
    torus = translate(torch.from_numpy(x), dy, dx)
    np.testing.assert_array_equal(torus, np.roll(x, (dy, dx), (0, 1)))
    zeros = translate(torch.from_numpy(x), dy, dx, mode="zeros")
    np.testing.assert_array_equal(zeros, scipy.ndimage.shift(x, (dy, dx), order=0, cval=0.0))


@cheap
@given(shifts, shifts, shifts, shifts)
def test_shifts_of_the_torus_are_a_group(a: int, b: int, c: int, d: int) -> None:
    x = torch.arange(30).view(1, 5, 6)
    assert torch.equal(translate(translate(x, a, b), c, d), translate(x, a + c, b + d))
    assert torch.equal(translate(translate(x, a, b), -a, -b), x)


def test_translate_refuses() -> None:
    with pytest.raises(ValueError, match="add an axis"):
        translate(torch.zeros(3), 0, 1)
    with pytest.raises(ValueError, match="expected mode"):
        translate(torch.zeros(3, 3), 0, 1, mode="reflect")
    with pytest.raises(TypeError, match="whole pixels"):
        translate(torch.zeros(3, 3), 0, 0.5)  # type: ignore[arg-type]


def waves(height: int, width: int, dy: float = 0.0, dx: float = 0.0) -> Tensor:
    """Two sine waves on the torus, moved by any fraction of a pixel by their formula."""
    rows = (torch.arange(height, dtype=torch.float64)[:, None] - dy) * 2 * torch.pi / height
    columns = (torch.arange(width, dtype=torch.float64) - dx) * 2 * torch.pi / width
    return torch.sin(rows + 0.3) * torch.cos(2 * columns) + 0.5 * torch.cos(rows - columns)


@pytest.mark.parametrize("shift", [(1, 0), (0, 3), (-1, 5), (2, 4)])
def test_sampled_slow_waves_move_by_fractions_without_error(shift: tuple[int, int]) -> None:
    x = waves(16, 24)
    torch.testing.assert_close(translate(x, *shift), waves(16, 24, *shift))
    assert equivariance_error(lambda x: x[..., ::2, ::2], x, shift, stride=2) < 1e-14


def test_error_against_its_definition() -> None:
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3)

    def f(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1)

    expected = (f(x.roll(1, -1)) - f(x).roll(1, -1)).norm() / f(x).norm()
    assert equivariance_error(f, x, (0, 1)) == pytest.approx(expected.item())
    assert 0 < equivariance_error(f, x, (0, 1), mode="zeros") != pytest.approx(expected.item())
    assert equivariance_error(lambda x: 0 * x, x, (0, 1)) == 0


@cheap
@given(shifts, shifts, st.integers(1, 3))
def test_stride_commutes_with_its_multiples(a: int, b: int, stride: int) -> None:
    x = torch.rand(12, 12, generator=torch.Generator().manual_seed(1))
    assert equivariance_error(lambda x: x[::stride, ::stride], x, (stride * a, stride * b), stride=stride) == 0


def test_error_refuses() -> None:
    x = torch.randn(4, 4)
    with pytest.raises(ValueError, match="stride >= 1"):
        equivariance_error(torch.relu, x, (1, 0), stride=0)
    with pytest.raises(ValueError, match="return a map"):
        equivariance_error(torch.sum, x, (1, 0))
    with pytest.raises(ValueError, match="divisible by stride 2"):
        equivariance_error(lambda x: x[::2, ::2], x, (1, 0), stride=2, mode="zeros")


@pytest.mark.parametrize("width", range(1, 8))
def test_blur_kernel_is_repeated_averaging(width: int) -> None:
    kernel = torch.ones(1, 1)
    for _ in range(width - 1):
        kernel = F.conv2d(F.pad(kernel, (1, 1, 1, 1))[None, None], torch.full((1, 1, 2, 2), 0.25))[0, 0]
    torch.testing.assert_close(blur_kernel(width), kernel)


@pytest.mark.parametrize(
    ("padding_mode", "scipy_mode"), [("reflect", "mirror"), ("circular", "wrap"), ("zeros", "constant")]
)
@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_blur_pool_equals_scipy(padding_mode: str, scipy_mode: str, width: int, stride: int) -> None:
    x = torch.rand(2, 3, 9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = blur_pool(x, stride=stride, width=width, padding_mode=padding_mode)
    for image, channel in np.ndindex(2, 3):
        blurred = scipy.ndimage.correlate(
            x[image, channel].numpy(), blur_kernel(width).double().numpy(), mode=scipy_mode
        )
        np.testing.assert_allclose(got[image, channel], blurred[::stride, ::stride], atol=1e-12)


def test_blur_of_width_two_is_average_pooling() -> None:
    x = torch.rand(1, 2, 6, 8)
    torch.testing.assert_close(blur_pool(x, width=2), F.avg_pool2d(x, 2))


def test_blur_refuses() -> None:
    with pytest.raises(ValueError, match="add axes"):
        blur_pool(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="stride >= 1"):
        blur_pool(torch.zeros(1, 3, 8, 8), stride=0)
    with pytest.raises(ValueError, match="padding_mode"):
        blur_pool(torch.zeros(1, 3, 8, 8), padding_mode="wrap")
    with pytest.raises(ValueError, match="width >= 1"):
        blur_pool(torch.zeros(1, 3, 8, 8), width=0)


@pytest.mark.parametrize("shrink", SHRINKS)
def test_circular_shift_net_has_period_four(shrink: str) -> None:
    torch.manual_seed(0)
    net = ShiftNet(shrink, width=2).double().eval()
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        assert equivariance_error(net.features, x, (4, -8), stride=4) < 1e-14
        torch.testing.assert_close(net(translate(x, 4, 12)), net(x))
        assert (net(translate(x, 2, 2)) - net(x)).abs().max() > 1e-9
    assert net.features(x).shape == (2, 8, 4, 4)


def test_zero_padded_shift_net_does_not() -> None:
    torch.manual_seed(0)
    net = ShiftNet("blur", width=2, padding_mode="zeros").double().eval()
    x = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    assert equivariance_error(net.features, x, (4, 0), stride=4) > 1e-3


def test_variants_share_their_parameters() -> None:
    for padding_mode in MODES:
        state = ShiftNet("stride", padding_mode=padding_mode).state_dict()
        for shrink in SHRINKS:
            ShiftNet(shrink, padding_mode=padding_mode).load_state_dict(state)


@pytest.mark.parametrize("padding_mode", MODES)
def test_maxblur_is_max_pooling_at_stride_one_then_blur_pooling(padding_mode: str) -> None:
    torch.manual_seed(0)
    net = ShiftNet("maxblur", width=2, padding_mode=padding_mode).eval()
    x = torch.rand(2, 1, 16, 16)
    border = "circular" if padding_mode == "circular" else "reflect"
    y = x
    for i, (conv, norm) in enumerate(zip(net.convs, net.norms, strict=True)):
        y = F.relu(norm(conv(y)))
        if i < 2:
            y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), mode=border), 2, stride=1)
            y = blur_pool(y, padding_mode=border)
    torch.testing.assert_close(net.features(x), y)


def test_shift_net_refuses() -> None:
    with pytest.raises(ValueError, match="stride, max, blur"):
        ShiftNet("mean")
    with pytest.raises(ValueError, match="expected padding_mode"):
        ShiftNet("max", padding_mode="reflect")


def test_on_canvas_keeps_every_pixel_and_shifts_of_six() -> None:
    x = torch.rand(3, 1, 28, 28)
    canvas = on_canvas(x)
    torch.testing.assert_close(canvas[..., 6:34, 6:34], x)
    assert canvas.sum() == pytest.approx(x.sum().item(), rel=1e-5)
    for dy, dx in ((6, 6), (-6, 6)):
        assert torch.equal(translate(canvas, dy, dx, mode="zeros"), translate(canvas, dy, dx))
    assert on_canvas(x, size=31).shape == (3, 1, 31, 31)
    with pytest.raises(ValueError, match="enlarge size"):
        on_canvas(x, size=27)


@pytest.mark.parametrize("width", [31, 200, 1200])
def test_wide_blur_kernels_are_finite_and_sum_to_one(width: int) -> None:
    kernel = blur_kernel(width)
    assert kernel.isfinite().all()
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)


def test_numpy_integers_shift_and_set_sizes() -> None:
    x = torch.rand(1, 1, 4, 4)
    assert torch.equal(translate(x, np.int64(1), np.int64(-2), mode="zeros"), translate(x, 1, -2, mode="zeros"))
    assert torch.equal(blur_pool(x, stride=np.int64(2), width=np.int64(3)), blur_pool(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blur_pool(torch.ones(1, 1, 4, 4, dtype=torch.int64)), r"torch.int64; convert with x.float\(\)"),
        (lambda: blur_pool(np.ones((1, 1, 4, 4))), "got ndarray; convert with torch.as_tensor"),
        (lambda: blur_pool(torch.ones(1, 1, 4, 4), stride=2.0), "stride as a whole number, got 2.0"),
        (lambda: blur_pool(torch.ones(1, 1, 4, 4), width="3"), "width as a whole number, got '3'"),
        (lambda: blur_kernel(3.0), "width as a whole number, got 3.0"),
        (lambda: translate(np.ones((2, 2)), 0, 1), "got ndarray"),
        (lambda: translate(torch.ones(2, 2), (1, 1), 0), r"dy as a whole number, got \(1, 1\)"),
    ],
)
def test_other_kinds_are_named(call: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("padding_mode", "width", "least"),
    [("reflect", 3, 2), ("reflect", 5, 3), ("circular", 7, 3), ("zeros", 9, 1), ("reflect", 2, 2)],
)
def test_images_too_small_to_pad_are_named(padding_mode: str, width: int, least: int) -> None:
    """The bound is sharp: one pixel more passes."""
    x = torch.ones(1, 1, least, least)
    assert blur_pool(x, stride=1, width=width, padding_mode=padding_mode).shape == x.shape
    for small in (x[..., 1:, :], x[..., 1:], x[:, :0]):
        with pytest.raises(ValueError, match=f"at least {least}x{least} pixels for width {width}"):
            blur_pool(small, stride=1, width=width, padding_mode=padding_mode)
