"""How the task `asr` is decoded: sound in, hypotheses out."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from jaxasr.data.batch import AnyAsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.batch_norm import variables_of
from jaxasr.nn.decoders import parted
from jaxasr.nn.network import AsrNetwork, SpeechOutputs
from jaxasr.search.choices import NO_FUSION, Fusion, Search
from jaxasr.search.ctc_beam import ctc_beam
from jaxasr.search.ctc_prefix import emissions
from jaxasr.search.greedy import attention_greedy, ctc_greedy
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.search.joint import Speaker, joint, limits
from jaxasr.search.rescore import rescore, room_of
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
            return task.timed(search, by_ctc(outputs, search, fusion), outputs)
        said_by = network, variables_of(params), outputs
        if search.name == "attention_greedy":
            found = by_attention(*said_by)
        else:
            found = (by_joint if search.name == "joint" else by_rescoring)(*said_by, search, fusion)
        return task.timed(search, found, outputs)

    return decode


def by_attention(network: AsrNetwork, variables: Any, outputs: SpeechOutputs) -> Hypotheses:
    """Of encoded frames, by the decoder alone."""
    encoded, lengths = outputs.encoded, outputs.lengths

    def step(last: Any, cache: Any, position: Any) -> Any:
        inputs = last[:, None], encoded, lengths, cache, position
        logits, cache = network.apply(variables, *inputs, method="next_logits")
        return logits[:, 0], cache

    max_tokens = encoded.shape[1]  # as FunASR's maxlenratio 0: a token a frame at most
    assert network.decoder is not None
    cache = network.decoder.empty_cache(encoded.shape[0], max_tokens, encoded.dtype)
    return attention_greedy(step, cache, lengths, max_tokens=max_tokens, sos=SOS, eos=EOS, forbidden=(BLANK, SOS))


def by_joint(network: AsrNetwork, variables: Any, outputs: SpeechOutputs, search: Search, fusion: Fusion) -> Hypotheses:
    """Of encoded frames, by the decoder with the CTC head, if there is one."""
    bounds = limits(search, outputs.lengths, outputs.encoded.shape[1])
    speaker = speaker_of(network, variables, outputs, fusion, bounds.room + 1)
    emitted = None if outputs.ctc_logits is None else emissions(outputs.ctc_logits, outputs.lengths, blank_id=BLANK)
    return joint(speaker, emitted, bounds, search, fusion, eos=EOS, forbidden=(BLANK, SOS))


def by_rescoring(
    network: AsrNetwork, variables: Any, outputs: SpeechOutputs, search: Search, fusion: Fusion
) -> Hypotheses:
    """Of encoded frames, what the CTC head finds alone, judged anew by all."""
    first = dataclasses.replace(search, name="ctc_beam", nbest=search.beam)
    nbest = by_ctc(outputs, first, Fusion(blank_skip=fusion.blank_skip)).nbest
    assert nbest is not None and outputs.ctc_logits is not None
    speaker = speaker_of(network, variables, outputs, fusion, room_of(nbest.tokens.shape[2]))
    heard = outputs.ctc_logits, outputs.lengths
    return rescore(nbest, speaker, *heard, fusion, nbest_out=search.nbest, eos=EOS, blank_id=BLANK)


def speaker_of(network: AsrNetwork, variables: Any, outputs: SpeechOutputs, fusion: Fusion, room: int) -> Speaker:
    """The decoder as beams ask it, with room for so many tokens, sos among them."""
    encoded, lengths = outputs.encoded, outputs.lengths

    def say(tokens: Any, cache: Any, position: Any) -> Any:
        return network.apply(variables, tokens, encoded, lengths, cache, position, method="next_logits")

    def next_said(tokens: Any, own: Any, position: Any) -> Any:
        logits, cache = say(tokens, whole(own), position)
        return logits, parted(cache)[0]

    rows = encoded.shape[0]
    assert network.decoder is not None
    logits, cache = say(jnp.full((rows, 1), SOS), network.decoder.empty_cache(rows, room, encoded.dtype), 0)
    own, whole = parted(cache)
    weight = 1.0 if outputs.ctc_logits is None else 1.0 - fusion.ctc_weight
    return Speaker(logits[:, 0], own, next_said, weight)
