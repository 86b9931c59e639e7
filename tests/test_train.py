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


def test_evaluate_leaves_each_part_in_its_mode_also_after_an_error() -> None:
    images, labels = _data()
    model = _rich().train()
    model[1].eval()  # frozen statistics
    evaluate(model, images, labels)
    assert [part.training for part in model] == [True, False, True, True, True, True]
    with pytest.raises(RuntimeError):
        evaluate(model, images[..., :3], labels)
    assert [part.training for part in model] == [True, False, True, True, True, True]
    assert model.training


def test_nan_is_a_miss() -> None:
    images, labels = _data()
    model = _model()
    with torch.no_grad():
        model[1].bias[0] = torch.nan
    assert (labels == 0).any()
    assert accuracy(model, images, labels) == evaluate(model, images, labels)["accuracy"] == 0


def test_a_loss_of_ones_own_decides_what_labels_are() -> None:
    images, _ = _data()
    torch.manual_seed(0)
    model, targets = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), 5 + images.sum((1, 2, 3))[:, None]
    history = fit(model, images, targets, epochs=30, lr=0.3, batch_size=32, loss=F.mse_loss, progress=False)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


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
    with pytest.raises(CheckpointError, match=r"of a run with epochs=2, got one with epochs=1 in .*; delete or rename"):
        fit(_model(), images, labels, epochs=2, **settings)
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        fit(_rich(), images, labels, epochs=1, **settings)
    with pytest.raises(CheckpointError, match=r"ema=0\.9.*optimizer=SGD.*, got one with ema=None.*optimizer=AdamW"):
        fit(_model(), images, labels, epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1), ema=0.9, **settings)


class _Stop(Exception):
    pass


def _interrupted(path: Path, **settings: Any) -> None:
    """Two of three epochs."""
    calls = []

    def augment(batch: Tensor, _: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 8:
            raise _Stop
        return batch

    with pytest.raises(_Stop):
        fit(_model(), *_data(), augment=augment, checkpoint=path, **settings)
    assert len(checkpoint.load(path)["history"]["loss"]) == 2


def augment(batch: Tensor, _: Any) -> Tensor:
    """What the interrupted run would have taken, by its name."""
    return batch


CHANGES: dict[str, tuple[dict[str, Any], str, str]] = {  # settings, what they are, what the interrupted run had
    "lr": ({"lr": 0.1}, "lr=0.1", "lr=0.003"),
    "other average": ({"ema": 0.5}, "ema=0.5", "ema=0.9"),
    "no average": ({"ema": None}, "ema=None", "ema=0.9"),
    "Adam": ({"optimizer": partial(torch.optim.Adam, lr=3e-3, weight_decay=0.01)}, "optimizer=Adam", "optimizer=AdamW"),
    "SGD": ({"optimizer": partial(torch.optim.SGD, lr=3e-3)}, "optimizer=SGD", "optimizer=AdamW"),
    "decay": ({"optimizer": partial(torch.optim.AdamW, lr=3e-3, weight_decay=0)}, "decay=0", "decay=0.01"),
    "loss": (
        {"loss": partial(F.cross_entropy, label_smoothing=0.1)}, r"loss=cross_entropy\(label_smoothing=0.1\)",
        "loss=cross_entropy",
    ),
    "lambda": ({"loss": lambda x, y: F.cross_entropy(x, y)}, "loss=<lambda>", "loss=cross_entropy"),
    "schedule": ({"schedule": warmup_cosine}, "schedule=warmup_cosine", "schedule=one_cycle"),
    "augment": ({"augment": None}, "augment=None", "augment=augment"),
    "mixed": ({"mixed": True}, "mixed=True", "mixed=False"),
    "channels": ({"channels_last": True}, "channels_last=True", "channels_last=False"),
    "seed": ({"seed": 1}, "seed=1", "seed=0"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "here", "there"), CHANGES.values(), ids=CHANGES)
def test_a_changed_setting_is_not_ignored(tmp_path: Path, change: dict[str, Any], here: str, there: str) -> None:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 32, "ema": 0.9, "progress": False}
    _interrupted(tmp_path / "c", **settings)
    settings |= {"augment": augment, "checkpoint": tmp_path / "c"}
    model = _model()
    with pytest.raises(CheckpointError, match=f"of a run with .*{here}.*, got one with .*{there}.*; delete or rename"):
        fit(model, *_data(), **settings | change)
    whole, again = _model(), _model()
    assert torch.equal(model[1].weight, whole[1].weight)  # nothing was loaded
    fit(again, *_data(), **settings)  # the same settings go on
    fit(whole, *_data(), **settings | {"checkpoint": None})
    assert torch.equal(again[1].weight, whole[1].weight)


def test_other_images_or_labels_are_not_ignored(tmp_path: Path) -> None:
    images, labels = _data()
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 32, "checkpoint": tmp_path / "c", "progress": False}
    fit(_model(), images, labels, **settings)
    for other in ((images + 1e-3, labels), (images, labels.flip(0))):
        with pytest.raises(CheckpointError, match="of a run with data=[0-9a-f]{16}, got one with data=[0-9a-f]{16} in"):
            fit(_model(), *other, **settings)
    fit(_model(), images.contiguous(memory_format=torch.channels_last), labels.clone(), **settings)


def test_a_last_update_that_overflows_does_not_replace_good_weights(tmp_path: Path) -> None:
    class Jump(torch.optim.SGD):
        """Overflows in its second step, after a finite loss."""

        count = 0

        def step(self, closure: Any = None) -> Any:
            self.count += 1
            if self.count == 2:
                for parameter in self.param_groups[0]["params"]:
                    parameter.data.fill_(torch.inf)
            return super().step(closure)

    make = partial(Jump, lr=0.1)
    for ema in (None, 0.9):
        path = tmp_path / f"c{ema}"
        with pytest.raises(FloatingPointError, match=r"in .*weight after epoch 1; the last good weights are in .*c"):
            fit(_model(), *_data(), epochs=3, batch_size=96, optimizer=make, ema=ema, checkpoint=path, progress=False)
        kept = checkpoint.load(path)
        assert len(kept["history"]["loss"]) == 1
        assert all(weights.isfinite().all() for weights in kept["model"].values())
    with pytest.raises(FloatingPointError, match="weight after epoch 1; the last|lower lr"):
        fit(_model(), *_data(), epochs=2, batch_size=96, optimizer=make, progress=False)


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


LABELS = {
    "list": (lambda y: y.tolist(), "expected labels as a torch tensor, got list"),
    "NumPy": (lambda y: y.numpy(), "expected labels as a torch tensor, got ndarray"),
    "None": (lambda y: None, "expected labels as a torch tensor, got NoneType"),
    "float": (lambda y: y.float(), r"labels of type torch\.int64, got torch\.float32; use labels\.long"),
    "int32": (lambda y: y.int(), r"labels of type torch\.int64, got torch\.int32"),
    "bool": (lambda y: y > 0, r"labels of type torch\.int64, got torch\.bool"),
    "column": (lambda y: y[:, None], r"labels \(N,\), got shape \(96, 1\); use labels\.flatten"),
    "one-hot": (lambda y: F.one_hot(y), r"labels \(N,\), got shape \(96, 3\); use labels\.argmax\(1\)"),
    "one": (lambda y: y[:1], "one label for each image, got 96 images and 1 labels; select"),
    "missing": (lambda y: y[:95], "one label for each image, got 96 images and 95 labels; select"),
    "ignored": (lambda y: torch.where(y == 0, -100, y), r"labels in 0\.\.2, got -100 to 2; correct"),
    "high": (lambda y: y + 1, r"labels in 0\.\.2, got 1 to 3; correct"),
}
IMAGES = {
    "list": (lambda x: x.tolist(), "expected images as a torch tensor, got list"),
    "NumPy": (lambda x: x.numpy(), "expected images as a torch tensor, got ndarray"),
    "uint8": (lambda x: x.byte(), r"floating-point images, got torch\.uint8; use images\.float"),
    "float64": (lambda x: x.double(), r"the model's type torch\.float32, got torch\.float64; use images\.to"),
    "float16": (lambda x: x.half(), r"the model's type torch\.float32, got torch\.float16"),
    "one axis": (lambda x: x[:, 0, 0, 0], r"images \(N, C, H, W\), got shape \(96,\); give each image"),
    "none": (lambda x: x[:0], "one label for each image, got 0 images"),
    "NaN": (lambda x: torch.where(x > 1, torch.nan, x), "the images contain NaN or infinite values; look"),
    "infinite": (lambda x: torch.where(x > 1, torch.inf, x), "the images contain NaN or infinite values"),
}
CALLS = {"fit": partial(fit, epochs=1, batch_size=32, progress=False), "evaluate": evaluate, "accuracy": accuracy}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_bad_images_and_labels(call: Any) -> None:
    images, labels = _data()
    kinds = (TypeError, ValueError)
    for change, words in LABELS.values():
        with pytest.raises(kinds, match=words):
            call(_model(), images, change(labels))
    for change, words in IMAGES.values():
        with pytest.raises(kinds, match=words):
            call(_model(), change(images), labels)
    with pytest.raises(ValueError, match="expected a model with parameters, got none in Flatten"):
        call(nn.Flatten(), images, labels)
    with pytest.raises(TypeError, match=r"expected a model as a torch\.nn\.Module, got function"):
        call(lambda x: x, images, labels)
    with pytest.raises(ValueError, match=r"expected logits \(B, classes\) from the model, got \(\d+, 1, 4, 4\)"):
        call(nn.Conv2d(1, 1, 1), images, labels)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_bad_batch_sizes(call: Any) -> None:
    for size in (0, -5):
        with pytest.raises(ValueError, match=f"expected batch_size >= 1, got {size}; use a positive int"):
            call(_model(), *_data(), batch_size=size)
    for size in (1.5, "8", True, None):
        with pytest.raises(TypeError, match=f"expected batch_size as a whole number, got '?{size}'?; use one int"):
            call(_model(), *_data(), batch_size=size)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "expected epochs >= 1, got 0"),
        ({"epochs": -1}, "expected epochs >= 1, got -1"),
        ({"epochs": "2"}, "expected epochs as a whole number, got '2'"),
        ({"epochs": True}, "expected epochs as a whole number, got True"),
        ({"seed": None}, "expected seed as a whole number, got None"),
        ({"lr": -1}, "expected lr >= 0 and finite, got -1"),
        ({"lr": float("nan")}, "expected lr >= 0 and finite, got nan"),
        ({"lr": "a"}, "expected lr as a number, got 'a'"),
        *(({"ema": ema}, f"expected 0 < ema < 1, got {ema}; ema=None") for ema in (0, 1.0, 1.5, True, float("nan"))),
        ({"ema": "a"}, "expected ema as a number, got 'a'"),
        ({"augment": lambda batch, _: None}, "expected augment to return the batch, got NoneType; end it"),
        ({"augment": lambda batch, _: batch[:3]}, r"expected augment to return 32 images, got shape \(3, 1, 4, 4\)"),
        ({"augment": 3}, "expected augment as a function, got int"),
        ({"loss": None}, "expected loss as a function, got NoneType"),
        ({"schedule": "cosine"}, "expected schedule as a function, got str"),
        ({"optimizer": torch.optim.SGD([torch.zeros(1)])}, "expected optimizer as a function that makes one, got SGD"),
        ({"validation": torch.zeros(65, 1, 4, 4)}, "expected validation as a pair, got Tensor; write validation="),
        ({"validation": (torch.zeros(3, 1, 4, 4), torch.zeros(2).long())}, "validation: expected one label for each"),
        ({"validation": (torch.zeros(2, 1, 4, 4), torch.tensor([0, 9]))}, r"labels in 0\.\.2, got 0 to 9; correct"),
        ({"checkpoint": 3}, "expected checkpoint as a path, got int"),
    ],
)
def test_bad_settings_are_refused_before_the_first_step(settings: dict[str, Any], words: str) -> None:
    model = _model()
    with pytest.raises((TypeError, ValueError), match=words):
        fit(model, *_data(), **{"epochs": 1, "batch_size": 32, "progress": False} | settings)
    assert torch.equal(model[1].weight, _model()[1].weight)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "expected a file to write the checkpoint to, got ''; add the name of a file"),
        ("file/run", "could not write the checkpoint .*; there is none before it"),
        ("x" * 300, "could not write the checkpoint x*.*too long.*; there is none before it; .* use another name"),
        ("a\0b", "could not write the checkpoint"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_noticed_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    model = _model()
    with pytest.raises(CheckpointError, match=words):
        fit(model, *_data(), epochs=1, batch_size=32, checkpoint=name, progress=False)
    assert torch.equal(model[1].weight, _model()[1].weight)
    assert os.listdir() == ["file"]


def test_numpys_numbers_are_numbers(tmp_path: Path) -> None:
    import numpy as np

    for _ in range(2):  # written, and read again
        settings = {"epochs": np.int64(1), "lr": np.float32(0.01), "ema": np.float64(0.5), "batch_size": np.int32(32)}
        fit(_model(), *_data(), **settings, seed=np.int64(3), checkpoint=tmp_path / "c", progress=False)
