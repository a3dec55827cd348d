"""Which versions a result was made with."""

import importlib.metadata
import pathlib
import platform
import subprocess

import jaxasr

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "soundfile", "soxr")


def versions() -> dict[str, str]:
    """Python, jaxasr with its commit where it runs from a checkout, and the packages that decide the result."""
    found = {"python": platform.python_version(), "jaxasr": jaxasr.__version__}
    if commit := _commit(pathlib.Path(jaxasr.__file__).parent):
        found["commit"] = commit
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def _commit(package: pathlib.Path) -> str:
    """The commit that the package is checked out at, and whether it was changed since; empty where it is not."""
    top, _, commit = _git(package, "rev-parse", "--show-toplevel", "HEAD").partition("\n")
    if not commit or pathlib.Path(top).resolve() != package.resolve().parent:  # another project's, around a venv
        return ""
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", str(package))
    return commit[:12] + " and changes" * bool(changed)


def _git(folder: pathlib.Path, *arguments: str) -> str:
    """What git prints; nothing where there is no git or no repository."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
