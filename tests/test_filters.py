"""Our loops against PyTorch and SciPy, and the properties that the lesson claims of each kernel."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cvbook import filters

cheap = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def images_and_kernels(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    h, w = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    H, W = draw(st.integers(h, 7)), draw(st.integers(w, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return (
        torch.randn(H, W, dtype=torch.float64, generator=generator),
        torch.randn(h, w, dtype=torch.float64, generator=generator),
    )


@cheap
@given(images_and_kernels())
def test_correlate2d_equals_torch_and_scipy(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, kernel = case
    ours = filters.correlate2d(image, kernel)
    assert torch.allclose(ours, F.conv2d(image[None, None], kernel[None, None])[0, 0])
    assert torch.allclose(ours, torch.from_numpy(scipy.signal.correlate2d(image, kernel, mode="valid")))


@cheap
@given(images_and_kernels())
def test_convolve2d_equals_scipy(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, kernel = case
    expected = torch.from_numpy(scipy.signal.convolve2d(image, kernel, mode="valid"))
    assert torch.allclose(filters.convolve2d(image, kernel), expected)


def test_result_keeps_the_wider_type_and_gradients_flow() -> None:
    image = torch.rand(4, 4, requires_grad=True)
    out = filters.correlate2d(image, torch.rand(2, 2, dtype=torch.float64))
    assert out.dtype == torch.float64
    out.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_blurs_are_means_and_edges_ignore_flat_parts() -> None:
    kernels = filters.classic()
    flat = torch.full((5, 5), 0.3)
    for name in ("identity", "shift left", "box blur", "Gaussian blur", "sharpen", "emboss"):
        assert torch.allclose(filters.correlate2d(flat, kernels[name]), torch.tensor(0.3)), name
    for name in ("edge 4", "edge 8", "Sobel x", "Sobel y"):
        assert torch.allclose(filters.correlate2d(flat, kernels[name]), torch.tensor(0.0), atol=1e-6), name


def test_kernels_against_scipy_ndimage() -> None:
    image = torch.rand(9, 9, dtype=torch.float64)

    def inner(x: object) -> torch.Tensor:
        return torch.as_tensor(x)[1:-1, 1:-1]

    expected = {
        "edge 4": -scipy.ndimage.laplace(image),
        "Sobel x": scipy.ndimage.sobel(image, axis=1),
        "Sobel y": scipy.ndimage.sobel(image, axis=0),
        "box blur": scipy.ndimage.uniform_filter(image, 3),
    }
    for name, filtered in expected.items():
        ours = filters.correlate2d(image, filters.classic()[name].double())
        assert torch.allclose(ours, inner(filtered), atol=1e-6), name
    wide = filters.correlate2d(image, filters.gaussian(7, 1.0).double())
    assert torch.allclose(wide, torch.as_tensor(scipy.ndimage.gaussian_filter(image, 1.0, radius=3))[3:-3, 3:-3])


def test_edge8_is_the_box_subtracted() -> None:
    assert torch.allclose(filters.edge8(), 9 * (filters.identity() - filters.box()), atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(0, 1), (0, -1), (2, 0), (-1, 2), (0, 0)])
def test_shift_moves_the_picture(down: int, right: int) -> None:
    image = torch.rand(9, 9)
    kernel = filters.shift(down, right)
    m = kernel.shape[0] // 2
    moved = torch.roll(image, (down, right), (0, 1))
    assert torch.equal(filters.correlate2d(image, kernel), moved[m : 9 - m, m : 9 - m])


def test_kernels_are_fresh_each_time() -> None:
    filters.sobel_x().zero_()
    filters.classic()["box blur"].zero_()
    assert filters.sobel_x()[1, 2] == 2
    assert filters.classic()["box blur"].sum() > 0.9


@pytest.mark.parametrize("size", [0, -1, 2, 3.0])
def test_sizes_must_be_odd(size: int) -> None:
    for kernel in (filters.identity, filters.box, filters.gaussian):
        with pytest.raises(ValueError, match="an odd size >= 1"):
            kernel(size)


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), float("inf")])
def test_sigma_must_be_positive(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma > 0"):
        filters.gaussian(3, sigma)


def test_shift_wants_whole_pixels() -> None:
    with pytest.raises(TypeError, match="whole pixels"):
        filters.shift(0.5, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "kernel", "error", "says"),
    [
        ([[1.0]], torch.ones(1, 1), TypeError, "the image as a tensor, got list"),
        (torch.ones(3, 3, dtype=torch.uint8), torch.ones(1, 1), TypeError, "image.float()"),
        (torch.ones(3, 3), torch.ones(1, 1).int(), TypeError, "kernel.float()"),
        (torch.ones(1, 3, 3), torch.ones(1, 1), ValueError, "take one channel"),
        (torch.ones(3), torch.ones(1, 1), ValueError, r"not empty, got \(3,\)"),
        (torch.ones(3, 3), torch.ones(0, 2), ValueError, "not empty"),
        (torch.ones(3, 3), torch.ones(1, 4), ValueError, "fits into the image"),
        (torch.ones(3, 3), torch.ones(4, 1), ValueError, "fits into the image"),
    ],
)
def test_bad_inputs_are_named(image: object, kernel: torch.Tensor, error: type[Exception], says: str) -> None:
    for function in (filters.correlate2d, filters.convolve2d):
        with pytest.raises(error, match=says.replace("()", r"\(\)")):
            function(image, kernel)  # type: ignore[arg-type]


def test_numpy_integers_are_sizes_and_distances() -> None:
    three, one = np.int64(3), np.int64(1)
    for kernel in (filters.identity, filters.box, filters.gaussian):
        assert torch.equal(kernel(three), kernel(3))
    assert torch.equal(filters.shift(one, -one), filters.shift(1, -1))


def test_extreme_sigmas_are_the_limits() -> None:
    assert torch.equal(filters.gaussian(3, 1e-200), filters.identity(3))
    torch.testing.assert_close(filters.gaussian(3, 1e200), filters.box(3))


@pytest.mark.parametrize("sigma", ["1", None, (1.0, 1.0)])
def test_sigma_is_a_number(sigma: object) -> None:
    with pytest.raises(TypeError, match="expected sigma as a number"):
        filters.gaussian(3, sigma)  # type: ignore[arg-type]
