"""What can be wrong with data: `CHECKS`, a table of small functions that the modules beside this one fill.

A check of your own goes into any module that `python -m jaxasr.data.check --import=MODULE` names:

    from jaxasr.data.checks.table import warning


    @warning("shouting", "a text in capitals alone", fix="write it as the other texts are written")
    def shouting(part):
        for row in part.rows:
            if row.text.isupper():
                yield part.at_text(row, row.text)
"""

from jaxasr.data.checks import files, ids, kaldi, lengths, sounds, speech, splits, tables, texts  # noqa: F401
from jaxasr.data.checks.table import CHECKS as CHECKS
