"""Runs the loaders on files that are faulty, and counts what they say.

`python -m tests.fuzz.examples KIND COUNT` does it within limits of memory and time; it prints what `run` returns.
"""

import json
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings

from jaxasr.errors import JaxasrError
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target, learnt, sounds, targets

SECONDS = 5.0
"""Of CPU, that reading a file of up to `mutations.LARGEST` bytes may take."""
LONGEST = 3000
"""Characters of a message at most; the path of the file counts twice."""
ROOM = 2**30
"""Bytes of memory beyond what a process has before it reads anything."""


class Outcome(NamedTuple):
    taken: int
    refused: int
    seconds: float
    """Of CPU, the most that one file took."""


def run(target: Target, folder: pathlib.Path, count: int, number: int) -> Outcome:
    """Reads `count` faulty variants of a target's files; anything but our own errors, in their form, is raised."""
    outcomes: list[tuple[bool, float]] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(files=mutated(target.files, target.words))
    def example(files: dict[str, bytes]) -> None:
        outcomes.append(read(target, folder, files))

    example()
    taken = sum(fine for fine, _ in outcomes)
    return Outcome(taken, len(outcomes) - taken, max(seconds for _, seconds in outcomes))


def read(target: Target, folder: pathlib.Path, files: dict[str, bytes]) -> tuple[bool, float]:
    """Whether the files are taken, and the seconds of CPU that it took."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    began = time.thread_time()
    fine = refused(lambda: target.load(folder), str(folder)) is None
    seconds = time.thread_time() - began
    assert seconds < SECONDS, f"{seconds:.1f} s"
    return fine, seconds


def refused(load: Callable[[], object], where: str) -> str | None:
    """The message of our own error, whose form is checked; None where there is none."""
    try:
        load()
    except JaxasrError as error:
        message = str(error)
        message.encode()
        assert message.startswith(where), message[:300]
        assert message.count("; ") >= 1, message[:300]
        assert message.endswith((".", "?")), message[:300]
        assert len(message) < LONGEST, len(message)
        return message
    return None


def limit_memory() -> None:
    """Leaves this process `ROOM` bytes."""
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def main(kind: str, count: int, number: int) -> None:
    target = (targets(learnt()) | sounds())[kind]
    with tempfile.TemporaryDirectory() as folder:
        read(target, pathlib.Path(folder), target.files)  # after that nothing has to be loaded any more
        limit_memory()
        outcome = run(target, pathlib.Path(folder), count, number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(outcome._asdict() | {"peak_mib": peak // 1024}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
