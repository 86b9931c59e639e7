"""The stored blocks against the summaries they come from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from cvbook import weights
from cvbook.cost import summary
from cvbook.recipes import architectures
from cvbook.recipes.architectures import NETWORKS, Part, browse, grouped


@pytest.mark.parametrize("name", NETWORKS)
def test_stored_totals_are_those_of_the_summary(name: str) -> None:
    network = NETWORKS[name]
    with torch.device("meta"):
        model = network.build()
    table, (entry,) = summary(model, network.shape), browse(name)
    blocks = entry["blocks"]
    assert blocks == grouped(model, network.shape, network.parts)
    assert len(blocks) == len(network.parts) <= 20
    assert sum(block[5] for block in blocks) == table.parameters == sum(p.numel() for p in model.parameters())
    assert sum(block[6] for block in blocks) == table.multiply_adds
    assert sum(block[7] for block in blocks) == sum(math.prod(r.output_shape) for r in table if r.multiply_adds)
    assert weights.card("architectures")["metrics"][name] == [table.parameters, table.multiply_adds]
    assert blocks[-1][2:5] == [table[-1].output_shape[-1], 1, 1]


def test_known_blocks() -> None:
    (lenet,) = browse("LeNet-5")
    assert [(b[0], b[2:5], b[8]) for b in lenet["blocks"]] == [
        ("C1", [6, 28, 28], 5), ("S2", [6, 14, 14], 6), ("C3", [16, 10, 10], 14), ("S4", [16, 5, 5], 16),
        ("C5", [120, 1, 1], 0), ("F6", [84, 1, 1], 0), ("output", [10, 1, 1], 0),
    ]  # fmt: skip
    (alexnet,) = browse("AlexNet (2012)")
    assert [b[8] for b in alexnet["blocks"]][:8] == [11, 19, 51, 67, 99, 131, 163, 195]
    (resnet,) = browse("ResNet-50")
    assert (resnet["blocks"][4][0], resnet["blocks"][4][2:5]) == ("block 2-1", [512, 28, 28])
    (inception,) = browse("GoogLeNet")
    assert inception["blocks"][2][2:5] == [256, 28, 28]  # what the branches make together
    assert inception["blocks"][2][1] == "4 × conv 1×1, conv 3×3, conv 5×5, max pooling 3×3"
    assert [entry["name"] for entry in browse()] == list(NETWORKS)


def test_maps_before_a_pooling_in_the_same_block() -> None:
    vgg, google, resnet = browse("VGG-16", "GoogLeNet", "ResNet-18")
    assert [(b[3], b[9]) for b in vgg["blocks"][:4]] == [(224, 224), (112, 224), (112, 112), (56, 112)]
    assert [(b[3], b[9]) for b in google["blocks"][:3]] == [(56, 112), (28, 56), (28, 28)]
    assert (resnet["blocks"][0][3], resnet["blocks"][0][9]) == (56, 112)
    for entry in browse():
        for block in entry["blocks"]:
            if block[1].startswith("conv") and "," not in block[1]:
                assert block[7] == block[2] * block[9] ** 2, block  # the activations of one convolution


def test_what_is_asked_wrongly() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(ValueError, match="got no parts"):
        grouped(model, (1, 8, 8), [])
    with pytest.raises(ValueError, match=r"got \['7'\]"):
        grouped(model, (1, 8, 8), [Part("conv", "0", "7")])
    with pytest.raises(ValueError, match="expected names among LeNet-5"):
        browse("Foo")
    grouped(model.train(), (1, 8, 8), [Part("conv", "0")])
    assert model.training
    assert model[0].training


def test_parts_out_of_order() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3))
    with pytest.raises(ValueError, match="expected a first part that starts at '0', got '1'"):
        grouped(model, (1, 8, 8), [Part("late", "1")])
    with pytest.raises(ValueError, match="in the order of execution, got '0' late"):
        grouped(model, (1, 8, 8), [Part("a", "0"), Part("b", "2"), Part("c", "0")])


def test_a_name_that_begins_like_another() -> None:
    """Row 10 does not start the part of row 1."""
    model = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(12)))
    blocks = grouped(model, (1, 4, 4), [Part("first", "0"), Part("rest", "1"), Part("last", "10")])
    assert [block[5] for block in blocks] == [2, 18, 4]


def test_tiny_run_stores_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = browse("LeNet-5")
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    architectures.main(names=("LeNet-5",))
    assert browse("LeNet-5") == stored
