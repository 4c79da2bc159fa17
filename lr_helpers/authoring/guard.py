"""Run a command so that nothing it started outlives a time limit, or the process that asked for it.

A script, because it has to be small: a process counts its parent's memory at birth as its own peak.

    python guard.py RESULT SECONDS COMMAND …      with a pipe as standard input, which the caller keeps open

RESULT becomes JSON: `code`, the exit status as shells count it; `peak`, the memory in bytes of the largest process
that ran; `timed_out`. When the caller ends, however it does, the pipe ends too, and so does the command.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

GRACE = 20
"""Seconds that papermill has to store what it holds when its kernel was killed at the time limit."""


def _descendants(process: subprocess.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _end(process: subprocess.Popen) -> None:
    """Kill the command and all that it started; it is stopped first, so that it starts nothing meanwhile."""
    process.send_signal(signal.SIGSTOP)
    started = _descendants(process)
    process.kill()
    _kill(started)


def main(result: str, seconds: str, *command: str) -> int:
    """What the module's docstring says; returns the exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end_with_caller() -> None:
        os.read(sys.stdin.fileno(), 1)  # a buffered read would hold a lock that the interpreter's end needs
        _end(process)

    threading.Thread(target=end_with_caller, daemon=True).start()
    timed_out = False
    try:
        process.wait(float(seconds))
    except subprocess.TimeoutExpired:
        timed_out = True
        _kill(_descendants(process))  # the kernel
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _end(process)
    code = process.wait()
    code = code if code >= 0 else 128 - code
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    Path(result).write_text(json.dumps({"code": code, "peak": peak, "timed_out": timed_out}), encoding="utf-8")
    return code


def record_gpu_peak(file: str) -> None:
    """Have this process, a kernel, write at its end the most GPU memory in bytes that torch held on one device.

    Nothing is written where torch was not used on a GPU, or where the process is killed.
    """

    def write() -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            peak = max(torch.cuda.max_memory_reserved(device) for device in range(torch.cuda.device_count()))
            Path(file).write_text(str(peak), encoding="utf-8")

    atexit.register(write)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
