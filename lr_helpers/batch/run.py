"""A batch from its survey to its summary; the loop between is that of one process, or an engine's for several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lr_helpers.batch import folder, key, summary
from lr_helpers.batch.items import Item, Plan, Problem
from lr_helpers.batch.progress import LOG, Reporter, require_log
from lr_helpers.batch.work import KEPT, REFUSED, Outcome, edit_item
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import read_image
from lr_helpers.models.profiles import Profile


@dataclass
class Survey:
    """Where a batch stands before it works."""

    identity: dict[str, str]
    """Of the models, from `key.identity`."""
    kept: list[Outcome]
    todo: list[Item]
    again: dict[str, str]
    """Why items are edited that were edited before, by name."""
    refused: list[Outcome] = field(default_factory=list)
    """Items in whose folders something lies that is not ours."""


Engine = Callable[[Survey, Callable[[], None]], Iterator[Outcome]]
"""Edits `todo` by several processes and yields what became of each item, as it comes. It is called when nothing is to
do, too; its second argument lets these processes into the output folder (`folder.joined`)."""


def survey(plan: Plan, identity: dict[str, str]) -> Survey:
    """Which items are done and which are to do; loads no model and, mostly, reads no picture."""
    found = Survey(identity, [], [], {})
    for item in plan.items:
        state = folder.check(item, identity)
        if state.done:
            found.kept.append(Outcome(item.name, KEPT, row=state.record["row"]))
            continue
        if state.in_the_way:
            found.refused.append(Outcome(item.name, REFUSED, state.in_the_way))
            continue
        found.todo.append(item)
        if state.why:
            found.again[item.name] = state.why
    return found


def share(items: Sequence[Item], rank: int, processes: int) -> Sequence[Item]:
    """The items of one of several processes, dealt out in turn."""
    return items[rank::processes]


def announce(plan: Plan, found: Survey, reporter: Reporter) -> None:
    """Tell all that is known before any work."""
    for problem in plan.problems:
        reporter.tell(REFUSED, str(problem), always=True, name=problem.name, line=problem.line,
                      message=problem.message)
    for outcome in found.refused:
        reporter.tell(REFUSED, f"{outcome.name}: {outcome.message}", always=True, name=outcome.name,
                      message=outcome.message)
    for name, why in found.again.items():
        reporter.tell("again", f"{name}: {why}", name=name, message=why)
    total, kept = len(plan.items), len(found.kept)
    reporter.tell("start", f"{total} items, {kept} of them done already", items=total, kept=kept, shown=kept > 0)


def conclude(plan: Plan, outcomes: Sequence[Outcome], reporter: Reporter, seconds: float) -> int:
    """Write contact sheet and tables and tell the count; the exit code, 0 if all of the batch file is done."""
    reporter.close_bar()
    counts = summary.finish(plan, outcomes, seconds)
    reporter.tell("end", summary.sentence(counts, plan.folder), always=counts["good"] < counts["entries"], **counts)
    return 0 if counts["good"] == counts["entries"] else 1


def check_only(plan: Plan) -> int:
    """Read every picture and print all that is wrong, on stdout; the exit code, 0 if nothing is."""
    wrong, seen = [str(problem) for problem in plan.problems], set()
    for item in plan.items:
        if item.image in seen:  # several prompts of one picture
            continue
        seen.add(item.image)
        try:
            read_image(item.image)
        except UserError as error:
            wrong.append(str(Problem(item.line, item.name, str(error))))
    for text in wrong:
        print(text)
    print(f"{len(plan.items)} items can be edited" if not wrong else f"{len(wrong)} problems")
    return 1 if wrong else 0


def run(plan: Plan, profile: Profile, load: Callable[[], object], *, quiet: bool = False,
        json_lines: bool = False, engine: Engine | None = None) -> int:
    """Edit what is missing of a batch, in this process or by an engine; `load` gives the models when they are needed.

    The exit code: 0 if every entry is done, 1 if some were refused or failed. Raises UserError if there is nothing
    to do, the models can't be loaded, or the output can't be written or holds files of somebody else that have our
    names; what was done by then stays.
    """
    if not plan.items:
        listed = "; ".join(str(p).rstrip(".") for p in plan.problems[:20])
        raise UserError(f"No entry of the batch file can be edited: {listed}.")
    begun = time.perf_counter()
    folder.output_of(plan.folder).require([LOG, folder.LOCK, *summary.names(len(plan.items))])
    require_log(plan.folder / LOG)
    with folder.locked(plan.folder) as let_in, Reporter(plan.folder, quiet, json_lines) as reporter:
        models, identity = None, key.identity(profile)
        if identity is None:  # the first download decides which commits these are
            models = load()
            identity = key.identity(profile) or {"models": str(models.origins)}
        found = survey(plan, identity)
        announce(plan, found, reporter)
        outcomes = [*found.kept, *found.refused]
        if found.todo:
            models = models if models or engine else load()
            reporter.open_bar(len(plan.items), len(outcomes))
        for outcome in engine(found, let_in) if engine else _alone(found, models, reporter):
            outcomes.append(outcome)
            reporter.outcome(outcome)
        return conclude(plan, outcomes, reporter, time.perf_counter() - begun)


def _alone(found: Survey, models: object, reporter: Reporter) -> Iterator[Outcome]:
    for item in found.todo:
        reporter.tell("begin", item.name, shown=False, name=item.name)
        yield edit_item(models, item, found.identity)
