"""Says where a program stands when nothing has been heard of it for a while."""

import pathlib
import sys
import threading
from collections.abc import Callable

PACKAGE = str(pathlib.Path(__file__).parent)
SILENT_SECONDS = 60.0


class Watch:
    """Looks after the thread that makes it: after a minute without `beat` it says so, then after two, four, ...

    It ends nothing: compiling, a long validation or a slow disk may take their time, but are not to look like a hang.
    Minutes are counted by its own waits, so that a clock that jumps, or a program that was stopped, means nothing.
    """

    def __init__(self, say: Callable[[str], None], *, seconds: float = SILENT_SECONDS):
        self._say = say
        self._seconds = seconds
        self._thread = threading.get_ident()
        self._beats = 0
        self._closed = threading.Event()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def beat(self) -> None:
        """Says that the program goes on."""
        self._beats += 1

    def close(self) -> None:
        """Ends the watching thread."""
        self._closed.set()

    def _look(self) -> None:
        before, silent, due = -1, 0.0, self._seconds
        while not self._closed.wait(tick := self._seconds / 10):
            silent, due = (0.0, self._seconds) if self._beats != before else (silent + tick, due)
            before = self._beats
            if silent >= due:
                due = 2 * due
                self._say(f"nothing new for {silent:.0f} s; the program is at {self._place()}")

    def _place(self) -> str:
        """The line of ours that the thread is in, `validate.py:120 in score`."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        if frame is None:
            return "its end"
        return f"{pathlib.Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
