"""The convolution by loops against ``torch.nn.Conv2d``, its gradients against finite differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvbook.convolution import conv2d, output_size
from cvbook.convolution.direct import PADDING_MODES, check_conv_input, pad

quiet = settings(max_examples=60, deadline=None, derandomize=True)
pairs = {name: st.tuples(st.integers(low, 3), st.integers(low, 3)) for name, low in [("one", 1), ("zero", 0)]}


@st.composite
def settings_of_conv(draw):
    groups = draw(st.integers(1, 3))
    kernel, dilation = draw(pairs["one"]), draw(pairs["one"])
    size = tuple(draw(st.integers(max(4, d * (k - 1) + 1), 11)) for k, d in zip(kernel, dilation, strict=True))
    return {
        "batch": draw(st.integers(0, 2)),
        "c_in": groups * draw(st.integers(1, 2)),
        "c_out": groups * draw(st.integers(1, 2)),
        "size": size,
        "kernel_size": kernel,
        "stride": draw(pairs["one"]),
        "padding": draw(pairs["zero"]),
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(PADDING_MODES)),
    }


@quiet
@given(settings_of_conv(), st.integers(0, 2**31))
def test_equals_torch_with_gradients(case, seed):
    torch.manual_seed(seed)
    batch, c_in, c_out, size = (case.pop(key) for key in ("batch", "c_in", "c_out", "size"))
    layer = nn.Conv2d(c_in, c_out, **case, dtype=torch.float64)
    x = torch.randn(batch, c_in, *size, dtype=torch.float64, requires_grad=True)
    options = {key: case[key] for key in ("stride", "padding", "dilation", "groups", "padding_mode")}
    ours, theirs = conv2d(x, layer.weight, layer.bias, **options), layer(x)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    expected_shape = tuple(
        output_size(size[a], case["kernel_size"][a], **{k: case[k][a] for k in ("stride", "padding", "dilation")})
        for a in (0, 1)
    )
    assert theirs.shape[2:] == expected_shape
    inputs = [x, *layer.parameters()]
    direction = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, inputs, direction), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_first_and_second_derivatives(mode):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def f(*inputs):
        return conv2d(*inputs, stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2, padding_mode=mode)

    assert torch.autograd.gradcheck(f, (x, weight, bias))
    assert torch.autograd.gradgradcheck(f, (x, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_keeps_the_dtype(dtype):
    x, weight = torch.ones(1, 2, 4, 4, dtype=dtype), torch.ones(3, 2, 3, 3, dtype=dtype)
    y = conv2d(x, weight, torch.ones(3, dtype=dtype))
    assert y.dtype == dtype
    assert (y == 19).all()


@quiet
@given(*[st.integers(1, 12)] * 2, st.integers(1, 5), st.integers(0, 4), st.integers(1, 4))
def test_output_size_counts_the_windows_that_fit(n, k, s, p, d):
    count = len([i for i in range(0, n + 2 * p, s) if i + d * (k - 1) <= n + 2 * p - 1])
    if count:
        assert output_size(n, k, stride=s, padding=p, dilation=d) == count
    else:
        with pytest.raises(ValueError, match="fits into the padded input"):
            output_size(n, k, stride=s, padding=p, dilation=d)


def test_output_size_is_exact_for_huge_sizes():
    assert output_size(10**30 + 2, 2, stride=10**15) == 10**15 + 1


@quiet
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from(PADDING_MODES),
    st.data(),
)
def test_pad_equals_torch(height, width, p_h, p_w, mode, data):
    x = torch.arange(height * width, dtype=torch.float64).reshape(1, height, width)
    too_large = {"reflect": p_h >= height or p_w >= width, "circular": p_h > height or p_w > width}.get(mode, False)
    if too_large:
        with pytest.raises(ValueError, match="for padding_mode="):
            pad(x, (p_h, p_w), mode)
        return
    name = "constant" if mode == "zeros" else mode
    expected = torch.nn.functional.pad(x, (p_w, p_w, p_h, p_h), mode=name)
    assert torch.equal(pad(x, (p_h, p_w), mode), expected)


X, W = torch.zeros(1, 4, 6, 6), torch.zeros(2, 4, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        ((torch.zeros(28, 28), W), {}, ValueError, r"\(B, C, H, W\), got \(28, 28\); .*x\[None, None\]"),
        ((X[0], W), {}, ValueError, r"got \(4, 6, 6\); add a batch axis: x\[None\]"),
        ((X[None], W), {}, ValueError, "bring it to four axes"),
        ((X, W[0, 0]), {}, ValueError, r"got \(3, 3\); bring it to four axes: weight\[None, None\]"),
        ((X, W[0, 0, 0]), {}, ValueError, r"got \(3,\); bring it to four axes$"),
        ((X, torch.zeros(2, 3, 3, 3)), {}, ValueError, r"\(C_out, 4, k, k\) for 4 input channels in 1 group, got"),
        ((X, W), {"groups": 2}, ValueError, r"\(C_out, 2, k, k\) for 4 input channels in 2 groups"),
        ((X, W), {"groups": 3}, ValueError, "divide both channel counts, got groups=3"),
        ((X, W), {"groups": 0}, ValueError, "groups >= 1, got 0"),
        ((X, W), {"groups": 2.0}, TypeError, "groups to be an integer, got 2.0"),
        ((X, torch.zeros(2, 4, 7, 3)), {}, ValueError, "padded input of 6 pixels, got 7 taps"),
        ((X, W), {"dilation": 3}, ValueError, "3 taps with dilation 3, which span 7"),
        ((X, W), {"stride": 0}, ValueError, "stride >= 1, got 0"),
        ((X, W), {"stride": (1, -1)}, ValueError, "stride >= 1, got -1"),
        ((X, W), {"stride": (1, 1, 1)}, ValueError, r"pair \(height, width\)"),
        ((X, W), {"stride": 1.5}, TypeError, "stride to be an integer, got 1.5"),
        ((X, W), {"padding": -1}, ValueError, "padding >= 0, got -1"),
        ((X, W), {"padding": "same"}, TypeError, "padding to be an integer or a pair, got 'same'"),
        ((X, W), {"dilation": 0}, ValueError, "dilation >= 1, got 0"),
        ((X, W.double()), {}, TypeError, r"torch.float64 on cpu; use weight.to\(x\)"),
        ((X, W, torch.zeros(2).double()), {}, TypeError, r"use bias.to\(x\)"),
        ((X.byte(), W), {}, TypeError, r"x of a floating dtype, got torch.uint8; use x.float\(\)"),
        ((X.numpy(), W), {}, TypeError, "x to be a tensor, got ndarray"),
        ((X, None), {}, TypeError, "weight to be a tensor, got NoneType"),
        ((X, W, torch.zeros(3)), {}, ValueError, r"expected bias \(2,\).*got \(3,\)"),
        ((X, W, torch.zeros(())), {}, ValueError, r"expected bias \(2,\).*got \(\)"),
        ((X, W), {"padding_mode": "mirror"}, ValueError, "one of zeros, reflect, replicate, circular, got 'mirror'"),
        ((X, W), {"padding": 6, "padding_mode": "reflect"}, ValueError, "padding < size.*got padding 6 for 6 pixels"),
        ((X, W), {"padding": 7, "padding_mode": "circular"}, ValueError, "padding <= size"),
        ((X[:, :, :0], W), {"padding": 2}, ValueError, "x without an axis of length 0"),
        ((X, W[:, :, :0]), {}, ValueError, "weight without an axis of length 0"),
    ],
)
def test_one_clear_sentence(arguments, options, error, sentence):
    with pytest.raises(error, match=sentence):
        conv2d(*arguments, **options)
    with pytest.raises(error, match=sentence):
        check_conv_input(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((0, 3), {}, ValueError),
        ((5, 0), {}, ValueError),
        ((5, 3), {"stride": 0}, ValueError),
        ((5.0, 3), {}, TypeError),
    ],
)
def test_output_size_says_what_is_wrong(arguments, options, error):
    with pytest.raises(error, match="expected"):
        output_size(*arguments, **options)


def test_pad_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match="expected x to be a tensor, got list"):
        pad([[1.0]], 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected x \(..., H, W\), got \(3,\)"):
        pad(torch.zeros(3), 1)
    with pytest.raises(ValueError, match="expected a pixel to fill the border from"):
        pad(torch.zeros(0, 3), 1, "replicate")
