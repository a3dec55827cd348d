"""Writes the tables of docs/data-check.md from the checks: `python docs/checks.py`."""

import pathlib
from collections.abc import Iterator

from jaxasr.data import checks
from jaxasr.data.checks.table import CHECKS, Severity

TITLES: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "info": "Worth a look"}
PAGE = pathlib.Path(__file__).with_name("data-check.md")
HEAD = """# What is wrong with data

`python -m jaxasr.data.check` looks for {number} faults in manifests, transcripts and sound before they cost a training.
Training itself reads whatever can be read and counts what it leaves out ([data.md](data.md#what-is-used)); a check
finds what would be read and is wrong, and all of it at once. `python docs/checks.py` writes this page.

<!-- run -->
```
python -m jaxasr.data.check data/train data/test          # what is trained on first, test sets last
python -m jaxasr.data.check data/train --model=exp/mine   # its token list, frame rate and sample rate count
python -m jaxasr.data.check big.jsonl --sound=no          # the manifest alone: a million lines in under a minute
python -m jaxasr.data.check data/train --fix=clean        # a clean copy, clean/train
```

A table shows for each fault how often it was found, where first (`file:line` and id), and what to do; `--json` prints
the same for programs, and `--findings=FILE` writes every single finding, a line of JSON each. `--ignore NAME...` leaves
checks out. A check that lacks something does not run, and the last lines say which and why.

| severity | | exit status |
|---|---|---|
| error | jaxasr refuses it, or cannot use it | 4 |
| warning | it loads, and most likely does harm | 3 |
| info | worth a look | 0 |

## Clean copies

`--fix=DIR` makes `DIR` and writes into it a copy of each manifest, in the form that it has; sound is not copied, paths
lead to where it is. The originals are left as they are. A copy loads, and passes the same check with nothing above
info; the exit status is that of the copy. What takes no judgement is **written anew**: line ends, order, forms of
characters. Lines with any other error or warning are **left out**, until nothing more is found; to keep some,
`--ignore` the check. Of two manifests the one named first loses what they share.

`DIR/left_out.jsonl` has a line for each line that is not in a copy, with its place, its id, the check and what came
there; `DIR/changed.jsonl` has every text that was mended, before and after. `lines in = kept + left out` is printed for
each.

## Checks of your own

A check is a function from a part (one manifest) to findings, in a module that `--import=MODULE` names:

<!-- run -->
```python
{example}
```

`part.rows` are its utterances (`id`, `audio`, `text`, `speaker`, `start`, `seconds`), `part.seconds` their lengths,
`part.heard()` gives them with what their sound is like. `needs="headers"` or `"sound"` says that files are opened, or
read; `across=True` is given all parts at once; `written=True` says that a copy mends it. [table.py](
../jaxasr/data/checks/table.py) has the rest.
"""


def example() -> str:
    """The one of the package's docstring."""
    lines = (checks.__doc__ or "").split("\n")
    return "\n".join(line[4:] for line in lines if line.startswith("    ") or not line).strip()


def table(severity: Severity) -> Iterator[str]:
    yield from (f"\n## {TITLES[severity]}\n", "| check | what | what to do | a copy | needs |", "|---|---|---|---|---|")
    for check in CHECKS.values():
        if check.severity == severity:
            needs = "" if check.needs == "manifest" else check.needs
            what, fix = (text.replace("|", "\\|").replace("<", "&lt;") for text in (check.what, check.fix))
            yield f"| `{check.name}` | {what} | {fix} | {check.cure} | {needs} |"


def page() -> str:
    lines = [line for severity in TITLES for line in table(severity)]
    return HEAD.format(number=len(CHECKS), example=example()) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
