"""SHA256SUMS: whether a version is whole, and no other than was exported."""

import hashlib

FILE = "assets.extra/SHA256SUMS"


def check(folder):
    """Raises ValueError where a file that SHA256SUMS names is missing or another one."""
    for line in (folder / FILE).read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ValueError(f"{name} is damaged: its checksum is not that in {FILE}")
