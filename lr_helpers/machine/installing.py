"""How to install what is missing into the Python that runs: the end of every sentence that asks for a package."""

from __future__ import annotations

import importlib.util
import shlex
import sys


def install_command(*packages: str) -> str:
    """A command line that installs packages, named as pip does ("pysocks", "torch>=2.11"), into the running Python.

    An environment that uv made holds no pip, and the first pip on the PATH may then belong to another Python. So the
    Python is named, and uv does the work where there is no pip.
    """
    names, python = shlex.join(packages), shlex.quote(sys.executable)
    if importlib.util.find_spec("pip"):
        return f"{python} -m pip install {names}"
    return f"uv pip install {names} --python {python}"


def install_extra(extra: str = "") -> str:
    """The same for this project and one of its extras in pyproject.toml, at the versions that were tested.

    The clone is named, not a package of an index: there, anybody may own the name.
    """
    return f"{install_command('-c', 'constraints.txt', '-e', f'.[{extra}]' if extra else '.')} (in the course's folder)"
