"""Prints the mutation table's totals: `python -m tests.mutations [EXERCISE …]`, and what failed."""

import contextlib
import io
import sys
import time

from lr_helpers import checks

from . import RIGHT, WRONG
from .judging import message_of, names_the_slip

chosen = sys.argv[1:] or list(checks.ALL)
totals, failed = [0, 0, 0, 0, 0], []
print(f"{'exercise':22} wrong refused  slip named  right accepted  slowest check")
for name in chosen:
    refused = named = accepted = 0
    slowest = 0.0
    for what, words, function in WRONG[name]:
        began = time.perf_counter()
        said = message_of(checks.ALL[name], function)
        slowest = max(slowest, time.perf_counter() - began)
        refused += said is not None
        named += said is not None and names_the_slip(said, words)
        if said is None or not names_the_slip(said, words):
            failed.append(f"{name}, {what}: {'accepted' if said is None else f'expected {words!r} in' + chr(10) + said}")
    for what, function in RIGHT[name]:
        with contextlib.redirect_stdout(io.StringIO()):
            said = message_of(checks.ALL[name], function)
        accepted += said is None
        if said is not None:
            failed.append(f"{name}, right ({what}), was refused:\n{said}")
    wrong, right = len(WRONG[name]), len(RIGHT[name])
    totals = [a + b for a, b in zip(totals, (wrong, refused, named, right, accepted), strict=True)]
    print(f"{name:22} {refused:5} of {wrong:2}   {named:5} of {wrong:2}   {accepted:7} of {right:2}   {slowest:9.2f} s")
wrong, refused, named, right, accepted = totals
print(f"\n{len(chosen)} exercises: {refused} of {wrong} wrong answers refused, the slip named in {named} ({named / wrong:.1%}); "
      f"{accepted} of {right} right ones accepted")
print(*failed, sep="\n\n", file=sys.stderr)
sys.exit(bool(failed))
