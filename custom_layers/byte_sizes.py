"""Sizes in bytes as people write and read them."""

import re

UNITS = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
         "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def memory_bytes(memory):
    """A number of bytes, given as such or as text.

    >>> memory_bytes("8 GB"), memory_bytes("1.5GiB"), memory_bytes(1e6)
    (8000000000, 1610612736, 1000000)
    """
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", memory.lower())
        if match and match[2] in UNITS:
            return int(float(match[1]) * UNITS[match[2]])
    elif isinstance(memory, (int, float)) and not isinstance(memory, bool) and 0 < memory < 1e18:
        return int(memory)
    raise ValueError("`memory` must be a number of bytes, or a text such as '8 GB', '512 MB' or "
                     f"'8 GiB'. Received: memory={memory!r}")


def shown(size):
    """A size with one decimal, or - for none.

    >>> shown(12_345_678), shown(4_500), shown(32), shown(0)
    ('12.3 MB', '4.5 kB', '32 B', '-')
    """
    for unit in ("GB", "MB", "kB"):
        if size >= UNITS[unit.lower()]:
            return f"{size / UNITS[unit.lower()]:.1f} {unit}"
    return f"{size} B" if size else "-"
