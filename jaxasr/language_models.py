"""Language models from disk, for the model whose search asks them."""

import itertools
import pathlib

from jaxasr import checkpoint
from jaxasr.data.textfile import show
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.search.neural_lm import NeuralLm
from jaxasr.tasks.base import TASKS
from jaxasr.tasks.lm import LmTask


def neural_lm(path: str | pathlib.Path, vocabulary: Vocabulary) -> NeuralLm:
    """The language model in a folder or workdir, for a model of these tokens.

    Raises:
      ConfigError: it is none, or its tokens are others.
      CheckpointError: there is no model.
    """
    task, params = checkpoint.load_model(path)
    if not isinstance(task, LmTask) or task.vocabulary is None:
        raise ConfigError(
            f"--lm={path}: a model of the task {TASKS.name_of(type(task))}; one of the task lm was expected; give a "
            "language model, such as `python -m jaxasr.train --task=lm` makes."
        )
    check_same_tokens(f"--lm={path}", task.vocabulary, vocabulary)
    return NeuralLm(params, task.lm, len(vocabulary))


def check_same_tokens(where: str, found: Vocabulary, expected: Vocabulary) -> None:
    """Raises ConfigError where a language model's ids mean other tokens; it names the first of them."""
    pairs = itertools.zip_longest(found.tokens, expected.tokens)
    for number, (its, ours) in enumerate(pairs):
        if its != ours:
            came, wanted = (("no token" if token is None else show(token)) for token in (its, ours))
            raise ConfigError(
                f"{where}: {came} is number {number} of its tokens; {wanted}, as in the list of the model that is "
                "decoded with it, was expected; train it with --token_list=MODEL/tokens.txt and the model's tokenizer."
            )
