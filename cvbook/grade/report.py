"""What teachers and students get: a table, a page for each student, and a summary."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cvbook.submission import replace_file

__all__ = ["report"]

MARKS = {"passed": "✓", "wrong": "✗", "not attempted": "…", "missing": "?", "not graded": "–"}
LONGEST_NAME = 200  # bytes; file systems take 255
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }}
tr {{ border-bottom: 1px solid #8886; }} td.n {{ text-align: right; white-space: nowrap; }}
svg {{ max-width: 100%; }} rect {{ fill: #0072b2; }} text {{ fill: currentColor; font-size: 12px; }}
@media (max-width: 40rem) {{
  .stack tr, .stack td {{ display: block; padding: 0; }} .stack th {{ display: none; }}
  .stack td.n {{ text-align: left; }} .stack tr {{ padding: .5rem 0; }}
}}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def report(results: Sequence[dict[str, Any]], assignment: str, out: Path, left_out: Sequence[str] = ()) -> None:
    """Write ``grades.csv``, ``summary.html`` and ``feedback/STUDENT.html`` to ``out``.

    Args:
        results: what `cvbook.grade.batch.grade_folder` returned.
        assignment: its name.
        out: a folder; older files of the same names are replaced, pages of students who are gone are removed.
        left_out: files that are not graded.
    """
    replace_file(out / "grades.csv", "\ufeff" + _table(results))  # the mark tells Excel that this is UTF-8
    pages = page_names([result["student"] for result in results])
    for old in {path.name for path in (out / "feedback").glob("*.html")} - set(pages.values()):
        (out / "feedback" / old).unlink()
    for result in results:
        replace_file(out / "feedback" / pages[result["student"]], _feedback(result, assignment))
    replace_file(out / "summary.html", _summary(results, assignment, pages, left_out))


def page_names(students: Sequence[str]) -> dict[str, str]:
    """Student -> file name of the page; no two are the same, even where capitals do not count.

    >>> page_names(["Группа 1/Анна К.", "a/b"])
    {'Группа 1/Анна К.': 'Группа 1_Анна К..html', 'a/b': 'a_b.html'}
    """
    names = {student: re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", student) for student in students}
    often = Counter(name.casefold() for name in names.values())
    found = {}
    for student, name in names.items():
        if often[name.casefold()] > 1 or len(name.encode(errors="replace")) > LONGEST_NAME:
            name = f"{name[:50]} {hashlib.sha256(student.encode(errors='replace')).hexdigest()[:12]}"
        found[student] = f"{name}.html"
    return found


def _points(value: float) -> str:
    return f"{value:g}"


def _got(result: dict[str, Any]) -> float:
    return sum(test["points"] for test in result["tests"])


def _of(result: dict[str, Any]) -> float:
    return sum(test["of"] for test in result["tests"])


def _table(results: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student", "points", "of", "problem", "look at", *(t["name"] for t in results[0]["tests"]), "file"])
    for result in results:
        row = [
            result["student"],
            _points(_got(result)),
            _points(_of(result)),
            result["problem"],
            "; ".join(result["look"]),
        ]
        table.writerow([_plain(v) for v in [*row, *(_points(t["points"]) for t in result["tests"]), result["file"]]])
    return text.getvalue()


def _plain(value: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    value = value.encode(errors="replace").decode()
    return "'" + value if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _feedback(result: dict[str, Any], assignment: str) -> str:
    e = html.escape
    rows = "".join(
        f"<tr><td>{MARKS[t['state']]} {e(t['state'])}</td><td>{e(t['title'])}</td>"
        f'<td class="n">{_points(t["points"])} of {_points(t["of"])}</td><td>{e(t["message"])}</td></tr>\n'
        for t in result["tests"]
    )
    parts = [f"<p><strong>{_points(_got(result))} of {_points(_of(result))} points.</strong></p>"]
    if result["problem"]:
        parts.append(f"<p>Your file {e(result['file'])} {e(result['problem'])}. Nothing in it could be graded.</p>")
    else:
        head = "<tr><th>Result</th><th>Check</th><th>Points</th><th>What it says</th></tr>"
        parts.append("<p>A check gives all of its points, or none.</p>")
        parts.append(f'<table class="stack">{head}\n{rows}</table>')
    if result["notes"]:
        notes = "".join(f"<li>Code {e(note)}</li>" for note in result["notes"])
        parts.append(f"<h2>Cells that did not run to their end</h2><ul>{notes}</ul>")
    return PAGE.format(title=e(f"{assignment}: {result['student']}"), body="\n".join(parts))


def _summary(results: Sequence[dict[str, Any]], assignment: str, pages: dict[str, str], left_out: Sequence[str]) -> str:
    e = html.escape
    links = {
        student: f'<a href="{e(quote(f"feedback/{page}", errors="replace"))}">{e(student)}</a>'
        for student, page in pages.items()
    }
    graded = [result for result in results if not result["problem"]]
    points = [_got(result) for result in graded]
    parts = [f"<p>{len(results)} submissions, {len(graded)} graded.</p>"]
    if graded:
        parts += [
            f"<p>Median {_points(statistics.median(points))} of {_points(_of(graded[0]))} points.</p>",
            _histogram(points, _of(graded[0])),
        ]
        parts.append(f"<h2>Checks that failed most</h2>{_checks(graded)}")
    for title, key in (("Could not be graded", "problem"), ("Look at these notebooks", "look")):
        lines = [(r["student"], r[key] if key == "problem" else "; ".join(r[key])) for r in results if r[key]]
        if lines:
            items = "".join(f"<li>{links[student]}: {e(text)}</li>\n" for student, text in lines)
            parts.append(f"<h2>{title}</h2><ul>\n{items}</ul>")
    if left_out:
        parts.append(
            f"<h2>Left out</h2><p>Files of other assignments, or beside a notebook: {e(', '.join(left_out))}</p>"
        )
    rows = "".join(
        f'<tr><td>{links[r["student"]]}</td><td class="n">{"–" if r["problem"] else _points(_got(r))}</td></tr>\n'
        for r in results
    )
    parts.append(f"<h2>Students</h2><table><tr><th>Student</th><th>Points</th></tr>\n{rows}</table>")
    return PAGE.format(title=e(f"{assignment}: summary"), body="\n".join(parts))


def _checks(graded: Sequence[dict[str, Any]]) -> str:
    """A table of the checks that not all have passed, the hardest first."""
    rows = []
    for place, test in enumerate(graded[0]["tests"]):
        found = [result["tests"][place] for result in graded]
        wrong = [one for one in found if one["state"] in ("wrong", "missing")]
        failed = len(wrong) + sum(one["state"] == "not attempted" for one in found)
        usual = Counter(one["message"] for one in wrong).most_common(1)
        text = html.escape(usual[0][0]) if usual else ""
        cells = f'<td class="n">{len(wrong)} wrong</td><td class="n">{failed - len(wrong)} empty</td><td>{text}</td>'
        if failed:
            rows.append((-failed, place, f"<tr><td>{html.escape(test['title'])}</td>{cells}</tr>\n"))
    head = "<tr><th>Check</th><th>Wrong</th><th>Empty</th><th>Most frequent mistake</th></tr>"
    return f'<p>Of {len(graded)}:</p><table class="stack">{head}\n{"".join(row for *_, row in sorted(rows))}</table>'


def _histogram(points: Sequence[float], most: float) -> str:
    """Ten bars: how many students have 0 to 10 % of the points, and so on."""
    counts = [0] * 10
    for value in points:
        counts[min(9, int(10 * value / most)) if most else 0] += 1
    tall = max(counts)
    bars = []
    for i, count in enumerate(counts):
        height, x = 120 * count / tall, 10 + 50 * i
        bars.append(f'<rect x="{x}" y="{140 - height:.1f}" width="44" height="{height:.1f}"/>')
        bars.append(f'<text x="{x + 22}" y="{134 - height:.1f}" text-anchor="middle">{count or ""}</text>')
        bars.append(f'<text x="{x}" y="156" text-anchor="middle">{_points(round(most * i / 10, 1))}</text>')
    bars.append(f'<text x="510" y="156" text-anchor="middle">{_points(most)}</text>')
    told = ", ".join(str(count) for count in counts)
    return (
        f'<svg viewBox="-10 0 540 170" width="540" role="img" aria-label="Histogram of points, ten equal steps from '
        f'0 to {_points(most)}: {told} students.">{"".join(bars)}</svg>'
    )
