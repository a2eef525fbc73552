"""Errors that people see: one line that says what was given, what was expected, what to do."""

import difflib


class HandgradError(Exception):
    """The work failed: the command line prints the message and ends with exit code 1."""


class UsageError(HandgradError):
    """The request was wrong: the command line prints the message and ends with exit code 2."""


def unknown(kind, given, known):
    """The error for a name that does not exist: says which do, the closest first.

    >>> raise unknown("model", "lenet", ["mlp", "lenet5"])
    UsageError: Unknown model 'lenet'. Did you mean 'lenet5'? Known: lenet5, mlp
    """
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(given).lower(), by_lower, n=3, cutoff=0.5)
    close = [by_lower[name] for name in close]
    ordered = close + [name for name in known if name not in close]
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return UsageError(f"Unknown {kind} '{given}'.{hint} Known: {', '.join(ordered)}")
