import gc
import os
import pathlib

from .unoptimised import XLA_FLAGS

os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)

# Tracing makes millions of objects that stay: looking through all of them so often took a tenth of the time.
gc.set_threshold(50_000, 20, 10)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

PARITY = pathlib.Path(__file__).parent / "parity"


@pytest.fixture(autouse=True, scope="session")
def _own_caches(tmp_path_factory):
    """No test reads or writes the user's caches; those of one session share theirs, as do their processes."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        yield


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist keeps the order of the files; older ones always do


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Large files first, or one worker would still be in the last of them when the other has nothing left to do."""
    items.sort(key=lambda item: (-item.path.stat().st_size, str(item.path)))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    """What was skipped is said aloud, so that a green run does not look like more than it is."""
    reasons = {report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())}
    for reason in sorted(reasons):
        terminalreporter.write_line(f"NOT TESTED: {reason.removeprefix('Skipped: ')}", yellow=True, bold=True)
