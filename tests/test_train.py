"""Training: learns, repeats exactly, goes on after a kill, is the same in two processes, refuses bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook import checkpoint
from cvbook.checkpoint import CheckpointError
from cvbook.train import accuracy, evaluate, fit, mixed_precision, one_cycle, seed_everything, warmup_cosine

HERE = Path(__file__).parent


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (96,), generator=generator)
    images = torch.randn(96, 1, 4, 4, generator=generator) * 0.1
    images[torch.arange(96), 0, labels, labels] += 1
    return images, labels


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def _rich() -> nn.Module:
    """Batch statistics and dropout: state beyond the parameters."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(16, 3)
    )


def _noisy(batch: Tensor, generator: torch.Generator) -> Tensor:
    return batch + 0.1 * torch.randn(batch.shape, generator=generator)


def test_it_learns_and_ends_in_eval_mode() -> None:
    images, labels = _data()
    model = _model()
    before = accuracy(model, images, labels)
    history = fit(model, images, labels, epochs=20, lr=0.05, batch_size=32, validation=(images, labels), progress=False)
    assert {key: len(values) for key, values in history.items()} == dict.fromkeys(
        ["loss", "seconds", "validation_loss", "accuracy"], 20
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert accuracy(model, images, labels) == 1.0 == history["accuracy"][-1] > before
    assert not model.training


def test_it_is_the_loop_that_lessons_show() -> None:
    images, labels = _data()
    model, other = _model(), _model()
    history = fit(model, images, labels, epochs=2, batch_size=32, seed=5, progress=False)
    optimizer = torch.optim.AdamW(other.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=6)
    generator = torch.Generator().manual_seed(5)
    for epoch in range(2):
        losses = []
        for index in torch.randperm(96, generator=generator).split(32):
            loss = F.cross_entropy(other(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        assert history["loss"][epoch] == pytest.approx(sum(losses) / 3, abs=1e-7)
    assert torch.equal(model[1].weight, other[1].weight)


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
    seen: list[int] = []
    fit(_model(), *_data(), epochs=9, batch_size=32, augment=lambda b, _: seen.append(1) or b, progress=False)
    assert len(seen) == 2


def test_the_average_follows_the_weights() -> None:
    images, labels = _data()
    seen: list[Tensor] = []
    model = _model()

    def watch(batch: Tensor, _: Any) -> Tensor:
        seen.append(model[1].weight.detach().clone())
        return batch

    plain = _model()
    fit(plain, images, labels, epochs=1, batch_size=32, progress=False)
    fit(model, images, labels, epochs=1, batch_size=32, ema=0.7, augment=watch, progress=False)
    expected = seen[1]  # after the first step; the average starts there
    for weights in (seen[2], plain[1].weight.detach()):
        expected = 0.7 * expected + 0.3 * weights
    torch.testing.assert_close(model[1].weight.detach(), expected)


def test_channels_last_and_sixteen_bits_change_little() -> None:
    images, labels = _data()
    plain, other = _rich(), _rich()
    fit(plain, images, labels, epochs=1, batch_size=32, progress=False)
    fit(other, images, labels, epochs=1, batch_size=32, channels_last=True, mixed=True, progress=False)
    assert other[0].weight.dtype == torch.float32
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain[0].weight, other[0].weight.contiguous(), atol=2e-2, rtol=0)
    assert mixed_precision("cpu") in (torch.bfloat16, None)


def test_schedules_rise_and_fall() -> None:
    for schedule, start, peak in ((one_cycle, 0.04, 0.3), (warmup_cosine, 0.2, 0.05)):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
        plan = schedule(optimizer, 100)
        rates = []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]["lr"] / 2)
            optimizer.step()
            plan.step()
        top = rates.index(max(rates))
        assert rates[0] == pytest.approx(start, abs=1e-6)
        assert rates[top] == pytest.approx(1)
        assert top == pytest.approx(100 * peak, abs=1)
        assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
        assert rates[-1] < 0.002


def test_seeding_reaches_all_three_generators() -> None:
    import random

    import numpy as np

    draws = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))


def test_evaluate_restores_the_mode_and_counts_in_any_batch_size() -> None:
    images, labels = _data()
    model = _rich().train()
    found = evaluate(model, images, labels, batch_size=7)
    assert model.training
    logits = model.eval()(images)
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["accuracy"] == accuracy(model, images, labels) == int((logits.argmax(1) == labels).sum()) / 96


def test_a_live_curve_is_drawn_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    shown: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    fit(_model(), *_data(), epochs=2, batch_size=32, validation=_data(), live=True, progress=False)
    assert len(shown) == 1
    assert "after 2 epochs" in shown[0].value


# --- interruption


RUN = """
import sys, time
import torch
sys.path.insert(0, sys.argv[1])
from test_train import _data, _noisy, _rich
from cvbook.train import fit
slow = float(sys.argv[3])
def augment(batch, generator):
    time.sleep(slow)
    return _noisy(batch, generator)
model = _rich()
fit(model, *_data(), epochs=30, batch_size=32, ema=0.9, augment=augment, checkpoint=sys.argv[2], progress=False)
torch.save(model.state_dict(), sys.argv[2] + ".final")
"""


def _start(path: Path, slow: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(HERE), str(path), str(slow)])


@pytest.mark.slow
def test_killed_at_any_step_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert _start(whole, 0).wait(120) == 0
    for kill in range(2):
        process = _start(broken, 0.01)
        before = broken.stat().st_mtime_ns if broken.exists() else 0
        while not (broken.exists() and broken.stat().st_mtime_ns > before):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.13 * (kill + 1))
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert 0 < len(checkpoint.load(broken)["history"]["loss"]) < 30
    assert _start(broken, 0).wait(120) == 0
    first, second = (torch.load(f"{path}.final", weights_only=True) for path in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    images, labels = _data()
    model, again = _rich(), _rich()
    first = fit(model, images, labels, epochs=2, batch_size=32, checkpoint=tmp_path / "c", progress=False)
    second = fit(again, images, labels, epochs=2, batch_size=32, checkpoint=tmp_path / "c", progress=False)
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_of_another_run_or_model_is_refused(tmp_path: Path) -> None:
    images, labels = _data()
    settings: dict[str, Any] = {"batch_size": 32, "checkpoint": tmp_path / "c", "progress": False}
    fit(_model(), images, labels, epochs=1, **settings)
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of a run with .*'epochs': 2.*delete or rename"):
        fit(_model(), images, labels, epochs=2, **settings)
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        fit(_rich(), images, labels, epochs=1, **settings)
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        fit(_model(), images, labels, epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1), ema=0.9, **settings)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    images, labels = _data()
    calls = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(output, target) * (float("nan") if len(calls) == 5 else 1)

    with pytest.raises(FloatingPointError, match=r"got nan in epoch 1, step 1; the last good weights are in .*run"):
        fit(_model(), images, labels, epochs=3, batch_size=32, loss=loss, checkpoint=tmp_path / "run", progress=False)
    kept = checkpoint.load(tmp_path / "run")
    assert len(kept["history"]["loss"]) == 1
    assert all(weights.isfinite().all() for weights in kept["model"].values())


# --- more than one process


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import json, os, sys\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from test_train import _data, _model, _noisy\n"
        "from cvbook.train import fit\n"
        "model = _model()\n"
        "history = fit(model, *_data(), epochs=3, batch_size=32, augment=_noisy, ema=0.9, progress=False)\n"
        "rank = os.environ.get('RANK', 'alone')\n"
        f"json.dump([history['loss'], model[1].weight.tolist()], open({str(tmp_path)!r} + f'/{{rank}}.json', 'w'))\n"
        "import torch.distributed as dist\n"
        "if dist.is_initialized():\n    dist.destroy_process_group()\n"
    )
    import json

    alone = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    alone["OMP_NUM_THREADS"] = "1"
    subprocess.run([sys.executable, str(script)], check=True, timeout=120, env=alone)
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    subprocess.run(together, check=True, timeout=240, env=alone)
    single, *both = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in ("alone", "0", "1"))
    for losses, weights in both:
        assert losses == pytest.approx(single[0], abs=1e-5)
        torch.testing.assert_close(torch.tensor(weights), torch.tensor(single[1]), atol=1e-5, rtol=0)


# --- bad input


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = _data()
    with pytest.raises(ValueError, match="96 images and 95 labels"):
        fit(_model(), images, labels[1:], epochs=1)
    with pytest.raises(ValueError, match="at least batch_size=128 images, got 96; lower batch_size"):
        fit(_model(), images, labels, epochs=1)
    for bad in (labels + 1, labels - 1):
        with pytest.raises(ValueError, match=r"labels in 0\.\.2, got -?\d to \d; correct"):
            fit(_model(), images, bad, epochs=1, batch_size=32, progress=False)
    with pytest.raises(TypeError, match=r"floating-point images, got torch\.uint8; use images\.float\(\) / 255"):
        fit(_model(), images.byte(), labels, epochs=1, batch_size=32)
    for call in (partial(fit, epochs=1), evaluate):
        with pytest.raises(ValueError, match="expected images, got none"):
            call(_model(), images[:0], labels[:0])
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(ValueError, match="a batch_size that 5 processes can share, got 32"):
        fit(_model(), images, labels, epochs=1, batch_size=32)
