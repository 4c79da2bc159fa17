"""What a check says of a function, and whether that names the slip."""

import contextlib
import io

from lr_helpers.checks.exercise import CheckFailed, Exercise


def message_of(exercise: Exercise, function) -> str | None:
    """The check's message; None where it accepts the function."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exercise(function)
    except CheckFailed as told:
        return str(told)
    return None


def names_the_slip(message: str, words: str) -> bool:
    """Does a hint, or the sentence itself, hold one of the words, which are parted by |?

    What was given, expected and came does not count: it shows the slip, but does not name it.
    """
    lines = [line for line in message.splitlines() if not line.strip().startswith(("given", "expected", "came"))]
    return any(word.lower() in " ".join(lines).lower() for word in words.split("|"))
