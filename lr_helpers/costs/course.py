"""What each notebook costs on each profile, counted before it runs: `python -m lr_helpers.costs.course`.

Every notebook says so in its first cell. tests/test_course_costs.py runs the notebooks and counts what really goes
through their denoisers.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from lr_helpers.costs.evaluations import T4, Part, duration, full_edits, row, screened_edits, search, speed
from lr_helpers.course.samples import emoji_groups, shipped
from lr_helpers.method import METHODS
from lr_helpers.models.profiles import PROFILES, Profile, get_profile

NINE = METHODS["learned"].but(anchors=9)
"""The table that notebooks 03 to 05 look at."""
STUDY_STEPS = {"08": 6, "10": 6, "09": 12}
"""Denoising steps of the stored studies, which these notebooks repeat in part."""


@dataclass(frozen=True)
class Cost:
    """What a notebook costs."""

    parts: list[Part]
    """By the profile's denoiser, and those that belong to its comparison."""
    world: list[Part] = field(default_factory=list)
    """By the emoji world's miniatures, on the CPU, where the profile is another one."""

    @property
    def evaluations(self) -> int:
        """All of the profile's, at most."""
        return sum(part.evaluations for part in self.parts)

    @property
    def at_most(self) -> bool:
        """Is it a bound?"""
        return any(part.at_most for part in self.parts)


def _knows_emoji(profile: Profile) -> bool:
    return profile.vocabulary is not None


# One function for each notebook. Its parameters, and their defaults, are those of the notebook's cell of parameters.


def _00(profile: Profile) -> Cost:
    return Cost([search(profile, "learned")])


def _01(profile: Profile, scenes: int = 12) -> Cost:
    counts, scales = (1, 2, 4, 8, 16), (1.0, 2.0, 4.0, 7.5, 15.0)
    parts = [
        Part("a frame", full_edits(profile)),
        # aMUSEd has no such loop.
        Part("your loop, and the pipeline's", 2 * profile.steps + full_edits(profile), not _knows_emoji(profile)),
        Part("counting", full_edits(profile, 3, 4)),
        Part("six seeds, six prompts, the sliders", full_edits(profile, 6 + 6 + 1)),
        Part("steps", sum(full_edits(profile, 1, steps) for steps in counts)),
        Part("guidance", sum(full_edits(profile, 1, guidance=scale) for scale in scales)),
        Part("seven regions", full_edits(profile, 7))]
    if _knows_emoji(profile):
        parts.append(Part("six sizes on each scene", full_edits(profile, 6 * scenes)))
    return Cost(parts)


def _02(profile: Profile) -> Cost:
    return Cost([Part("two edits", full_edits(profile, 2))])


def _03(profile: Profile) -> Cost:
    return Cost([Part("two edits", full_edits(profile, 2))])


def _04(profile: Profile, scenes: int = 6) -> Cost:
    table = screened_edits(profile, NINE.anchors * len(NINE.sizes), NINE)
    parts = [Part("a table of edits", table, True)]
    if _knows_emoji(profile):
        parts.append(Part("the same on each scene", scenes * table, True))
    return Cost(parts)


def _05(profile: Profile) -> Cost:
    official = METHODS["official_code"].but(steps=2)
    return Cost([
        Part("a table of edits", screened_edits(profile, NINE.anchors * len(NINE.sizes), NINE), True),
        Part("the official code's frames", screened_edits(profile, NINE.anchors)),
        search(profile, official, "the official code, two steps an edit"),
        search(profile, official.but(estimator="expectation"), "the same with a gradient")])


def _06(profile: Profile) -> Cost:
    steps = profile.screening_steps or profile.steps
    by_hand = Part("the learner's edit, and the package's", full_edits(profile, 2 * 15, steps), True)
    return Cost([
        search(profile, "learned"), search(profile, "paper"), search(profile, "official_code"), by_hand,
        search(profile, "learned", "a wide picture")])


def _07(profile: Profile, pictures: int = 10, boxes: int = 12) -> Cost:
    return Cost([
        Part("edits to learn from", full_edits(profile, pictures * boxes, profile.few)),
        search(profile, "predicted"), *(search(profile, name, f"the picture again by {name}") for name in (
            "predicted", "fast", "learned"))])


def _08(profile: Profile, live: int = 2) -> Cost:
    if profile.name != "tiny":
        return Cost([])
    # All of the paper's table, the official code's, random boxes twice, the shortlist, the known region.
    paper, official = (METHODS[name].anchors * len(METHODS[name].sizes) for name in ("paper", "official_code"))
    edits = paper + official + 2 * METHODS["paper"].anchors + METHODS["learned"].shortlist + 1
    return Cost([Part("all ways to choose, on each task", full_edits(profile, live * edits, STUDY_STEPS["08"]), True)])


ROWS_09 = ("known_region", "learned", "patch_similarity", "instruct_pix2pix", "diffedit", "ledits_pp", "sdedit")
"""The rows that notebook 09 shows."""
VOTED_09 = ("sdedit", "instruct_pix2pix", "diffedit", "patch_similarity")
"""Those of `study.vote.OTHERS`."""


def _09(profile: Profile, seeds: int = 3) -> Cost:
    tiny, steps = get_profile("tiny"), STUDY_STEPS["09"]
    each = [row(tiny, name, steps) for name in ROWS_09]
    world = [Part("seven ways to edit, on each scene", seeds * sum(part.evaluations for part in each), True),
             Part("SDEdit with four strengths", min(seeds, 2) * sum(
                 2 * int(steps * strength) for strength in (0.5, 0.65, 0.8, 0.95))),
             Part("the worst scenes", seeds * sum(part.evaluations for part in each), True),
             Part("pairs for the vote", sum(row(tiny, name, 6).evaluations for i in range(seeds + 1)
                                            for name in ("learned", VOTED_09[i % len(VOTED_09)])), True)]
    if profile.name == "tiny":
        return Cost(world)
    # Rows whose models the profile lacks are left out.
    return Cost([Part(f"{part.what}, on a photograph", part.evaluations, True)
                 for part in (row(profile, name) for name in ROWS_09[1:])], world)


def _10(profile: Profile, scenes: int = 2) -> Cost:
    tiny, steps = get_profile("tiny"), STUDY_STEPS["10"]
    quick = METHODS["learned"].but(steps=steps)
    one = search(tiny, quick).evaluations
    world = [
        Part("seen and unseen combinations, another style", 3 * scenes * one),
        Part("prompts", len(emoji_groups()) * scenes * one, True),
        Part("two objects in turn", 2 * one, True),
        Part("a failure of each cause", full_edits(tiny, 9, steps), True)]
    photographs = min(scenes, len(shipped("sd2")))
    mine = search(profile, quick if _knows_emoji(profile) else "learned")
    own = [Part("photographs", photographs * mine.evaluations, mine.at_most)]
    return Cost([*world, *own]) if profile.name == "tiny" else Cost(own, world)


def _a1(profile: Profile, count: int = 8) -> Cost:
    if not _knows_emoji(profile):
        count = min(count, len(shipped(profile)))
    item = search(profile, METHODS["learned"].but(shortlist=4)).evaluations
    return Cost([Part("the batch, killed and gone on with", count * item), Part("what the kill cost", item, True),
                 Part("the batch, by two processes", count * item)])


NOTEBOOKS: dict[str, Callable[..., Cost]] = {
    "00": _00, "01": _01, "02": _02, "03": _03, "04": _04, "05": _05, "06": _06, "07": _07, "08": _08,
    "09": _09, "10": _10, "A1": _a1}
"""By the notebook's number."""


def cost(number: str, profile: Profile | str, **parameters: int) -> Cost:
    """What a notebook costs on a profile; its parameters, where they are not the notebook's own."""
    profile = get_profile(profile) if isinstance(profile, str) else profile
    return NOTEBOOKS[number](profile, **parameters)


def defaults(number: str) -> dict[str, int]:
    """The parameters on which a notebook's cost hangs."""
    known = inspect.signature(NOTEBOOKS[number]).parameters
    return {name: about.default for name, about in known.items() if name != "profile"}


# Said


def sentence(number: str, profile: Profile, device: str | None, **parameters: int) -> str:
    """What a notebook says before it starts: evaluations, and how long they take on this GPU (None: on the CPU)."""
    found = cost(number, profile, **parameters)
    if not found.evaluations:
        text = f"Notebook {number} with the profile {profile.name}: no denoiser evaluations."
    else:
        text = (f"Notebook {number} with the profile {profile.name}: {'at most ' if found.at_most else ''}"
                f"{found.evaluations:,} denoiser evaluations, {_how_long(profile, device, found.evaluations)}.")
    world = sum(part.evaluations for part in found.world)
    if world:
        tiny = speed(get_profile("tiny"), None)
        text += f" And at most {world:,} of the miniatures, {tiny.said(world)}."
    return text


def _how_long(profile: Profile, device: str | None, evaluations: int) -> str:
    known = speed(profile, device)
    if known:
        return known.said(evaluations)
    assumed = speed(profile, T4)
    here = device or "this CPU"
    return f"for how long on {here} is not known" + (f"; {assumed.said(evaluations)}" if assumed else "")


def say(number: str, profile: str, **parameters: int) -> None:
    """Print the `sentence` for the device that models will be loaded to."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(sentence(number, get_profile(profile), device, **parameters))


def table() -> str:
    """Evaluations by notebook and profile as Markdown, and the minutes of the whole course on a T4."""
    names = list(PROFILES)
    lines = [f"| notebook | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for number in NOTEBOOKS:
        lines.append(f"| {number} | " + " | ".join(f"{cost(number, name).evaluations:,}" for name in names) + " |")
    totals = {name: sum(cost(number, name).evaluations for number in NOTEBOOKS) for name in names}
    lines.append("| all | " + " | ".join(f"{total:,}" for total in totals.values()) + " |")
    for method in ("learned", "fast", "predicted"):
        lines.append(f"| one edit by `{method}` | " + " | ".join(
            f"{search(PROFILES[name], method).evaluations:,}" for name in names) + " |")
    cells = []
    for name, total in totals.items():
        known = speed(PROFILES[name], T4 if PROFILES[name].needs_gpu else None)
        said = f"{duration(known.seconds * total)}{', assumed' if known.assumed else ''}" if known else "not known"
        cells.append(said)
    lines.append(f"| all, on a {T4} (`tiny`: two CPU cores) | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m lr_helpers.costs.course", description=__doc__).parse_args(arguments)
    print(table())


if __name__ == "__main__":
    main()
