"""What a profile lacks is told with its size before any of it is downloaded, and all of it comes."""

from dataclasses import replace

import pytest

from lr_helpers.cli import main
from lr_helpers.models import hub
from lr_helpers.models.origins import State, UnavailableError
from lr_helpers.models.profiles import get_profile
from lr_helpers.models.resolve import Found


@pytest.fixture
def served(monkeypatch, tmp_path):
    """A hub of which some origins are here, some can be had and some are gone; returns what was fetched, in order."""
    fetched, here, gone, broken = [], set(), set(), set()

    def resolve(part, origin, variant=None, borrows=()):
        if origin in gone:
            return Found(State("gone", "is gone", "name another"))
        return Found(State("there", download=origin not in here), tmp_path if origin in here else None)

    def fetch(part, origin, variant=None, borrows=()):
        if origin in broken:
            raise UnavailableError(State("the line broke", "broke", "try again"))
        fetched.append(origin)
        here.add(origin)

    monkeypatch.setattr(hub, "resolve", resolve)
    monkeypatch.setattr(hub, "fetch", fetch)
    return fetched, here, gone, broken


def test_all_is_told_first_and_then_fetched(served, capsys):
    fetched, here, *_ = served
    sd2 = get_profile("sd2")
    here.add(sd2.backbone[0])
    assert main(["fetch", "--profile", "sd2"]) == 0
    first, *then = capsys.readouterr().out.splitlines()
    assert first == ("To download for the profile sd2: editor 2.58 GB, clip 0.6 GB, clipseg 0.6 GB, grounding dino 0.69 GB, sam "
                     "0.37 GB, sam3 3.44 GB, text to image 5.16 GB, instruct 4.26 GB; 17.7 GB in all")
    assert len(then) == len(fetched) == 8
    assert fetched[:2] == [sd2.editor[0], sd2.clip[0]]
    assert main(["fetch", "--profile", "sd2"]) == 0
    assert capsys.readouterr().out == "Nothing to download for the profile sd2.\n"
    assert len(fetched) == 8


def test_a_profiles_lora_and_decoder_are_fetched_too(served, capsys):
    fetched, *_ = served
    assert main(["fetch", "--profile", "sd15_lcm", "--without-comparison"]) == 0
    assert "lora 0.135 GB, decoder 0.0098 GB; 3.2 GB in all" in capsys.readouterr().out
    assert fetched[3:] == ["latent-consistency/lcm-lora-sdv1-5", "madebyollin/taesd"]


def test_only_what_an_edit_needs(served, capsys):
    fetched, *_ = served
    assert main(["fetch", "--profile", "sdxl", "--without-comparison"]) == 0
    assert "7.9 GB in all" in capsys.readouterr().out
    assert len(fetched) == 3


def test_what_is_gone_is_fetched_from_the_next_origin_or_named(served, capsys):
    fetched, _, gone, broken = served
    sd2 = get_profile("sd2")
    gone.add(sd2.editor[0])
    broken.add(sd2.backbone[0])
    assert main(["fetch", "--profile", "sd2", "--without-comparison"]) == 1
    assert fetched == [sd2.editor[1], sd2.clip[0]]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "not here: backbone; python -m lr_helpers doctor --profile sd2 says why")


def test_a_size_that_is_not_stated_is_no_number(served, capsys):
    assert hub.download(replace(get_profile("sd2"), parts={}), comparison=False) == []
    assert "editor ? GB, backbone ? GB, clip ? GB; 0.0 GB in all" in capsys.readouterr().out


def test_the_miniatures_are_here(capsys):
    assert main(["fetch", "--profile", "tiny", "--without-comparison"]) == 0
    assert capsys.readouterr().out == "Nothing to download for the profile tiny.\n"
