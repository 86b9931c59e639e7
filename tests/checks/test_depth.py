"""Each check accepts right answers, written in two ways, and names what is wrong with the others."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cvbook.checks import depth as check

RIGHT = {
    "ReLU, He": 1.0, "ReLU, Xavier": math.sqrt(0.5), "ReLU, PyTorch's default": math.sqrt(1 / 6),
    "no activation, Xavier": 1.0,
}  # fmt: skip


def rejects(verdict: Any, words: str) -> None:
    assert verdict.state == "wrong", verdict
    assert words in verdict.message


@pytest.mark.parametrize("function", [check.leaky_std, check.born_dead, check.training_loop])
def test_stubs_are_not_attempted_and_crashes_are_reported(function: Callable[..., Any]) -> None:
    assert function(lambda *a: None).state == "not attempted"
    assert function(lambda *a: ...).state == "not attempted"
    assert function(None).state == "not attempted"
    rejects(function(lambda *a: 1 / 0), "ZeroDivisionError")


@pytest.mark.parametrize("function", [check.factors, check.shifted])
def test_empty_tables_are_not_attempted(function: Callable[..., Any]) -> None:
    assert function(dict.fromkeys([*RIGHT, 0, 2, 4])).state == "not attempted"
    assert function({}).state == "not attempted"
    rejects(function(dict.fromkeys([*RIGHT, 0, 2, 4], "many")), "expected a number")
    half = function(dict.fromkeys([*list(RIGHT)[:2], 0, 2], 50))
    assert half.state == "not attempted"
    assert half.message.startswith("still empty: ")


def test_factors() -> None:
    assert check.factors(RIGHT).passed
    assert check.factors({name: torch.tensor(round(value, 2)) for name, value in RIGHT.items()}).passed
    for name, value, words in [
        ("ReLU, Xavier", 0.5, "factor on the mean square"),
        ("ReLU, PyTorch's default", 1 / 6, "factor on the mean square"),
        ("ReLU, Xavier", math.sqrt(2), "way round"),
        ("ReLU, PyTorch's default", math.sqrt(1 / 3), "forgets the ReLU"),
        ("ReLU, Xavier", 1, "forgets the ReLU"),
        ("ReLU, PyTorch's default", 1, "would lose nothing"),
        ("ReLU, He", 0.7, "not what is measured"),
        ("no activation, Xavier", 0.707, "not what is measured"),
        ("ReLU, He", 0, "not what is measured"),
        ("ReLU, Xavier", 0, "not what is measured"),
    ]:
        rejects(check.factors(RIGHT | {name: value}), words)


def test_leaky_std() -> None:
    def by_integral(fan_in: int, fan_out: int, slope: float) -> torch.Tensor:
        z = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
        density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return (fan_in * torch.trapezoid(F.leaky_relu(z, slope) ** 2 * density, z)).rsqrt()

    assert check.leaky_std(lambda m, n, a: math.sqrt(2 / ((1 + a**2) * m))).passed
    assert check.leaky_std(by_integral).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda m, n, a: 1 / math.sqrt(m), "keeps linear layers"),
        (lambda m, n, a: math.sqrt(2 / ((1 + a * a) * n)), "fan_out belongs to the way back"),
        (lambda m, n, a: 2 / ((1 + a * a) * m), "this is the variance"),
        (lambda m, n, a: math.sqrt(2 / m), "right for plain ReLU only"),
        (lambda m, n, a: math.sqrt(2 / ((1 + a) * m)), "the slope is not squared"),
        (lambda m, n, a: math.sqrt(2 / (m + n)), "Xavier's compromise"),
        (lambda m, n, a: math.sqrt(1 / (3 * m)), "PyTorch's default"),
        (lambda m, n, a: math.sqrt(1.6 / ((1 + a * a) * m)), "after 20 layers the sums are 0.1"),
        (lambda m, n, a: math.sqrt(2.1 / m), "slope 0: after 20 layers"),
        (lambda m, n, a: 0.0, "after 20 layers"),
        (lambda m, n, a: math.inf, "expected a finite number"),
    ],
)
def test_leaky_std_names_the_mistake(answer: Callable[..., float], words: str) -> None:
    verdict = check.leaky_std(answer)
    if words == "after 20 layers":
        assert verdict.state == "wrong"
    else:
        rejects(verdict, words)


def loop(model, images, labels, epochs, ema, *, mistake: str = "") -> None:
    generator = torch.Generator().manual_seed(1 if mistake == "seed" else 0)
    steps = len(images) // 128 + (mistake == "last")
    kinds = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
    optimizer = kinds.get(mistake, torch.optim.AdamW)(
        model.parameters(), lr=3e-3, weight_decay=0 if mistake == "decay" else 0.01
    )
    if mistake != "bare":
        schedule = OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps)
    order = torch.randperm(len(images), generator=generator)
    average = None
    if mistake == "start":
        average = [p.detach().clone() for p in model.parameters()]
    if mistake == "null":
        average = [torch.zeros_like(p) for p in model.parameters()]
    taken = 0
    for epoch in range(epochs):
        if epoch and mistake != "once":
            order = torch.randperm(len(images), generator=generator)
        if mistake == "plain":
            order = torch.arange(len(images))
        for step in range(steps):
            index = order[128 * step : 128 * (step + 1)]
            loss = F.cross_entropy(model(images[index]), labels[index])
            if mistake != "zero":
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if mistake not in ("constant", "epoch", "bare") or (mistake == "epoch" and step + 1 == steps):
                schedule.step()
            if ema and (mistake != "seldom" or step + 1 == steps):
                now = [p.detach().clone() for p in model.parameters()]
                d = {"swapped": 1 - ema, "mean": taken / (taken + 1)}.get(mistake, ema)
                taken += 1
                average = [d * a + (1 - d) * w for a, w in zip(average, now, strict=True)] if average else now
    if ema and mistake != "unused":
        for p, a in zip(model.parameters(), average, strict=True):
            p.data.copy_(a)


def test_training_loop_accepts() -> None:
    def with_torch(model, images, labels, epochs, ema):
        """Another style: dropped last batch by reshaping, averaging by torch."""
        torch_average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
        generator = torch.Generator()
        generator.manual_seed(0)
        batches = len(images) // 128
        opt = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.01)  # the schedule sets the rate
        plan = OneCycleLR(opt, max_lr=0.003, epochs=epochs, steps_per_epoch=batches)
        for _ in range(epochs):
            for index in torch.randperm(len(images), generator=generator)[: 128 * batches].view(batches, 128):
                model.zero_grad()
                nn.CrossEntropyLoss()(model(images[index]), labels[index]).backward()
                opt.step()
                plan.step()
                if torch_average:
                    torch_average.update_parameters(model)
        if torch_average:
            model.load_state_dict(copy.deepcopy(torch_average.module.state_dict()))
        return model

    assert check.training_loop(loop).passed
    verdict = check.training_loop(with_torch)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("zero", "never set to zero"),
        ("once", "same order in every epoch"),
        ("plain", "are not shuffled"),
        ("last", "a smaller last batch"),
        ("constant", "never stepped"),
        ("bare", "a schedule is missing"),
        ("epoch", "one after each batch"),
        ("decay", "the weight decay is missing"),
        ("SGD", "plain gradient descent"),
        ("Adam", "AdamW keeps it apart"),
        ("seed", "another seed than 0"),
        ("unused", "copy the average into the model"),
        ("start", "the weights before training"),
        ("null", "the average starts at zero"),
        ("swapped", "ema belongs to the old average"),
        ("mean", "plain mean of all weights"),
        ("seldom", "once each epoch"),
    ],
)
def test_training_loop_names_the_mistake(mistake: str, words: str) -> None:
    rejects(check.training_loop(lambda *a: loop(*a, mistake=mistake)), words)


def test_training_loop_names_what_is_none_of_these() -> None:
    def halved(model, *rest):
        loop(model, *rest)
        for p in model.parameters():
            p.data *= 0.5

    def zeroed(model, *rest):
        for p in model.parameters():
            p.data.zero_()

    rejects(check.training_loop(halved), "for the weights after 12 epochs without averaging, expected")
    rejects(check.training_loop(zeroed), "everything is zero")


def test_born_dead() -> None:
    def by_recursion(width: int, depth: int) -> float:
        return 0.0 if not depth else 0.5**width + (1 - 0.5**width) * by_recursion(width, depth - 1)

    assert check.born_dead(lambda n, d: 1 - (1 - 2**-n) ** d).passed
    assert check.born_dead(by_recursion).passed
    for answer, words in [
        (lambda n, d: (1 - 2**-n) ** d, "that it lives"),
        (lambda n, d: 2**-n, "this is one layer"),
        (lambda n, d: d * 2**-n, "adds up probabilities"),
        (lambda n, d: 2 ** (-n * d), "one dead layer is enough"),
        (lambda n, d: 1 - (1 - 2**-d) ** n, "width and depth are exchanged"),
        (lambda n, d: 1 - 2 ** -(n * d), "all must be off"),
        (lambda n, d: 1 - 2**-d, "the width is missing"),
        (lambda n, d: 0, "width 1, depth 3: of 3 000 random networks 8"),
        (lambda n, d: "many", "expected a number for width 1 and depth 3"),
    ]:
        rejects(check.born_dead(answer), words)


def test_shifted() -> None:
    right, without = check._moved_accuracies(augment=True), check._moved_accuracies(augment=False)
    assert check.shifted(right).passed
    assert check.shifted({d: torch.tensor(round(value)) for d, value in right.items()}).passed
    rejects(check.shifted(without), "without augmentation")
    rejects(check.shifted({d: value / 100 for d, value in right.items()}), "give percent")
    rejects(check.shifted(right | {4: right[2]}), "4 pixels: expected about")
    rejects(check.shifted(right | {0: 85}), "0 pixels: expected about")
    rejects(check.shifted(dict.fromkeys(right, 0)), "0 pixels: expected about")


@pytest.mark.parametrize("function", [check.factors, check.shifted])
def test_tables_must_be_dictionaries(function: Callable[..., Any]) -> None:
    for answer in ([1.0, 0.7], 3):
        rejects(function(answer), "expected a dictionary with the keys")


def test_leaky_std_wants_a_size_that_can_be_computed_with() -> None:
    rejects(check.leaky_std(lambda m, n, a: 0.0), "expected a standard deviation above 0, got 0")
    rejects(check.leaky_std(lambda m, n, a: -1.0), "above 0, got -1")
    rejects(check.leaky_std(lambda m, n, a: m), "overflow")


def test_training_loop_wants_the_model_itself_to_be_trained() -> None:
    def copied(model, images, labels, epochs, ema):
        model = copy.deepcopy(model)
        loop(model, images, labels, epochs, ema)
        return model

    def forgotten(*arguments):
        copied(*arguments)

    rejects(check.training_loop(copied), "train it in place, not a copy")
    for answer in (forgotten, lambda *a: None):
        verdict = check.training_loop(answer)
        assert verdict.state == "not attempted"
        assert "train the model that comes in, not a copy" in verdict.message


def test_training_loop_is_not_fooled_by_an_answer_that_changes_the_images() -> None:
    def one_image(model, images, labels, epochs, ema):
        images.zero_()
        labels.zero_()
        loop(model, images, labels, epochs, ema)

    assert check.training_loop(one_image).state == "wrong"
