"""Long jobs whose results ship with the package; each is a script: ``python -m cvbook.recipes.NAME``."""
