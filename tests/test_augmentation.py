"""Augmentations: each image becomes one of the pictures it may become, each about equally often, reproducibly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cvbook import augmentation

IMAGE = torch.arange(1.0, 3 * 5 * 5 + 1).view(3, 5, 5) / 100


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """A shift by loops over pixels."""
    result = torch.zeros_like(image)
    for i in range(5):
        for j in range(5):
            if 0 <= i - down < 5 and 0 <= j - right < 5:
                result[:, i, j] = image[:, i - down, j - right]
    return result


CASES: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
    "horizontal": (augmentation.horizontal_flip, [IMAGE, IMAGE.flip(2)]),
    "vertical": (augmentation.vertical_flip, [IMAGE, IMAGE.flip(1)]),
    "half turn": (augmentation.half_turn, [IMAGE, IMAGE.rot90(2, (1, 2))]),
    "quarter turns": (augmentation.quarter_turns, [IMAGE.rot90(n, (1, 2)) for n in range(4)]),
    "invert": (augmentation.invert, [IMAGE, 1 - IMAGE]),
    "shift": (augmentation.shift, [moved(IMAGE, a, b) for a in range(-2, 3) for b in range(-2, 3)]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_allowed_picture_comes_equally_often(name: str) -> None:
    function, allowed = CASES[name]
    n = 200 * len(allowed)
    batch = IMAGE.expand(n, -1, -1, -1)
    before = batch.clone()
    result = function(batch, torch.Generator().manual_seed(0))
    assert result.shape == batch.shape
    assert result.dtype == batch.dtype
    which = [[torch.equal(image, other) for other in allowed].index(True) for image in result]
    counts = Counter(which)
    assert min(counts[i] for i in range(len(allowed))) > 120, "some picture is too rare"
    assert torch.equal(batch, before), "the training images themselves must not change"


@pytest.mark.parametrize("name", CASES)
def test_the_generator_alone_decides(name: str) -> None:
    function, _ = CASES[name]
    batch = torch.rand(64, 3, 5, 5)
    a = function(batch, torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    assert torch.equal(a, function(batch, torch.Generator().manual_seed(1)))
    assert not torch.equal(a, function(batch, torch.Generator().manual_seed(2)))


def test_a_shift_by_at_most_nothing_is_nothing() -> None:
    batch = torch.rand(3, 1, 4, 6)
    assert torch.equal(augmentation.shift(batch, torch.Generator(), pixels=0), batch)


def test_images_need_not_be_square_except_for_quarter_turns() -> None:
    batch = torch.rand(8, 1, 4, 6)
    for function in (augmentation.horizontal_flip, augmentation.vertical_flip, augmentation.half_turn):
        assert function(batch, torch.Generator()).shape == batch.shape
    assert augmentation.shift(batch, torch.Generator()).shape == batch.shape
    with pytest.raises(ValueError, match="expected square images"):
        augmentation.quarter_turns(batch, torch.Generator())


@pytest.mark.parametrize("name", CASES)
def test_errors_say_what_to_do(name: str) -> None:
    function, _ = CASES[name]
    with pytest.raises(ValueError, match=r"for one image use image\[None\]"):
        function(IMAGE, torch.Generator())
    with pytest.raises(TypeError, match=r"make one: torch.Generator\(\)"):
        function(IMAGE[None], 3)
    with pytest.raises(TypeError, match="tensor of images, got list"):
        function([[1.0]], torch.Generator())


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="pixels >= 0, got -1"):
        augmentation.shift(IMAGE[None], torch.Generator(), pixels=-1)


@pytest.mark.parametrize("pixels", [1.5, "2", (1, 1), None])
def test_a_shift_is_whole(pixels: object) -> None:
    with pytest.raises(TypeError, match="expected pixels as a whole number"):
        augmentation.shift(IMAGE[None], torch.Generator(), pixels=pixels)  # type: ignore[arg-type]


def test_invert_wants_images_between_zero_and_one() -> None:
    with pytest.raises(ValueError, match=r"images in \[0, 1\], got 0 to 255; .*/ 255"):
        augmentation.invert(torch.tensor([0.0, 255.0]).view(1, 1, 1, 2), torch.Generator())
    with pytest.raises(ValueError, match="got -1 to 1"):
        augmentation.invert(torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2), torch.Generator())
    with pytest.raises(TypeError, match=r"torch.uint8; use images.float\(\) / 255"):
        augmentation.invert(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.Generator())
    assert augmentation.invert(torch.zeros(0, 1, 2, 2), torch.Generator()).shape == (0, 1, 2, 2)
