"""`assets.extra/SHA256SUMS`: what each file of a version is, as `sha256sum -c` reads it."""

import hashlib
from pathlib import Path

FILE = Path("assets.extra") / "SHA256SUMS"


def write_checksums(folder):
    """Writes the sums of all files below `folder`; the last thing that is written there.

    To check a version: `cd saved_models/NAME/VERSION && sha256sum -c assets.extra/SHA256SUMS`.
    """
    lines = [f"{digest}  {name}\n" for name, digest in sorted(_digests(folder).items())]
    (folder / FILE).write_text("".join(lines), encoding="utf-8")


def differing(folder):
    """The files whose sums are not those that were written: changed, missing or added.

    Raises:
        FileNotFoundError: where no sums were written.
    """
    lines = (Path(folder) / FILE).read_text(encoding="utf-8").splitlines()
    written = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = _digests(Path(folder))
    return sorted(name for name in written.keys() | found.keys()
                  if written.get(name) != found.get(name))


def _digests(folder):
    """The sums of the files below `folder` by their names, that of the sums aside."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name != FILE:
            with path.open("rb") as file:
                found[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
