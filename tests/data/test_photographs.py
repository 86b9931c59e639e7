"""Photographs come as RGB tensors, whole or cut to a square."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvbook.data import PHOTOGRAPHS, photograph


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_photograph_is_a_color_image(name: str) -> None:
    image = photograph(name)
    assert image.dtype == torch.float32
    assert image.shape[0] == 3
    assert image.min() >= 0
    assert image.max() <= 1
    assert not torch.equal(image[0], image[2])
    assert photograph(name, size=32).shape == (3, 32, 32)


def test_grey_is_the_luma_of_the_colors() -> None:
    color, grey = photograph("coffee", size=40), photograph("coffee", size=40, grey=True)
    assert grey.shape == (1, 40, 40)
    torch.testing.assert_close(grey[0], 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="expected one of astronaut, cat.*got 'dog'"):
        photograph("dog")
    with pytest.raises(ValueError, match="expected size >= 1 or None, got 0"):
        photograph("cat", size=0)


@pytest.mark.parametrize("size", [64.0, "64", (64, 64)])
def test_a_size_is_one_whole_number(size: object) -> None:
    with pytest.raises(TypeError, match="expected size as a whole number, got .*; use one int"):
        photograph("cat", size=size)  # type: ignore[arg-type]


def test_a_numpy_integer_is_a_size() -> None:
    assert photograph("cat", size=np.int64(8)).shape == (3, 8, 8)
