"""The field of every layer at once against `receptive_field` of the network up to that layer."""

from __future__ import annotations

import math

import pytest
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvbook.cnns import lenet5
from cvbook.convolution import receptive_field
from cvbook.convolution.layerwise import layer_fields


@st.composite
def layers(draw: st.DrawFn) -> list[nn.Module]:
    made: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride, dilation = (draw(st.integers(1, 3)) for _ in range(3))
        padding = draw(st.integers(0, kernel // 2))
        if draw(st.booleans()):
            made.append(nn.Conv2d(2, 2, kernel, stride=stride, padding=padding, dilation=dilation))
        else:
            made.append(nn.MaxPool2d(kernel, stride=stride, padding=padding, ceil_mode=draw(st.booleans())))
    return made


@settings(max_examples=15, deadline=None)
@given(layers())
def test_each_layer_sees_what_the_network_up_to_it_sees(made: list[nn.Module]) -> None:
    fields = layer_fields(nn.Sequential(*made), (2, 64, 64))
    assert [name for name, _ in fields] == [*map(str, range(len(made))), ""]
    for i, (_, field) in enumerate(fields[:-1]):
        assert field == receptive_field(nn.Sequential(*made[: i + 1]), (2, 64, 64))
    assert fields[-1][1] == fields[-2][1]


def test_work_in_place_comes_later() -> None:
    """What a layer returned is measured, although the next step overwrites it."""

    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.wide = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 5, padding=2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.small(x)
            y += self.wide(x)
            return y

    fields = dict(layer_fields(InPlace(), (1, 16, 16)))
    assert (fields["small"].size, fields["wide"].size, fields[""].size) == ((1, 1), (5, 5), (5, 5))


def test_what_grows_with_the_image_and_what_is_no_map() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d((1, None)), nn.Flatten())
    fields = dict(layer_fields(model, (1, 9, 9)))
    assert fields["0"].size == (3, 3)
    assert fields["1"].size == (math.inf, 3)
    assert fields["2"] is None


def test_a_network_of_one_size_is_measured_there() -> None:
    fields = dict(layer_fields(lenet5(), (1, 32, 32)))
    assert fields["features.5"].size == (16, 16)
    assert fields["classifier.0"].whole_image


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="expected an nn.Module, got function"):
        layer_fields(F.relu, (1, 8, 8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"takes images \(1, 8, 8\), got: ValueError: expected images of at least 28"):
        layer_fields(lenet5(), (1, 8, 8))
    for shape in ((8, 8), (1, 1, 8, 8), (1, 0, 8)):
        with pytest.raises(ValueError, match=r"expected input_shape \(C, H, W\) of positive numbers, got "):
            layer_fields(lenet5(), shape)
    with pytest.raises(NotImplementedError, match="grid_sampler"):
        layer_fields(Sampled(), (1, 8, 8))


class Sampled(nn.Module):
    """Reads the image at places that could come from anywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return F.grid_sample(x, x.new_zeros(1, 4, 4, 2), align_corners=False)
