"""The one exception that users are meant to see."""


class UserError(Exception):
    """Something the user can mend; the message is one sentence that names the input and the mend."""
