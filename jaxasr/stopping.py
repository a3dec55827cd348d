"""Ends of a run that are no fixed number of steps: minutes, SIGTERM and Ctrl-C."""

import contextlib
import pathlib
import signal
import time
from typing import Any

import jax

MEASURED_STEPS = 20


class Budget:
    """Turns minutes into steps once their speed has been seen; from then on the run is exact again."""

    def __init__(self, minutes: float | None, began: float, *, running: bool):
        self.running = running
        self._end = began + 60 * (minutes or 0)
        self._before: float | None = None
        self._seconds: list[float] = []

    @property
    def step_seconds(self) -> float:
        return sum(self._seconds) / max(len(self._seconds), 1)

    def measured(self, all_compiled: bool, step: jax.Array) -> bool:
        """Whether enough steps have been timed; only those after the last compilation count."""
        if not all_compiled:
            return False
        step.block_until_ready()
        now = time.perf_counter()
        if self._before is not None:
            self._seconds.append(now - self._before)
        self._before = now
        return len(self._seconds) >= MEASURED_STEPS

    def interrupted(self) -> None:
        """Leaves the time up to the next step out."""
        self._before = None

    def steps_left(self, valid_seconds: float, steps_per_valid: int) -> int:
        """Steps that fit into what is left, validations counted, and two more of them at the end."""
        left = self._end - time.perf_counter() - 2 * valid_seconds
        return max(int(left / (self.step_seconds + valid_seconds / steps_per_valid)), 1)


class Stopped(Exception):  # noqa: N818 (it is no error)
    """The run was asked to stop, and its state is saved."""

    def __init__(self, signum: int, step: int, workdir: pathlib.Path):
        super().__init__(f"stopped at step {step}; the same command goes on from there ({workdir})")
        self.exit_status = 128 + (signum or signal.SIGTERM)  # none: it came to another process


class StopSignals:
    """Notes SIGTERM and Ctrl-C, so that the loop can save; a second one ends the program at once."""

    def __init__(self):
        self.signal = 0
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self.signal != 0

    def __enter__(self) -> "StopSignals":
        with contextlib.suppress(ValueError):  # signals belong to the main thread; elsewhere there are none to note
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        self.listen_no_more()

    def listen_no_more(self) -> None:
        """Gives the signals back to whoever had them."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _note(self, signum: int, frame: Any) -> None:
        del frame
        self.signal = signum
        signal.signal(signum, self._before[signum])
