"""Checks of the homework on neurons; a cell ends with, for example, ``checks.layer(f).require()``.

Every check takes the reader's function and a ``seed`` for the inputs it makes up; the graded cells try other seeds too.
"""

from __future__ import annotations

from pathlib import Path

from cvbook.checks.neuron_homework.activations import prelu_input, prelu_slope, swish
from cvbook.checks.neuron_homework.engine import logsumexp, logsumexp_large, power, sweep
from cvbook.checks.neuron_homework.layers import layer, network
from cvbook.checks.neuron_homework.losses import (
    cross_entropy,
    cross_entropy_gradient,
    masked_softmax,
    masked_softmax_far,
    squared_gradient,
)
from cvbook.checks.neuron_homework.perceptron import one_pass_count, one_pass_weights, separates
from cvbook.checks.neuron_homework.shifts import accuracy_map, moved, sensitive
from cvbook.checks.neuron_homework.spread import second_moment, uniform_bound, weight_std
from cvbook.checks.points import Homework, Part, seeds

__all__ = [
    "PARTS", "accuracy_map", "cross_entropy", "cross_entropy_gradient", "homework", "layer", "logsumexp",
    "logsumexp_large", "masked_softmax", "masked_softmax_far", "moved", "network", "one_pass_count",
    "one_pass_weights", "power", "prelu_input", "prelu_slope", "second_moment", "seeds", "sensitive", "separates",
    "solution", "squared_gradient", "submission", "summary", "sweep", "swish", "uniform_bound", "weight_std",
]  # fmt: skip

# each graded cell: the check, the name of the function it checks, its points
PARTS: tuple[Part, ...] = (
    (layer, "layer", 1),
    (network, "network", 2),
    (masked_softmax, "masked_softmax", 1),
    (masked_softmax_far, "masked_softmax", 1),
    (cross_entropy, "cross_entropy", 1),
    (cross_entropy_gradient, "cross_entropy_gradient", 1),
    (squared_gradient, "squared_gradient", 2),
    (one_pass_weights, "one_pass", 2),
    (one_pass_count, "one_pass", 1),
    (separates, "separates", 2),
    (power, "power", 2),
    (logsumexp, "logsumexp", 1),
    (logsumexp_large, "logsumexp", 1),
    (sweep, "sweep", 1),
    (prelu_input, "prelu_backward", 1),
    (prelu_slope, "prelu_backward", 1),
    (swish, "swish_backward", 2),
    (second_moment, "second_moment", 1),
    (weight_std, "weight_std", 2),
    (uniform_bound, "uniform_bound", 1),
    (moved, "moved", 1),
    (accuracy_map, "accuracy_map", 1),
    (sensitive, "sensitive", 1),
)


homework = Homework("01_neuron", PARTS, Path(__file__).parent)
summary, solution, submission = homework.summary, homework.solution, homework.submission
