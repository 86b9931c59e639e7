"""The recipe runs at tiny settings, and what it stored agrees with its card and with the networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cvbook import summary, weights
from cvbook.data import fashion_mnist
from cvbook.recipes import what_came_next as recipe
from cvbook.train import accuracy


def test_tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    two = {"gated": {"width": 8, "gated": True}, "small images": {"width": 8, "separable": True}}
    threads = torch.get_num_threads()
    recipe.main(n=64, epochs=1, seeds=2, networks=two, passes=1, grid=((3,), (32, 64), (7,)))
    assert torch.get_num_threads() == threads
    metrics = weights.card("what_came_next")["metrics"]
    assert set(metrics) == set(two)
    assert all(len(row["accuracy"]) == 2 and 0 <= min(row["accuracy"]) <= 1 for row in metrics.values())
    assert (
        metrics["small images"]["multiply_adds"]
        == summary(recipe.network(8, separable=True), (1, 14, 14)).multiply_adds
    )
    table = weights.load("layer_times")["milliseconds"]
    assert table.shape == (1, 2, 1, len(recipe.KINDS))
    assert (table > 0).all()
    assert table.isfinite().all()


def test_time_is_that_of_the_layer_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(F, "conv2d", lambda x, weight, **options: seen.append((x.shape, weight.shape, options)))
    for kind in ("dense", "depthwise", "pointwise", "groups 4"):
        recipe.layer_time(kind, 5, 32, 7)
    assert {shape for shape, _, _ in seen} == {(1, 32, 7, 7)}
    shapes = [tuple(weight) for _, weight, _ in dict.fromkeys((x, w, tuple(o.items())) for x, w, o in seen)]
    assert shapes == [(32, 32, 5, 5), (32, 1, 5, 5), (32, 32, 1, 1), (32, 8, 5, 5)]
    assert {options["groups"] for _, _, options in seen} == {1, 32, 4}


def test_a_network_needs_channels() -> None:
    with pytest.raises(ValueError, match="expected width >= 1, got 0; pass a positive whole number"):
        recipe.network(0)
    with pytest.raises(TypeError, match="expected width as a whole number, got 2.5"):
        recipe.network(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected width >= 2 with gates, got 1"):
        recipe.network(1, gated=True)
    for options in ({"width": 1}, {"width": 1, "separable": True}, {"width": 2, "gated": True}):
        assert recipe.network(**options)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)  # the smallest that there are


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (
            ("foo", 3, 32, 7),
            ValueError,
            "expected kind to be one of 'dense', .*'groups 32', got 'foo'; use one of them",
        ),
        (("groups", 3, 32, 7), ValueError, "expected kind to be one of .* got 'groups'"),
        ((None, 3, 32, 7), ValueError, "expected kind to be one of .* got None"),
        (("dense", 0, 32, 7), ValueError, "expected kernel >= 1, got 0"),
        (("dense", 3, 1.5, 7), TypeError, "expected channels as a whole number, got 1.5"),
        (("dense", 3, 32, -7), ValueError, "expected side >= 1, got -7"),
        (("groups 8", 3, 12, 7), ValueError, "expected channels as a multiple of 8 for 'groups 8', got 12; use 16"),
    ],
)
def test_time_of_no_layer(arguments: tuple, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        recipe.layer_time(*arguments)


def test_the_wide_separable_network_costs_what_the_dense_one_does() -> None:
    costs = {name: summary(recipe.network(**o), (1, 28, 28)).multiply_adds for name, o in recipe.NETWORKS.items()}
    assert costs["wide separable"] == pytest.approx(costs["dense"], rel=0.02)
    assert costs["wide separable"] <= costs["dense"]  # so that a lead is no advantage of cost


def test_shipped_networks_have_the_accuracy_on_their_card() -> None:
    images, labels = fashion_mnist("test")
    stored, metrics = weights.load("what_came_next"), weights.card("what_came_next")["metrics"]
    assert set(metrics) == set(recipe.NETWORKS)
    for name, options in recipe.NETWORKS.items():
        model = recipe.network(**options).eval()
        mine = {key.removeprefix(name + "/"): v.float() for key, v in stored.items() if key.startswith(name + "/")}
        missing = model.load_state_dict(mine, strict=False)
        assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
        assert not missing.unexpected_keys
        assert sum(p.numel() for p in model.parameters()) == metrics[name]["parameters"]
        resized = F.adaptive_avg_pool2d(images, recipe.SIDES_OF_IMAGES.get(name, 28))
        assert accuracy(model, resized, labels) == pytest.approx(metrics[name]["accuracy"][0], abs=0.005)
        assert len(metrics[name]["accuracy"]) == 5


def test_shipped_table_has_the_axes_of_the_recipe() -> None:
    card, table = weights.card("layer_times"), weights.load("layer_times")["milliseconds"]
    assert (card["kernels"], card["channels"], card["sides"]) == (
        list(recipe.KERNELS),
        list(recipe.CHANNELS),
        list(recipe.SIDES),
    )
    assert card["kinds"] == list(recipe.KINDS)
    assert table.shape == (len(recipe.KERNELS), len(recipe.CHANNELS), len(recipe.SIDES), len(recipe.KINDS))
    assert (table > 0).all()
    assert table.isfinite().all()
