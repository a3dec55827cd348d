"""`python -m tests.dies PLACE [flags of jaxasr.train]`: a run that is killed, as by `kill -9`, inside."""

import os
import signal
import sys

from jaxasr import checksums, states, train
from jaxasr.compiled import CompiledByShape
from jaxasr.validate import Validator

PLACES = {
    "compiling": (CompiledByShape, "_compile", 1),
    "writing a state": (checksums, "seal", 2),
    "naming a state": (states, "sync_folder", 2),
    "validating": (Validator, "score", 2),
}
"""(where, which function, at which call)."""


def main() -> None:
    owner, name, last = PLACES[sys.argv[1]]
    function, calls = getattr(owner, name), 0

    def killed(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, killed)
    train.main(sys.argv[2:])


if __name__ == "__main__":
    main()
