"""Errors that a user can mend: one line, no traceback, exit code 2."""


class UserError(ValueError):
    """Bad input: the message says what is wrong, where, and how to mend it."""


class WriteError(UserError):
    """A file cannot be written: no fault of what was asked for, another try may do."""
