"""The side that judges: runs a test of the instructor with functions that stand for those of a student.

No code of a student runs in this process; see `cvbook.grade.wire`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

from cvbook.checks import points, verdict
from cvbook.grade.messages import SENTENCE, Broken, Ended
from cvbook.grade.notebooks import Test
from cvbook.grade.walls import TOLD
from cvbook.grade.wire import LIBRARIES, Wire

__all__ = ["answers_of", "judge"]

LOOK, REFUSED = 0, 1  # numbers of functions there: look up a name in the notebook; what was refused


def judge(test: Test, to: socket.socket, space: dict[str, Any], seed: int) -> dict[str, Any]:
    """Run one test.

    Args:
        test: of the instructor.
        to: the process with the notebook.
        space: the instructor's imports.
        seed: of the student's random inputs.

    Returns:
        ``state`` ("passed", "wrong", "not attempted", "missing", "ended" or "broken"); ``message``, for "missing" the
        name; ``refused``, what the walls there say.
    """
    points.grading(seed)
    refused: list[str] = []
    try:
        found = answers_of(to, test.answers)
        if missing := [name for name in test.answers if name not in found]:
            return {"state": "missing", "message": missing[0], "refused": refused}
        state, message = _run(test.source, space | found)
        told = _Judge(to, trusts=False).call(REFUSED, "", (), {})
        refused = [one for one in TOLD if isinstance(told, list) and one in told]
    except Ended:
        state, message = "ended", ""
    except Broken:
        state, message = "broken", "your code sends the grader what is no result"
    return {"state": state, "message": message[:SENTENCE], "refused": refused}


def answers_of(to: socket.socket, names: Iterable[str]) -> dict[str, Any]:
    """What stands for the values of these names there; names that have none are left out."""
    wire, found = _Judge(to, trusts=False), {}
    for name in names:
        with contextlib.suppress(KeyError):
            found[name] = wire.call(LOOK, "", (name,), {})
    return found


def _run(source: str, scope: dict[str, Any]) -> tuple[str, str]:
    try:
        exec(compile(source, "<test>", "exec"), scope)
    except NotImplementedError as error:
        return "not attempted", str(error).partition(": ")[2].replace(verdict.EMPTY, "no answer")
    except AssertionError as error:
        return "wrong", str(error).partition(": ")[2] or str(error) or "a test of your teacher fails"
    except SystemExit:
        return "wrong", "your code calls exit(); return a result instead"
    except (Ended, Broken):
        raise
    except NameError as error:
        if error.__traceback__ and not error.__traceback__.tb_next.tb_next:  # type: ignore[union-attr]
            return "wrong", f"the test itself does not run ({error}); tell your teacher"
        return "wrong", f"your code stopped with {type(error).__name__}: {error}"
    except BaseException as error:
        return "wrong", f"your code stopped with {type(error).__name__}: {error}".splitlines()[0]
    return "passed", ""


class _Judge(Wire):
    def foreign(self, kind: str, number: int, details: list[Any]) -> Any:
        """Modules, too."""
        if kind != "module":
            return super().foreign(kind, number, details)
        name, *rest = details
        return _module(self, number, re.sub(r"\W", "", str(name))[:60] or "Module", *rest)


def _module(wire: Wire, number: int, name: str, library: str, kind: str, parts: Iterable[tuple[str, Any]]) -> nn.Module:
    """A module that is of the same class of the library, so that ``isinstance`` works; all it does is done there."""
    found = getattr(sys.modules.get(library), kind, nn.Module) if f"{library}.".startswith(LIBRARIES) else nn.Module
    base = found if isinstance(found, type) and issubclass(found, nn.Module) else nn.Module
    return type(name, (_Module,) if base is nn.Module else (_Module, base), {})(wire, number, parts)


class _Module(nn.Module):
    """Stands for a module of a student: calls go there, parts are here, numbers come from there."""

    def __init__(self, wire: Wire, number: int, parts: Iterable[tuple[str, Any]]) -> None:
        nn.Module.__init__(self)
        self.__dict__["_there"] = lambda method, inputs, settings: wire.call(number, method, inputs, settings)
        self.__dict__["_under"] = lambda *rule: wire.function(number, type(self).__name__, [list(rule)])
        for name, part in parts:
            if isinstance(part, nn.Module) and name and "." not in name:
                self._modules[name] = part

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        return self._there("", inputs, settings)

    def under(self, *rule: str) -> Callable[..., Any]:
        """The call of this module under a rule, see `cvbook.checks.by_hand.under`."""
        return self.__dict__["_under"](*rule)

    def __getattr__(self, name: str) -> Any:
        if name in self._modules:
            return self._modules[name]
        if name.startswith("__"):
            raise AttributeError(name)
        return self._there(f".{name}", (), {})

    def train(self, mode: bool = True) -> Any:
        self._there("train", (mode,), {})
        self.training = mode
        return self

    def state_dict(self, *inputs: Any, **settings: Any) -> Any:
        return self._there("state_dict", inputs, settings)

    def load_state_dict(self, *inputs: Any, **settings: Any) -> Any:
        return self._there("load_state_dict", inputs, settings)

    def named_parameters(self, *inputs: Any, **settings: Any) -> Iterator[tuple[str, nn.Parameter]]:
        found = self._there("named_parameters", inputs, settings)
        return ((name, nn.Parameter(value, value.is_floating_point())) for name, value in found)
