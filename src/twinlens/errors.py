"""Errors that are the input's fault, not the program's."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, and what to do.

    Commands print the message alone, without a traceback. Every message names
    what was passed, what was expected and what to do about it.
    """


class BrokenImageError(InputError):
    """The bytes of one picture cannot be turned into pixels."""
