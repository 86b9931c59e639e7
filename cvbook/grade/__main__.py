"""Grade a folder of homework notebooks.

    python -m cvbook.grade SUBMISSIONS --assignment 02_convolution --out grades

SUBMISSIONS holds one notebook for each student: ANN.ipynb, or ANN/homework.ipynb, or nbgrader's
ANN/02_convolution/homework.ipynb. OUT gets grades.csv, summary.html and feedback/ANN.html. Every notebook runs apart
from the grader, with limits on time, memory and files; the test cells of the instructor's notebook call its functions.
A run that is interrupted goes on where it stopped; a notebook that has not changed is not graded again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from cvbook.grade.batch import Job, grade_folder
from cvbook.grade.report import report
from cvbook.grade.session import Limits
from cvbook.grade.walls import missing

MOST = 10_000  # seconds, GB
SOURCE = Path(__file__).resolve().parents[2] / "book" / "homework"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cvbook.grade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--assignment", required=True, help="for example 02_convolution")
    parser.add_argument("--out", type=Path, default=Path("grades"))
    parser.add_argument("--source", type=Path, default=SOURCE, help="the instructor notebooks (default: book/homework)")
    parser.add_argument("--private", type=Path, help="a folder like --source; its tests replace or add to the others")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="for each cell and test (default 20)")
    parser.add_argument("--total", type=float, default=Limits.total, help="for each notebook (default 120)")
    parser.add_argument("--memory", type=float, default=2.0, help="GB for each notebook (default 2)")
    parser.add_argument("--again", action="store_true", help="grade also what is graded already")
    options = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        parser.error("expected Linux or macOS, which can copy a running process; on Windows use WSL")
    for name in ("workers", "seconds", "total", "memory"):
        if not 0 < getattr(options, name) <= MOST:
            parser.error(f"expected a number above 0 and up to {MOST} for --{name}, got {getattr(options, name):g}")
    if not options.submissions.is_dir():
        parser.error(f"expected a folder of notebooks, {options.submissions} is none")
    if lacking := missing():
        print(
            f"warning: this system does not separate a notebook's {', '.join(lacking)} from yours; grade in a "
            "container, or an account that you can lose",
            file=sys.stderr,
        )
    limits = Limits(options.seconds, options.total, int(options.memory * 2**30))
    job = Job(options.assignment, options.source, options.private, options.submissions, options.out, limits)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    try:
        results = grade_folder(job, workers=options.workers, again=options.again)
        _, left_out = job.find()
        report(results, options.assignment, options.out, left_out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    if left_out:
        names = "".join(c if c.isprintable() else "?" for c in ", ".join(left_out))
        print(f"left out: {names}", file=sys.stderr)
    problems = sum(bool(result["problem"]) for result in results)
    print(
        f"{len(results) - problems} graded, {problems} could not be: see {options.out / 'summary.html'}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
