"""The doors to the same environment agree: pyproject.toml, environment.yml, requirements.lock."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
PIP = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
EXTRAS = PROJECT["project"]["optional-dependencies"]
BOOK = PROJECT["dependency-groups"]["book"]
EVERYTHING = [*PROJECT["project"]["dependencies"], *BOOK, *EXTRAS["lab"], *EXTRAS["test"], *EXTRAS["pretrained"]]


def _locked() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        requirement = Requirement(line)
        found.setdefault(_plain(requirement.name), []).append(requirement)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_environment_yml_equals_pyproject() -> None:
    assert set(CONDA) == {"name", "channels", "dependencies"}
    assert [*EVERYTHING, "-e ."] == PIP


def test_conda_part_is_python_and_pip_only() -> None:
    conda = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    assert [re.split("[=<>]", entry)[0] for entry in conda] == ["python", "pip"]
    version = re.fullmatch(r"python=(3\.\d+)", conda[0]).group(1)
    assert Requirement(f"x{PROJECT['project']['requires-python']}").specifier.contains(version)


def test_the_package_has_no_upper_pins() -> None:
    for line in PROJECT["project"]["dependencies"]:
        operators = {s.operator for s in Requirement(line).specifier}
        assert operators <= {">="}, f"{line}: an upper pin breaks somebody's Colab"


def test_reading_needs_no_torch() -> None:
    assert not {"torch", "torchvision", "cvbook"} & {_plain(Requirement(line).name) for line in BOOK}


@pytest.mark.parametrize("line", EVERYTHING)
def test_what_is_installed_satisfies_the_requirement(line: str) -> None:
    requirement = Requirement(line)
    assert requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)


def test_every_requirement_but_torch_is_locked_to_one_version_that_satisfies_it() -> None:
    locked = _locked()
    for line in EVERYTHING:
        requirement = Requirement(line)
        if requirement.name in ("torch", "torchvision"):
            assert requirement.name not in locked
            continue
        for entry in locked[_plain(requirement.name)]:
            (pin,) = entry.specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version, prereleases=True), f"{entry} does not satisfy {line}"


def test_what_is_installed_is_what_the_lock_says() -> None:
    environment = default_environment()
    wrong = []
    for name, entries in _locked().items():
        for entry in entries:
            if entry.marker and not entry.marker.evaluate(environment):
                continue
            try:
                installed = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            if not entry.specifier.contains(installed, prereleases=True):
                wrong.append(f"{entry}, installed {installed}")
    assert not wrong


def test_no_address_of_an_index_is_written_down() -> None:
    for name in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile"):
        assert not re.search(r"index-url|find-links|file://", (ROOT / name).read_text()), name
