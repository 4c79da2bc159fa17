"""The boundary around every command: one sentence and the right exit code, whatever the system does."""

import errno
import importlib
import importlib.util
import io
import json
import os
import re
import socket
import sys
import time

import pytest
import torch

from lr_helpers.batch import ranks
from lr_helpers.batch.progress import Reporter
from lr_helpers.cli import main
from lr_helpers.errors import UserError
from lr_helpers.machine import boundary
from lr_helpers.models.profiles import _read
from lr_helpers.models.refusals import explain

httpx = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")


def answer(monkeypatch, capsys, error: BaseException) -> tuple[int, str]:
    """What a command says that ends with this error."""
    def run(options):
        raise error

    monkeypatch.setattr("lr_helpers.cli.scene.run", run)
    return main(["scene", "--seed", "7"]), capsys.readouterr().err


@pytest.mark.parametrize("number", sorted(boundary.FIXES))
def test_what_the_system_says_is_one_sentence_with_a_fix(monkeypatch, capsys, number):
    code, said = answer(monkeypatch, capsys, OSError(number, os.strerror(number), "/some/where"))
    assert code == 2
    assert said == f"error: '/some/where' can't be used ({os.strerror(number)}); {boundary.FIXES[number]}.\n"


@pytest.mark.parametrize(("error", "words"), [
    (UserError("The prompt is empty."), "error: The prompt is empty.\n"),
    (OSError(errno.ENOSPC, "No space left on device"), "Something can't be read or written (No space left on device); free space"),
    (MemoryError(), "memory of this machine or of its GPU does not suffice"),
    (torch.OutOfMemoryError("CUDA out of memory"), "memory of this machine or of its GPU does not suffice"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "does not suffice"),
    (ModuleNotFoundError("No module named 'diffusers'", name="diffusers"), "The package 'diffusers' is not installed"),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "The network can't be used"),
    (socket.gaierror(-2, "Name or service not known"), "The network can't be used"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), "give a shorter name")], ids=lambda e: repr(e)[:40])
def test_what_a_user_can_mend_is_told_in_one_line(monkeypatch, capsys, error, words):
    code, said = answer(monkeypatch, capsys, error)
    assert code == 2 and words in said and said.count("\n") == 1 and len(said) < 500


@pytest.mark.parametrize("error", [
    KeyError("x"), ValueError("x"), AssertionError("x"), OSError("no number"), RecursionError("x"), BrokenPipeError("x"),
    ModuleNotFoundError("No module named 'lr_helpers.x'", name="lr_helpers.x"), FileNotFoundError(errno.ENOENT, "No such"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), RuntimeError("shapes differ")], ids=lambda e: type(e).__name__)
def test_a_fault_of_ours_shows_where_and_how_to_report_it(monkeypatch, capsys, error):
    code, said = answer(monkeypatch, capsys, error)
    assert code == 70
    assert said.startswith("Traceback (most recent call last):") and "in run\n" in said and type(error).__name__ in said
    assert re.fullmatch(r"error: This is a fault of the program, not of yours; please report it with the lines above and "
                        r"your command, [^\n]+\.", said.splitlines()[-1])


def test_a_traceback_is_shown_of_all_if_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("LR_TRACEBACK", "1")
    code, said = answer(monkeypatch, capsys, UserError("The prompt is empty."))
    assert code == 2 and said.startswith("Traceback") and said.endswith("error: The prompt is empty.\n")


def test_ctrl_c_is_told(monkeypatch, capsys):
    assert answer(monkeypatch, capsys, KeyboardInterrupt()) == (130, "stopped\n")


def test_a_console_of_few_letters_gets_all_of_them(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert boundary.answered(lambda: print("π and caf\udce9")) is None
    assert out.buffer.getvalue() == b"\\u03c0 and caf\\udce9\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_lines_of_json_are_json_on_any_console(monkeypatch, tmp_path, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", out)
    with Reporter(tmp_path, quiet=True, json_lines=True) as reporter:
        reporter.tell("done", "x", name="猫 🦄", prompt="a π")
    assert json.loads(out.buffer.getvalue()) == {"event": "done", "name": "猫 🦄", "prompt": "a π"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_an_output_that_takes_nothing_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["scene", "--seed", "7"]) == 2
        monkeypatch.undo()
    assert "(No space left on device); free space" in capsys.readouterr().err


# Variables that were left over


@pytest.mark.parametrize(("environment", "said"), [
    ({}, False), ({"WORLD_SIZE": "1", "RANK": "0"}, False), ({"WORLD_SIZE": "2"}, False),
    ({"WORLD_SIZE": "2", "RANK": "0"}, "not where the processes meet"),
    ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}, "not where the processes meet"),
    ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "99999"}, "not where the processes meet"),
    ({"WORLD_SIZE": "two", "RANK": "0"}, "which no launcher does"), ({"WORLD_SIZE": "2", "RANK": "2"}, "which no launcher does"),
    ({"WORLD_SIZE": "2", "RANK": ""}, "which no launcher does"), ({"WORLD_SIZE": "-2", "RANK": "0"}, "which no launcher does"),
    ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "29500"}, True)], ids=str)
def test_left_over_variables_of_a_launcher_are_told(monkeypatch, environment, said):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(said, bool):
        assert ranks.launched() is said
    else:
        with pytest.raises(UserError, match=f"{said}.*unset WORLD_SIZE and RANK"):
            ranks.launched()


def test_waiting_for_a_process_that_does_not_come_is_told(monkeypatch, capsys):
    monkeypatch.setattr(ranks, "PROMPT", 0.05)
    told = r"Rank 0 did not find the 2 other processes .* \(timed out\).*unset WORLD_SIZE"
    with pytest.raises(UserError, match=told), ranks._waiting(0, 3):
        time.sleep(0.5)
        raise RuntimeError("timed out")
    assert "waiting for 2 other processes that WORLD_SIZE=3 tells of; if nothing has started them" in capsys.readouterr().err
    with ranks._waiting(0, 2):
        pass
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


# Proxies, addresses, models.toml


@pytest.mark.parametrize(("endpoint", "error", "words"), [
    ("https://huggingface.co", ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."),
     "pip install socksio"),
    ("https://huggingface.co", OSError("Missing dependencies for SOCKS support."), "pip install pysocks"),
    ("hf-mirror.com", httpx.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol."),
     "export HF_ENDPOINT=https://hf-mirror.com"),
    ("https://huggingface.co", ValueError("Unknown scheme for proxy URL URL('htp://x')"), "correct HTTPS_PROXY"),
    ("https://huggingface.co", httpx.ConnectError("refused"), "connect to the network")])
def test_the_fix_is_for_the_cause(monkeypatch, endpoint, error, words):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    outer = RuntimeError("the library's own")
    outer.__cause__ = error
    assert words in explain("owner/name", outer).fix


@pytest.mark.parametrize(("text", "words"), [
    ("[profiles\n", "line 1"), ("", "'profiles' is missing"), ("[profiles.x]\nsize = 1\n", "'editor' is missing"),
    ("profiles = 3\n", "can't be read"), ("[profiles.x]\neditor = 1\nbackbone = 2\nclip = 3\n", "can't be read"),
    ("[profiles.x]\nunknown = 1\n[profiles.x.editor]\norigins=[]\n[profiles.x.backbone]\norigins=[]\n[profiles.x.clip]\norigins=[]\n",
     "unexpected keyword argument 'unknown'")])
def test_a_broken_models_toml_is_told(tmp_path, text, words):
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(UserError, match=r"models\.toml can't be read .*; correct it there, or restore it\.") as error:
        _read(tmp_path / "models.toml")
    assert words in str(error.value)
