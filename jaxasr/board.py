"""Curves for TensorBoard."""

import os
import pathlib
import time
from collections.abc import Callable, Mapping


class Board:
    """Scalars in a file of events, each written by whoever adds it.

    The thread that tensorboardX writes with dies of a disk's fault and of a clock that is set back by weeks; then its
    queue is full one day, and the program waits for ever.
    """

    def __init__(self, folder: pathlib.Path, say: Callable[[str], None]):
        """A fault of the disk ends the curves and not the run, which `say` is told once."""
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._say = say
        self._file: EventsWriter | None = EventsWriter(str(folder / "events"), f".{os.getpid()}")

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Writes the values of a step, by their names; where that fails it says so once, and curves end there."""
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import scalar

        if self._file is None:
            return
        try:
            for name, value in scalars.items():
                self._file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            self._file.flush()
        except OSError as error:
            self._file = None
            self._say(f"TensorBoard's curves end at step {step}: {error}")

    def close(self) -> None:
        """Closes the file; what is added later is dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None
