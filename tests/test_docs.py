"""README.md, docs/ and CONTRIBUTING.md: what they quote is what is stored, and what they show exists."""

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import yaml
from PIL import Image

from lr_helpers.authoring import badges, docs, docs_figures, docs_store, docs_tables
from lr_helpers.boxes import iou
from lr_helpers.cli import parser
from lr_helpers.course import samples
from lr_helpers.errors import UserError
from lr_helpers.method import METHODS
from tiny_world.__main__ import parser as world_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = docs.pages(ROOT)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
on_every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def prose(page: Path) -> str:
    """The text without code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A clone's pages, notebooks and stored studies, to be changed; the large models are linked."""
    for page in PAGES:
        (tmp_path / page.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(page, tmp_path / page.relative_to(ROOT))
    shutil.copytree(ROOT / "docs" / "figures", tmp_path / "docs" / "figures")
    shutil.copy2(ROOT / "docs" / "notebooks.toml", tmp_path / "docs")
    (tmp_path / "notebooks").mkdir()
    for script in (ROOT / "notebooks").glob("*.py"):
        shutil.copy2(script, tmp_path / "notebooks")
    for file in ("models.toml", *docs_store.FILES.values()):
        (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "data" / file, tmp_path / "data" / file)
    for part in ("clip", "dino", "inpainting", "neutral_texts.txt"):
        (tmp_path / "data" / "tiny_world" / part).symlink_to(ROOT / "data" / "tiny_world" / part)
    return tmp_path


def change(root: Path, study: str, path: str, value) -> None:
    """Store another value in a study of the clone at `root`."""
    file = root / "data" / docs_store.FILES[study]
    stored = json.loads(file.read_text(encoding="utf-8"))
    *keys, last = path.split(" / ")
    part = stored
    for key in keys:
        part = part[key]
    assert part[last] != value
    part[last] = value
    file.write_text(json.dumps(stored), encoding="utf-8")


# What is generated.

def test_nothing_is_stale() -> None:
    assert docs.stale(ROOT) == []


def test_a_changed_number_is_reported_wherever_it_is_quoted(copy: Path) -> None:
    assert docs.stale(copy) == []
    change(copy, "regions", "means / replace, one object / learned / hit / value", 0.5)
    assert docs.stale(copy) == ["docs/figures/regions.png was drawn from other data, or by other code.",
                                "README.md: front is not what is stored.",
                                "docs/results.md: regions is not what is stored.",
                                "docs/results.md: strange is not what is stored."]


def test_a_number_within_a_sentence_is_reported(copy: Path) -> None:
    change(copy, "costs", "kills / kills that hit an edit", 69)
    assert docs.stale(copy) == ["docs/batch.md: costs / kills / kills that hit an edit is not what is stored."]


@pytest.mark.parametrize(("study", "path", "value", "figure", "where"), [
    ("compare", "means / replace / sdedit at 12 / success / value", 0.99, "cost", "docs/comparison.md: compare"),
    ("compare", "means / replace / sdedit at 12 / psnr / value", 50.0, "background", "README.md: front"),
    ("causes", "learned / lost_region / too large", 3, "causes", "docs/results.md: causes"),
    ("extended", "means / unseen / learned / hit / value", 0.1, "unseen", "docs/results.md: unseen"),
    ("pie", "groups / all / diffedit / success / value", 1.0, "pie", "docs/pie_bench.md: pie"),
    ("zoo", "clip / caption found for picture, of 200 / value", 0.5, None, "docs/tiny_world.md: zoo"),
    ("costs", "batch / throughput / seconds of an item, 1 thread", 9.9, None, "docs/costs.md: batch costs"),
])
def test_every_study_has_figures_and_tables_that_go_stale(copy: Path, study: str, path: str, value, figure, where) -> None:
    change(copy, study, path, value)
    found = docs.stale(copy)
    assert f"{where} is not what is stored." in found
    assert figure is None or f"docs/figures/{figure}.png was drawn from other data, or by other code." in found


def test_what_is_stale_is_told_and_then_written(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(copy, "extended", "means / seen_twemoji / learned / hit / value", 0.81)
    change(copy, "gaps", "means / learned / as it is / success / value", 0.61)
    assert docs.run(check=True, root=copy) == 1
    assert "docs/limits.md: gaps / means / learned / as it is / success" in capsys.readouterr().out
    assert docs.run(root=copy) == 0
    assert "docs/figures/unseen.png: drawn" in capsys.readouterr().out
    # The interval is the stored study's, whatever it was.
    assert re.search(r"as it is / success -->61 % \[\d+, \d+\]<!-- end -->", (copy / "docs" / "limits.md").read_text(encoding="utf-8"))
    assert "81 %" in docs_figures.recorded("unseen", docs_store.Store(copy))["Description"]
    assert docs.run(check=True, root=copy) == 0


def test_a_figure_that_was_replaced_or_deleted_is_stale(copy: Path) -> None:
    Image.new("RGB", (1600, 400)).save(copy / "docs" / "figures" / "rules.png")
    (copy / "docs" / "figures" / "causes.png").unlink()
    said = docs.stale(copy)
    assert {"docs/figures/rules.png was drawn from other data, or by other code.",
            "docs/figures/causes.png was drawn from other data, or by other code."} <= set(said)


def test_the_diagram_of_another_sample_is_stale(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SCENE", samples.SCENE + 1)
    assert docs.stale(copy) == ["docs/figures/method.png was drawn from other data, or by other code."]


def test_an_edit_by_hand_within_the_markers_is_stale(copy: Path) -> None:
    page = copy / "docs" / "tiny_world.md"
    page.write_text(page.read_text(encoding="utf-8").replace("100.0 %", "99.9 %", 1), encoding="utf-8")
    assert docs.stale(copy) == ["docs/tiny_world.md: zoo is not what is stored."]


@pytest.mark.parametrize(("text", "said"), [
    ("<!-- generated: regions / means / nobody -->x<!-- end -->", "there is no 'nobody'"),
    ("<!-- generated: nothing -->x<!-- end -->", "names no study"),
    ("<!-- generated: figure nothing -->x<!-- end -->", "shows the figure 'nothing'"),
    ("<!-- generated: regions / means -->x<!-- end -->", "no number"),
    ("<!-- generated: regions", "unequal number"),
])
def test_a_wrong_marker_is_told(copy: Path, text: str, said: str) -> None:
    (copy / "docs" / "limits.md").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(said)):
        docs.stale(copy)


def test_a_notebook_without_an_idea_is_told(copy: Path) -> None:
    (copy / "notebooks" / "99_new.py").write_text("# # 99 · New\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"docs/notebooks\.toml has no line for 99_new"):
        docs.stale(copy)


def test_a_damaged_study_is_told(copy: Path) -> None:
    (copy / "data" / "studies" / "regions.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"regions\.json can't be read"):
        docs.stale(copy)


@pytest.mark.parametrize(("found", "measure", "written"), [
    ({"value": 0.93, "low": 0.88, "high": 0.98, "count": 100}, "hit", "93 % [88, 98]"),
    ({"value": 33.0377, "low": 30.103, "high": 36.2604, "count": 50}, "psnr", "33.0 [30.1, 36.3]"),
    ({"value": 1006.0, "low": 1006.0, "high": 1006.0, "count": 50}, "evaluations", "1,006"),
    ({"value": 1.0, "low": 1.0, "high": 1.0, "count": 50}, "hit", "100 % [100, 100]"),
])
def test_intervals_are_written_with_their_unit(found: dict, measure: str, written: str) -> None:
    assert docs_tables.interval(found, measure) == written


def test_differences_have_a_sign() -> None:
    assert docs_tables.difference({"value": -0.0667, "low": -0.1667, "high": 0.0167}) == "−7 points [−17, +2]"


@on_every_page
def test_numbers_of_studies_are_generated(page: Path) -> None:
    """A typed interval, or a typed share that is not one of these, would not follow its study."""
    typed = docs.MARKED.sub("", prose(page))
    assert not re.findall(r"[\d.]+ %? ?\[[\d.−+]+, [\d.−+]+\]", typed)
    # The level of the intervals; goals; what an earlier version had and no study stores; what is so by construction.
    allowed = {"95 %", "75 %", "65 %", "71 %", "68 %", "96.0 %", "0 %", "100 %", "3 %"}
    assert set(re.findall(r"[\d.]+ %", typed)) <= allowed


def test_what_is_said_in_words_holds() -> None:
    store = docs_store.Store(ROOT)
    # Comparison: who is at least as good as `learned` in task and background at no higher cost is ours as well.
    for better in store.compare["beaten_by"]["replace"].values():
        assert {name.split(" at ")[0] for name in better} <= {"predicted", "fast", "edit_free"}
    # Results: with twelve edits the network adds nothing to taking the lowest loss.
    for group in ("replace, one object", "replace, two objects"):
        learned, exhaustive = (store.regions["means"][group][row] for row in ("learned", "exhaustive"))
        assert all(learned[m] == exhaustive[m] for m in ("hit", "success"))
    # Results: in an empty scene a large random box adds as well (the intervals overlap); beside an object it doesn't.
    empty, beside = (store.regions["means"][group] for group in ("add, empty scene", "add, one object there"))
    assert empty["random_sizes"]["success"]["high"] >= empty["learned"]["success"]["low"]
    assert beside["random_sizes"]["success"]["high"] < beside["learned"]["success"]["low"]
    # Limits, results and notebook 08: `learned` misses about half of its regions by too large a box.
    assert 0.4 < store.causes["learned"]["lost_region"]["too large"] / store.causes["learned"]["missed"] < 0.6
    # Results: questions that need no edit find as many regions of the paper's boxes as our loss, or more.
    for group in ("replace, one object", "replace, two objects"):
        rules = store.regions["rules"][group]
        assert rules["edit-free terms"]["hit"]["value"] >= rules["learned's loss"]["hit"]["value"]
    # Across: in none of ten groups `predicted` did fewer tasks than `learned`, and `fast` in two, by one scene. Over all
    # of them `fast` did more and found more; results: the edit-free terms alone found more.
    means = store.regions["means"]
    assert len(means) == 10
    for row, expected in (("predicted", []), ("fast", ["add, empty scene", "remove, two objects"])):
        assert expected == [group for group, rows in means.items()
                            if rows[row]["success"]["value"] < rows["learned"]["success"]["value"]]
    for group in ("add, empty scene", "remove, two objects"):
        fast, learned = (means[group][row]["success"] for row in ("fast", "learned"))
        assert round((learned["value"] - fast["value"]) * fast["count"]) == 1
    every, paired = (store.regions["overall"][kind] for kind in ("means", "differences"))
    assert all(paired["fast"][measure]["low"] > 0 for measure in ("success", "hit"))
    assert paired["edit_free"]["hit"]["low"] > 0 > paired["edit_free"]["success"]["low"]
    assert 6 < every["learned"]["evaluations"]["value"] / every["fast"]["evaluations"]["value"] < 10
    # Across and notebook 07: trying others always finds fewer regions than never, and does no more tasks; the threshold
    # of `fast` differs from those beside it by a few tasks.
    always = store.confidence["differences"]["1"]
    assert always["hit"]["high"] < 0 and always["success"]["value"] < 0
    by_threshold = {float(t): found["success"] for t, found in store.confidence["means"]["all tasks"].items()}
    near = [by_threshold[t]["value"] * by_threshold[t]["count"] for t in (0.3, 0.4, 0.5, 0.6)]
    assert METHODS["fast"].confident == 0.5 and max(near) - min(near) <= 6
    assert max(near) == max(found["value"] * found["count"] for found in by_threshold.values())
    # Comparison and notebook 09: the mask of CLIP's patches does as well with one object, and less with two.
    one, two = (store.compare["means"][f"replace, {n}"] for n in ("one object", "two objects"))
    assert one["patch_similarity_mask at 12"]["success"]["value"] >= one["learned at 12"]["success"]["value"]
    assert two["patch_similarity_mask at 12"]["success"]["value"] < two["learned at 12"]["success"]["value"]
    # Comparison: more steps help hardly any of ours, and do help three editors.
    for row, more in (("predicted", False), ("learned", False), ("edit_free", False), ("diffedit", True),
                      ("instruct_pix2pix", True), ("ledits_pp", True)):
        at_6, at_12 = (store.compare["means"]["replace"][f"{row} at {steps}"]["success"]["value"] for steps in (6, 12))
        assert (at_12 - at_6 > 0.1) == more, row
    # Comparison: the networks do the task at least as often, and leave less of the background.
    for steps in (3, 6, 12):
        ours, theirs = (store.compare["means"]["replace"][f"{row} at {steps}"] for row in ("learned", "predicted"))
        assert theirs["success"]["value"] > ours["success"]["value"] and theirs["psnr"]["value"] < ours["psnr"]["value"]
    # Results: another style and an unseen combination cost nothing that is clear; nor does keeping two regions apart pay.
    for paired in store.extended["less seen"].values():
        assert all(paired[m]["low"] < 0 < paired[m]["high"] for m in ("hit", "success"))
    apart, free = (store.extended["turns"][way]["both done"] for way in ("kept apart", "free"))
    assert apart["low"] < free["high"]


@on_every_page
def test_no_marker_within_a_sentence_begins_a_line(page: Path) -> None:
    """Markdown would take the line for HTML and end the paragraph."""
    for found in docs.MARKED.finditer(page.read_text(encoding="utf-8")):
        if not (found["name"] in docs_tables.BLOCKS or found["name"].startswith("figure ")):
            line = page.read_text(encoding="utf-8")[:found.start()].rpartition("\n")[2]
            assert line.strip(" -*0123456789."), found["name"]


# What is shown.

def test_the_front_page_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8400


@on_every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        if re.match(r"https://[\w.-]+/", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists() and file.is_relative_to(ROOT), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], link


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_figures_are_shown_with_words_and_legible() -> None:
    shown = {name for page in PAGES for name in re.findall(r"generated: figure (\w+) -->", page.read_text(encoding="utf-8"))}
    files = {file.stem for file in (ROOT / "docs" / "figures").glob("*.png")}
    assert shown == files == set(docs_figures.DRAWINGS)
    for page in PAGES:
        for words, _ in re.findall(r"!\[([^\]]*)\]\(((?!http)[^)]+)\)", page.read_text(encoding="utf-8")):
            assert len(words) > 100
    for name in files:
        with Image.open(ROOT / "docs" / "figures" / f"{name}.png") as picture:
            assert picture.width == 1600, name  # 800 pixels on a page, sharp on a good screen
            assert picture.convert("RGBA").getextrema()[3] == (255, 255), "opaque, or it is unreadable in the dark mode"
        assert (ROOT / "docs" / "figures" / f"{name}.png").stat().st_size < 400_000


def test_the_front_page_lists_exactly_the_notebooks() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    notebooks = sorted(f"notebooks/{file.name}" for file in (ROOT / "notebooks").glob("*.ipynb"))
    assert re.findall(r"^\| \[[^\]]+\]\((notebooks/[^)]+)\)", text, re.MULTILINE) == notebooks
    assert re.findall(r"\[!\[Colab\]\[badge\]\]\(([^)]+)\)", text) == [badges.colab_address(n) for n in notebooks]
    assert ("The badges open nothing yet" in text) == (badges.placeholder() is not None)


def test_the_tree_names_every_room() -> None:
    (tree,) = blocks(ROOT / "README.md", "")
    rooms = {file.parent.name for file in (ROOT / "lr_helpers").glob("*/__init__.py")}
    named = set(re.findall(r"(\w+)/", tree))
    assert named == rooms | {"lr_helpers", "tiny_world", "zoo", "notebooks", "data", "docs", "tests"}
    assert all((ROOT / name).is_dir() for name in ("lr_helpers", "tiny_world", "notebooks", "data", "docs", "tests"))


def commands(page: Path) -> list[str]:
    """All command lines of a page: those of its bash blocks, and those it quotes within a sentence."""
    found = []
    for block in blocks(page, "bash"):
        found += block.replace("\\\n", " ").splitlines()
    found += [code for code in re.findall(r"`([^`\n]+)`", prose(page)) if re.match(r"python |\./reproduce", code)]
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in found) if line]


def parses(words: list[str], with_parser: ArgumentParser) -> None:
    with_parser.parse_args(words)  # exits where a word is unknown


OTHERS = ("source", "export", "ray", "conda", "sudo", "cd", "unshare", "pip")
"""Commands of other programs; what they do is not ours to test."""


@on_every_page
def test_every_command_that_is_shown_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usage = subprocess.run(["bash", "reproduce.sh", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for line in commands(page):
        words = shlex.split(line)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[0] in OTHERS:
            continue
        if words[0] == "./reproduce.sh":
            options = [w for w in words[1:] if w.startswith("--") or w in ("run", "test", "lab", "app", "site", "slides")]
            assert all(re.search(rf"(^|[\s\[|]){re.escape(w)}\b", usage) for w in options), line
            continue
        if words[0] in ("torchrun", "accelerate"):
            words = ["python", *words[words.index("-m"):]]
        assert words[0] == "python", line
        if words[1] != "-m":
            script = (ROOT / words[1]).read_text(encoding="utf-8")
            assert all(f'"{option}"' in script for option in words[2:] if option.startswith("--")), line
        elif words[2] == "lr_helpers":
            if words[3:] and words[3] != "…":
                parses(words[3:], parser())
        elif words[2] == "tiny_world":
            parses(words[3:], world_parser())
        elif words[2].startswith("lr_helpers.costs."):
            with pytest.raises(SystemExit):
                importlib.import_module(words[2]).main(["--help"])
            said = capsys.readouterr().out
            assert all(option in said for option in words[3:] if option.startswith("--")), line
        else:
            assert words[2] in ("pytest", "ruff", "jupyterlab", "tests.mutations"), line


@on_every_page
def test_python_that_is_shown_imports(page: Path) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


@on_every_page
def test_modules_and_files_that_are_named_exist(page: Path) -> None:
    """`lr_helpers.x.y`, `data/…`, `tests/….py` and `lr_helpers/….py` within code marks."""
    for name in re.findall(r"`(lr_helpers(?:\.\w+)+)", prose(page)):
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name
    for file in re.findall(r"`((?:data|tests|lr_helpers|tiny_world)/[\w./]+)`", prose(page)):
        assert (ROOT / file).exists(), file


def test_the_batch_file_that_is_shown_is_read() -> None:
    (shown,) = blocks(ROOT / "docs" / "batch.md", "json")
    entries = json.loads(shown)
    assert {key for entry in entries for key in entry} == {"image", "source", "prompt", "seed", "name", "method", "settings"}


def test_official_options_have_their_counterpart_and_default() -> None:
    text = (ROOT / "docs" / "coming_from_the_official_code.md").read_text(encoding="utf-8")
    learned = METHODS["learned"]
    options = parser().parse_args(["edit", "--image", "x", "--source", "x", "--prompt", "x", "--output", "x"])
    rows = dict(re.findall(r"^\| `--\w+`[^|]* \| `--([\w-]+)`[^|]* \| ?([^|]*?) ?\|$", text, re.MULTILINE))
    assert rows["anchors"] == f"{learned.anchors}, of whose boxes a shortlist of {learned.shortlist} is edited"
    assert rows["sizes"] == f"{learned.sizes[0]} … {learned.sizes[-1]}"
    assert rows["iterations"] == str(learned.iterations) and rows["lr"] == str(learned.lr)
    assert rows["seed"] == str(options.seed)
    assert {"image", "source", "prompt", "profile", "output", "draw-boxes"} <= rows.keys()
    for defect in METHODS["official_code"].defects:
        assert f"| `{defect}` |" in text


def test_the_rows_of_the_comparison_are_those_of_the_registry() -> None:
    from lr_helpers.baselines import BASELINES

    table = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8").partition("| row |")[2].partition("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(BASELINES)


def test_the_citation_agrees_with_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == project["version"] and cited["license"] == project["license"]
    assert cited["repository-code"] == project["urls"]["Repository"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["references"][0]["url"] == "https://arxiv.org/abs/2311.16432"


@pytest.mark.slow
def test_the_edit_of_the_front_page_works_as_copied_and_is_the_diagrams(tmp_path: Path) -> None:
    from lr_helpers.authoring import diagram

    lines = [shlex.split(line) for line in commands(ROOT / "README.md") if "lr_helpers" in line and "python" in line]
    assert [words[3] for words in lines] == ["scene", "edit"]
    for words in lines:
        subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True, capture_output=True,
                       env={**os.environ, "PYTHONPATH": str(ROOT), "LR_PROFILE": "tiny"})
    made = diagram.run()
    with Image.open(tmp_path / "edited" / "final_output.png") as final:
        assert final.tobytes() == made.result.image.tobytes()
    result = json.loads((tmp_path / "edited" / "result.json").read_text(encoding="utf-8"))
    assert tuple(result["candidates"][0]["box"]) == made.result.box
    assert iou(torch.tensor(made.result.box), torch.tensor(made.sample.truth)) > 0.5
    figure = diagram.draw(made)
    assert figure.get_label() == docs_figures.recorded("method", docs_store.Store(ROOT))["Description"]
    plt.close(figure)
