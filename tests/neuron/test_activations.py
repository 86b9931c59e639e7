"""Every activation against torch's namesake, and every derivative against autograd and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvbook.neuron import activations as act

Function = Callable[[Tensor], Tensor]
EACH: dict[str, tuple[Function, Function, Function]] = {  # ours, our derivative, torch's
    "linear": (act.linear, act.linear_derivative, lambda z: z * 1),
    "step": (act.step, act.step_derivative, lambda z: torch.heaviside(z, torch.ones(1, dtype=z.dtype))),
    "sigmoid": (act.sigmoid, act.sigmoid_derivative, torch.sigmoid),
    "tanh": (act.tanh, act.tanh_derivative, torch.tanh),
    "relu": (act.relu, act.relu_derivative, F.relu),
    "leaky_relu": (act.leaky_relu, act.leaky_relu_derivative, F.leaky_relu),
    "leaky_relu 0.3": (
        lambda z: act.leaky_relu(z, 0.3), lambda z: act.leaky_relu_derivative(z, 0.3), lambda z: F.leaky_relu(z, 0.3),
    ),
    "elu": (act.elu, act.elu_derivative, F.elu),
    "elu 1.7": (lambda z: act.elu(z, 1.7), lambda z: act.elu_derivative(z, 1.7), lambda z: F.elu(z, 1.7)),
    "gelu": (act.gelu, act.gelu_derivative, F.gelu),
    "silu": (act.silu, act.silu_derivative, F.silu),
}  # fmt: skip
SMOOTH = ("linear", "sigmoid", "tanh", "gelu", "silu")
numbers = st.floats(-20, 20, allow_subnormal=False)


@pytest.fixture(params=EACH, ids=str)
def functions(request: pytest.FixtureRequest) -> tuple[Function, Function, Function]:
    return EACH[request.param]


@pytest.mark.parametrize("name", EACH)
@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=12))
def test_value_and_derivative_are_those_of_torch(name: str, numbers: list[float]) -> None:
    ours, derivative, theirs = EACH[name]
    z = torch.tensor([*numbers, 0.0], dtype=torch.float64, requires_grad=True)  # 0: the kinks
    torch.testing.assert_close(ours(z), theirs(z), rtol=1e-9, atol=1e-12)
    expected = torch.zeros_like(z)
    if name != "step":  # torch's has no derivative at all
        (expected,) = torch.autograd.grad(theirs(z).sum(), z)
    torch.testing.assert_close(derivative(z), expected, rtol=1e-9, atol=1e-12)


def test_derivatives_by_finite_differences(functions: tuple[Function, Function, Function]) -> None:
    ours, derivative, _ = functions
    z = torch.linspace(-6, 6, 120, dtype=torch.float64)  # 0 is not among them
    h = 1e-6
    torch.testing.assert_close(derivative(z), (ours(z + h) - ours(z - h)) / (2 * h), rtol=1e-7, atol=1e-8)


def test_shape_and_dtype_stay_and_far_away_nothing_is_nan(functions: tuple[Function, Function, Function]) -> None:
    ours, derivative, theirs = functions
    for dtype in (torch.float32, torch.float64):
        z = torch.tensor([[-1e4, -100.0, 0.0], [1.0, 100.0, 1e4]], dtype=dtype)
        for function in (ours, derivative):
            assert function(z).shape == z.shape
            assert function(z).dtype == dtype
            assert function(z).isfinite().all()
        torch.testing.assert_close(ours(z), theirs(z))


def _gradient(function: Function, z: float, dtype: torch.dtype = torch.float32) -> float:
    x = torch.tensor([z], dtype=dtype, requires_grad=True)
    return torch.autograd.grad(function(x).sum(), x)[0].item()


def test_where_autograd_through_the_formulas_fails_is_what_the_module_says() -> None:
    nan = {name for name, (ours, _, _) in EACH.items() if name != "step" and math.isnan(_gradient(ours, -1e4))}
    doc = " ".join(act.__doc__.split())
    assert nan == {"sigmoid", "tanh", "silu"}
    assert "sigmoid, tanh and silu have NaN for a gradient" in doc
    assert "in float32 below z = -89, tanh below -45" in doc
    for name, edge in (("sigmoid", -89), ("silu", -89), ("tanh", -45)):
        assert math.isnan(_gradient(EACH[name][0], edge))
        assert math.isfinite(_gradient(EACH[name][0], edge + 1))
    tiny = torch.tensor([1e-8])
    assert act.tanh(tiny) == 0 != torch.tanh(tiny)
    assert "up to rounding: tanh of a tiny z, for example, rounds to 0" in doc


@pytest.mark.parametrize("alpha", [1.0, 1.7])
def test_autograd_through_elu_has_torchs_slopes_also_at_the_kink(alpha: float) -> None:
    for z in (-200.0, -1.0, 0.0, 1.0, 200.0):
        assert _gradient(lambda x: act.elu(x, alpha), z) == _gradient(lambda x: F.elu(x, alpha), z)


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4, 5)])
def test_prelu_learns_one_slope_or_one_for_each_channel(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for count in {1, shape[1] if len(shape) > 1 else 1}:
        z = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        weight = torch.rand(count, dtype=torch.float64, requires_grad=True)
        assert torch.equal(act.prelu(z, weight), F.prelu(z, weight))
        by_z, by_weight = torch.autograd.grad(F.prelu(z, weight).sum(), (z, weight))
        assert torch.equal(act.prelu_derivative(z, weight), by_z)
        assert by_weight.sum().item() == pytest.approx(z.clamp(max=0).sum().item())  # as the docstring says


RANGES = {  # infimum and supremum, as the docstrings say
    "linear": (-math.inf, math.inf), "step": (0, 1), "sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, math.inf),
    "leaky_relu": (-math.inf, math.inf), "elu": (-1, math.inf), "gelu": (-0.17, math.inf), "silu": (-0.2785, math.inf),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_ranges_saturation_and_center(name: str) -> None:
    ours, derivative, _ = EACH[name]
    z = torch.linspace(-1e3, 1e3, 2_000_001, dtype=torch.float64)
    low, high = RANGES[name]
    values = ours(z)
    assert values.min().item() == pytest.approx(low, abs=1e-4) if math.isfinite(low) else values.min() < -9
    assert values.max().item() == pytest.approx(high, abs=1e-4) if math.isfinite(high) else values.max() > 999
    flat = [bool(derivative(z[[end]]).abs() < 1e-6) for end in (0, -1)]
    doc = " ".join(getattr(act, name).__doc__.split())
    said = {"Saturates on both sides": [True, True], "Saturates everywhere": [True, True],
            "Saturates on the left": [True, False], "Never saturates": [False, False],
            "Does not saturate": [False, False]}  # fmt: skip
    assert [pair for words, pair in said.items() if words in doc] == [flat]
    odd = torch.allclose(ours(-z), -values)
    assert odd == ("Not zero-centered" not in doc) == ("Zero-centered" in doc)


def test_minima_of_gelu_and_silu_lie_where_their_derivatives_change_sign() -> None:
    for name, place in (("gelu", -0.75), ("silu", -1.28)):
        ours, derivative, _ = EACH[name]
        z = torch.linspace(-3, 0, 30_001, dtype=torch.float64)
        assert z[ours(z).argmin()].item() == pytest.approx(place, abs=0.01)
        assert (derivative(z[z < place - 0.01]) < 0).all()
        assert (derivative(z[z > place + 0.01]) > 0).all()


scores = st.lists(st.floats(-50, 50), min_size=2, max_size=6)


@settings(max_examples=80, deadline=None)
@given(scores, st.floats(0.1, 10), st.floats(-1e4, 1e4))
def test_softmax(row: list[float], temperature: float, shift: float) -> None:
    z = torch.tensor([row, row[::-1]], dtype=torch.float64)
    p = act.softmax(z, temperature=temperature)
    torch.testing.assert_close(p, F.softmax(z / temperature, dim=-1))
    torch.testing.assert_close(p.sum(-1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(act.softmax(z + shift, temperature=temperature), p, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(act.softmax(z, dim=0), F.softmax(z, dim=0))


@settings(max_examples=40, deadline=None)
@given(scores, st.floats(0.3, 10))
def test_softmax_derivative_is_the_jacobian(row: list[float], temperature: float) -> None:
    z = torch.tensor(row, dtype=torch.float64)
    found = act.softmax_derivative(z, temperature)
    expected = torch.autograd.functional.jacobian(lambda z: F.softmax(z / temperature, dim=-1), z)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    batch = act.softmax_derivative(torch.stack([z, z.flip(0)]), temperature)
    assert batch.shape == (2, len(row), len(row))
    assert torch.equal(batch[0], found)


def test_softmax_survives_large_and_infinite_scores() -> None:
    z = torch.tensor([[1e4, 0.0, -torch.inf], [-1e4, -1e4, -2e4]])
    assert act.softmax(z).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]
    assert torch.equal(act.softmax(z), F.softmax(z, dim=-1))


def test_softmax_of_two_scores_is_a_sigmoid() -> None:
    z = torch.linspace(-30, 30, 61, dtype=torch.float64)
    pair = act.softmax(torch.stack([z, torch.zeros_like(z)], dim=-1))
    torch.testing.assert_close(pair[:, 0], act.sigmoid(z))


def test_errors_say_what_to_do() -> None:
    z = torch.zeros(2, 3)
    with pytest.raises(TypeError, match=r"expected a tensor, got float; write torch.tensor"):
        act.sigmoid(0.5)  # type: ignore[arg-type]
    for function, _, _ in EACH.values():
        with pytest.raises(TypeError, match=r"floating-point numbers, got torch.int64; call .float"):
            function(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"expected temperature > 0, got 0; for the limit 0, use argmax"):
        act.softmax(z, temperature=0)
    with pytest.raises(ValueError, match="expected temperature > 0, got nan"):
        act.softmax(z, temperature=math.nan)
    for bad in ("1", None):
        with pytest.raises(TypeError, match="expected temperature as a number"):
            act.softmax(z, temperature=bad)  # type: ignore[arg-type]
    for empty, dim in ((torch.empty(0), -1), (torch.empty(2, 0, 3), 1)):
        with pytest.raises(ValueError, match=rf"expected scores along dim={dim}, got shape .*; give at least one"):
            act.softmax(empty, dim)
    for weight in ([0.1], 0.1):
        with pytest.raises(TypeError, match="expected weight as a torch tensor, got"):
            act.prelu(z, weight)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected weight with floating-point numbers, got torch.int64"):
        act.prelu(z, torch.tensor([1]))
    with pytest.raises(ValueError, match=r"weight of shape \(1,\) or \(3,\), got \(2,\); one per channel"):
        act.prelu(z, torch.ones(2))


def test_all_names_come_in_pairs() -> None:
    functions = {name for name in act.__all__ if not name.endswith("_derivative")}
    assert {name + "_derivative" for name in functions} | functions == set(act.__all__)
    assert functions == {name.split()[0] for name in EACH} | {"prelu", "softmax"}
