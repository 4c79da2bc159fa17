"""The set-up on Colab: called by the first cell of every notebook, once that has fetched the course.

Colab comes with torch, numpy and most of the rest; whoever changes the version of one of these breaks it. So only what
is missing is installed, and what is there stays at its version.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lr_helpers.errors import UserError
from lr_helpers.files.paths import ROOT

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OLDEST = (3, 11)
"""The Python that pyproject.toml asks for, told here because an older one can't read that file."""
AUTHORS = {"jupytext", "papermill"}
"""Dependencies that only authors and headless runs use; without them there is less that can go wrong."""


class SetUpError(UserError):
    """The set-up can't go on. A notebook shows the sentence alone, and runs no further."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook for exceptions that show themselves
        return [f"Set-up failed: {self}"]


def set_up(version: str) -> None:
    """Make the notebooks run from the clone this file lies in, and say in a line what was done.

    Installs what is missing, sets LR_PROFILE to "tiny" unless it is set, puts the course on the path, and changes into
    notebooks/. `version` is the tag that the notebook asks for. Raises SetUpError for a Python that is too old,
    and if pip fails; the cell may then be run again.
    """
    try:
        _set_up(version)
    except SetUpError:
        for module in [m for m in sys.modules if m.partition(".")[0] == "lr_helpers"]:
            del sys.modules[module]  # by which the cell knows that it was done
        raise


def _set_up(version: str) -> None:
    if sys.version_info < OLDEST:
        found, needed = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST))
        raise SetUpError(f"The course needs Python {needed} or newer and this is Python {found}; choose a newer "
                         "runtime under Runtime > Change runtime type.")
    tags, commit = _git("tag", "--points-at", "HEAD").split(), _git("rev-parse", "--short", "HEAD")
    if version not in tags:
        print(f"There is no version {version} of the course to be had, so this is its newest state, commit {commit}.")
    wanted, others = requirements()
    for other in others:
        print(f"Colab has {other}; if something fails, that may be why.")
    if wanted:
        install(wanted)
    profile = os.environ.get("LR_PROFILE")
    reason = "LR_PROFILE says so" if profile else "set LR_PROFILE for another one"
    os.environ["LR_PROFILE"] = profile = profile or "tiny"
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    os.chdir(ROOT / "notebooks")
    installed = f"installed {', '.join(w.name for w in wanted)}, " if wanted else ""
    print(f"Learnable regions {version if version in tags else commit}, {installed}profile {profile}: {reason}.")


def _git(*arguments: str) -> str:
    """What git prints of the clone; "" if it can't."""
    run = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def requirements() -> tuple[list[Requirement], list[str]]:
    """The dependencies in pyproject.toml that are not installed (but for AUTHORS), and those outside their range.

    The latter as "NAME VERSION, tried with RANGE".
    """
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    missing, others = [], []
    for requirement in map(Requirement, project["dependencies"]):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement.name not in AUTHORS:
                missing.append(requirement)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            others.append(f"{requirement.name} {version}, tried with {requirement.specifier}")
    return missing, others


def pins() -> list[str]:
    """Every installed package with its version, as constraints for pip: "torch==2.11.0+cu128" …"""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        try:
            # The first on the path is the one imported.
            found.setdefault(canonicalize_name(name), str(Version(version)))
        except (InvalidVersion, TypeError):  # a system package that pip does not know either
            continue
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def install(wanted: list[Requirement]) -> None:
    """pip install, with every package that is there held at its version; raises SetUpError if pip fails."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "installed.txt")
        constraints.write_text("\n".join(pins()) + "\n", encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-color", "--disable-pip-version-check",
             "--constraint", str(constraints), *map(str, wanted)], capture_output=True, text=True)
    if run.returncode:
        lines = [line.strip() for line in run.stderr.splitlines() if line.strip()] or ["no message"]
        # pip tells the cause first; what isn't pip (no pip at all, killed) tells it last.
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
        raise SetUpError(f"{', '.join(w.name for w in wanted)} can't be installed ({reason.rstrip('.')}); check the "
                         "network or take a fresh runtime (Runtime > Disconnect and delete runtime), then run this "
                         "cell again.")
    importlib.invalidate_caches()
