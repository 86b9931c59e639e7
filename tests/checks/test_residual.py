"""Each check takes right answers, written in two ways, and names what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook.checks import residual as checks
from cvbook.cnns import resnet


def rejects(verdict: Any, words: str) -> None:
    assert verdict.state == "wrong", verdict
    assert words in verdict.message


def test_stubs_are_not_attempted() -> None:
    class Empty(nn.Module):
        def __init__(self, in_channels, width, stride):
            super().__init__()

        def forward(self, x): ...

    class Half(Block):
        def forward(self, x): ...

    for answer in (Empty, Half, lambda *a: None, lambda *a: ..., None):
        assert checks.basic_block(answer).state == "not attempted"
    for check in (checks.convolution_weights, checks.input_gradient, checks.zero_init):
        for answer in (lambda *a: None, lambda *a: ..., None):
            assert check(answer).state == "not attempted"
    assert checks.convolution_weights(lambda c: (..., ...)).state == "not attempted"
    assert checks.convolution_weights(lambda c: (None, 1)).state == "not attempted"


class Block(nn.Module):
    """A right answer; each mistake is switched on by a subclass."""

    stride_at, bias, bare, always, mistake = 1, False, False, False, ""

    def __init__(self, in_channels, width, stride):
        super().__init__()
        first, second = (stride, 1) if self.stride_at == 1 else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=first, padding=1, bias=self.bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or in_channels != width or self.always:
            parts = [nn.Conv2d(in_channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)]
            self.downsample = nn.Sequential(*parts[: 1 if self.bare else 2])

    def forward(self, x):
        if self.mistake in ORDERS:
            return ORDERS[self.mistake](self, x)
        y = self.bn1(self.conv1(x))
        y = y if self.mistake == "inner" else y.relu()
        y = self.bn2(self.conv2(y))
        way = x if self.downsample is None else self.downsample(x)
        if self.mistake == "in place":
            way.add_(y)
            return way.relu()
        if self.mistake == "overwritten":
            return (y + (y if self.downsample is None else self.downsample(y))).relu()
        if self.mistake == "relu on the way":
            return (y + way.relu()).relu()
        if self.mistake == "product":
            return (y * way).relu()
        if self.mistake.startswith("early"):
            y = y.relu() + way
            return y if self.mistake == "early only" else y.relu()
        if self.mistake == "no last":
            return y + way
        if self.mistake == "plain":
            return y.relu()
        return torch.zeros_like(y) if self.mistake == "zeros" else (y + way).relu()


def half_way(b: Any, x: torch.Tensor) -> torch.Tensor:
    x = b.bn1(b.conv1(x)).relu()
    return (b.bn2(b.conv2(x)) + (x if b.downsample is None else b.downsample(x))).relu()


def around(b: Any, x: torch.Tensor) -> torch.Tensor:
    return x if b.downsample is None else b.downsample(x)


ORDERS: dict[str, Any] = {
    "half way": half_way,
    "no bn1": lambda b, x: (b.bn2(b.conv2(b.conv1(x).relu())) + around(b, x)).relu(),
    "bn1 twice": lambda b, x: (b.bn1(b.conv2(b.bn1(b.conv1(x)).relu())) + around(b, x)).relu(),
    "relu, then norm": lambda b, x: (b.bn2(b.conv2(b.bn1(b.conv1(x).relu()))) + around(b, x)).relu(),
    "late norm": lambda b, x: b.bn2(b.conv2(b.bn1(b.conv1(x)).relu()) + around(b, x)).relu(),
}


def variant(**settings: Any) -> type[Block]:
    return type("Variant", (Block,), settings)


def test_basic_block_accepts() -> None:
    assert checks.basic_block(Block).passed
    assert checks.basic_block(lambda c, w, s: resnet.BasicBlock(c, w, stride=s)).passed

    class Empty(Block):  # nothing to project: an empty chain instead of None
        def __init__(self, c, w, s):
            super().__init__(c, w, s)
            self.downsample = nn.Sequential() if self.downsample is None else self.downsample

    assert checks.basic_block(Empty).passed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mistake": "early only"}, "none comes after it"),
        ({"mistake": "early"}, "can never subtract; it belongs after it only"),
        ({"mistake": "no last"}, "ReLU after the addition is missing"),
        ({"mistake": "inner"}, "inner ReLU"),
        ({"mistake": "plain"}, "shortcut is not added"),
        ({"mistake": "zeros"}, "everything is zero"),
        ({"mistake": "in place"}, "overwrites its input"),
        ({"mistake": "overwritten"}, "x is overwritten on the way"),
        ({"mistake": "half way"}, "begins behind the first ReLU"),
        ({"mistake": "relu on the way"}, "a ReLU of its own"),
        ({"mistake": "no bn1"}, "first normalization is missing"),
        ({"mistake": "bn1 twice"}, "followed by bn1 again"),
        ({"mistake": "relu, then norm"}, "comes before the normalization"),
        ({"mistake": "late norm"}, "after the addition; it belongs to the branch"),
        ({"mistake": "product"}, "for 8 channels, width 8 and stride 1, eval mode, expected"),
        ({"stride_at": 2}, "stride is at the second convolution"),
        ({"bias": True}, "needs no bias"),
        ({"bare": True}, "*and* batch normalization"),
        ({"always": True}, "nothing has to be projected"),
    ],
)
def test_basic_block_names_the_mistake(settings: dict[str, Any], words: str) -> None:
    rejects(checks.basic_block(variant(**settings)), words)


def test_basic_block_names_missing_and_misshapen_parts() -> None:
    class Never(Block):
        def __init__(self, c, w, s):
            super().__init__(c, w, s)
            self.downsample = None

    class Other(Block):
        def __init__(self, c, w, s):
            super().__init__(c, w, s)
            self.norm2 = self.bn2
            del self.bn2

    class Bare(Block):
        def __init__(self, c, w, s):
            super().__init__(c, w, s)
            if self.downsample is not None:
                self.downsample = self.downsample[0]

    class Biased(Block):
        def __init__(self, c, w, s):
            super().__init__(c, w, s)
            if self.downsample is not None:
                self.downsample[0] = nn.Conv2d(c, w, 1, stride=s)

    class Channels(Block):
        def __init__(self, c, w, s):
            super().__init__(c, w, s)
            self.downsample = self.downsample if c != w else None

    rejects(checks.basic_block(Never), "it needs downsample")
    rejects(checks.basic_block(Channels), "for 8 channels, width 8 and stride 2")
    rejects(checks.basic_block(Bare), "downsample should be nn.Sequential")
    rejects(checks.basic_block(Biased), "downsample.0.bias: in front of batch normalization")
    rejects(checks.basic_block(Other), "expected a part named bn2")
    rejects(checks.basic_block(lambda c, w, s: Block(c, 2 * w, s)), "should have shape")
    rejects(checks.basic_block(lambda c, w, s: 3), "subclass of nn.Module")


def test_basic_block_says_which_step_does_not_fit() -> None:
    def changed(layer: str, **settings: Any) -> Any:
        class Changed(Block):
            def __init__(self, c, w, s):
                super().__init__(c, w, s)
                if conv := dict(self.named_modules()).get(layer):
                    for name, value in settings.items():
                        setattr(conv, name, value)

        return Changed

    for answer, words in [
        (changed("conv1", padding=(0, 0)), "width 8 and stride 1, conv1 should have padding 1, not 0"),
        (changed("conv2", stride=(2, 2)), "width 8 and stride 1, conv2 should have stride 1, not 2"),
        (changed("downsample.0", padding=(1, 1)), "downsample.0 should have padding 0, not 1"),
        (changed("downsample.0", stride=(1, 1)), "downsample.0 should have stride 2, not 1"),
        (changed("conv1", padding="valid"), "conv1 should have padding 1, not valid"),
        (changed("conv1", padding=(1, 0)), "conv1 should have padding 1, not (1, 0)"),
        (changed("conv2", groups=3), "your code stopped with"),
    ]:
        rejects(checks.basic_block(answer), words)


def test_basic_block_asks_for_a_forgotten_return() -> None:
    class Silent(Block):
        def forward(self, x):
            super().forward(x)

    verdict = checks.basic_block(Silent)
    assert verdict.state == "not attempted"
    assert "forward returned None" in verdict.message


def test_convolution_weights() -> None:
    def counted(c: int) -> tuple[int, int]:
        blocks = resnet.BasicBlock(c, c), resnet.Bottleneck(c, c // 4)
        return tuple(sum(p.numel() for p in b.parameters() if p.ndim == 4) for b in blocks)

    assert checks.convolution_weights(lambda c: (18 * c**2, 17 * c**2 // 16)).passed
    assert checks.convolution_weights(counted).passed
    assert checks.convolution_weights(lambda c: torch.tensor([18 * c**2, 17 * c**2 // 16])).passed
    for answer, words in [
        (lambda c: (9 * c * c, 17 * c * c // 16), "two convolutions"),
        (lambda c: (18 * c * c, 13 * c * c // 16), "restores the channels is missing"),
        (lambda c: (18 * c * c, 9 * c * c + c * c // 2), "a quarter of the channels"),
        (lambda c: (18 * c * c, 9 * c * c // 4 + c * c // 2), "belongs to a pair"),
        (lambda c: (6 * c * c, 11 * c * c // 16), "9 weights for each pair"),
        (lambda c: (18 * c * c + 2 * c, 17 * c * c // 16 + 1.5 * c), "biases"),
        (lambda c: (18 * c * c + 4 * c, 17 * c * c // 16 + 3 * c), "scales and offsets"),
        (lambda c: (18 * c * c, 17 * c * c), "4 c outside"),
        (lambda c: (18 * c * c + 1, 17 * c * c // 16), "for c = 64, the basic block has 73728 weights"),
        (lambda c: (18 * c * c, c * c), "the bottleneck has 4352 weights in convolutions, not 4096"),
        (lambda c: (1, 2, 3), "expected two numbers"),
        (lambda c: ("a", 1), "expected a number for the basic block"),
        (lambda c: (1_179_648, 69_632), "use the argument"),
        (lambda c: (17 * c * c // 16, 18 * c * c), "swapped"),
        (lambda c: (18 * c * c, 11 * c * c // 16), "1x1 convolution between c and c/4"),
        (lambda c: (18 * c * c // 16, 17 * c * c // 16), "c wide throughout"),
        (lambda c: (9 * c * c, 13 * c * c // 16), "two convolutions"),  # two mistakes: the first is named
        (lambda c: (17 * c * c // 16, 17 * c * c // 16), "the basic block has 73728 weights in convolutions, not 4352"),
        (lambda c: (0, 0), "everything is zero"),
        (lambda c: 18, "expected two numbers"),
    ]:
        rejects(checks.convolution_weights(answer), words)


def gradient(branch, shortcut, x, upstream, mistake=""):
    if mistake in ("cut", "cut, too"):
        shown = upstream if mistake == "cut" else upstream * (branch(x) + (x if shortcut is None else shortcut(x)) > 0)
        return gradient(branch, shortcut, x, shown * (upstream > 0), "no mask")
    x = x.clone().requires_grad_()
    way = x if shortcut is None else shortcut(x)
    f = branch(x)
    if mistake == "mask twice":
        return gradient(branch, shortcut, x, upstream) * (f + way > 0)
    if mistake == "times output":
        return gradient(branch, shortcut, x, upstream * (f + way).relu().detach())
    seen = f if mistake == "branch mask" else f + way
    seen = x if mistake == "x mask" else f + x if mistake in ("never", "x in mask") else seen
    if mistake == "mask last":
        return gradient(branch, shortcut, x, upstream, "no mask") * (seen > 0)
    g = upstream if mistake == "no mask" else upstream * (seen > 0)
    through = torch.autograd.grad(f, x, upstream if mistake == "branch unmasked" else g)[0]
    if mistake == "branch only":
        return through
    if mistake == "number":
        return through + 1
    if mistake == "value":
        return through + way
    if mistake == "forward" and shortcut is not None:
        return through + shortcut(g)
    around = upstream if mistake == "way unmasked" else g
    if shortcut is not None and mistake not in ("one", "never"):
        around = torch.autograd.grad(way, x, around)[0]
    return around if mistake == "way only" else through + around


def test_input_gradient_accepts() -> None:
    def by_autograd(branch, shortcut, x, upstream):
        x = x.detach().requires_grad_()
        y = (branch(x) + (shortcut(x) if shortcut else x)).relu()
        (y * upstream).sum().backward()
        return x.grad

    assert checks.input_gradient(gradient).passed
    assert checks.input_gradient(lambda b, s, x, u: by_autograd(b, s, x.clone(), u)).passed


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("no mask", "after the addition is missing"), ("branch mask", "taken from the branch"),
        ("branch unmasked", "the branch is not masked"),
        ("way unmasked", "the shortcut is not masked"), ("branch only", "branch alone"), ("number", "as a number"),
        ("one", "a projection is no identity"), ("way only", "shortcut alone"),
        ("x mask", "mask is taken from x"), ("mask last", "the mask comes last"), ("never", "shortcut is never used"),
        ("x in mask", "the mask takes x"), ("cut", "upstream itself is cut off"), ("cut, too", "negative, too"),
        ("mask twice", "the mask is there twice"), ("times output", "multiplied by the output of the ReLU"),
        ("value", "the value of the shortcut is added"), ("forward", "not forward; use pull"),
    ],
)  # fmt: skip
def test_input_gradient_names_the_mistake(mistake: str, words: str) -> None:
    rejects(checks.input_gradient(lambda *a: gradient(*a, mistake=mistake)), words)


def test_input_gradient_wants_its_inputs_back() -> None:
    rejects(checks.input_gradient(lambda b, s, x, u: u.mul_(2)), "in place")
    rejects(checks.input_gradient(lambda b, s, x, u: u * (b(x) + s(x) > 0)), "shortcut is None where")
    rejects(checks.input_gradient(lambda b, s, x, u: len(3)), "your code stopped with TypeError")
    rejects(checks.input_gradient(lambda b, s, x, u: torch.zeros_like(x)), "everything is zero")


def zero(*names: str, first: int = 0) -> Any:
    def answer(blocks):
        for block in blocks[first:]:
            for name, p in block.named_parameters():
                if name in names:
                    nn.init.zeros_(p)

    return answer


def test_zero_init_accepts() -> None:
    def by_hand(blocks):
        for block in blocks:
            block.bn2.weight = nn.Parameter(torch.zeros(len(block.bn2.weight)))

    assert checks.zero_init(zero("bn2.weight")).passed
    assert checks.zero_init(zero("bn2.weight", "bn2.bias")).passed
    assert checks.zero_init(by_hand).passed
    assert "last scale" in checks.zero_init(by_hand).message
    verdict = checks.zero_init(zero("conv2.weight"))
    assert verdict.passed
    assert "many times the usual one" in verdict.message
    assert "offsets of normalization are zero" in checks.zero_init(zero("bn2.bias")).message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (zero("conv2.weight", "bn2.weight"), "each gets its gradient through the other"),
        (zero("conv1.weight", "bn2.weight"), "zero conv1.weight the ReLU passes no gradient"),
        (zero("conv1.weight"), "zero conv1.weight the ReLU passes no gradient"),
        (zero("bn1.weight"), "zero bn1.weight the ReLU passes no gradient: the branch never wakes up"),
        (zero("bn2.weight", "downsample.1.weight"), "passes nothing at all"),
        (zero("bn2.weight", first=1), "only 2 of 3 branches start at zero; block 0"),
        (lambda bs: [nn.init.zeros_(b.bn2.weight) for b in bs if not b.downsample], "block 1 still adds its own"),
        (lambda bs: [nn.init.constant_(b.bn2.weight, 1e-9) for b in bs], "almost its shortcut, not exactly"),
        (lambda bs: [nn.init.constant_(b.bn2.weight, 0.5) for b in bs], "no branch starts at zero"),
        (lambda bs: [nn.init.zeros_(b.bn2.weight).requires_grad_(False) for b in bs], "frozen"),
        (lambda bs: bs.clear(), "list itself"),
        (lambda bs: [setattr(b, "bn2", nn.Identity()) for b in bs], "lost or gained a part"),
        (lambda bs: [(nn.init.zeros_(b.bn2.weight), nn.init.ones_(b.bn2.bias)) for b in bs], "up to the offset"),
        (lambda bs: [(nn.init.zeros_(b.conv2.weight), nn.init.ones_(b.bn2.bias)) for b in bs], "up to the offset"),
    ],
)
def test_zero_init_names_the_mistake(answer: Any, words: str) -> None:
    rejects(checks.zero_init(answer), words)


def wake(*names: str) -> dict[str, float]:
    """The largest gradient of each weight in the branch of a block in which ``names`` are zero."""
    torch.manual_seed(0)
    block = resnet.BasicBlock(4, 4)
    zero(*names)([block])
    F.mse_loss(block(torch.randn(4, 4, 8, 8)), torch.randn(4, 4, 8, 8)).backward()
    weights = ("conv1.weight", "bn1.weight", "conv2.weight", "bn2.weight")
    return {name: p.grad.abs().max().item() for name, p in block.named_parameters() if name in weights}


def test_the_mistakes_are_as_bad_as_the_check_says() -> None:
    """Zeros before the inner ReLU, or two zeros behind it, starve the branch for good; one zero behind it does not."""
    for names in (("conv1.weight",), ("bn1.weight",), ("conv1.weight", "bn2.weight"), ("conv2.weight", "bn2.weight")):
        assert max(wake(*names).values()) < 1e-6, names
    assert wake("bn2.weight")["bn2.weight"] > 1e-6
    assert wake("conv2.weight")["conv2.weight"] > 20 * wake()["conv2.weight"]
