"""Grade homework notebooks: ``python -m cvbook.grade SUBMISSIONS --assignment 02_convolution --out grades``.

`folder` finds the files, `notebooks` reads them, `batch` hands them to workers. In a worker, `session` grades one: its
cells run in a process that `nursery` starts, `walls` and `system_calls` shut in and `student` fills; each test runs in
another one, `judge`. The two talk over a `wire`, in `messages` of plain data and `arrays`. `report` writes the results.
"""
