"""The training helper: learns, repeats exactly, refuses bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cvbook.train import accuracy, fit


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (96,), generator=generator)
    images = torch.randn(96, 1, 4, 4, generator=generator) * 0.1
    images[torch.arange(96), 0, labels, labels] += 1
    return images, labels


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def test_it_learns_and_ends_in_eval_mode() -> None:
    images, labels = _data()
    model = _model()
    before = accuracy(model, images, labels)
    history = fit(model, images, labels, epochs=20, lr=0.05, batch_size=32, progress=False)
    assert len(history) == 20
    assert history[-1] < 0.5 * history[0]
    assert accuracy(model, images, labels) == 1.0 > before
    assert not model.training


def test_same_seed_same_weights() -> None:
    images, labels = _data()
    runs = []
    for seed in (3, 3, 4):
        model = _model()
        fit(model, images, labels, epochs=2, batch_size=32, seed=seed, progress=False)
        runs.append(model[1].weight.detach().clone())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_augmentation_sees_every_batch() -> None:
    images, labels = _data()
    seen = []

    def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(generator, torch.Generator)
        seen.append(len(batch))
        return batch

    fit(_model(), images, labels, epochs=2, batch_size=32, augment=augment, progress=False)
    assert seen == [32] * 6


def test_a_dry_run_stops_after_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBOOK_DRY_RUN", "1")
    seen = []
    fit(_model(), *_data(), epochs=9, batch_size=32, augment=lambda b, _: seen.append(1) or b, progress=False)
    assert len(seen) == 2


def test_accuracy_counts_hits_in_any_batch_size() -> None:
    images, labels = _data()
    model = _model()
    exact = (model(images).argmax(1) == labels).float().mean().item()
    assert accuracy(model, images, labels, batch_size=7) == pytest.approx(exact)


def test_bad_input() -> None:
    images, labels = _data()
    with pytest.raises(ValueError, match="96 images and 95 labels"):
        fit(_model(), images, labels[1:], epochs=1)
    with pytest.raises(ValueError, match="at least batch_size=128 images, got 96; lower batch_size"):
        fit(_model(), images, labels, epochs=1)
