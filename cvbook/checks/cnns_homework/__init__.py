"""Checks of the homework on convolutional networks; a cell ends with, for example, ``checks.fire(f).require()``.

Every check takes the reader's function and a ``seed`` for the inputs it makes up; the graded cells try other seeds too.
"""

from __future__ import annotations

from pathlib import Path

from cvbook.checks.cnns_homework.any_size import as_kernels, best_windows, convolutional
from cvbook.checks.cnns_homework.blocks import bottleneck, padded_shortcut
from cvbook.checks.cnns_homework.budgets import multiply_adds, parameters
from cvbook.checks.cnns_homework.comparison import clearly_better, verdict, widest_network
from cvbook.checks.cnns_homework.gradients import branch_std, original, preactivation
from cvbook.checks.cnns_homework.judging import coverage, expected_top_k
from cvbook.checks.cnns_homework.memory import memory_inference, memory_training
from cvbook.checks.cnns_homework.squeezing import fire, fire_parameters
from cvbook.checks.points import Homework, Part, seeds

__all__ = [
    "PARTS", "as_kernels", "best_windows", "bottleneck", "branch_std", "clearly_better", "convolutional", "coverage",
    "expected_top_k", "fire", "fire_parameters", "homework", "memory_inference", "memory_training", "multiply_adds",
    "original", "padded_shortcut", "parameters", "preactivation", "seeds", "solution", "submission", "summary",
    "verdict", "widest_network",
]  # fmt: skip

# each graded cell: the check, the name of the function it checks, its points
PARTS: tuple[Part, ...] = (
    (parameters, "budget", 1),
    (multiply_adds, "budget", 2),
    (memory_training, "memory", 1),
    (memory_inference, "memory", 1),
    (fire, "fire", 2),
    (fire_parameters, "fire_parameters", 1),
    (bottleneck, "bottleneck", 3),
    (padded_shortcut, "padded_shortcut", 1),
    (original, "original", 2),
    (preactivation, "preactivation", 2),
    (branch_std, "branch_std", 2),
    (as_kernels, "as_kernels", 1),
    (convolutional, "convolutional", 2),
    (best_windows, "best_windows", 1),
    (expected_top_k, "expected_top_k", 2),
    (coverage, "coverage", 2),
    (widest_network, "widest_network", 1),
    (clearly_better, "clearly_better", 1),
    (verdict, "verdict", 2),
)


homework = Homework("03_cnns", PARTS, Path(__file__).parent)
summary, solution, submission = homework.summary, homework.solution, homework.submission
