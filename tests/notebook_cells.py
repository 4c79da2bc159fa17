"""Runs notebooks' cells one after another in this one process, so that libraries and models are loaded once.

    python tests/notebook_cells.py < questions > answers

Each question is a JSON line: `notebook` (the path of an .ipynb), `profile`. Each answer is one too: `error`, null or the
traceback of the cell that stopped, `text`, all that the cells showed, and `evaluations`, how many pictures went through
denoisers of this process, counted at their forward calls. What cells print beyond IPython, and libraries too, goes to
standard error.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
from diffusers import UNet2DConditionModel, UVit2DModel, ZImageTransformer2DModel
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from lr_helpers.models import loading


def share_models() -> None:
    """From now on `load_models` loads what it is asked for once; the count of evaluations begins at 0 each time."""
    load = functools.cache(loading.load_models)

    def load_once(*arguments: Any, **named: Any) -> loading.Models:
        models = load(*arguments, **named)
        models.editor._evaluations.count = 0
        return models

    loading.load_models = load_once


EVALUATIONS = [0]


def count_forwards() -> None:
    """From now on every picture that goes through a denoiser of any pipeline counts in `EVALUATIONS`."""
    for kind in (UNet2DConditionModel, UVit2DModel, ZImageTransformer2DModel):
        forward = kind.forward

        def counted(self, *arguments: Any, _forward: Any = forward, **named: Any) -> Any:
            EVALUATIONS[0] += len(arguments[0] if arguments else named["sample"])
            return _forward(self, *arguments, **named)

        kind.forward = functools.wraps(forward)(counted)


def run(shell: InteractiveShell, notebook: Path, profile: str) -> dict[str, str | int | None]:
    """Run the code cells as a kernel would, in the notebook's folder; `profile` is set after the cell of parameters."""
    EVALUATIONS[0] = 0
    shell.reset(new_session=False)
    os.chdir(notebook.parent)
    texts: list[str] = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.get("tags", [])
        with capture_output() as shown:
            result = shell.run_cell(cell.source, store_history=False)
            plt.close("all")
        texts += [shown.stdout, *(str(data) for output in shown.outputs for data in output.data.values())]
        error = result.error_before_exec or result.error_in_exec
        if error and "raises-exception" not in tags:
            told = "".join(traceback.format_exception(error))
            return {"error": f"{notebook.name}, the cell\n\n{cell.source}\n\nstopped:\n{told}", "text": "\n".join(texts),
                    "evaluations": EVALUATIONS[0]}
        if "parameters" in tags:
            shell.push({"profile": profile})
    return {"error": None, "text": "\n".join(texts), "evaluations": EVALUATIONS[0]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    share_models()
    count_forwards()
    shell = InteractiveShell.instance()
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(run(shell, Path(question["notebook"]), question["profile"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
