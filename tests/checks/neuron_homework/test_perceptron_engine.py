"""Exercises 3 and 4 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cvbook.checks import neuron_homework as checks
from cvbook.checks.neuron_homework import engine, perceptron
from cvbook.neuron.autograd import Value


def passed(wrong: str = "", counting: str = "") -> Callable[..., Any]:
    """The instructor's loop with a mistake."""

    def answer(W: Any, b: Any, x: Any, y: Any) -> Any:
        W, b, mistakes = W.clone(), b.clone(), 0
        W0, b0 = W.clone(), b.clone()
        sign = -1 if wrong == "sign" else 1
        for one, label in zip(x, y.tolist(), strict=True):
            scores = W0 @ one + b0 if wrong == "batch" else W @ one + b
            found = int(scores.argmax())
            if wrong == "last":
                found = len(scores) - 1 - int(scores.flip(0).argmax())
            if found == label and wrong != "always":
                continue
            mistakes += found != label
            bias = 0 if wrong == "bias" else 1
            if wrong != "down only":
                W[label] += sign * one
                b[label] += sign * bias
            losers = [k for k in range(len(W)) if k != label] if wrong == "all" else [found]
            if wrong != "up only" and not (wrong == "always" and found == label):
                for k in losers:
                    W[k] -= sign * one
                    b[k] -= sign * bias
        if wrong == "nothing":
            W, b = W0, b0
        end = int(((x @ W.T + b).argmax(1) != y).sum())
        start = int(((x @ W0.T + b0).argmax(1) != y).sum())
        counts = {
            "right": len(x) - mistakes,
            "share": mistakes / len(x),
            "end": end,
            "start": start,
            "two": 2 * mistakes,
        }
        return W, b, counts.get(counting, mistakes)

    return answer


def until(
    rule: Callable[[list[Any], Any, int], bool | None], limit: int = 10**6
) -> Callable[..., bool]:  # fmt: skip
    """Passes until ``rule(earlier states, state, mistakes)`` decides."""

    def answer(one_pass: Any, W: Any, b: Any) -> bool:
        states = [(*W.flatten().tolist(), *b.tolist())]
        for _ in range(limit):
            W, b, mistakes = one_pass(W, b)
            state = (*W.flatten().tolist(), *b.tolist())
            decided = rule(states, state, mistakes)
            if decided is not None:
                return decided
            states.append(state)
        return False

    return answer


def only_W(one_pass: Any, W: Any, b: Any) -> bool:
    seen = [W]
    while True:
        W, b, mistakes = one_pass(W, b)
        if mistakes == 0:
            return True
        if any(torch.equal(W, V) for V in seen):
            return False
        seen.append(W)


def powered(value: Any = None, by_a: Any = None, by_b: Any = None) -> Callable[[Value, Value], Value]:
    right = (lambda a, b: a**b, lambda a, b: b * a ** (b - 1), lambda a, b: a**b * math.log(a))
    f, f_a, f_b = (given or default for given, default in zip((value, by_a, by_b), right, strict=True))
    return lambda a, b: Value(f(a.data, b.data), ((a, f_a(a.data, b.data)), (b, f_b(a.data, b.data))))


def summed(
    slope: Callable[[list[float], int], float] | None = None, value: Callable[[list[float]], float] | None = None
) -> Callable[[list[Value]], Value]:
    def answer(values: list[Value]) -> Value:
        x = [v.data for v in values]
        m = max(x)
        total = sum(math.exp(v - m) for v in x)
        found = value(x) if value else m + math.log(total)
        return Value(
            found,
            tuple((v, slope(x, i) if slope else math.exp(x[i] - m) / total) for i, v in enumerate(values)),
        )

    return answer


def once_each(values: list[Value]) -> Value:
    """A dict from operand to slope loses one of two equal operands."""
    result = summed()(values)
    return Value(result.data, tuple(dict(result.edges).items()))


def naive(values: list[Value]) -> Value:
    total = Value(0)
    for v in values:
        total = total + v.exp()
    return total.log()


def patient(one_pass: Any, W: Any, b: Any) -> bool:
    """Goes on until the check itself has had enough, and hides it."""
    try:
        while True:
            W, b, wrong = one_pass(W, b)
            if wrong == 0:
                return True
    except Exception:
        return False


def compared(one_pass: Any, W: Any, b: Any) -> bool:
    seen = [(W, b)]
    while True:
        W, b, wrong = one_pass(W, b)
        if wrong == 0 or (W, b) in seen:
            return bool(wrong == 0)
        seen.append((W, b))


def whole_numbers(W: Any, b: Any, x: Any, y: Any) -> Any:
    """Computes with integers."""
    new_W, new_b, count = passed("")(W.long().double(), b.long().double(), x.long().double(), y)
    return new_W.long(), new_b.long(), count


def swept(kind: str) -> Callable[[Any], list[float]]:
    def answer(tape: Any) -> list[float]:
        grads = [0.0] * len(tape)
        if kind == "from the first":
            grads[0] = 1.0
            for i in range(1, len(tape)):
                grads[i] = sum(slope * grads[j] for j, slope in tape[i])
            return grads
        grads[-1] = 0.0 if kind == "no seed" else 1.0

        def push(i: int) -> None:
            for j, slope in tape[i]:
                grads[j] += slope * grads[i]
                push(j)

        if kind == "recursion":
            push(len(tape) - 1)
            return grads
        order = range(len(tape)) if kind == "forward" else reversed(range(len(tape)))
        for i in order:
            for j, slope in tape[i]:
                grads[j] = slope * grads[i] if kind == "assign" else grads[j] + slope * grads[i]
        return [g if not pairs else 0.0 for g, pairs in zip(grads, tape, strict=True)] if kind == "leaves" else grads

    return answer


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("one_pass_weights", passed("always"), "even if the answer was right"),
    ("one_pass_weights", passed("sign"), "signs are flipped"),
    ("one_pass_weights", passed("bias"), "biases never change"),
    ("one_pass_weights", passed("batch"), "correct after each example"),
    ("one_pass_weights", passed("up only"), "subtract the example"),
    ("one_pass_weights", passed("down only"), "the right class keeps its weights"),
    ("one_pass_weights", passed("all"), "subtracted from all other classes"),
    ("one_pass_weights", passed("last"), "let the first one win"),
    ("one_pass_weights", passed("nothing"), "nothing is corrected"),
    ("one_pass_weights", lambda W, b, x, y: passed("")(0 * W, 0 * b, x, y), "the pass starts from zeros"),
    ("one_pass_weights", whole_numbers, "expected"),
    ("one_pass_weights", lambda W, b, x, y: (W, b), "expected 3 results (W, b, mistakes), got 2"),
    ("one_pass_weights", lambda W, b, x, y: (W.T, b, 0), "expected the new W in the shape"),
    ("one_pass_count", passed(counting="right"), "counts the examples answered rightly"),
    ("one_pass_count", passed(counting="share"), "share of mistakes"),
    ("one_pass_count", passed(counting="end"), "at the end of the pass"),
    ("one_pass_count", passed(counting="start"), "at the start of the pass"),
    ("one_pass_count", passed(counting="two"), "counts two for each mistake"),
    ("one_pass_count", passed("up only"), "subtract the example"),
    ("one_pass_count", passed("bias"), "biases never change"),
    ("separates", until(lambda states, state, n: True if n == 0 else None), "this never ends"),
    (
        "separates",
        until(lambda states, state, n: True if n == 0 else False if state == states[-1] else None),
        "this never ends",
    ),
    (
        "separates",
        until(lambda states, state, n: False if state in states else True if n == 0 else None),
        "'come back' too",
    ),
    ("separates", until(lambda states, state, n: True if n == 0 else None, limit=10), "you give up after 10 passes"),
    (
        "separates",
        until(lambda states, state, n: True if n == 0 else None, limit=500),
        "for two points side by side you give up after 500 passes",
    ),
    ("separates", until(lambda states, state, n: True if n == 0 else None, limit=1900), "but a guess"),
    ("separates", patient, "but a guess"),
    ("separates", compared, "compare two with torch.equal"),
    ("separates", lambda one_pass, W, b: True, "no pass was free of mistakes"),
    ("separates", lambda one_pass, W, b: False, "call one_pass until it makes no mistake"),
    ("separates", only_W, "W came back, but b did not"),
    ("separates", lambda one_pass, W, b: one_pass(W, b)[2], "expected True or False"),
    ("separates", lambda one_pass, W, b: one_pass(None, b), "one_pass takes W (2, 2) and b (2,)"),
    ("power", powered(by_a=lambda a, b: a ** (b - 1)), "gradient of a: the factor b is missing"),
    ("power", powered(by_a=lambda a, b: b * a**b), "it falls to b - 1"),
    ("power", powered(by_b=lambda a, b: a**b), "the factor ln a is missing"),
    ("power", powered(by_b=lambda a, b: a**b * math.log(abs(b))), "take ln a"),
    ("power", powered(by_b=lambda a, b: b * a ** (b - 1)), "this is the slope by a"),
    ("power", powered(by_b=lambda a, b: math.log(a)), "the factor a**b is missing"),
    ("power", powered(value=lambda a, b: a * b), "a times b"),
    ("power", lambda a, b: a**b.data, "no edge leads to b"),
    ("power", lambda a, b: (b * a.log()).exp(), "boxes in between"),
    ("power", powered(by_b=lambda a, b: a**b * math.log10(a)), "base 10"),
    ("power", lambda a, b: a.data**b.data, "expected a Value"),
    ("power", lambda a, b: Value(a.data**b.data, (a, b)), "an edge is a pair"),  # type: ignore[arg-type]
    ("logsumexp", summed(lambda x, i: math.exp(x[i])), "divide them by their sum"),
    ("logsumexp", summed(lambda x, i: 1.0), "slopes are all 1"),
    ("logsumexp", summed(lambda x, i: 1 / len(x)), "slopes are all equal"),
    ("logsumexp", summed(lambda x, i: float(x[i] == max(x))), "only the largest value gets a gradient"),
    ("logsumexp", summed(lambda x, i: 1 / sum(map(math.exp, x))), "exponential on top is missing"),
    ("logsumexp", summed(value=lambda x: sum(map(math.exp, x))), "logarithm is missing"),
    ("logsumexp", summed(value=lambda x: math.log(sum(math.exp(v - max(x)) for v in x))), "not added again"),
    ("logsumexp", summed(value=lambda x: math.log10(sum(map(math.exp, x)))), "base 10"),
    (
        "logsumexp",
        summed(lambda x, i: 1 / sum(math.exp(v - max(x)) for v in x)),
        "it is exp(v - largest) / sum",
    ),
    ("logsumexp", once_each, "occurs twice gets one share"),
    ("logsumexp", lambda values: Value(math.log(sum(math.exp(v.data) for v in values))), "needs edges"),
    ("logsumexp_large", naive, "values near 1000"),
    ("logsumexp_large", lambda values: naive([v - 1000 for v in values]) + 1000, "values near -1000"),
    ("logsumexp_large", lambda values: Value(max(v.data for v in values)), "wrong for values near 1000"),
    (
        "logsumexp_large",
        lambda values: naive([v - max(u.data for u in values) for v in values]),
        "and add it at the end",
    ),
    ("sweep", swept("assign"), "add the shares up with +="),
    ("sweep", swept("forward"), "read from the front"),
    ("sweep", swept("recursion"), "before they are complete"),
    ("sweep", swept("no seed"), "by itself is 1"),
    ("sweep", swept("from the first"), "by the first one"),
    ("sweep", swept("leaves"), "the gradient of every entry"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", [*perceptron.__all__, *engine.__all__])
def test_every_check_knows_four_mistakes(check: str) -> None:
    assert len([message for name, _, message in MISTAKES if name == check]) >= 4


@pytest.mark.parametrize("seed", range(6))
def test_the_questions_have_both_answers_and_are_decided_in_few_passes(seed: int) -> None:
    found = []
    for name, x, y, classes in perceptron._questions(seed):
        W, b = torch.zeros(classes, 2).double(), torch.zeros(classes).double()
        counter = perceptron._Passes(name, x, y, classes)
        while True:
            W, b, mistakes = counter(W, b)
            if mistakes == 0 or counter.returned:
                break
        assert counter.calls < perceptron.PATIENCE / 2
        found.append(mistakes == 0)
        assert found[-1] == perceptron._separable(x, y, classes)
    assert 2 <= sum(found) <= len(found) - 2


@pytest.mark.parametrize("seed", range(8))
def test_comparing_with_the_pass_before_alone_never_ends(seed: int) -> None:
    answer = until(lambda states, state, n: True if n == 0 else False if state == states[-1] else None)
    assert "this never ends" in checks.separates(answer, seed=seed).message
