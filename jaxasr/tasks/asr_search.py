"""How the task `asr` is decoded: sound in, hypotheses out."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxasr.data.batch import AnyAsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.batch_norm import variables_of
from jaxasr.nn.decoders import Decoder
from jaxasr.nn.network import AsrNetwork, SpeechOutputs
from jaxasr.search.choices import NO_FUSION, Fusion, Search
from jaxasr.search.ctc_beam import ctc_beam
from jaxasr.search.greedy import attention_greedy, ctc_greedy
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.typing import Params

if TYPE_CHECKING:
    from jaxasr.tasks.asr import AsrTask

BLANK, SOS, EOS = Vocabulary.BLANK, Vocabulary.SOS, Vocabulary.EOS

CTC_SEARCHES = ("ctc_greedy", "ctc_beam")
"""Those that need no more than a CTC head."""


def by_ctc(outputs: SpeechOutputs, search: Search, fusion: Fusion) -> Hypotheses:
    """What the CTC head says by one of its searches."""
    assert outputs.ctc_logits is not None
    if search.name == "ctc_greedy":
        return ctc_greedy(outputs.ctc_logits, outputs.lengths, blank_id=BLANK)
    return ctc_beam(outputs.ctc_logits, outputs.lengths, search, fusion, blank_id=BLANK, eos=EOS, left_out=(SOS, EOS))


def decoding(task: "AsrTask", search: Search) -> Callable[..., Hypotheses]:
    """(params, batch, fusion) to hypotheses by one of the task's searches."""
    network = task.network()

    def decode(params: Params, batch: AnyAsrBatch, fusion: Fusion = NO_FUSION) -> Hypotheses:
        outputs: Any = task.heard(params, batch, "encode")
        if search.name in CTC_SEARCHES:
            return by_ctc(outputs, search, fusion)
        assert task.decoder is not None
        return _by_attention(network, task.decoder, variables_of(params), outputs)

    return decode


def _by_attention(network: AsrNetwork, decoder: Decoder, variables: Any, outputs: SpeechOutputs) -> Hypotheses:
    encoded, lengths = outputs.encoded, outputs.lengths

    def step(last: Any, cache: Any, position: Any) -> Any:
        return network.apply(variables, last, encoded, lengths, cache, position, method="next_logits")

    max_tokens = encoded.shape[1]  # as FunASR's maxlenratio 0: a token a frame at most
    cache = decoder.empty_cache(encoded.shape[0], max_tokens, encoded.dtype)
    return attention_greedy(step, cache, lengths, max_tokens=max_tokens, sos=SOS, eos=EOS, forbidden=(BLANK, SOS))
