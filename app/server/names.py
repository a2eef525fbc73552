"""What a URL names: a model, and one of its versions or labels."""

from urllib.parse import unquote

from app.server.errors import RestError

_DIGITS = 19  # of 2 ** 63 - 1


def named(name, version=None, label=None):
    """(name, version, label) out of the parts of a URL, the version as a number.

    Raises:
        RestError: where the version is beyond 64 bits.
    """
    return (unquote(name), None if version is None else _number(version),
            None if label is None else unquote(label))


def _number(version):
    digits = version.lstrip("0") or "0"
    if len(digits) > _DIGITS or int(digits) >= 2**63:  # Python reads no more than 4,300 of them
        raise RestError(f"Failed to convert version: {version} to numeric.")
    return int(digits)
