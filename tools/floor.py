"""Prints pip's constraints for the floor: of each package that runs jaxasr the lowest version that setup.cfg allows.

The tools of the tests, of the notebooks and of the site are left as they come.
"""

import configparser
import pathlib

SETUP = pathlib.Path(__file__).parent.parent / "setup.cfg"
TOOLS = ("test", "notebooks", "docs")


def floor() -> list[str]:
    """The requirements of setup.cfg, `>=` as `==`."""
    setup = configparser.ConfigParser()
    setup.read(SETUP, encoding="utf-8")
    extras = [lines for extra, lines in setup["options.extras_require"].items() if extra not in TOOLS]
    asked = "\n".join([setup["options"]["install_requires"], *extras]).split("\n")
    return sorted({line.strip().replace(">=", "==") for line in asked if line.strip() and "[" not in line})


if __name__ == "__main__":
    print(*floor(), sep="\n")
