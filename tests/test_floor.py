"""Every package that runs jaxasr has a lowest version, which `make test-floor` installs."""

import re

import pytest

from tools.floor import floor


@pytest.mark.parametrize("line", floor())
def test_a_requirement_states_its_lowest_version_and_no_other(line):
    assert re.fullmatch(r"[\w-]+==[\d.]+(; [^;]+)?", line), f"{line}: NAME>=VERSION was expected in setup.cfg"
