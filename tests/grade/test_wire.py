"""What crosses from one process to the other, and what a forged message can do (nothing)."""

from __future__ import annotations

import contextlib
import json
import math
import random
import socket
import struct
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook.checks.by_hand import by_hand
from cvbook.checks.verdict import Wrong
from cvbook.grade.judge import answers_of
from cvbook.grade.messages import Broken, Ended, send
from cvbook.grade.student import serve_calls
from cvbook.neuron.autograd import Value

Far = Callable[[Callable[..., Any]], Callable[..., Any]]


@pytest.fixture
def far() -> Iterator[Far]:
    """Makes a function run at the other end of a wire."""
    sockets: list[socket.socket] = []

    def serve(to: socket.socket, function: Callable[..., Any]) -> None:
        with contextlib.suppress(Ended, Broken), to:
            serve_calls(to, {"f": function})

    def sent(function: Callable[..., Any]) -> Any:
        ours, its = socket.socketpair()
        sockets.append(ours)
        threading.Thread(target=serve, args=(its, function), daemon=True).start()
        return answers_of(ours, ["f"])["f"]

    yield sent
    for one in sockets:
        one.close()


VALUES = [
    None, True, False, 0, -3, 10**30, 1.5, math.inf, -0.0, "text", "ä\ud800", ..., 1 + 2j, b"bytes", (1, (2, 3)), [],
    [1, [2]], {1: 2, "a": [3]}, {1, 2}, range(3), torch.float32, torch.Size([1, 2]), np.float32(1.5), np.int64(3),
    np.bool_(True),
]  # fmt: skip
NUMBERS = [
    torch.randn(2, 3), torch.tensor(1.5), torch.empty(0, 3), torch.arange(3), torch.tensor([True]),
    torch.randn(2, dtype=torch.bfloat16), torch.randn(2, dtype=torch.complex64).conj(), torch.randn(3, 2).T,
    torch.eye(3).to_sparse(), nn.Parameter(torch.ones(2)), np.arange(6).reshape(2, 3)[:, ::2], np.array(1.0),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_arrive_as_they_are(far: Far, value: Any) -> None:
    seen = []
    got = far(lambda x: (seen.append(x), x)[1])(value)
    for one in (got, *seen):
        assert type(one) is type(value)
        assert one == value


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: type(value).__name__)
def test_numbers_arrive_as_they_are(far: Far, value: Any) -> None:
    expected = value.detach().to_dense() if isinstance(value, torch.Tensor) else value
    got = far(lambda: value)()
    assert type(got) is type(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert (got == expected).all()


def test_nan_arrives(far: Far) -> None:
    assert math.isnan(far(lambda x: x)(math.nan))


def test_what_is_no_data_keeps_the_name_of_its_class(far: Far) -> None:
    class Odd:
        pass

    assert type(far(lambda: Odd())()).__name__ == "Odd"
    assert type(far(lambda: (x for x in ()))()).__name__ == "generator"
    assert type(far(lambda: torch.empty(2, device="meta"))()).__name__ == "Tensor"
    assert type(far(lambda: np.array([object()]))()).__name__ == "ndarray"


def test_other_containers_of_numbers_arrive_as_arrays(far: Far) -> None:
    for value in (deque([1, 2]), array("d", [1, 2]), memoryview(bytes([1, 2])), np.ma.array([1, 2])):
        assert far(lambda value=value: value)().tolist() == [1, 2]  # type: ignore[misc]


def test_modules_from_here_are_built_where_modules_are_built_there(far: Far) -> None:
    def build() -> nn.Module:
        return nn.Linear(2, 2)

    def there(build: Callable[[], nn.Module]) -> str:
        with torch.device("meta"):
            return build().weight.device.type  # type: ignore[union-attr, no-any-return]

    assert far(there)(build) == "meta"


def test_rules_hold_for_functions_and_modules(far: Far) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, torch.ones(1, 1, 1, 1))

    for answer in (Net(), Net().forward):
        with pytest.raises(Wrong, match=r"calls F.conv2d"):
            by_hand(far(lambda answer=answer: answer)(), "F.conv2d")(torch.ones(1, 1, 2, 2))  # type: ignore[misc]
        with pytest.raises(Wrong, match=r"calls F.conv2d"):
            by_hand(answer, "F.conv2d")(torch.ones(1, 1, 2, 2))


def test_changed_arguments_come_back(far: Far) -> None:
    def change(items: list[int], table: dict[str, int], t: torch.Tensor, a: Any, same: list[int]) -> None:
        items.append(4)
        table.clear()
        t.mul_(2)
        a[0] = 7

    items, table, t, a, same = [1], {"a": 1}, torch.ones(2), np.zeros(2), [5]
    far(change)(items, table, t, a, same)
    assert (items, table, t.tolist(), a.tolist(), same) == ([1, 4], {}, [2, 2], [7, 0], [5])


def test_a_result_may_be_an_argument(far: Far) -> None:
    x, pair = torch.ones(2), [1]
    got = far(lambda t, p: (t, {"p": p}, t))(x, pair)
    assert got[0] is x
    assert got[2] is x
    assert got[1]["p"] is pair


def test_one_list_twice_is_one_list(far: Far) -> None:
    both: list[Any] = [1]
    a, b = far(lambda p, q: (p is q, [p, p]))(both, both)
    assert a
    assert b[0] is both


def test_a_graph_of_values_keeps_its_leaves(far: Far) -> None:
    a, b = Value(2), Value(3)
    got = far(lambda p, q: p * q + p)(a, b)
    assert isinstance(got, Value)
    got.backward()
    assert (got.data, a.grad, b.grad) == (8, 4, 2)


def test_functions_are_called_where_they_live(far: Far) -> None:
    here: list[float] = []

    def phi(z: torch.Tensor) -> torch.Tensor:
        here.append(float(z))
        return 2 * z

    assert float(far(lambda f, z: f(f(z)))(phi, torch.tensor(3.0))) == 12
    assert here == [3.0, 6.0]
    later = far(lambda factor: lambda x: factor * x)(3)
    assert later(5) == 15
    assert far(lambda f: f(-1.0))(abs) == 1
    assert torch.equal(far(lambda f, x: f(x))(F.relu, torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))


def test_modules_here_are_like_modules_there(far: Far) -> None:
    net = far(lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(4, 2)))()
    assert isinstance(net, nn.Sequential)
    convolution, _norm, linear = list(net.modules())[1:]
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.kernel_size == (1, 1)
    assert convolution.weight.shape == (3, 2, 1, 1)
    assert [name for name, _ in linear.named_parameters()] == ["weight", "bias"]
    assert sum(p.numel() for p in net.parameters()) == 9 + 6 + 10
    other = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(4, 2))
    net.load_state_dict(other.state_dict())
    x = torch.randn(2, 2, 3, 4)
    for training in (False, True):
        assert torch.equal(net.train(training)(x), other.train(training)(x).detach())
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({})


def test_a_module_that_is_given_can_be_changed(far: Far) -> None:
    def change(layers: list[nn.Linear]) -> nn.Module:
        layers[0].weight.data.zero_()
        return layers[0]

    linear = nn.Linear(2, 2)
    assert far(change)([linear]) is linear
    assert not linear.weight.any()


def test_the_reference_cannot_be_changed_by_a_method(far: Far) -> None:
    class Greedy(nn.Module):
        def load_state_dict(self, state: Any) -> None:
            for value in state.values():
                value.zero_()

    reference = nn.Linear(2, 2)
    far(Greedy)().load_state_dict(reference.state_dict())
    assert reference.weight.all()


def raised(error: BaseException) -> None:
    raise error


class OwnError(ValueError):
    """A class that the other side does not know."""


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("a"), ValueError, "a"), (OwnError("b"), ValueError, "b"), (Wrong("c"), Wrong, "c"),
        (NotImplementedError(), NotImplementedError, ""), (np.linalg.LinAlgError("d"), ValueError, "d"),
        (KeyboardInterrupt(), Exception, ""), (SystemExit(3), SystemExit, ""),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "e"), Exception, "can't decode"), (StopIteration(4), Exception, "4"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_exceptions_keep_their_kind(far: Far, error: BaseException, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text or None) as found:
        far(lambda: raised(error))()
    if kind is not SystemExit:
        assert type(found.value).__name__ == type(error).__name__
        assert bool(found.value.args) == bool(error.args)


def test_an_exception_in_a_function_from_here_comes_back(far: Far) -> None:
    def stop(x: float) -> None:
        raise Wrong(f"not {x}")

    with pytest.raises(Wrong, match="not 3"):
        far(lambda f: f(3))(stop)
    assert far(caught)(stop) == "not 3"


def caught(f: Callable[..., Any]) -> str:
    try:
        f(3)
    except Exception as error:
        return str(error)
    return ""


def answering(message: bytes) -> Any:
    """A judge's call of a function at whose other end somebody sends these bytes."""
    ours, its = socket.socketpair()
    with ours, its:
        head = json.dumps(["value", ["mine", 0, "function", "f"], []]).encode()
        its.sendall(struct.pack(">I", len(head)) + head + message)
        its.shutdown(socket.SHUT_WR)
        return answers_of(ours, ["f"])["f"]([1, torch.ones(2)], {"a": [2]})


def forged(tree: Any) -> bytes:
    a, b = socket.socketpair()
    with a, b:
        b.settimeout(5)
        send(a, tree)
        return b.recv(2**16)


BAD = [
    b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\5nulls", b"\0\0\0\4null", b"\0\0\0\x0d{\"bytes\": -1}",
    b"\0\0\0\x14{\"bytes\": 99999999999}"[:4] + b"{\"bytes\": 9999999999}", b"\0\0\0\1[",
    *(forged(tree) for tree in (
        ["value", ["pickle", b"cos\nsystem\n(S'true'\ntR."], []], ["value", ["new", 0, "pickle", b"N."], []],
        ["value", ["known", 7], []], ["value", ["argument", 99], []], ["value", ["yours", 0], []], ["value"],
        ["oops", 1, []], ["value", ["new", 0, "tensor", "float32", [2, 2], b"1234"], []],
        ["value", ["new", 0, "tensor", "evil", [1], b"1"], []],
        ["value", ["new", 0, "array", "|O", [1], b"12345678"], []], ["value", ["new", 0, "list", 5], []],
        ["value", ["new", 0, "dict", [[["new", 1, "list", []], 1]]], []], ["value", 1, [[0, ["dict", []]]]],
        ["value", 1, 5], ["raised", 5, 6, 7, []], ["raised", [], "", False, []], ["call", 5, "", [], [], []],
        ["call", 0, "__class__", ["new", 0, "list", []], ["new", 1, "dict", []], []], ["value", ["range", 1, 2, 0], []],
        ["value", ["mine", 5, "module", "x"], []], ["value", ["tuple", 3], []],
        ["value", ["new", 0, "tensor", "uint8", [1, 10**6], b""], []], ["value", ["data", 10**6], []],
    )),
]  # fmt: skip


@pytest.mark.parametrize("message", BAD, ids=lambda message: message[:30].hex())
def test_a_forged_message_is_broken(message: bytes) -> None:
    with pytest.raises((Broken, Ended)):
        answering(message)


def test_random_trees_do_nothing_but_fail() -> None:
    dice = random.Random(0)
    words = ["value", "raised", "call", "new", "mine", "argument", "yours", "tuple", "list", "dict", "Value", "tensor",
             "array", "weights", "module", "function", "float32", "<f8", "size", "range", "pickle",
             "torch.nn.modules.linear"]  # fmt: skip

    def tree(depth: int) -> Any:
        if depth == 0 or dice.random() < 0.3:
            return dice.choice([*words, 0, 1, 2, -1, 1.5, None, True, "x", b"12345678"])
        return [tree(depth - 1) for _ in range(dice.randrange(5))]

    for _ in range(2000):
        start = dice.choice([["value"], ["raised"], ["call"], []])
        with contextlib.suppress(Broken, Ended, Exception):
            answering(forged([*start, *(tree(4) for _ in range(dice.randrange(4))), dice.choice([[], [[0, tree(3)]]])]))
