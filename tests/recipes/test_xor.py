"""Networks trained together equal networks trained alone, and what ships is what it says on the card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvbook import weights
from cvbook.recipes import xor as recipe


def test_together_equals_alone() -> None:
    start = recipe.initial(3, 2, 4, seed=5)
    together = recipe.train(start, recipe.PIXELS, recipe.XOR, torch.tanh, steps=25)
    for i in range(3):
        net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for layer, name in ((net[0], "hidden"), (net[2], "output")):
                layer.weight.copy_(start[f"{name}.weight"][i].T)
                layer.bias.copy_(start[f"{name}.bias"][i, 0])
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(25):
            loss = nn.functional.binary_cross_entropy_with_logits(net(recipe.PIXELS)[:, 0], recipe.XOR)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(together["hidden.weight"][i], net[0].weight.detach().T, rtol=1e-3, atol=1e-4)
        alone = net(recipe.PIXELS)[:, 0].detach()
        torch.testing.assert_close(recipe.forward(together, recipe.PIXELS, torch.tanh)[i], alone, rtol=1e-3, atol=1e-3)


def test_initial_weights_are_those_of_linear_layers() -> None:
    drawn = recipe.initial(500, 2, 9, seed=0)
    assert {key: tuple(value.shape[1:]) for key, value in drawn.items()} == {
        "hidden.weight": (2, 9), "hidden.bias": (1, 9), "output.weight": (9, 1), "output.bias": (1, 1),
    }  # fmt: skip
    layer = nn.Linear(2, 9)
    assert drawn["hidden.weight"].abs().max() <= 2**-0.5 >= layer.weight.abs().max()
    assert drawn["hidden.weight"].std() == pytest.approx(2**-0.5 / 3**0.5, rel=0.02)
    assert drawn["output.bias"].abs().max() == pytest.approx(1 / 3, rel=0.02)


def test_a_tiny_run_stores_what_the_lesson_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    recipe.main(nets=3, steps=2, fits=2, widths=(1, 2))
    metrics = weights.card("xor")["metrics"]
    assert set(metrics["solved"]) == {f"standard/{w}" for w in recipe.WIDTHS} | {"slow/2", "fast/2", "long/2"}
    assert all(set(row) == set(recipe.ACTIVATIONS) for row in metrics["solved"].values())
    assert {key: len(errors) for key, errors in metrics["curve"].items()} == {"1": 2, "2": 2, "2/decay": 2}


def test_the_shipped_networks_solve_as_often_as_recorded() -> None:
    card, stored = weights.card("xor"), weights.load("xor")
    assert card["nets"] == 200
    for name, activation in recipe.ACTIVATIONS.items():
        nets = {key.split("/")[1]: value for key, value in stored.items() if key.startswith(f"{name}/")}
        share = (recipe.right_answers(nets, activation) == 4).float().mean().item()
        assert share == pytest.approx(card["metrics"]["solved"]["standard/2"][name])
