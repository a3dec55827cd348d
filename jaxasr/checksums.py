"""The SHA-256 of every file of a folder, in the folder: what is read is what was written, or it is said what is not.

SHA-256 because `sha256sum --check SHA256SUMS` tells the same without this package, no accident and no change on purpose
passes it, and the standard library's takes two gigabytes a second, which is more than disks give.
"""

import hashlib
import os
import pathlib
import re

from jaxasr.params import write_atomically

SUMS = "SHA256SUMS"


def of_file(path: str | pathlib.Path) -> str:
    """In hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: pathlib.Path) -> str:
    """Writes the checksums, waits until all is on the disk, and reads it back from there; returns as `fault` does.

    Raises:
      CheckpointError, OSError: a file cannot be read or written.
    """
    files = _files(folder)
    write_atomically(folder / SUMS, "".join(f"{of_file(folder / name)}  {name}\n" for name in files).encode())
    for name in (*files, SUMS):
        _to_disk(folder / name)
    return fault(folder)


def fault(folder: pathlib.Path) -> str:
    """What is not as it was when the folder was sealed, beginning with the file's name; empty where all is.

    Hidden files that came later do not matter: file managers and network file systems leave some.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return f"{SUMS}: no such file"
    except (OSError, ValueError) as error:
        return f"{SUMS}: {error}"
    parts = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    if not lines or not all(parts):
        return f"{SUMS}: damaged"
    known = {part[2]: part[1] for part in parts if part}
    if others := [name for name in _files(folder) if name not in known and not pathlib.Path(name).name.startswith(".")]:
        return f"{others[0]}: not in {SUMS}"
    return next((f"{name}: {problem}" for name, sha in known.items() if (problem := _problem(folder / name, sha))), "")


def _problem(path: pathlib.Path, sha: str) -> str:
    try:
        return "" if of_file(path) == sha else f"its SHA-256 is not the one in {SUMS}"
    except OSError as error:
        return error.strerror or type(error).__name__


def _files(folder: pathlib.Path) -> list[str]:
    """By their paths in the folder, sorted; without that of the checksums."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(name for name in found if name != SUMS)


def _to_disk(path: pathlib.Path) -> None:
    """Waits until a file is on the disk, and lets go of it in memory, so that it is read from there next time."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
