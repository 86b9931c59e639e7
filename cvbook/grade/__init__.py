"""Grade homework notebooks: ``python -m cvbook.grade SUBMISSIONS --assignment 02_convolution --out grades``.

`notebooks` reads them, `sandbox` fences them in, `session` runs one, `batch` a folder, `report` writes the results.
"""
