"""ESPnet's token list in our order, and what its networks have of every token."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import CheckpointError

BLANK, ENDS = Vocabulary.FIRST[0], "<sos/eos>"
HEADS = ("ctc.ctc_lo", "decoder.output_layer", "decoder.output")
EMBEDDINGS = ("decoder.embed.0.weight", "decoder.embed.weight")
CONDITIONING = "encoder.conditioning_layer.weight"
UNLIKELY = 20.0
"""By how much the logit of `<s>` is less than the mean of the others."""


class Tokens(NamedTuple):
    """Our vocabulary of their list."""

    vocabulary: Vocabulary
    rows: np.ndarray
    """Which of their tokens each of ours is, (V + 1,): both `<s>` and `</s>` are their `<sos/eos>`."""


def read_tokens(listed: Sequence[str], where: str) -> Tokens:
    """Their list `<blank>`, ..., `<sos/eos>`, with `<unk>` among the others, as `<blank> <s> </s> ... <unk>`.

    Raises:
      CheckpointError: it is in another order, or a special token is missing or one of ours is there.
      ConfigError: it holds a token twice, or one with white space.

    >>> tokens = read_tokens(["<blank>", "<unk>", "a", "<sos/eos>"], "config.yaml")
    >>> tokens.vocabulary.tokens, tokens.rows.tolist()
    (('<blank>', '<s>', '</s>', 'a', '<unk>'), [0, 3, 3, 2, 1])
    """
    tokens = [str(token) for token in listed]
    special = {*Vocabulary.FIRST[1:]} & {*tokens}
    if tokens[:1] != [BLANK] or tokens[-1:] != [ENDS] or Vocabulary.LAST not in tokens or special:
        shown = " ".join([*tokens[:2], "...", *sorted(special), *tokens[-1:]])
        raise CheckpointError(
            f"{where}: token_list {shown}; <blank> first, <sos/eos> last, <unk> between and neither <s> nor </s> were "
            "expected, as ESPnet lists tokens; such a model cannot be converted."
        )
    unknown, ends = tokens.index(Vocabulary.LAST), len(tokens) - 1
    others = [number for number in range(1, ends) if number != unknown]
    names = (*Vocabulary.FIRST, *(tokens[number] for number in others), Vocabulary.LAST)
    return Tokens(Vocabulary(names), np.array([0, ends, ends, *others, unknown]))


def in_our_order(tensors: Mapping[str, np.ndarray], tokens: Tokens, where: str) -> dict[str, np.ndarray]:
    """Their tensors, of any shapes, with a row, or a column, for each of our tokens.

    Nothing says `<s>`: its logit is the mean of all others less `UNLIKELY`, whatever comes in, and so its probability
    less than e^-20 / V, which adds nothing to others in float32; the loss of label smoothing stays finite.

    Raises:
      CheckpointError: a tensor has another number of tokens than the list.
    """
    out = dict(tensors)
    axes = {f"{head}.{kind}": 0 for head in HEADS for kind in ("weight", "bias")}
    axes |= dict.fromkeys(EMBEDDINGS, 0) | {CONDITIONING: 1}
    for name in axes.keys() & tensors.keys():
        tensor, axis = np.asarray(tensors[name], np.float32), axes[name]
        if tensor.shape[axis] != max(tokens.rows) + 1:
            raise CheckpointError(
                f"{where}: {name} has shape {tensor.shape}; {max(tokens.rows) + 1} tokens were expected, as "
                "token_list has them; put the files of one model together."
            )
        out[name] = np.take(tensor, tokens.rows, axis)
        if name == CONDITIONING:
            out[name][:, Vocabulary.SOS] = 0.0
        elif name not in EMBEDDINGS:
            out[name][Vocabulary.SOS] = np.mean(tensor, axis=0, dtype=np.float64) - UNLIKELY * name.endswith("bias")
    return out
