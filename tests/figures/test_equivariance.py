"""The arithmetic of the equivariance figure against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.equivariance import blur_kernel, blur_pool, equivariance_error, translate

SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)[None, None] / 4


def feature_map(x: Tensor, shrink: str, stride: int, padding: str) -> Tensor:
    mode = "constant" if padding == "zeros" else "circular"
    dense = F.conv2d(F.pad(x[None, None], (1, 1, 1, 1), mode=mode), SOBEL).relu()
    if shrink == "max":
        return F.max_pool2d(dense, stride)[0, 0]
    if shrink == "stride":
        return dense[0, 0, ::stride, ::stride]
    for _ in range(stride.bit_length() - 1):  # once for stride 2, twice for stride 4
        dense = blur_pool(dense, padding_mode="reflect" if padding == "zeros" else padding)
    return dense[0, 0]


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (1, 0), (-3, 5), (8, -8)])
def test_translate_equals_roll(js: Callable[[str], Callable[..., Any]], image: Tensor, dy: int, dx: int) -> None:
    moved = js("equivariance")("translate", image.flatten().tolist(), 12, 16, dy, dx)
    assert moved == translate(image, dy, dx).flatten().tolist()


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("shrink", ["stride", "max", "blur"])
def test_feature_map_equals_torch(
    js: Callable[[str], Callable[..., Any]], image: Tensor, shrink: str, stride: int, padding: str
) -> None:
    got = js("equivariance")("featureMap", image.flatten().tolist(), 12, 16, shrink, stride, padding)
    expected = feature_map(image, shrink, stride, padding)
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64).view_as(expected), expected)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 7])
def test_blur_kernel_equals_python(js: Callable[[str], Callable[..., Any]], width: int) -> None:
    got = torch.tensor(js("equivariance")("blurKernel", width), dtype=torch.float32).view(width, width)
    torch.testing.assert_close(got, blur_kernel(width))


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize(
    ("shrink", "stride", "dy", "dx"),
    [("stride", 1, 3, -2), ("stride", 2, 2, 4), ("stride", 2, 1, 0), ("max", 2, -1, 3), ("blur", 4, 1, -6), ("max", 4, 8, 4)],  # noqa: E501
)  # fmt: skip
def test_error_equals_equivariance_error(
    js: Callable[[str], Callable[..., Any]], image: Tensor, shrink: str, stride: int, dy: int, dx: int, padding: str
) -> None:
    result = js("equivariance")("compare", image.flatten().tolist(), 12, 16, dy, dx, shrink, stride, padding)
    expected = equivariance_error(lambda x: feature_map(x, shrink, stride, padding), image, (dy, dx), stride=stride)
    assert result["error"] == pytest.approx(expected, abs=1e-12)
    assert result["whole"] == (dy % stride == 0 and dx % stride == 0)
    if padding == "circular" and result["whole"]:
        assert result["error"] == result["differing"] == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [(0, "0 % of the size of f(x)"), (0.1234, "12.3 % of the size of f(x)"), (2.508, "2.5 times the size of f(x)")],
)
def test_sizes_in_words(js: Callable[[str], Callable[..., Any]], error: float, words: str) -> None:
    assert js("equivariance")("ofSize", error) == words


def test_shifts_in_words(js: Callable[[str], Callable[..., Any]]) -> None:
    assert js("equivariance")("inWords", -1, 3) == "1 up, 3 right"
    assert js("equivariance")("inWords", 0, -0.5) == "0 down, 0.5 left"


def test_on_the_cat_blur_beats_max_and_max_beats_stride(js: Callable[[str], Callable[..., Any]]) -> None:
    """The order of the accuracy curves below the figure, at the shift where they differ most."""
    from cvbook.data import photograph

    cat = photograph("cat", size=64, grey=True).flatten().tolist()
    call = js("equivariance")
    error = {way: call("compare", cat, 64, 64, 0, 2, way, 4, "circular")["error"] for way in ("stride", "max", "blur")}
    assert error["blur"] < error["max"] < error["stride"]


def test_accuracy_repeats_with_the_period(js: Callable[[str], Callable[..., Any]]) -> None:
    grid = [[4 * row + column for column in range(4)] for row in range(4)]
    assert [js("equivariance")("accuracyAt", grid, -1, dx) for dx in (-5, 0, 3, 6)] == [15, 12, 15, 14]
