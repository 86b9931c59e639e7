"""The checks of the lesson *Inductive bias* judge right and wrong answers rightly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvbook.checks import inductive_bias as checks


def test_counts() -> None:
    assert checks.counts(160, 66_560).passed
    assert checks.counts(16 * 3 * 3 + 16, 64 * 1024 + 1024).passed
    assert checks.counts(..., ...).state == "not attempted"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((144, 66_560), "bias for each of its 16"),
        ((145, 66_560), "not one in all"),
        ((160, 65_537), "not one in all"),
        ((160, 65_552), "not for each channel"),
        ((66_560, 160), "swapped"),
        ((10_240, 66_560), "kernel is shared"),
        ((160, 65_536), "bias for each of its 1024"),
        ((160, 1_040), "1024 outputs, not 16"),
        ((160, 4_160), "not one"),
        ((0, 0), "another number"),
    ],
)
def test_counts_names_the_mistake(answer: tuple[int, int], message: str) -> None:
    verdict = checks.counts(*answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_follow() -> None:
    def by_loop(weight: Tensor, permutation: Tensor) -> Tensor:
        new = torch.empty_like(weight)
        for i, j in enumerate(permutation.tolist()):
            new[:, i] = weight[:, j]
        return new

    assert checks.follow(lambda weight, permutation: weight[:, permutation]).passed
    assert checks.follow(by_loop).passed
    assert checks.follow(lambda weight, permutation: ...).state == "not attempted"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, p: w[:, p.argsort()], "inverse permutation"),
        (lambda w, p: w, "unchanged"),
        (lambda w, p: torch.zeros_like(w), "everything is zero"),
        (lambda w, p: w[:, p].T, "expected shape (5, 12)"),
        (lambda w, p: w[p], "your code stopped with IndexError"),
    ],
)
def test_follow_names_the_mistake(answer: object, message: str) -> None:
    verdict = checks.follow(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def _by_loops(
    kernel: Tensor,
    size: int,
    flip: bool = False,
    transpose: bool = False,
    stride: int = 0,
    row: int = 0,
    rows: int = 0,
    column: bool = False,
) -> Tensor:
    k = len(kernel)
    out = size - k + 1
    kernel = kernel.flip(0, 1) if flip else kernel.T if transpose else kernel
    matrix = torch.zeros(rows or out * out, size * size)
    for i in range(out):
        for j in range(out):
            for u in range(k):
                for v in range(k):
                    pixel = (j + v) * size + i + u if column else (i + u) * (stride or size) + j + v
                    matrix[i * (row or out) + j, pixel] = kernel[u, v]
    return matrix


def _swapped_outputs(kernel: Tensor, size: int) -> Tensor:
    out = size - len(kernel) + 1
    order = [j * out + i for i in range(out) for j in range(out)]
    return _by_loops(kernel, size)[order]


def test_as_matrix() -> None:
    assert checks.as_matrix(_by_loops).passed
    assert checks.as_matrix(checks._matrix).passed
    assert checks.as_matrix(lambda kernel, size: None).state == "not attempted"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda kernel, size: _by_loops(kernel, size, flip=True), "kernel is flipped"),
        (lambda kernel, size: _by_loops(kernel, size, transpose=True), "rows and columns are exchanged"),
        (lambda kernel, size: _by_loops(kernel, size).T, "rows belong to outputs"),
        (lambda kernel, size: _by_loops(kernel, size, stride=size - len(kernel) + 1), "column (i + u) * size + j + v"),
        (lambda kernel, size: _by_loops(kernel, size, row=size), "row i * (size - k + 1) + j"),
        (lambda kernel, size: _by_loops(kernel, size, row=size, rows=size**2), "a row for each pixel"),
        (lambda kernel, size: _by_loops(kernel, size, column=True), "count them row by row"),
        (lambda kernel, size: _swapped_outputs(kernel, size), "outputs are counted column by column"),
        (lambda kernel, size: torch.zeros((size - len(kernel) + 1) ** 2, size**2), "everything is zero"),
    ],
)
def test_as_matrix_names_the_mistake(answer: object, message: str) -> None:
    verdict = checks.as_matrix(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_indifferent() -> None:
    right = {"mirror", "transpose", "rotate by 90 degrees"}
    assert checks.indifferent(right).passed
    assert checks.indifferent(sorted(right)).passed
    assert checks.indifferent(set()).state == "not attempted"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"mirror", "transpose"}, "what about 'rotate by 90 degrees'"),
        ({"mirror", "shuffle inside 2x2 blocks"}, "what about 'transpose'"),
        (set(checks.OPTIONS), "takes neighbors apart"),
        ({"swap the left and right halves", "mirror", "transpose", "rotate by 90 degrees"}, "takes neighbors apart"),
        ({"turn"}, "expected names among"),
    ],
)
def test_indifferent_names_the_mistake(answer: set[str], message: str) -> None:
    verdict = checks.indifferent(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_the_network_really_does_not_notice_those_three() -> None:
    """The answer of the exercise, proven: doing to the kernels what was done to the images gives the same logits."""
    torch.manual_seed(0)
    x, first, second = torch.randn(4, 1, 8, 8), torch.randn(6, 1, 3, 3), torch.randn(5, 6, 3, 3)

    def network(images: Tensor, a: Tensor, b: Tensor) -> Tensor:
        hidden = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(images, a, padding=1).relu(), 2)
        return torch.nn.functional.conv2d(hidden, b, padding=1).relu().mean((2, 3))

    for turn in (lambda t: t.flip(-1), lambda t: t.mT, lambda t: t.rot90(1, (-2, -1))):
        torch.testing.assert_close(network(turn(x), turn(first), turn(second)), network(x, first, second))
