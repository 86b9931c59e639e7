"""The summary against counts by hand, torch's counter, torchvision's metadata and the receptive field of prefixes."""

from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import Tensor, nn

import cvbook
from cvbook.cnns import alexnet, googlenet, lenet5, resnet18, resnet50
from cvbook.convolution import receptive_field
from cvbook.cost import Row, summary


def on_meta(builder: type[nn.Module] | object, **options: object) -> nn.Module:
    with torch.device("meta"):
        return builder(**options)  # type: ignore[operator]


def test_is_found_where_lessons_look_for_it() -> None:
    assert cvbook.summary is summary
    with pytest.raises(AttributeError, match="has no attribute 'costs'"):
        cvbook.costs  # noqa: B018


def test_lenet_by_hand() -> None:
    table = summary(lenet5(), (1, 28, 28))
    costs = {row.name: (row.parameters, row.multiply_adds) for row in table if row.parameters}
    assert costs == {
        "features.0": (156, 6 * 28 * 28 * 25),
        "features.3": (2_416, 16 * 10 * 10 * 6 * 25),
        "classifier.0": (48_120, 120 * 400),
        "classifier.2": (10_164, 84 * 120),
        "classifier.4": (850, 10 * 84),
    }
    assert [row.kind for row in table][:3] == ["Conv2d", "ReLU", "MaxPool2d"]
    assert [row.output_shape for row in table][:4] == [(1, 6, 28, 28), (1, 6, 28, 28), (1, 6, 14, 14), (1, 16, 10, 10)]
    sizes = [row.receptive_field for row in table]
    assert sizes[:6] == [(5, 5), (5, 5), (6, 6), (14, 14), (14, 14), (16, 16)]
    assert set(sizes[6:]) == {(math.inf, math.inf)}
    assert (table.parameters, table.multiply_adds) == (61_706, 416_520)


@pytest.mark.parametrize("build", [resnet50, googlenet], ids=lambda b: b.__name__)
def test_totals_are_torchvisions(build: type[nn.Module]) -> None:
    weights = tv.get_model_weights(build.__name__).DEFAULT
    table = summary(on_meta(build), (3, 224, 224))
    assert table.parameters == weights.meta["num_params"]
    assert table.multiply_adds / 1e9 == pytest.approx(weights.meta["_ops"], rel=0.001)


def test_fields_are_those_of_the_parts() -> None:
    """Each row of the first stages against `receptive_field` of the network up to there."""
    model = on_meta(resnet18)
    rows = {row.name: row.receptive_field for row in summary(model, (3, 224, 224))}
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    assert rows["maxpool"] == receptive_field(stem).size
    for i in range(4):
        until = nn.Sequential(stem, *model.stages[:i], model.stages[i][0])
        assert rows[f"stages.{i}.0.bn2"] == receptive_field(until).size
    assert (
        rows["stages.1.0.downsample.0"]
        == receptive_field(nn.Sequential(stem, model.stages[0], model.stages[1][0].downsample)).size
    )
    assert rows["avgpool"] == rows["fc"] == (math.inf, math.inf)


def test_a_field_the_border_cuts_off_is_not_known() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(*(nn.Conv2d(1, 1, 5, padding=2) for _ in range(3)))

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == (16, 16)
            return self.convs(x)

    rows = summary(Fixed(), (1, 16, 16))
    assert [row.receptive_field for row in rows] == [(5, 5), (9, 9), None]
    assert "?" in str(rows)


def test_nothing_changes_in_the_model() -> None:
    model = resnet18(num_classes=3)
    model.stages[1].eval()
    modes = [part.training for part in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    addresses = [p.data_ptr() for p in model.parameters()]
    summary(model, (3, 64, 64))
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    with pytest.raises(ValueError):
        summary(model, (1, 64, 64))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert [part.training for part in model.modules()] == modes


def test_a_batch_costs_as_many_times_as_much() -> None:
    one, five = (summary(lenet5(), shape) for shape in ((1, 1, 28, 28), (5, 1, 28, 28)))
    assert five.multiply_adds == 5 * one.multiply_adds
    assert five.parameters == one.parameters
    assert five[0].output_shape == (5, 6, 28, 28)
    assert [row.receptive_field for row in five] == [row.receptive_field for row in one]


def test_layers_called_twice_and_work_between_layers() -> None:
    """A shared layer counts its parameters once; a product of matrices and a bare parameter belong to their module."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
            self.scale = nn.Parameter(torch.ones(2, 1, 1))
            self.unused = nn.Linear(10, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.conv(x)) * self.scale
            return x @ x

    rows = summary(nn.Sequential(Odd(), nn.ReLU()), (2, 8, 8)).rows
    assert rows[:3] == (
        Row("0.conv", "Conv2d", (1, 2, 8, 8), 36, 2304, (3, 3)),
        Row("0.conv", "Conv2d", (1, 2, 8, 8), 0, 2304, (5, 5)),
        Row("0", "Odd", (1, 2, 8, 8), 2 + 110, 2 * 8**3, (math.inf, math.inf)),
    )
    assert rows[3].name == "1"


def test_parameters_inside_layers_that_torch_calls_by_function() -> None:
    attention = nn.MultiheadAttention(8, 2)

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention
            self.position = nn.Parameter(torch.zeros(16, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(2).transpose(1, 2) + self.position
            return self.attention(x, x, x, need_weights=True)[0]

    table = summary(Attend(), (8, 4, 4))
    assert table.parameters == 16 * 8 + sum(p.numel() for p in attention.parameters())
    assert [row.kind for row in table] == ["MultiheadAttention", "Attend"]
    assert table.multiply_adds > 16 * 4 * 8 * 8


def test_auxiliary_classifiers_that_do_not_run_still_have_parameters() -> None:
    model = on_meta(googlenet, aux=True)
    table = summary(model, (3, 64, 64))
    assert table.parameters == sum(p.numel() for p in model.parameters())
    assert (table[-1].name, table[-1].kind) == ("", "GoogLeNet")


def test_an_operation_without_a_rule_costs_the_fields_only() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.grid_sample(self.conv(x), x.new_zeros(1, 4, 4, 2), align_corners=False)

    (row,) = summary(Sorted(), (1, 8, 8))
    assert row == Row("conv", "Conv2d", (1, 2, 6, 6), 20, 648, None)


def test_prints_as_a_table() -> None:
    table = summary(on_meta(alexnet), (3, 224, 224))
    lines = str(table).splitlines()
    assert repr(table) == str(table)
    assert re.split(r"  +", lines[0]) == ["layer", "kind", "output", "parameters", "multiply-adds", "sees"]
    assert re.split(r"  +", lines[2]) == [
        "features.0", "Conv2d", "1 x 64 x 55 x 55", "23,296", "70,276,800", "11 x 11",
    ]  # fmt: skip
    assert lines[-1].split() == ["total", "61,100,840", "714,188,480"]
    assert lines[-3].endswith("whole image")
    html = table._repr_html_()
    assert html.count("<tr>") == len(table) + 2
    assert "70,276,800" in html
    assert "<script" not in html


def test_double_precision() -> None:
    assert summary(lenet5().double(), (1, 28, 28)).multiply_adds == 416_520


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="expected an nn.Module, got function"):
        summary(F.relu, (1, 8, 8))  # type: ignore[arg-type]
    for shape in ((8, 8), (1, 1, 1, 8, 8), (1, 0, 8)):
        with pytest.raises(ValueError, match=r"expected input_shape \(C, H, W\) or \(B, C, H, W\)"):
            summary(lenet5(), shape)
    for shape, got in ((None, "NoneType"), (28, "int"), ("1x28x28", "str"), (torch.zeros(1, 28, 28), "Tensor")):
        with pytest.raises(TypeError, match=rf"expected input_shape as a tuple \(C, H, W\), got {got}; "):
            summary(lenet5(), shape)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected each number of input_shape as a whole number, got 28\.0"):
        summary(lenet5(), (1, 28.0, 28))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"images \(1, 1, 8, 8\), got ValueError: expected images of at least 28"):
        summary(lenet5(), (1, 8, 8))
