"""The peers' side of beside_funasr.py: the harness's own cases, with as many turns to a timing as ours have."""

from collections.abc import Callable
from typing import Any

import peer_cases  # pyright: ignore[reportMissingImports]

STEPS = 4
"""As beside_funasr.STEPS, which this file cannot import: it runs where torch is and JAX is not."""


def repeated(setup: Callable[[], tuple[Any, dict[str, Any]]]) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def made() -> tuple[Any, dict[str, Any]]:
        run, meta = setup()
        return run, meta | {"inner": STEPS}

    return made


CASES = {
    name: repeated(setup) if name.startswith(("train.", "enc_fwd.", "fbank.")) else setup
    for name, setup in peer_cases.CASES.items()
}
