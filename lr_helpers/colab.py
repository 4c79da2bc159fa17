"""What the set-up cell of every notebook calls on Colab: `lr_helpers.course.colab`, and a word on the GPU."""

import os

from lr_helpers.course import colab
from lr_helpers.course.colab import SetUpError

__all__ = ["SetUpError", "set_up"]

OFFERED = "sd2"
"""The profile that Colab's GPU is good for."""
NOTEBOOK_09 = ("text_to_image", "instruct")
"""Models of the comparison that notebook 09 loads, and no other one."""


def set_up(version: str) -> None:
    """`course.colab.set_up`; and where there is a GPU that the profile taken does not need, a line on one that does."""
    colab.set_up(version)
    if os.environ["LR_PROFILE"] == "tiny" and (told := offer()):
        print(told)


def offer() -> str:
    """What real models would download and take on this GPU, in one line; "" where there is none."""
    import torch

    if not torch.cuda.is_available():
        return ""
    from lr_helpers.costs.course import NOTEBOOKS, cost
    from lr_helpers.costs.evaluations import T4, duration, search, speed
    from lr_helpers.models.profiles import get_profile

    profile, device = get_profile(OFFERED), torch.cuda.get_device_name()
    edits = sum(profile.parts[part].gigabytes for part in ("editor", "backbone", "clip"))
    rivals = sum(profile.comparison[part].about.gigabytes for part in NOTEBOOK_09)
    known = speed(profile, device) or speed(profile, T4)
    one, all_of_them = (duration(known.seconds * evaluations) for evaluations in (
        search(profile).evaluations, sum(cost(number, profile).evaluations for number in NOTEBOOKS)))
    how = "assumed" if known.assumed else "measured"
    return (f'There is a GPU, {device}: with profile = "{OFFERED}" in the cell below, a notebook edits photographs. '
            f"That downloads {edits:.1f} GB once (notebook 09 up to {rivals:.1f} GB more) and takes about {one} an "
            f"edit, {all_of_them} for all notebooks ({how} for {known.device}: {known.seconds:.2g} s a denoiser "
            "evaluation).")
