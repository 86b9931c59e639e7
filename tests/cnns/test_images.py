"""The check of images: what it refuses, what it advises, and that following the advice helps."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from cvbook.cnns import lenet5, resnet18
from cvbook.cnns.images import check_counts, check_images, check_stages
from cvbook.convolution import receptive_field


@pytest.mark.parametrize(
    ("x", "channels", "advice"),
    [
        (torch.zeros(40, 40), 1, "x[None, None]"),
        (torch.zeros(40, 50), 3, "x.expand(1, 3, -1, -1)"),
        (torch.zeros(40, 50, 3), 3, "x.permute(2, 0, 1)[None]"),
        (torch.zeros(3, 40, 40), 3, "x[None]"),
        (torch.zeros(1, 40, 40), 1, "x[None]"),
        (torch.zeros(16, 40, 40), 1, "x[:, None]"),
        (torch.zeros(2, 40, 40, 3), 3, "x.permute(0, 3, 1, 2)"),
    ],
)
def test_following_the_advice_helps(x: Tensor, channels: int, advice: str) -> None:
    shape = tuple(x.shape)
    with pytest.raises(ValueError) as refused:
        check_images(x, channels, 32)
    message = str(refused.value)
    assert message.startswith(f"expected images (B, {channels}, H, W), got {shape}; ")
    assert message.endswith(": " + advice)
    check_images(eval(advice, {"x": x}), channels, 32)


def test_wrong_channels_name_the_option() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 1, 40, 40\); or build the network with in_channels=1$"):
        check_images(torch.zeros(2, 1, 40, 40), 3, 32)


@pytest.mark.parametrize("shape", [(), (40,), (2, 40, 40), (2, 3, 4, 40, 40), (2, 0, 40, 40)])
def test_other_shapes_are_told_what_the_axes_are(shape: tuple[int, ...]) -> None:
    message = f"expected images (B, 3, H, W), got {shape}; bring them into four axes: images, channels, rows, columns"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_images(torch.zeros(shape), 3, 32)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one image, got an empty batch \(0, 3, 40, 40\); leave"):
        check_images(torch.zeros(0, 3, 40, 40), 3, 32)


@pytest.mark.parametrize(("height", "width"), [(31, 40), (40, 31)])
def test_too_small(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=rf"at least 32x32 pixels, got {height}x{width}"):
        check_images(torch.zeros(1, 3, height, width), 3, 32)
    with pytest.raises(ValueError, match=rf"at most 31x31 pixels, got {height}x{width}"):
        check_images(torch.zeros(1, 3, height, width), 3, 1, largest=31)
    check_images(torch.zeros(1, 3, height, width), 3, 31, largest=40)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match=r"got torch.uint8; convert with x.float\(\) / 255"):
        check_images(torch.zeros(1, 3, 40, 40, dtype=torch.uint8), 3, 1)
    with pytest.raises(TypeError, match=r"as a torch tensor, got ndarray; convert with torch.as_tensor"):
        check_images(np.zeros((1, 3, 40, 40)), 3, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"type torch.float32, got torch.float64; convert with x.to\(torch.float32\)"):
        resnet18()(torch.zeros(1, 3, 40, 40, dtype=torch.float64))
    check_images(torch.zeros(1, 3, 40, 40, dtype=torch.float64), 3, 1)  # nothing asked of it


@pytest.mark.parametrize("name", ["num_classes", "in_channels"])
@pytest.mark.parametrize("bad", ["10", 2.5, None, True, 0, -1])
def test_counts_are_whole_numbers_from_one_on(name: str, bad: object) -> None:
    error, message = (ValueError, f">= 1, got {bad}") if bad in (0, -1) else (TypeError, "as a whole number, got ")
    with pytest.raises(error, match=f"expected {name} {message}"):
        check_counts(**{name: bad})  # type: ignore[arg-type]
    check_counts(num_classes=1, in_channels=np.int64(3))


def test_stages_need_a_depth_and_a_width_each() -> None:
    check_stages([1, 2], (8, 16))
    for depths, widths in (((), ()), ((1,), (8, 16)), ((1, 1), (8,))):
        with pytest.raises(ValueError, match="expected a width for each depth, got depths"):
            check_stages(depths, widths)
    with pytest.raises(ValueError, match="expected depth >= 1, got 0"):
        check_stages((1, 0), (8, 8))
    with pytest.raises(TypeError, match="expected width as a whole number, got 8.0"):
        check_stages((1,), (8.0,))  # type: ignore[arg-type]


def test_autocast_converts_by_itself() -> None:
    model, x = lenet5().eval(), torch.rand(2, 1, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
        assert expected.dtype == torch.bfloat16
        assert torch.equal(model(x.bfloat16()), expected)
    with pytest.raises(TypeError, match="got torch.bfloat16"):
        model(x.bfloat16())


def test_compiles_into_one_graph() -> None:
    model, x = lenet5().eval(), torch.rand(2, 1, 28, 28)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), model(x))
    torch.compiler.reset()


def test_lets_the_receptive_field_through() -> None:
    for model in (resnet18(), resnet18().double()):
        assert receptive_field(model).whole_image
        assert receptive_field(model.stages[0]).size == (9, 9)  # two blocks of two 3x3 convolutions
