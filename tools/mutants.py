"""How well do the checks of a homework notebook tell right from wrong? Change its solutions a little, and count.

    python tools/mutants.py 02_convolution

Each change (+ for -, < for <=, a number by one, two arguments exchanged, a line left out, ...) makes a mutant of one
solution. A mutant is caught if a check does not pass it. Those that no check catches are printed: either they compute
the same (then they belong in ``tools/mutants.txt``, one line each), or a check has a hole.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"01_neuron": "neuron_homework", "02_convolution": "convolution_homework", "03_cnns": "cnns_homework"}
SAME = ROOT / "tools" / "mutants.txt"
SEEDS = (0, 1, 2)
SECONDS = 5  # a mutant may run; one that takes longer is caught
OPERATORS: dict[type, list[Any]] = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div, ast.Add], ast.Div: [ast.Mult], ast.FloorDiv: [ast.Mult],
    ast.Pow: [ast.Mult], ast.MatMult: [ast.Mult], ast.Mod: [ast.FloorDiv], ast.Lt: [ast.LtE], ast.LtE: [ast.Lt],
    ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.And: [ast.Or],
    ast.Or: [ast.And], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
NAMES = {
    "sum": "mean", "mean": "sum", "max": "min", "min": "max", "argmax": "argmin", "amax": "amin", "zeros": "ones",
    "zeros_like": "ones_like", "ones": "zeros", "exp": "log", "log": "exp", "sqrt": "square", "square": "sqrt",
    "relu": "tanh", "sigmoid": "tanh", "BatchNorm2d": "Identity", "range": "reversed", "H": "W", "W": "H",
}  # fmt: skip


class Late(BaseException):
    """A mutant that runs too long."""


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Other nodes that could stand in the place of one."""

    def like(**changes: Any) -> ast.AST:
        other = copy.copy(node)
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        yield from (like(op=kind()) for kind in OPERATORS.get(type(node.op), []))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult, ast.Pow)):
        yield like(left=node.right, right=node.left)
    if isinstance(node, ast.Compare):
        yield from (like(ops=[kind(), *node.ops[1:]]) for kind in OPERATORS.get(type(node.ops[0]), []))
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield like(value=not node.value)
        elif isinstance(node.value, int):
            yield from (like(value=node.value + step) for step in (1, -1))
        elif isinstance(node.value, float):
            yield from (like(value=value) for value in (2 * node.value, node.value + 0.5))
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield like(test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Call):
        yield from (like(args=[*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]])
                    for i in range(len(node.args) - 1))  # fmt: skip
        yield from (like(keywords=[k for k in node.keywords if k is not left]) for left in node.keywords if left.arg)
        if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
            yield node.func.value
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield like(attr=NAMES[node.attr])
    if isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield like(id=NAMES[node.id])
    if isinstance(node, ast.Slice):
        yield from (like(**{part: None}) for part in ("lower", "upper", "step") if getattr(node, part))
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr)) and not _text(node):
        yield ast.Pass()
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
        yield like(elts=node.elts[::-1])


def _text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def mutants(source: str) -> Iterator[str]:
    """The source with one change, in all ways."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            for place, node in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(node, ast.AST) or field in ("annotation", "returns", "defaults"):
                    continue
                for other in variants(node):
                    _put(parent, field, place, other)
                    text = ast.unparse(ast.fix_missing_locations(tree))
                    _put(parent, field, place, node)
                    if text not in seen:
                        seen.add(text)
                        yield text


def _put(parent: ast.AST, field: str, place: int, node: ast.AST) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[place] = node
    else:
        setattr(parent, field, node)


def passes(checks: Any, names: list[tuple[str, str]], source: str, space: dict[str, Any]) -> bool:
    """Whether all checks pass the functions of a mutant."""
    scope = dict(space)
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)  # again and again: one may hit where exceptions are ignored
    try:
        exec(compile(source, "<mutant>", "exec"), scope)
        for check, name in names:
            judge = getattr(checks, check)
            for seed in SEEDS:
                if not judge(scope.get(name), seed=seed).passed:
                    return False
    except (Exception, Late):
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def _late(*_: Any) -> None:
    raise Late


def run(assignment: str, only: str | None = None) -> dict[str, tuple[int, int, list[str]]]:
    """For each solution: how many mutants, how many caught, and those that are not and should be."""
    checks = importlib.import_module(f"cvbook.checks.{PACKAGES[assignment]}")
    notebook = nbformat.read(ROOT / "book" / "homework" / assignment / "homework.ipynb", as_version=4)
    space: dict[str, Any] = {"__name__": "__main__"}
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    exec(next(c.source for c in cells if c.source.startswith("import ") and "checks" in c.source), space)
    same = set(SAME.read_text(encoding="utf-8").splitlines()) if SAME.exists() else set()
    found: dict[str, tuple[int, int, list[str]]] = {}
    for cell in cells:
        if not cell.metadata.get("nbgrader", {}).get("solution"):
            continue
        exec(cell.source, space)
        defined = {node.name for node in ast.parse(cell.source).body if hasattr(node, "name")}
        names = [(check.__name__, name) for check, name, _ in checks.PARTS if name in defined]
        title = ", ".join(dict.fromkeys(name for _, name in names))
        if only and only not in title:
            continue
        total, caught, left = 0, 0, []
        for source in mutants(cell.source):
            lines = [b for a, b in _changed(ast.unparse(ast.parse(cell.source)), source)]
            label = f"{assignment} {title}: {' / '.join(line.strip() for line in lines) or 'a line is left out'}"
            if label in same:
                continue
            total += 1
            if passes(checks, names, source, space):
                left.append(label)
            else:
                caught += 1
        found[title] = total, caught, left
        print(f"{assignment} {title}: {caught} of {total} caught", file=sys.stderr)
    return found


def _changed(before: str, after: str) -> Iterator[tuple[str, str]]:
    a, b = before.splitlines(), after.splitlines()
    if len(a) != len(b):
        yield from ((line, f"without: {line}") for line in a if line not in b)
        return
    yield from ((x, y) for x, y in zip(a, b, strict=True) if x != y)


def main() -> int:
    """The command line; returns 1 if a mutant is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assignment", choices=sorted(PACKAGES))
    parser.add_argument("--only", help="one solution")
    options = parser.parse_args()
    found = run(options.assignment, options.only)
    for _, _, left in found.values():
        print(*left, sep="\n")
    return int(any(left for _, _, left in found.values()))


if __name__ == "__main__":
    sys.exit(main())
