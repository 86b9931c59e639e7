"""nbgrader's settings, for teachers who grade the homework; book/teachers.md explains.

Run everything in this folder, with .venv/bin on the PATH.

    mkdir -p grading
    nbgrader generate_assignment 02_convolution --force          once, and again after a change: fills the gradebook
    cp ... grading/submitted/STUDENT/02_convolution/homework.ipynb          one folder for each student
    python tools/homework.py --inspect grading/submitted/*/02_convolution/homework.ipynb          lost or doubled cells?
    nbgrader autograde 02_convolution          runs what students wrote, unprotected: use a machine you can lose
    nbgrader generate_feedback 02_convolution          a page for each student, in grading/feedback
    nbgrader export --to grading/grades.csv          the grade table

Everything nbgrader writes is in grading/. The student notebooks in notebooks/homework are written by tools/homework.py
instead, because nbgrader's --force empties the folder it writes to.
"""

import os
from pathlib import Path

c = get_config()  # type: ignore[name-defined]  # noqa: F821
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin make a busy machine crawl
root = Path(__file__).resolve().parent
c.CourseDirectory.root = str(root)
c.CourseDirectory.source_directory = "book/homework"
for step in ("release", "submitted", "autograded", "feedback", "solution"):
    c.CourseDirectory[f"{step}_directory"] = f"grading/{step}"
c.CourseDirectory.db_url = f"sqlite:///{root / 'grading' / 'gradebook.db'}"
c.ExecutePreprocessor.timeout = 120  # seconds for each cell
c.ExecutePreprocessor.interrupt_on_timeout = True  # the rest of the notebook is still graded
