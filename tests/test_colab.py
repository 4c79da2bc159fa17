"""The notebooks open by their badges, and their set-up cell does what it says, run as Colab would run it."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import torch
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from packaging.specifiers import SpecifierSet

import lr_helpers
from lr_helpers import colab
from lr_helpers.authoring import badges, exercises, notebooks
from lr_helpers.course import colab as course_colab
from lr_helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADDRESS, VERSION = PROJECT["urls"]["Repository"], f"v{PROJECT['version']}"
OURS = "https://github.com/school/learnable-regions"
"""An address that is none of a placeholder."""

# What Colab has (August 2026); the rest of pyproject.toml's packages it has not.
COLAB = ["torch==2.11.0", "torchvision==0.26.0", "transformers==5.15.0", "diffusers==0.39.0", "accelerate==1.14.0",
         "numpy==2.1.*", "pillow==11.3.0", "matplotlib==3.10.0", "scipy==1.16.*", "ipykernel==6.17.1", "ipython==7.34.0",
         "ipywidgets==7.7.1", "gradio==6.24.*", "nbconvert", "nbclient", "safetensors", "tqdm"]
ABSENT = ("open_clip_torch", "torchmetrics", "jupytext", "papermill")


@pytest.fixture
def addressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project with an address of its own."""
    file = tmp_path / "addressed.toml"
    file.write_text(badges.PYPROJECT.read_text(encoding="utf-8").replace(ADDRESS, OURS), encoding="utf-8")
    monkeypatch.setattr(badges, "PYPROJECT", file)


# Badges and cells


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_a_notebook_opens_with_its_badge_and_the_set_up_cell(source: Path) -> None:
    cells = notebooks.read_script(source).cells
    lines = cells[0].source.splitlines()
    place = f"{ADDRESS.removeprefix('https://')}/blob/main/notebooks".removeprefix("github.com/")
    assert lines[0].startswith("# ") and lines[1] == ""
    assert lines[2] == ("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
                        f"(https://colab.research.google.com/github/{place}/{source.stem}.ipynb)")
    (setup,) = [i for i, c in enumerate(cells) if badges.TAG in c.metadata.get("tags", [])]
    assert cells[setup].source == badges.setup_cell()
    assert "parameters" in cells[setup + 1].metadata.tags
    assert not any(c.cell_type == "code" for c in cells[:setup])

    stubs = exercises.exercise_version(notebooks.read_script(source), source.stem)
    if stubs is not None:
        lines = stubs.cells[0].source.splitlines()
        assert lines[2].endswith(f"/blob/main/notebooks/exercises/{source.stem}.ipynb)") and lines[3] == ""
        assert lines[4].startswith("> **Exercise version.**")
        assert [c.source for c in stubs.cells].count(badges.setup_cell()) == 1


def test_the_set_up_cell_is_short_and_names_address_and_version_once(addressed) -> None:
    cell = badges.setup_cell()
    assert len(cell.splitlines()) <= 9
    assert max(map(len, cell.splitlines())) <= 100
    assert cell.count(OURS) == 1 and cell.count(f'"{VERSION}"') == 1
    assert lr_helpers.__version__ == PROJECT["version"]


def test_the_set_up_cell_of_a_placeholder_holds_nothing_that_fetches() -> None:
    assert badges.placeholder()  # as long as pyproject.toml has none of its own; then this test goes
    cell = badges.setup_cell()
    assert len(cell.splitlines()) <= 6
    assert max(map(len, cell.splitlines())) <= 100
    assert cell.count(ADDRESS) == 1
    assert not any(word in cell for word in ("git ", "os.system", "sys.path", "import set_up"))


SCRIPT = '''# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # A small one
#
# Text.

# %% tags=["parameters"]
profile = "none"

# %% tags=["solution"]
def twice(x: float) -> float:
    """Twice x."""
    return 2 * x
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one notebook pair, opened for Colab and executed; returns its pyproject.toml."""
    file, source = tmp_path / "pyproject.toml", tmp_path / "01_small.py"
    file.write_text('[project]\nversion = "1.0"\nurls.Repository = "https://github.com/OWNER/some"\n', encoding="utf-8")
    source.write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(badges, "PYPROJECT", file)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    assert notebooks.run([], check=False, renewing=True) == 1  # no .ipynb yet
    pair = notebooks.read_script(source)
    for number, cell in enumerate((c for c in pair.cells if c.cell_type == "code"), 1):
        cell.execution_count = number
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {number}, github.com/OWNER/some\n")]
    source.with_suffix(".ipynb").write_text(nbformat.writes(pair) + "\n", encoding="utf-8")
    assert notebooks.run([], check=False, renewing=True) == 0
    assert notebooks.run([], check=True) == 0
    return file


def test_a_new_address_and_version_reach_all_halves_without_execution(project: Path, capsys) -> None:
    source, twin = project.parent / "01_small.py", project.parent / "01_small.ipynb"
    stubs = project.parent / "exercises" / "01_small.ipynb"
    before = twin.read_text(encoding="utf-8")
    capsys.readouterr()
    project.write_text(project.read_text(encoding="utf-8").replace("OWNER/some", "school/course.git")
                       .replace("1.0", "2.0rc1"), encoding="utf-8")
    assert notebooks.run([], check=True) == 1
    assert "badge or set-up cell" in capsys.readouterr().err
    assert notebooks.run([], check=False, renewing=True) == 0
    assert notebooks.run([], check=True) == 0
    assert "placeholder" not in capsys.readouterr().out

    new = "github/school/course/blob/main"
    assert f"{new}/notebooks/01_small.ipynb)" in source.read_text(encoding="utf-8")
    assert f"{new}/notebooks/exercises/01_small.ipynb)" in stubs.read_text(encoding="utf-8")
    for file in (source, twin, stubs):
        text = file.read_text(encoding="utf-8")
        # also in the JSON of an .ipynb, where quotes are escaped
        assert "v2.0rc1" in text and "https://github.com/school/course" in text and "v1.0" not in text
    # Nothing but the two cells has changed, outputs that look alike included.
    old, now = nbformat.reads(before, 4), nbformat.read(twin, 4)
    for a, b in zip(old.cells, now.cells, strict=True):
        if badges.TAG in a.metadata.get("tags", []) or a.cell_type == "markdown":
            assert a.source != b.source
            b.source = a.source
    assert old == now
    assert source.stat().st_mtime >= twin.stat().st_mtime

    state = {f: f.read_bytes() for f in (source, twin, stubs)}, twin.stat().st_mtime_ns
    assert notebooks.run([], check=False, renewing=True) == 0
    assert state == ({f: f.read_bytes() for f in (source, twin, stubs)}, twin.stat().st_mtime_ns)


def test_the_real_notebooks_survive_a_renewal_byte_by_byte() -> None:
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        assert badges.opened(text, source.stem) == text
        twin = source.with_suffix(".ipynb")
        if twin.exists():
            assert nbformat.writes(nbformat.read(twin, 4)) + "\n" == twin.read_text(encoding="utf-8")


def test_a_placeholder_and_useless_addresses_are_told(project: Path, capsys) -> None:
    assert notebooks.run([], check=True) == 0
    assert "https://github.com/OWNER/some in pyproject.toml is a placeholder" in capsys.readouterr().out
    for address in ("", "https://gitlab.com/a/b", "https://github.com/a", "https://github.com/a/b; ls"):
        project.write_text(f'[project]\nversion = "1.0"\nurls.Repository = "{address}"\n', encoding="utf-8")
        with pytest.raises(UserError, match=re.escape(repr(address))):
            notebooks.run([], check=False, renewing=True)
    with pytest.raises(UserError, match=r"09_x\.py has no title"):
        badges.opened("# %% [markdown]\n# text\n", "09_x")


def test_a_notebook_that_cannot_be_opened_is_told(project: Path) -> None:
    with pytest.raises(UserError, match=r'09_x\.py has no cell tagged "parameters"'):
        badges.opened("# %% [markdown]\n# # Title\n\n# %%\n1\n", "09_x")


# What is installed


def test_only_what_is_missing_is_wanted_and_all_else_is_pinned() -> None:
    wanted, others = course_colab.requirements()
    assert wanted == [] and others == []  # the tests run where everything is installed
    pins = course_colab.pins()
    assert f"torch=={metadata.version('torch')}" in pins and f"numpy=={metadata.version('numpy')}" in pins
    assert len(pins) == len({p.partition("==")[0] for p in pins})


def test_the_oldest_python_is_the_one_of_pyproject() -> None:
    supported = SpecifierSet(PROJECT["requires-python"])
    assert supported.contains("{}.{}".format(*course_colab.OLDEST)) and not supported.contains(f"3.{course_colab.OLDEST[1] - 1}")


# The set-up, in processes of their own


def git(*arguments: str, folder: Path) -> str:
    settings = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of the project as it is now, with the tag of its version."""
    if not (ROOT / ".git").exists():
        pytest.skip("the project is no git checkout, so which files belong to it is not known")
    folder = tmp_path_factory.mktemp("a repository")
    for name in git("ls-files", "-coz", "--exclude-standard", folder=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "-q", "-b", "main", folder=folder)
    git("add", "-A", folder=folder)
    git("commit", "-q", "-m", "all", folder=folder)
    git("tag", VERSION, folder=folder)
    return folder


@pytest.fixture
def environment(repository: Path, tmp_path: Path) -> dict[str, str]:
    """Colab's: no GPU, google.colab loaded as IPython extension, and GitHub, which is `repository`."""
    extension = tmp_path / "stand_in" / "google" / "colab" / "__init__.py"
    settings = tmp_path / "ipython" / "profile_default" / "ipython_config.py"
    for file, text in ((extension, "def load_ipython_extension(shell):\n    pass\n"),
                       (settings, "get_config().InteractiveShellApp.extensions = ['google.colab']\n")):
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    (tmp_path / "content").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LR_") and k != "JUPYTER_PATH"}
    return kept | {
        "PYTHONPATH": str(extension.parents[2]), "IPYTHONDIR": str(settings.parents[1]), "CUDA_VISIBLE_DEVICES": "",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": OURS,
        "GIT_TERMINAL_PROMPT": "0"}


def run_cell(environment: dict[str, str], folder: Path, cell: str, first: str = "import google.colab") -> tuple[int, str]:
    """Exit status and output of the set-up cell in a new process of this Python; then of `lr_helpers` from there."""
    code = f"{first}\n{cell}\nimport lr_helpers; print(os.getcwd(), os.environ.get('LR_PROFILE'), lr_helpers.__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True,
                         stdin=subprocess.DEVNULL)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("owner", ["OWNER/learnable-regions", "OWNER/another"])
def test_a_placeholder_is_refused_before_anything_is_fetched(environment, tmp_path, monkeypatch, owner) -> None:
    """Whoever has an account of that name would decide what runs: here, a repository does lie at the address."""
    address, folder = f"https://github.com/{owner}", tmp_path / "content"
    file = tmp_path / "placeholder.toml"
    file.write_text(f'[project]\nversion = "0.1.0"\nurls.Repository = "{address}"\n', encoding="utf-8")
    monkeypatch.setattr(badges, "PYPROJECT", file)
    status, told = run_cell(environment | {"GIT_CONFIG_VALUE_0": address}, folder, badges.setup_cell())
    assert status == 1 and "Traceback" not in told
    assert told == (f"Nothing was fetched: {address} is only a placeholder for the real address; open the course from its "
                    "own repository, or put its address into pyproject.toml and run: python -m lr_helpers notebooks --badges\n")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("given", [None, "sd2"])
def test_colab_takes_tiny_and_says_what_the_gpu_is_good_for(monkeypatch, capsys, given) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(course_colab, "requirements", lambda: ([], []))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LR_PROFILE", given or "")
    colab.set_up(VERSION)
    lines = capsys.readouterr().out.splitlines()
    if given:  # whoever has chosen needs no offer
        assert os.environ["LR_PROFILE"] == given and lines[-1].endswith(f"profile {given}: LR_PROFILE says so.")
        return
    assert os.environ["LR_PROFILE"] == "tiny"
    assert lines[-2].endswith("profile tiny: set LR_PROFILE for another one.")
    assert lines[-1] == ('There is a GPU, Tesla T4: with profile = "sd2" in the cell below, a notebook edits photographs. That '
                         "downloads 3.5 GB once (notebook 09 up to 9.4 GB more) and takes about 28 seconds an edit, 23 minutes "
                         "for all notebooks (assumed for a Tesla T4: 0.12 s a denoiser evaluation).")


def test_without_a_gpu_nothing_is_offered(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert colab.offer() == ""


def test_elsewhere_the_cell_does_nothing(environment, tmp_path, addressed) -> None:
    environment["PYTHONPATH"] = str(ROOT)
    folder = tmp_path / "content"
    assert run_cell(environment, folder, badges.setup_cell(), first="") == (
        0, f"{folder} None {ROOT / 'lr_helpers' / '__init__.py'}\n")
    assert list(folder.iterdir()) == []


def test_fetch_then_update_then_fall_back(environment, repository, tmp_path, monkeypatch, addressed) -> None:
    folder, environment = tmp_path / "content", environment | {"LR_PROFILE": "tiny"}
    course = folder / "course"
    there = f"{course / 'notebooks'} tiny {course / 'lr_helpers' / '__init__.py'}\n"
    first = git("rev-parse", "HEAD", folder=repository)
    try:
        assert run_cell(environment, folder, badges.setup_cell()) == (
            0, f"Learnable regions {VERSION}, profile tiny: LR_PROFILE says so.\n{there}")
        git("commit", "-q", "--allow-empty", "-m", "more", folder=repository)
        # The same version again: the tag is taken, not what came after it.
        assert run_cell(environment, folder, badges.setup_cell())[0] == 0
        assert git("rev-parse", "HEAD", folder=course) == first

        newer = tmp_path / "pyproject.toml"
        newer.write_text(f'[project]\nversion = "9.9"\nurls.Repository = "{OURS}"\n', encoding="utf-8")
        monkeypatch.setattr(badges, "PYPROJECT", newer)
        commit = git("rev-parse", "--short", "HEAD", folder=repository).strip()
        assert run_cell(environment, folder, badges.setup_cell()) == (
            0, f"There is no version v9.9 of the course to be had, so this is its newest state, commit {commit}.\n"
               f"Learnable regions {commit}, profile tiny: LR_PROFILE says so.\n{there}")
        git("tag", "v9.9", folder=repository)
        assert run_cell(environment, folder, badges.setup_cell()) == (
            0, f"Learnable regions v9.9, profile tiny: LR_PROFILE says so.\n{there}")
    finally:
        git("tag", "-d", "v9.9", folder=repository)
        git("reset", "-q", "--hard", first.strip(), folder=repository)


def test_failures_are_one_sentence(environment, repository, tmp_path, addressed) -> None:
    folder = tmp_path / "content"
    lost = environment | {"GIT_CONFIG_KEY_0": f"url.{(tmp_path / 'nowhere').as_uri()}.insteadOf"}
    status, told = run_cell(lost, folder, badges.setup_cell())
    assert status == 1 and "Traceback" not in told
    assert told.endswith("The course could not be fetched from GitHub; check the network, then run this cell again.\n")

    # Python is too old for the course if the course says that it needs a newer one.
    old = (f"import sys; sys.path.insert(0, {str(repository)!r})\nfrom lr_helpers.course import colab; colab.OLDEST = (3, 99)\n"
           "try:\n    colab.set_up('v1')\nexcept colab.SetUpError as error:\n    print(error)")
    _, told = run_cell(environment, folder, "import os", first=old)
    assert told.startswith("The course needs Python 3.99 or newer and this is Python 3.")


# The set-up, where packages are missing


def packages(python: Path) -> dict[str, str]:
    """Name → version of all that is installed for a Python, except what it is installed with."""
    code = "import json; from importlib.metadata import distributions as d; print(json.dumps({x.name: x.version for x in d()}))"
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.fixture(params=["these versions", "exact versions"])
def colab_python(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A virtual environment with Colab's packages: the versions that are here, or Python 3.13 and the versions there.

    The former come by links into the environment that runs now, without the packages that Colab has not. For the latter
    uv has to find or fetch Python 3.13, and LR_TEST_COLAB=1 lets this Python take its place.
    """
    folder, python = tmp_path / "colab", tmp_path / "colab" / "bin" / "python"
    if request.param == "exact versions":
        uv = shutil.which("uv") or pytest.skip("Colab's versions need uv, which is not on the PATH")
        made = subprocess.run([uv, "venv", "--seed", "--python", "3.13", folder], capture_output=True, text=True)
        if made.returncode:
            if not os.environ.get("LR_TEST_COLAB"):
                pytest.skip(f"uv neither has Python 3.13 nor can fetch it: {made.stderr.strip().splitlines()[-1]}")
            subprocess.run([uv, "venv", "--seed", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *COLAB], check=True)
        return python
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    # Python 3.11 gives an old one, older than torch needs.
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"], check=True)
    left_out = {"pip"}
    for name in (*ABSENT, "learnable-regions"):
        try:
            left_out |= {file.parts[0] for file in metadata.files(name) or ()}
        except metadata.PackageNotFoundError:
            continue
    links = tmp_path / "packages"
    links.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if entry.name not in left_out and entry.suffix != ".pth":
            (links / entry.name).symlink_to(entry)
    (place,) = folder.glob("lib/python*/site-packages")
    (place / "links.pth").write_text(f"{links}\n", encoding="utf-8")
    fetched = subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp_path, ABSENT[0]],
                             capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"pip can't fetch packages here: {fetched.stderr.strip().splitlines()[-1]}")
    return python


@pytest.mark.all
def test_a_notebook_runs_as_on_colab(colab_python, environment, tmp_path, addressed) -> None:
    before = packages(colab_python)
    assert not set(ABSENT) & set(before) and "torch" in before

    whole = "gradio" in before  # Colab's own versions: all of notebook 01
    notebook = notebooks.read_script(SOURCES[0])
    code = [c for c in notebook.cells if c.cell_type == "code"]
    code[0].source = badges.setup_cell()  # with an address
    # First without a package index; the cell can be run again when there is one.
    offline = nbformat.v4.new_code_cell("import os; os.environ |= {'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': ''}")
    failing = nbformat.v4.new_code_cell(badges.setup_cell(), metadata={"tags": ["raises-exception"]})
    online = nbformat.v4.new_code_cell("del os.environ['PIP_NO_INDEX'], os.environ['PIP_FIND_LINKS']")
    after = nbformat.v4.new_code_cell("import open_clip, torch; print(os.getcwd(), profile, torch.__version__)")
    notebook.cells = [offline, failing, online, *(code if whole else code[:8]), after]

    class Kernel(AsyncKernelManager):
        kernel_spec = KernelSpec(argv=[str(colab_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                                 display_name="Colab", language="python")

    client = NotebookClient(notebook, timeout=600, kernel_manager_class=Kernel, coalesce_streams=True,
                            resources={"metadata": {"path": str(tmp_path / "content")}})
    client.execute(env=environment)

    (error,) = failing.outputs
    assert (error.ename, len(error.traceback)) == ("SetUpError", 1)
    assert re.fullmatch(r"Set-up failed: .*open_clip_torch.* can't be installed \(Could not find a version that satisfies "
                        r".*\); check the network .*then run this cell again\.", error.traceback[0])
    told = code[0].outputs[0].text
    assert re.fullmatch(rf"Learnable regions {VERSION}, installed .*open_clip_torch.*, profile tiny: set LR_PROFILE for another one\.\n",
                        told), told
    now = packages(colab_python)
    print(f"{told}installed: " + ", ".join(f"{n} {v}" for n, v in sorted(now.items()) if n not in before))
    print("unchanged:", ", ".join(f"{n} {now[n]}" for n in ("torch", "numpy", "pillow", "transformers", "diffusers")))
    assert {name: now.get(name) for name in before} == before
    assert after.outputs[0].text.startswith(f"{tmp_path / 'content' / 'course' / 'notebooks'} tiny {now['torch']}")
    assert any("image/png" in o.get("data", {}) for c in code for o in c.outputs)
