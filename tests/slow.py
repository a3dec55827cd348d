"""What the fast tests leave to `make test-slow`: cases whose parts other cases have, too."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(names: Iterable[str], *these: str) -> list[Any]:
    """The names as cases of `pytest.mark.parametrize`, of which these are slow."""
    names = list(names)
    assert set(these) <= set(names), set(these) - set(names)
    return [pytest.param(name, marks=pytest.mark.slow if name in these else ()) for name in names]
