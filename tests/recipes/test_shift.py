"""The recipe runs at tiny settings, and the shipped checkpoints say what their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.equivariance import SHRINKS, ShiftNet, on_canvas
from cvbook.recipes import shift
from cvbook.train import accuracy


def test_tiny_run_stores_networks_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    shift.main(shrinks=("blur",), count=128, epochs=1, seeds=1, test_count=50)
    card, tensors = weights.card("shift_blur"), weights.load("shift_blur")
    assert card["images"] == 128
    assert set(card["metrics"]) == set(card["seconds"]) == {"circular.0", "zeros.0"}
    assert len(card["metrics"]["zeros.0"]["row"]) == 7
    state = {key.removeprefix("zeros.0."): value for key, value in tensors.items() if key.startswith("zeros.0.")}
    ShiftNet("blur", padding_mode="zeros").load_state_dict(state)


@pytest.mark.parametrize("shrink", SHRINKS)
def test_shipped_checkpoint_repeats_its_card(shrink: str) -> None:
    card = weights.card(f"shift_{shrink}")
    assert (weights.FOLDER / f"shift_{shrink}.safetensors").stat().st_size < 1_000_000
    net = ShiftNet(shrink)
    tensors = weights.load(f"shift_{shrink}").items()
    net.load_state_dict({k.removeprefix("circular.0."): v for k, v in tensors if k.startswith("circular.0.")})
    images, labels = fashion_mnist("test")
    with torch.no_grad():
        measured = accuracy(net.eval(), on_canvas(images), labels, batch_size=100)
    assert measured == pytest.approx(card["metrics"]["circular.0"]["grid"][0][0], abs=0.003)
