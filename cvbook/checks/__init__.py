"""Exercise checks that say what is wrong, not only that something is.

A check is a function decorated with `exercise`. It calls the reader's answer on fresh inputs, compares it with a
reference found by another route, and raises `Wrong` with a sentence that names the mistake.
"""

from cvbook.checks.verdict import Verdict, Wrong, equal, exercise

__all__ = ["Verdict", "Wrong", "equal", "exercise"]
