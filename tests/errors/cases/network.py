"""Options of the task, the frontend and the network, and feature statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.data.tokenizer import BpeTokenizer
from jaxasr.nn.decoders import LightweightConvDecoder, ParaformerSanmDecoder, RnnDecoder, SanmDecoder
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders import (
    ENCODERS,
    BranchformerEncoder,
    ConformerEncoder,
    RnnEncoder,
    SanmChunkEncoder,
    SanmEncoder,
)
from jaxasr.nn.encoders.base import Taps
from jaxasr.nn.frontends import GivenFeatures, SlidingWindow, WavFrontend
from jaxasr.nn.frontends.mel import mel_filterbank
from jaxasr.nn.fsmn import FsmnMemory
from jaxasr.nn.normalize import GlobalMvn, read_kaldi_mvn, read_mvn
from jaxasr.nn.positions import sinusoids_halves
from jaxasr.nn.postencoders import LengthAdaptor, TransformerPostEncoder
from jaxasr.nn.predictors import CifPredictorV2, CifPredictorV3
from jaxasr.nn.preencoders import LinearPreEncoder, SincPreEncoder
from jaxasr.nn.specaug import SPECAUGS, SpecAugment
from jaxasr.nn.subsampling import CONVOLUTIONS, ConvSubsampling
from jaxasr.tasks import AsrTask, ParaformerTask
from tests.errors.files import write

X, LENGTHS = jnp.zeros((1, 4, 8)), jnp.array([4])
FRAMES = jnp.ones((1, 4), bool)


def build(module: nn.Module, *inputs: Any, **options: Any) -> None:
    module.init(jax.random.key(0), *inputs, **options)


def statistics(content: str | bytes) -> None:
    read_kaldi_mvn(write("am.mvn", content))


def sums(**arrays: Any) -> None:
    np.savez("stats.npz", **arrays)
    read_mvn("stats.npz")


class Blind(SanmEncoder):
    """An encoder that takes no taps."""

    def __call__(self, x: Any, lengths: Any, *, train: bool) -> Any: ...


def encoder_that_halves() -> None:
    """Its output_lengths does not say so."""
    SanmEncoder().check_promises(8, jnp.zeros((1, 4, 256)))


def encoder_without_taps() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ENCODERS, "_entries", {"blind": Blind})
        AsrTask(encoder=Blind(), interctc_layers=(1,)).check()


class OneView(SpecAugment):
    """A SpecAugment that makes one view only."""

    def __call__(self, x: Any, lengths: Any, *, num_bands: int, key: Any) -> Any: ...  # pyright: ignore[reportIncompatibleMethodOverride]


def specaug_without_views() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SPECAUGS, "_entries", {"one_view": OneView})
        AsrTask(cr_weight=0.2, specaug=OneView()).check()


CASES = {
    "an encoder that does not what it says": encoder_that_halves,
    "a sample rate below 0": lambda: AsrTask(sample_rate=-8000).check(),
    "an attention loss that is not there by tokens": lambda: AsrTask(
        decoder=None, ctc_weight=1.0, length_normalized_loss=True
    ).check(),
    "frames that are all gone": lambda: AsrTask(encoder=RnnEncoder(num_layers=3, subsample=(100_000,))).check(),
    "a subsampling of no name": lambda: SanmEncoder(subsampling="conv3d").output_lengths(9),
    "a normalizer that does nothing": lambda: AsrTask(normalizer=GlobalMvn(mean=False, variance=False)).check(),
    "a dropout of 2": lambda: AsrTask(encoder=SanmEncoder(attention_dropout=2.0)).check(),
    "no mel bands": lambda: AsrTask(frontend=WavFrontend(num_mels=0)).check(),
    "a filter without taps": lambda: build(FsmnMemory(kernel_size=0), X, FRAMES),
    "a share above 1": lambda: AsrTask(ctc_weight=1.5).check(),
    "an attention loss without a decoder": lambda: AsrTask(decoder=None).check(),
    "a decoder without an attention loss": lambda: AsrTask(ctc_weight=1.0).check(),
    "inner CTC losses without a CTC loss": lambda: AsrTask(interctc_layers=(1,), ctc_weight=0.0).check(),
    "an encoder that shows no inner layers": encoder_without_taps,
    "two views without a CTC loss": lambda: AsrTask(cr_weight=0.2, ctc_weight=0.0).check(),
    "a SpecAugment of one view": specaug_without_views,
    "two views without SpecAugment": lambda: AsrTask(cr_weight=0.2, specaug=None).check(),
    "a decoder of all tokens without a loss": lambda: ParaformerTask(ctc_weight=1.0).check(),
    "more tokens shown than are wrong": lambda: ParaformerTask(sampling_ratio=1.5).check(),
    "tokens that look at chunks of none": lambda: ParaformerTask(decoder_look_back=(1,)).check(),
    "a decoder narrower than its frames": lambda: ParaformerTask(decoder=ParaformerSanmDecoder(d_model=64)).check(),
    "conditioning on nothing": lambda: AsrTask(interctc_conditioning=True).check(),
    "a list for sub-words still to be learnt": lambda: AsrTask(tokenizer=BpeTokenizer(), token_list="t.txt").check(),
    "a layer that the encoder does not have": lambda: Taps((5,), lambda *_: None).check(2),
    "a speed of 5": lambda: CommonPreprocessor(speeds=(5.0,)).check(),
    "a gain below 0": lambda: CommonPreprocessor(volume_db=-1.0).check(),
    "a probability of 50": lambda: CommonPreprocessor(noise_probability=50.0).check(),
    "the higher ratio first": lambda: CommonPreprocessor(snr_db=(10.0, 3.0)).check(),
    "statistics that nothing uses": lambda: AsrTask(normalizer=None, cmvn_file="am.mvn").check(),
    "a mask wider than itself": lambda: SpecAugment(min_freq_width=9, max_freq_width=3).check(),
    "a mask of 20 times its axis": lambda: SpecAugment(max_time_share=20.0).check(),
    "a mask without a limit": lambda: SpecAugment(max_freq_width=None, max_freq_share=None).check(),
    "a time warp of -1 frames": lambda: SpecAugment(time_warp_window=-1).check(),
    "two masks a frame": lambda: SpecAugment(time_masks_per_frame=2.0).check(),
    "no token list": lambda: AsrTask().num_tokens("a") and AsrTask().network(),
    "stacks of no frames": lambda: WavFrontend(lfr_m=0).for_encoder(1),
    "stacks of ten million frames": lambda: WavFrontend(lfr_m=10_000_000).for_encoder(1),
    "features of no width": lambda: GivenFeatures(width=0).for_encoder(1),
    "a hop below a sample": lambda: WavFrontend(hop_ms=0.01).output_lengths(8000, 8000),
    "a band above half the rate": lambda: mel_filterbank(80, 512, 8000, 20.0, 8000.0),
    "no statistics": lambda: GlobalMvn()(X, LENGTHS, None),
    "no sums": lambda: read_mvn("nowhere.npz"),
    "other sums": lambda: sums(total=np.zeros(3)),
    "sums of unequal lengths": lambda: sums(count=3.0, sum=np.zeros(3), sum_square=np.zeros(4)),
    "no statistics file": lambda: read_kaldi_mvn("nowhere"),
    "binary statistics": lambda: statistics(b"\xff"),
    "a word among the statistics": lambda: statistics("<AddShift> 1 1\n<LearnRateCoef> 0 [ x ]\n"),
    "fewer statistics than they say": lambda: statistics("<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 ]\n"),
    "half of the statistics": lambda: statistics("<AddShift> 1 1\n<LearnRateCoef> 0 [ 1 ]\n"),
    "an encoder without layers": lambda: build(SanmEncoder(num_layers=0), X, LENGTHS, train=False),
    "features too narrow to divide": lambda: build(ConvSubsampling(8, CONVOLUTIONS["conv2d8"]), X, LENGTHS),
    "channels of no convolution": lambda: build(SanmEncoder(subsampling_channels=8), X, LENGTHS, train=False),
    "convolutions without channels": lambda: build(ConvSubsampling(8, CONVOLUTIONS["conv2d"], 0), X, LENGTHS),
    "a filter in no convolution": lambda: build(
        ConformerEncoder(convolution=False, kernel_size=7), X, LENGTHS, train=False
    ),
    "features of odd width": lambda: sinusoids_halves(4, 7),
    "a filter without a middle": lambda: build(ConformerEncoder(kernel_size=4), X, LENGTHS, train=False),
    "a gate of an odd width": lambda: build(BranchformerEncoder(d_gate=7), X, LENGTHS, train=False),
    "a gate of more than all": lambda: build(BranchformerEncoder(gate_share=1.5), X, LENGTHS, train=False),
    "a recurrent encoder without layers": lambda: build(RnnEncoder(num_layers=0), X, LENGTHS, train=False),
    "intermediate CTC where the frame rate changes": lambda: build(
        RnnEncoder(), X, LENGTHS, train=False, taps=Taps((1,), lambda *_: None)
    ),
    "strides for other chunk sizes": lambda: build(
        SanmChunkEncoder(chunk_size=(8, 12, 16), stride=(5, 8)), X, LENGTHS, train=False
    ),
    "a stride longer than its chunk": lambda: build(SanmChunkEncoder(stride=(20,)), X, LENGTHS, train=False),
    "more layers with attention than layers": lambda: SanmDecoder(num_layers=2, attention_layers=3).empty_cache(
        1, 1, jnp.float32
    ),
    "more layers with attention than layers, all tokens at once": lambda: build(
        ParaformerSanmDecoder(num_layers=2, attention_layers=3, d_model=8),
        X,
        LENGTHS,
        X,
        LENGTHS,
        vocab_size=9,
        train=False,
    ),
    "a decoder's filter without a middle": lambda: build(
        LightweightConvDecoder(kernel_size=4), LENGTHS[None], X, LENGTHS, vocab_size=9, train=False
    ),
    "units that are normalised": lambda: AsrTask(
        preprocess=None,
        frontend=GivenFeatures(width=1),
        encoder=ConformerEncoder(subsampling="embed", num_units=9),
    ).check(),
    "units of mel bands": lambda: build(ConformerEncoder(subsampling="embed", num_units=9), X, LENGTHS, train=False),
    "a preencoder of no width": lambda: build(LinearPreEncoder(width=0), X, LENGTHS, train=False),
    "band passes over mel bands": lambda: build(SincPreEncoder(), X, LENGTHS, train=False),
    "band passes at another rate": lambda: AsrTask(
        sample_rate=8000, frontend=SlidingWindow(window=400), preencoder=SincPreEncoder()
    ).check(),
    "fewer than no convolutions": lambda: build(LengthAdaptor(num_layers=-1), X, LENGTHS, train=False),
    "norms that add nothing": lambda: build(TransformerPostEncoder(norm_epsilon=0.0), X, LENGTHS, train=False),
    "intermediate CTC before frames are joined": lambda: AsrTask(
        interctc_layers=(2,), postencoder=LengthAdaptor()
    ).check(),
    "intermediate CTC of another width": lambda: AsrTask(
        interctc_layers=(2,), postencoder=TransformerPostEncoder(d_model=16)
    ).check(),
    "a filter that attention has no use for": lambda: build(
        RnnDecoder(attention="dot", attention_channels=3), LENGTHS[None], X, LENGTHS, vocab_size=9, train=False
    ),
    "dropout of nothing": lambda: build(LengthAdaptor(dropout=0.2), X, LENGTHS, train=False),
    "a recurrent decoder without cells": lambda: build(
        RnnDecoder(num_layers=0), LENGTHS[None], X, LENGTHS, vocab_size=9, train=False
    ),
    "a predictor's tail of a whole token": lambda: build(
        CifPredictorV2(tail_threshold=1.0), X, LENGTHS, num_tokens=1, train=False
    ),
    "a predictor whose weights are all 0": lambda: build(
        CifPredictorV2(noise_threshold=1.0), X, LENGTHS, num_tokens=1, train=False
    ),
    "heads that do not divide the fine frames' width": lambda: build(
        CifPredictorV3(upsample_type="cnn_attn"), X[..., :6], LENGTHS, num_tokens=1, train=False
    ),
    "no fine frames": lambda: build(CifPredictorV3(upsample=0), X, LENGTHS, num_tokens=1, train=False),
    "a filter that misses the frame": lambda: build(FsmnMemory(kernel_size=3, shift=3), X, FRAMES),
    "a dropout of 1": lambda: build(Dropout(1.0), X, train=True),
}
