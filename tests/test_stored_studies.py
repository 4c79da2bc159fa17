"""The stored studies in data/studies: names of the registry, figures that are drawn, and numbers that fit each other."""

import csv
import json

import matplotlib.pyplot as plt
import pytest

from lr_helpers import plots
from lr_helpers.baselines import BASELINES, TITLES, rows_here
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import get_profile
from lr_helpers.study import causes, compare, extended, regions, tables, weights
from lr_helpers.study.learning import VARIANTS
from lr_helpers.study.pie import table as pie
from lr_helpers.study.pie.items import TYPES

FAMILIES = {name: row.family for name, row in BASELINES.items()}
OLD = {"expectation", "oracle", "occlusion", "by_lot", "anchor_by_lot", "chooser"}
"""Names that rows and columns had once."""
ROWS = rows_here(regions.ROWS, get_profile("tiny"))
"""Those of the study, the region predictor's included."""


def stored(name: str) -> dict:
    return json.loads((DATA / "studies" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lines() -> list[dict]:
    """The rows of regions.csv as the tables take them."""
    with (DATA / "studies" / "regions.csv").open(encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    assert list(texts[0]) == list(regions.COLUMNS)
    numbers = ("objects", *regions.MEASURES)
    return [{**line, **{name: float(line[name]) if line[name] else None for name in numbers}} for line in texts]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def names_in(found) -> set[str]:
    """All keys, and all texts in lists, however deep."""
    if isinstance(found, dict):
        return set(found) | {name for value in found.values() for name in names_in(value)}
    if isinstance(found, list):
        return {name for value in found for name in names_in(value)} | {v for v in found if isinstance(v, str)}
    return set()


# Names


@pytest.mark.parametrize("name", ["regions", "learning", "compare", "extended", "pie", "causes"])
def test_no_row_has_a_name_of_its_own(name):
    assert not {text.split(" at ")[0] for text in names_in(stored(name))} & OLD


def test_rows_are_those_of_the_registry(lines):
    assert list(tables.rows_of(lines)) == list(ROWS)
    assert set(ROWS) <= set(BASELINES)
    for title, means in stored("regions")["means"].items():
        rows = set(regions.STRANGE_ROWS if "held-out" in title else ROWS)
        assert set(means) == (rows - {"known_region"} if title.startswith("add") else rows)
    for means in stored("learning")["means"].values():
        assert list(means) == [variant.name for variant in VARIANTS]
    found = stored("compare")
    tried = {variant.name for variant in compare.variants()}
    assert set(found["means"]["replace"]) == {name for name in tried if name.split(" at ")[0] not in found["not_run"]}
    assert set(stored("extended")["means"]["seen"]) == set(extended.ROWS)
    assert list(stored("causes")) == list(causes.SHOWN)
    found = stored("pie")
    assert {*found["groups"]["all"], *found["not_run"]} <= set(BASELINES)
    assert set(found["groups"]) - {"all"} <= set(TYPES.values())


# Numbers


def test_the_tables_of_regions_are_those_of_its_rows(lines):
    """Every mean, interval and count, and every paired difference, to the last digit."""
    found = stored("regions")
    for title, part in tables.by_group(lines).items():
        assert tables.means(part, regions.MEASURES) == found["means"][title]
        by_row = tables.rows_of(part)
        assert list(found["differences"][title]) == [row for row in by_row if row != regions.COMPARED_WITH]
        for row, difference in found["differences"][title].items():
            assert tables.differences(by_row[row], by_row[regions.COMPARED_WITH], regions.MEASURES) == difference
    assert list(tables.by_group(lines)) == list(found["means"])
    # All kinds of tasks together: rows that were run on all of them.
    assert regions.overall(lines) == found["overall"]
    assert set(found["overall"]["means"]) == set(regions.STRANGE_ROWS) - {"known_region"}
    asked = {kind for name, count in found["tasks"].items() if count
             for kind in (("style", "texture") if name == "strange" else (name,))}
    assert list(found["means"]) == [title for title, (kind, _) in tables.GROUPS.items() if kind in asked]


def test_the_causes_are_those_of_the_rows(lines):
    for row, found in stored("causes").items():
        mine = [line for line in lines if line["row"] == row and line["task"].startswith("replace")]
        assert found["tasks"] == len(mine) == stored("regions")["tasks"]["replace"]
        wrong = [line["task"] for line in mine if not (line["success"] and line["hit"])]
        assert [failure["task"] for failure in found["failures"]] == wrong
        assert found["lost"] == causes.counted(found["failures"])
        assert found["lost_region"] == causes.counted(found["failures"], "region_cause")


def test_the_choice_of_weights_says_what_learned_is_worth():
    for found in stored("weights")["groups"].values():
        assert weights.shipped() in found["chosen"]


def test_who_beats_ours_follows_from_the_means():
    found = stored("compare")
    assert found["beaten_by"] == {title: compare.better(means) for title, means in found["means"].items()
                                  if title.startswith("replace")}


def test_the_table_of_pie_is_that_of_its_summary():
    found = stored("pie")
    setting = (f"{found['items']} items of 60 in `pie_emoji`, profile `{found['profile']}`, {found['steps']} denoising "
               f"steps where a row has none of its own, seed {found['seed']}, on {found['device']}.")
    assert pie.page(found, setting) == (DATA / "studies" / "pie.md").read_text(encoding="utf-8")
    assert found["published"] == pie.published()


# Figures: those of the notebooks 08 to 10, of the command, and of the documentation


def lines_of(figure) -> int:
    return len(figure.axes[0].get_yticklabels())


@pytest.mark.parametrize("measures", [("hit", "iou", "centre_inside"),
                                      ("success", "target_seen", "source_gone", "others_kept")])
def test_measures_of_regions_are_drawn(measures):
    means = {title: found for title, found in stored("regions")["means"].items() if title.startswith("replace")}
    figure = plots.show_measures(means, TITLES, measures)
    assert len(figure.axes) == len(measures) and lines_of(figure) == len(ROWS)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [TITLES[row] for row in ROWS]
    assert "learned: " in figure.get_label() and "edit-free terms alone: " in figure.get_label()


def test_rules_sweeps_and_curves_of_regions_are_drawn():
    found = stored("regions")
    for title, rules in found["rules"].items():
        assert lines_of(plots.show_rules(rules, title)) == len(rules) == 21
    for sweeps in found["sweeps"].values():
        figure = plots.show_sweeps(sweeps)
        assert [axes.get_xlabel() for axes in figure.axes[:len(sweeps)]] == list(sweeps)
        assert all(len(axes.lines) >= 2 for axes in figure.axes[:len(sweeps)])
    legend = plots.show_cost(found["curves"], TITLES).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [TITLES[row] for row in found["curves"]]


@pytest.mark.parametrize(("name", "count"), [("regions", 7 + 1 + 4 + 4), ("learning", 2)])
def test_the_command_draws_its_figures_again(name, count):
    assert len(regions.figures(stored(name))) == count


def test_learning_is_drawn():
    means = stored("learning")["means"]
    figure = plots.show_measures(means, {variant.name: variant.name for variant in VARIANTS}, ("hit", "iou", "success"))
    assert lines_of(figure) == len(VARIANTS) == 15


def test_the_frontier_of_compare_is_drawn():
    found = stored("compare")
    tried = {name.split(" at ")[0] for name in found["means"]["replace"]}
    for title, axes_of in (("replace", (("evaluations", "success"), ("psnr", "success"))),
                           ("replace, one object", (("evaluations", "success"), ("evaluations", "psnr"))),
                           ("replace, two objects", (("evaluations", "success"), ("evaluations", "psnr")))):
        figure = plots.show_frontier(found["means"][title], TITLES, FAMILIES, axes_of)
        assert {text.get_text() for text in figure.legends[0].get_texts()} == {TITLES[row] for row in tried}
        assert all(len(axes.collections) >= len(tried) for axes in figure.axes)


def test_extended_is_drawn_and_printed(capsys):
    found = stored("extended")
    figure = plots.show_measures(found["means"], {row: TITLES[row] for row in extended.ROWS},
                                 ("hit", "success", "target_seen"))
    assert lines_of(figure) == 2 and len(figure.legends[0].get_texts()) == len(found["means"]) == 3
    extended.show(found)
    said = capsys.readouterr().out
    assert all(f"\n{kind}: means" in said for kind in found["means"])
    assert all(f"\n  {row} " in said for row in (*extended.ROWS, *found["prompts"], *found["turns"]))


# The zoo


def test_the_metrics_of_the_zoo_hold_every_part_and_fit_the_files():
    from lr_helpers.study.zoo import megabytes

    found = json.loads((DATA / "tiny_world" / "METRICS.json").read_text(encoding="utf-8"))
    assert set(found) == {"judge", "editor", "vae", "clip", "dino", "text_to_image", "instruct", "megabytes"}
    sizes = megabytes()
    assert all(sizes[name] == size for name, size in found["megabytes"].items() if name != "all")
    assert sizes["all"] <= 48
    least = {"editor": 20, "vae": 100}  # places where several seeds are compared; pictures of each kind
    for part in set(found) - {"megabytes"}:
        intervals = [value for value in found[part].values() if isinstance(value, dict)]
        assert intervals and all(v["low"] <= v["value"] <= v["high"] for v in intervals)
        assert all(v["count"] >= least.get(part, 200) for v in intervals)


def test_a_part_of_the_zoo_is_measured_alone_and_the_others_stay(tmp_path, capsys):
    from lr_helpers.cli import main
    from lr_helpers.cli.study import ZOO
    from lr_helpers.study.zoo import PARTS

    assert ZOO == PARTS
    output = tmp_path / "metrics.json"
    output.write_text('{"judge": {"names objects": "as it was"}}')
    command = ["study", "zoo", "--scenes", "2", "--output", str(output), "--pictures", str(tmp_path / "grids")]
    assert main([*command, "--parts", "instruct", "vae"]) == 0
    found = json.loads(output.read_text())
    assert list(found) == ["judge", "vae", "instruct", "megabytes"] and found["judge"]["names objects"] == "as it was"
    assert found["vae"]["reconstruction PSNR dB, held-out style"]["count"] == 2 and found["instruct"]["replace: both"]["count"] == 1
    assert (tmp_path / "grids" / "instruct.png").is_file()
    assert "reconstruction PSNR dB" in capsys.readouterr().out
