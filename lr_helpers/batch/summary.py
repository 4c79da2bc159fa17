"""The end of a batch: one table, one count, and contact sheets of all results."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lr_helpers.batch.folder import output_of
from lr_helpers.batch.items import Item, Plan
from lr_helpers.batch.work import DONE, FAILED, KEPT, REFUSED, Outcome
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import Change
from lr_helpers.files.pictures import read_image
from lr_helpers.files.writing import csv_bytes, json_bytes, png_bytes

COLUMNS = ("name", "line", "status", "image", "source", "prompt", "seed", "x0", "y0", "x1", "y1", "loss", "score",
           "probability", "edits", "evaluations", "seconds", "message")
TILE, TEXT, ACROSS, DOWN = (324, 108), 34, 4, 12
"""Of a contact sheet: a tile's pixels and the height of the text below it, and tiles a page."""
SHEET, PAGE = "contact_sheet.png", "contact_sheet_{:03}.png"
"""The only contact sheet, or each of several."""


def names(items: int) -> list[str]:
    """The files that the end of a batch of so many items may write."""
    pages = range(1, -(-items // (ACROSS * DOWN)) + 1)
    return ["summary.csv", SHEET, *(PAGE.format(page) for page in pages), "summary.json"]


def finish(plan: Plan, outcomes: Sequence[Outcome], seconds: float) -> dict:
    """Write `summary.csv`, `contact_sheet*.png` and, last, `summary.json`; returns the latter's content.

    `outcomes` in any order; the files are in the batch file's order. Contact sheets stay as they are if no item has
    changed since they were made. Raises OutputError if the folder can't be written to.
    """
    by_name = {outcome.name: outcome for outcome in outcomes}
    # A row for each item and for each problem, (line, name, outcome), in the order of the batch file.
    rows = [(item.line, item.name, by_name[item.name]) for item in plan.items]
    for problem in plan.problems:
        rows.append((problem.line, problem.name, Outcome(problem.name, REFUSED, problem.message)))
    rows.sort(key=lambda row: row[0])
    status = Counter(outcome.status for _, _, outcome in rows)
    finished = [item for item in plan.items if by_name[item.name].good]
    digest = sha256(json.dumps([[i.name, by_name[i.name].row] for i in finished]).encode()).hexdigest()
    counts = {"entries": len(rows), "good": status[DONE] + status[KEPT],
              DONE: status[DONE], KEPT: status[KEPT], REFUSED: status[REFUSED], FAILED: status[FAILED],
              "warnings": sum(bool(by_name[i.name].row["warnings"]) for i in finished),
              "contact_sheets": math.ceil(len(finished) / (ACROSS * DOWN)), "digest": digest,
              "seconds": round(seconds, 3)}
    sheets = _sheets(plan.folder)
    with output_of(plan.folder).change() as change:
        change.write("summary.csv", csv_bytes(COLUMNS, [_cells(*row) for row in rows]))
        # Contact sheets take long for a large batch, so they are made only if an item changed.
        if _digest(plan.folder, sheets) != digest:
            change.remove(*sheets)
            _write_sheets(change, finished)
        change.write("summary.json", json_bytes(counts), record=True)
    return counts


def sentence(counts: dict, folder: Path) -> str:
    """The end of a batch in words."""
    parts = [f"{counts['done']} edited", f"{counts['kept']} done before"]
    parts += [f"{counts[name]} {name}" for name in (REFUSED, FAILED) if counts[name]]
    parts += [f"{counts['warnings']} with warnings"] if counts["warnings"] else []
    return f"{counts['entries']} entries: {', '.join(parts)}; {counts['seconds']:.1f} s. See {folder / 'summary.csv'}"


def _cells(line: int, name: str, outcome: Outcome) -> dict:
    """A line of the table, by column."""
    cells = dict(outcome.row)
    cells.update(zip(("x0", "y0", "x1", "y1"), cells.get("box", ()), strict=False))
    cells["name"], cells["line"] = name, line
    cells["status"] = DONE if outcome.good else outcome.status  # the table tells of the results, not of this run
    notes = [outcome.message, *cells.get("warnings", ())]
    cells["message"] = " ".join(note for note in notes if note)
    return cells


def _sheets(folder: Path) -> list[str]:
    """The contact sheets that are there and ours."""
    return [name for name in output_of(folder).ours() if name.startswith("contact_sheet")]


def _digest(folder: Path, sheets: Sequence[str]) -> str:
    try:
        before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return before["digest"] if len(sheets) == before["contact_sheets"] else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_sheets(change: Change, items: Sequence[Item]) -> None:
    """`contact_sheet.png`, or `contact_sheet_001.png` … if there are too many for one."""
    pages = [items[i:i + ACROSS * DOWN] for i in range(0, len(items), ACROSS * DOWN)]
    for number, page in enumerate(pages, 1):
        change.write(SHEET if len(pages) == 1 else PAGE.format(number), png_bytes(_sheet(page)))


def _sheet(items: Sequence[Item]) -> Image.Image:
    """A page: of each item the input, the region and the final picture, its name and its prompt."""
    across, height = min(ACROSS, len(items)), TILE[1] + TEXT
    page = Image.new("RGB", (across * (TILE[0] + 8) + 8, -(-len(items) // across) * (height + 8) + 8), "white")
    draw, font = ImageDraw.Draw(page), _font()
    for i, item in enumerate(items):
        x, y = 8 + i % across * (TILE[0] + 8), 8 + i // across * (height + 8)
        try:
            picture = read_image(item.folder / "overview.png")
        except UserError:  # damaged since; the item itself is done
            picture = Image.new("RGB", TILE, "#dddddd")
        picture.thumbnail(TILE, Image.Resampling.LANCZOS)
        page.paste(picture, (x, y + TILE[1] - picture.height))
        for line, text in enumerate((item.name, f"{item.source} → {item.prompt}")):
            draw.text((x, y + TILE[1] + 2 + 15 * line), _fitting(text, draw, font), "black", font)
    return page


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib and knows more letters than Pillow's own."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 11)


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    text = text[:TILE[0] // 2]
    while draw.textlength(text, font) > TILE[0]:
        text = text[:-2].rstrip("…") + "…"
    return text
