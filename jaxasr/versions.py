"""Which versions a result was made with."""

import collections
import importlib.metadata
import json
import pathlib
import platform
import subprocess

import jax

import jaxasr

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "soundfile", "soxr")


def versions() -> dict[str, str]:
    """Python, jaxasr with its commit where that is known, and the packages that decide the result."""
    found = {"python": platform.python_version(), "jaxasr": jaxasr.__version__}
    package = pathlib.Path(jaxasr.__file__).parent
    if commit := _commit(package) or _installed_commit(package):
        found["commit"] = commit
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def about() -> list[str]:
    """What `jaxasr --version` prints: jaxasr, Python, the packages, and the devices that JAX has here."""
    found = versions()
    ours, commit = found.pop("jaxasr"), found.pop("commit", "")
    kinds = collections.Counter((device.platform, device.device_kind) for device in jax.local_devices())
    devices = [f"{count} x {kind}" + f" ({where})" * (kind != where) for (where, kind), count in kinds.items()]
    lines = {"jaxasr": f"{ours} (commit {commit})" if commit else ours, **found, "devices": ", ".join(devices)}
    return [f"{name:17}{value}" for name, value in lines.items()]


def _commit(package: pathlib.Path) -> str:
    """The commit that the package is checked out at, and whether it was changed since; empty where it is not."""
    top, _, commit = _git(package, "rev-parse", "--show-toplevel", "HEAD").partition("\n")
    if not commit or pathlib.Path(top).resolve() != package.resolve().parent:  # another project's, around a venv
        return ""
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", str(package))
    return commit[:12] + " and changes" * bool(changed)


def _installed_commit(package: pathlib.Path) -> str:
    """The commit that pip fetched for the package; empty where it came as a file, or by other ways."""
    try:
        installed = importlib.metadata.distribution("jaxasr")
        if pathlib.Path(str(installed.locate_file("jaxasr"))).resolve() != package.resolve():  # another one's record
            return ""
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    return origin.get("vcs_info", {}).get("commit_id", "")[:12]


def _git(folder: pathlib.Path, *arguments: str) -> str:
    """What git prints; nothing where there is no git or no repository."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
