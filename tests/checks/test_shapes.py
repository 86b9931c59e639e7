"""Each check accepts two right answers and names what is wrong with the others."""

import math

import pytest
import torch

from cvbook.checks import shapes


def accepts(check, *answers):
    for answer in answers:
        verdict = check(answer)
        assert verdict.passed, verdict


def rejects(check, answer, words):
    verdict = check(answer)
    assert verdict.state == "wrong", verdict
    assert words in verdict.message


@pytest.mark.parametrize(
    "check", [shapes.output_size, shapes.same_padding, shapes.leftover, shapes.dilate, shapes.parameters]
)
def test_stub_is_not_attempted_and_crash_is_reported(check):
    assert check(lambda *a: None).state == "not attempted"
    assert check(lambda *a: ...).state == "not attempted"
    assert check(None).state == "not attempted"
    rejects(check, lambda *a: 1 / 0, "ZeroDivisionError")
    assert check(lambda *a: "many").state == "wrong"


def test_output_size():
    def by_counting(n, k, s, p, d):
        return len(range(0, n + 2 * p - d * (k - 1), s))

    accepts(shapes.output_size, lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s + 1, by_counting)
    for answer, words in [
        (lambda n, k, s, p, d: (n + 2 * p - k) // s + 1, "dilation is left out"),
        (lambda n, k, s, p, d: math.ceil((n + 2 * p - d * (k - 1) - 1) / s) + 1, "rounds up"),
        (lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1, "both ends"),
        (lambda n, k, s, p, d: round((n + 2 * p - d * (k - 1) - 1) / s) + 1, "nearest"),
        (lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1, "use //"),
        (lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s, "first window is missing"),
        (lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1, "nothing follows"),
        (lambda n, k, s, p, d: (n + 2 * p - k) / s + 1, "left out, and /"),
        (lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s + 1, "subtract 1 more"),
        (lambda *a: 0, "for n=7, k=1, s=1, p=0, d=1, expected 7, got 0"),
    ]:
        rejects(shapes.output_size, answer, words)


def test_same_padding():
    def by_trying(k, d):
        total = next(t for t in range(100) if t - d * (k - 1) == 0)
        return [math.floor(total / 2), math.ceil(total / 2)]

    def as_tensor(k, d):
        return torch.tensor(by_trying(k, d))

    right = [lambda k, d: (d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2), by_trying]
    accepts(shapes.same_padding, *right, as_tensor, lambda k, d: as_tensor(k, d).numpy())
    for answer, words in [
        (lambda k, d: ((k - 1) // 2, k // 2), "dilation is left out"),
        (lambda k, d: (k // 2, k // 2), "k // 2 at both ends"),
        (lambda k, d: (d * (k - 1),) * 2, "split it"),
        (lambda k, d: (d * (k - 1) // 2,) * 2, "one too small"),
        (lambda k, d: ((d * (k - 1) + 1) // 2, d * (k - 1) // 2), "torch puts it after"),
        (lambda k, d: (d * (k // 2),) * 2, "adds up to d k"),
        (lambda k, d: ((k - 1) // 2 * d,) * 2, "odd kernels only; multiply first"),
        (lambda k, d: ((k - 1) // 2 * d, d * (k - 1) - (k - 1) // 2 * d), "the total is right"),
        (lambda k, d: (d * (k - 1) / 2,) * 2, "expected (0, 1), got (0.5, 0.5)"),
        (lambda k, d: ("a", "b"), "expected a pair"),
        (lambda k, d: (0, 0), "for k=2, d=1, expected (0, 1), got (0, 0)"),
        (lambda k, d: d * (k - 1) // 2, "expected a pair"),
    ]:
        rejects(shapes.same_padding, answer, words)


def test_leftover():
    def by_marking(n, k, s, p, d):
        size, start = n + 2 * p, 0
        while start + s + d * (k - 1) < size:
            start += s
        return size - (start + d * (k - 1) + 1)

    accepts(shapes.leftover, lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) % s, by_marking)
    for answer, words in [
        (lambda n, k, s, p, d: n % s, "remainder of the input"),
        (lambda n, k, s, p, d: (n + 2 * p) % s, "span of the first window"),
        (lambda n, k, s, p, d: (n - d * (k - 1) - 1) % s, "padding is left out"),
        (lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) % s, "both ends"),
        (lambda n, k, s, p, d: (n + 2 * p - k) % s, "dilation is left out"),
        (lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) % s, "off by one"),
        (lambda n, k, s, p, d: n + 2 * p - d * (k - 1) - 1, "before the window moves"),
        (lambda *a: 0, "for n=7, k=1, s=3, p=1, d=1, expected 2, got 0"),
    ]:
        rejects(shapes.leftover, answer, words)


def spread(weight, d):
    k_h, k_w = weight.shape[-2:]
    wide = weight.new_zeros(*weight.shape[:2], d * (k_h - 1) + 1, d * (k_w - 1) + 1)
    wide[..., ::d, ::d] = weight
    return wide


def test_dilate():
    def by_loops(weight, d):
        o, c, k_h, k_w = weight.shape
        wide = torch.zeros(o, c, d * (k_h - 1) + 1, d * (k_w - 1) + 1)
        for u in range(k_h):
            for v in range(k_w):
                wide[:, :, u * d, v * d] = weight[:, :, u, v]
        return wide

    def in_place(weight, d):
        result = spread(weight, d)
        weight.zero_()
        return result

    def trailing(weight, d):
        return torch.nn.functional.pad(spread(weight, d), (0, d - 1, 0, d - 1))

    accepts(shapes.dilate, spread, by_loops)
    for answer, words in [
        (lambda w, d: w.repeat_interleave(d, -1).repeat_interleave(d, -2), "zeros between"),
        (trailing, "ends with zeros"),
        (lambda w, d: spread(w, d + 1), "d - 1"),
        (lambda w, d: spread(w, d)[..., ::d, :], "spread the rows too"),
        (lambda w, d: spread(w, d)[..., ::d], "spread the columns too"),
        (lambda w, d: w, "nothing is spread"),
        (lambda w, d: spread(w, d).flip(-1, -2), "flipped"),
        (lambda w, d: torch.zeros_like(spread(w, d)), "everything is zero"),
        (in_place, "has changed"),
    ]:
        rejects(shapes.dilate, answer, words)


def test_parameters():
    def by_layer(c_in, c_out, k, g):
        return torch.empty(c_out, c_in // g, k, k).numel() + c_out

    accepts(shapes.parameters, lambda c_in, c_out, k, g: c_out * (c_in // g * k * k + 1), by_layer)
    for answer, words in [
        (lambda c_in, c_out, k, g: c_out * c_in // g * k * k, "biases are missing"),
        (lambda c_in, c_out, k, g: c_out * c_in * k * k + c_out, "groups are left out"),
        (lambda c_in, c_out, k, g: c_out // g * (c_in // g) * k * k + c_out, "twice"),
        (lambda c_in, c_out, k, g: c_out * (c_in * k * k + 1) // g, "keeps its own"),
        (lambda c_in, c_out, k, g: c_out * c_in // g * k * k + c_in, "not for each input channel"),
        (lambda c_in, c_out, k, g: c_out * c_in // g * k + c_out, "not k"),
        (lambda c_in, c_out, k, g: c_out * c_in // g * k * k + c_out // g, "keeps its own"),
        (lambda c_in, c_out, k, g: c_out * c_in // g * k * k + g, "not for each group"),
        (lambda c_in, c_out, k, g: c_out * c_in // g * k * k + 1, "not one for the layer"),
        (lambda *a: 0, "for c_in=3, c_out=6, k=3, groups=1, expected 168, got 0"),
    ]:
        rejects(shapes.parameters, answer, words)


ALL = {(s, d) for s in range(1, 5) for d in range(1, 5)}
RIGHT = {(s, d) for s, d in ALL if s // math.gcd(s, d) > 3 or math.gcd(s, d) > 1}


def test_unread():
    def by_marking(s, d):
        seen = {s * i + d * u for i in range(100) for u in range(3)}
        return not set(range(20, 80)) <= seen

    accepts(shapes.unread, RIGHT, [pair for pair in sorted(ALL) if by_marking(*pair)])
    assert shapes.unread(set()).state == "not attempted"
    assert shapes.unread(None).state == "not attempted"
    for answer, words in [
        ({(d, s) for s, d in RIGHT}, "swap them"),
        ({(s, d) for s, d in ALL if math.gcd(s, d) > 1}, "common factor is one reason"),
        ({(s, d) for s, d in ALL if s > 3}, "stride 2 with dilation 2"),
        ({(s, d) for s, d in ALL if s > 1}, "neighboring windows overlap"),
        ({(s, d) for s, d in ALL if s > 3 or d > 1}, "at stride 1 every pixel is read"),
        (ALL - RIGHT, "give the others"),
        (RIGHT - {(2, 2)}, "stride 2 with dilation 2 leaves pixels unread"),
        (RIGHT | {(3, 1)}, "stride 3 with dilation 1 reads every pixel"),
        ([1, 2], "set of pairs"),
    ]:
        rejects(shapes.unread, answer, words)
