"""The three lists of packages (pyproject.toml, environment.yml, constraints.txt) agree; what the suite is told about its
files is about files that are there."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import jupytext
import pytest
import yaml
from conftest import LONGEST
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from shorter import FEWER, hanging_on, shorten

from lr_helpers.authoring import notebooks

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


def ranges(lines: list[str]) -> dict[str, str]:
    """Canonical package name → version range, its parts in a fixed order."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def conda_parts() -> tuple[list[str], list[str]]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = [d for d in dependencies if isinstance(d, str)]
    (pip,) = [d["pip"] for d in dependencies if isinstance(d, dict)]
    return conda, pip


def test_environment_yml_equals_pyproject() -> None:
    _, pip = conda_parts()
    assert "-e ." in pip
    listed = [line for line in pip if line != "-e ."]
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    assert len(listed) == len(wanted)
    assert ranges(listed) == ranges(wanted)


def test_environment_yml_asks_for_the_same_python() -> None:
    (python,) = [d for d in conda_parts()[0] if d.startswith("python")]
    assert Requirement(python).specifier == Requirement("python" + PROJECT["requires-python"]).specifier


def test_constraints_are_names_and_exact_versions() -> None:
    assert CONSTRAINTS
    for line in CONSTRAINTS:
        assert not re.search(r"[/\\@]|--", line), f"a URL, a path or an option: {line}"
        requirement = Requirement(line)
        assert requirement.url is None and not requirement.extras, line
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier)), line


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_every_dependency_is_pinned_within_its_range(python: str, platform: str) -> None:
    here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.9"}
    here |= {"sys_platform": platform, "platform_system": platform.capitalize()}
    here |= {"platform_machine": "arm64" if platform == "darwin" else "x86_64"}
    pins: dict[str, str] = {}
    for requirement in map(Requirement, CONSTRAINTS):
        if requirement.marker is None or requirement.marker.evaluate(here):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is pinned twice for Python {python} on {platform}"
            pins[name] = str(requirement.specifier).removeprefix("==")
    for line in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=False), f"{name} {pins[name]} is outside {line}"


def test_the_files_that_begin_early_are_there() -> None:
    there = {file.name for file in (*(ROOT / "tests").glob("test_*.py"), *(ROOT / "notebooks").glob("*.ipynb"))}
    assert set(LONGEST) <= there and len(set(LONGEST)) == len(LONGEST)


def test_every_value_that_is_cut_down_is_a_larger_parameter() -> None:
    cut = set()
    for source in notebooks.FOLDER.glob(notebooks.PATTERN + ".py"):
        for cell in jupytext.read(source).cells:
            if "parameters" in cell.metadata.get("tags", []) and source.stem[:2] in FEWER:
                cut.add(source.stem[:2])
                for name, value in FEWER[source.stem[:2]].items():
                    (before,) = re.findall(rf"^{name} = (\d+)", cell.source, re.MULTILINE)
                    assert int(before) > value and f"\n{name} = {value}" in "\n" + shorten(source.stem, cell.source)
    assert cut == set(FEWER)
    with pytest.raises(ValueError, match="does not set the parameter 'scenes' once"):
        shorten("01_other", "seed = 1")


def test_cells_that_hang_on_a_value_are_found_through_what_others_set() -> None:
    cells = ["scenes = 3", "other = 1\nprint(other)", "def draw():\n    return scenes", "%matplotlib inline\npicture = draw()",
             "print(other)", "picture.show()", "class A:\n    x = picture", "A()"]
    assert hanging_on(cells, {"scenes"}) == [False, False, True, True, False, True, True, True]
    assert not any(hanging_on(cells, set()))
