"""Pass calls and values between the process that judges and the one that runs a student's code.

What a student's process sends is data: numbers, text, containers, tensors, and numbers of objects that stay where they
are. Nothing of it is unpickled or imported, and names in it can only choose among Python's exceptions and PyTorch's
modules, so no value can act in the process that judges.

Containers and tensors are copied; a call sends back those of its arguments that it has changed, and a result may be,
or hold, one of the arguments. All else stays where it is, and the other side gets something that stands for it.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import re
import socket
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvbook.grade.arrays import DTYPES, NUMBERS, array_tree, as_array, from_tree, tensor_tree
from cvbook.grade.messages import Broken, Ended, Tree, exception, receive, send, told
from cvbook.neuron.autograd import Value

__all__ = ["Wire"]

BY_NAME = (types.FunctionType, types.BuiltinFunctionType, type, functools.partial)  # what pickle sends by its name
LIBRARIES = ("torch.nn.modules.", "torchvision.models.", "torchvision.ops.")
ODD = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError)  # of forged messages


class _Scope:
    """The objects of one call that may change; they have the same places on both sides."""

    def __init__(self) -> None:
        self.objects: dict[int, Any] = {}
        self.places: dict[int, int] = {}  # id -> place

    def add(self, value: Any, place: int | None = None) -> int:
        place = len(self.objects) if place is None else place
        self.places[id(value)], self.objects[place] = place, value
        return place


class Wire:
    """One end of the connection.

    Args:
        to: the socket.
        trusts: whether the other side may send pickles: the process with a student's code trusts the one that judges,
            never the other way round.
        mine: objects that the other side may call by these numbers before it was sent any.
    """

    def __init__(self, to: socket.socket, *, trusts: bool, mine: list[Any] | None = None) -> None:
        self.to, self.trusts = to, trusts
        self.mine: list[Any] = list(mine or [])  # what stays here and the other side knows
        self.numbers = {id(value): number for number, value in enumerate(self.mine)}
        self.theirs: dict[int, Any] = {}  # what stands for objects of the other side
        self.their_numbers: dict[int, int] = {}

    def call(self, number: int, method: str, inputs: tuple[Any, ...], settings: dict[str, Any], rules: Any = ()) -> Any:
        """Call an object of the other side, and answer its calls meanwhile.

        Raises:
            Exception: what the call raised, as the nearest exception that Python itself has.
        """
        scope = _Scope()
        tree = [self.encode(list(inputs), scope), self.encode(settings, scope)]
        count = 0 if method else len(scope.objects)
        send(self.to, ["call", number, method, *tree, list(rules)])
        while True:
            message = receive(self.to)
            try:
                kind, *rest = message
                if kind == "call":
                    self.answer(rest)
                    continue
                changed = rest.pop()
                found = self.decode(rest[0], scope) if kind == "value" else exception(*rest)
                for place, state in changed:
                    if 0 <= place < count:
                        self._assign(scope.objects[place], state, scope)
            except ODD:
                raise Broken from None
            if kind == "value":
                return found
            raise found

    def answer(self, message: list[Any]) -> None:
        """Do what the other side calls for, and send the result."""
        number, method, inputs_tree, settings_tree, rules = message
        scope, target = _Scope(), self.mine[number]
        inputs, settings = self.decode(inputs_tree, scope), self.decode(settings_tree, scope)
        target = self.prepare(target, method, rules)
        before = self._states(scope, len(scope.objects)) if self.trusts and not method else []
        try:
            reply = ["value", self.encode(target(*inputs, **settings), scope)]
        except (Ended, Broken):
            raise
        except BaseException as error:
            reply = ["raised", *told(error)]
        after = self._states(scope, len(before))
        changed = [
            [place, now]
            for place, (now, old) in enumerate(zip(after, before, strict=True))
            if now is not None and now != old
        ]
        try:
            send(self.to, [*reply, changed])
        except (TypeError, ValueError, RecursionError):
            send(self.to, ["raised", *told(ValueError("the result cannot be read")), []])

    def prepare(self, target: Any, method: str, rules: list[list[str]]) -> Any:
        """What is called in place of ``target``, for a method of it and under rules."""
        if method or rules or not callable(target):
            raise Broken
        return target

    def foreign(self, kind: str, number: int, details: list[Any]) -> Any:
        """What stands for an object of the other side: a function, or an empty object of the same class name."""
        name = re.sub(r"\W", "", str(details[0]))[:60] or "object"
        return self.function(number, name, []) if kind == "function" else type(name, (), {})()

    def function(self, number: int, name: str, rules: list[list[str]]) -> Callable[..., Any]:
        """A function of the other side that runs under these rules (see `cvbook.checks.by_hand.under`)."""

        def call(*inputs: Any, **settings: Any) -> Any:
            return self.call(number, "", inputs, settings, rules)

        call.__name__ = call.__qualname__ = name
        if not self.trusts:
            call.under = lambda *rule: self.function(number, name, [*rules, list(rule)])  # type: ignore[attr-defined]
        return call

    def _states(self, scope: _Scope, count: int) -> list[Tree]:
        found: list[Tree] = [None] * count
        for place in range(count):
            with contextlib.suppress(Exception):  # a student's object may refuse to be read
                found[place] = self._state(scope.objects[place], scope)
        return found

    def encode(self, value: Any, scope: _Scope) -> Tree:
        """What is sent for a value."""
        if value is None or value is True or value is False:
            return value
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if value is ...:
            return ["..."]
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        if isinstance(value, bytes):
            return ["data", value]
        if (place := scope.places.get(id(value))) is not None:
            return ["argument", place]
        if id(value) in self.their_numbers:
            return ["yours", self.their_numbers[id(value)]]
        if isinstance(value, range):
            return ["range", value.start, value.stop, value.step]
        if isinstance(value, (tuple, set, frozenset)):
            name = "size" if isinstance(value, torch.Size) else "tuple" if isinstance(value, tuple) else "set"
            return [name, [self.encode(item, scope) for item in value]]
        if isinstance(value, np.generic) and value.dtype.kind in NUMBERS:
            return ["scalar", value.dtype.str, value.tobytes()]
        if (dtype := str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else "") in DTYPES:
            return ["dtype", dtype]
        if _copied(value):
            return ["new", scope.add(value), *self._state(value, scope)]
        if not self.trusts and isinstance(value, (*BY_NAME, nn.Module)):
            with contextlib.suppress(Exception):  # what pickle cannot send: a function of a notebook, for example
                data = pickle.dumps(value)
                return ["new", scope.add(value), "pickle", data]
        if not callable(value) and (numbers := as_array(value)) is not None:
            return ["new", scope.add(value), *array_tree(numbers)]
        return self._stays(value, scope)

    def _stays(self, value: Any, scope: _Scope) -> Tree:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.mine)
            self.mine.append(value)
        head = ["mine", self.numbers[id(value)]]
        if not isinstance(value, nn.Module):
            kind = type(value).__name__
            return (
                [*head, "function", str(getattr(value, "__name__", kind))]
                if callable(value)
                else [*head, "thing", kind]
            )
        known = (kind for kind in type(value).__mro__ if kind.__module__.startswith(LIBRARIES))
        library = next(known, nn.Module)
        parts = [[str(name), self.encode(part, scope)] for name, part in value._modules.items()]
        return [*head, "module", type(value).__name__, library.__module__, library.__qualname__, parts]

    def _state(self, value: Any, scope: _Scope) -> Tree:
        """What can change in a value that is copied, or None."""
        if isinstance(value, list):
            return ["list", [self.encode(item, scope) for item in value]]
        if isinstance(value, dict):
            return ["dict", [[self.encode(key, scope), self.encode(item, scope)] for key, item in value.items()]]
        if isinstance(value, np.ndarray):
            return array_tree(value)
        if isinstance(value, Tensor):
            return tensor_tree(value)
        if isinstance(value, Value):
            return ["Value", *(self.encode(part, scope) for part in (value.data, value.grad, value.edges, value.op))]
        if isinstance(value, nn.Module):
            return ["weights", [[name, tensor_tree(t)] for name, t in value.state_dict().items() if not t.is_meta]]
        return None

    def decode(self, tree: Tree, scope: _Scope) -> Any:
        """The value that was sent."""
        if not isinstance(tree, list):
            return tree
        kind, *rest = tree
        if kind == "argument":
            return scope.objects[rest[0]]
        if kind == "yours":
            return self.mine[rest[0]]
        if kind in ("tuple", "set", "size"):
            items = [self.decode(item, scope) for item in rest[0]]
            return set(items) if kind == "set" else torch.Size(items) if kind == "size" else tuple(items)
        if kind == "new":
            return self._new(*rest, scope=scope)
        if kind == "mine":
            number, kind, *details = rest
            if number not in self.theirs:
                if kind == "module":
                    details[-1] = [(name, self.decode(part, scope)) for name, part in details[-1]]
                found = self.theirs[number] = self.foreign(kind, number, details)
                self.their_numbers[id(found)] = number
            return self.theirs[number]
        plain: dict[str, Callable[..., Any]] = {
            "...": lambda: ..., "complex": complex, "range": range, "dtype": DTYPES.__getitem__,
            "data": lambda data: b"" + data, "scalar": lambda dtype, data: from_tree("array", dtype, [], data)[()],
        }  # fmt: skip
        return plain[kind](*rest)

    def _new(self, place: int, kind: str, *state: Any, scope: _Scope) -> Any:
        if kind in ("list", "dict", "Value"):
            found: Any = [] if kind == "list" else {} if kind == "dict" else Value(0)
            scope.add(found, place)
            self._assign(found, [kind, *state], scope)
            return found
        found = pickle.loads(state[0]) if kind == "pickle" and self.trusts else from_tree(kind, *state)
        if isinstance(found, nn.Module):
            found.to(torch.get_default_device())
        scope.add(found, place)
        return found

    def _assign(self, value: Any, state: list[Any], scope: _Scope) -> None:
        """Give an object the state that it has on the other side."""
        kind, *rest = state
        if kind == "list" and isinstance(value, list):
            value[:] = [self.decode(item, scope) for item in rest[0]]
        elif kind == "dict" and isinstance(value, dict):
            pairs = [(self.decode(key, scope), self.decode(item, scope)) for key, item in rest[0]]
            value.clear()
            value.update(pairs)
        elif kind == "Value" and isinstance(value, Value):
            value.data, value.grad, value.edges, value.op = (self.decode(part, scope) for part in rest)
        elif kind == "tensor" and isinstance(value, Tensor):
            value.data = from_tree(kind, *rest)
        elif kind == "array" and isinstance(value, np.ndarray):
            value.resize(rest[1], refcheck=False)
            value[...] = from_tree(kind, *rest)
        elif kind == "weights" and isinstance(value, nn.Module):
            own = value.state_dict(keep_vars=True)
            for name, (_, *numbers) in rest[0]:
                if name in own:
                    own[name].data = from_tree("tensor", *numbers)
        else:
            raise TypeError(kind)


def _copied(value: Any) -> bool:
    """Whether a value is sent as it is, and may change there."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in NUMBERS
    return not value.is_meta if isinstance(value, Tensor) else isinstance(value, (list, dict, Value))
