"""The exceptions that users are meant to see; `machine.boundary` tells them, and all others, on the command line."""


class UserError(Exception):
    """Something the user can fix; the message is one sentence that names the input and the fix."""


class OutputError(UserError):
    """The place for the results can't be used: nothing further could be kept, so a batch stops at it."""
