"""Scoring."""

from jaxasr.evaluate import EvaluateOptions, evaluate, read_texts
from jaxasr.scoring import score
from tests.errors.files import write


def unwritable_output() -> None:
    ref = write("ref", "u a\n")
    evaluate(EvaluateOptions(ref, ref, output=f"{ref}/score.json"))


CASES = {
    "a count below 0": lambda: evaluate(EvaluateOptions("ref", "hyp", worst=-1)),
    "a model and cleaners": lambda: evaluate(EvaluateOptions("ref", "hyp", model="exp/asr", cleaners=("lower",))),
    "no file": lambda: read_texts("nowhere"),
    "results without ids": lambda: read_texts(write("hyp.jsonl", '{"text": "a"}\n')),
    "no references": lambda: score({}, {}),
    "an id without a reference": lambda: score({"u": "a"}, {"v": "a"}),
    "an output that cannot be written": unwritable_output,
}
