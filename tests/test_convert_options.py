"""FunASR's options against ours, in both directions."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from jaxasr import config
from jaxasr.convert import decoder_options, encoder_options
from jaxasr.convert.espnet_options import ESPNET
from jaxasr.convert.feature_options import FRONTENDS, PREENCODERS, SPECAUGS
from jaxasr.convert.model_options import FUNASR, read_model, write_model
from jaxasr.convert.options import part_called, part_of_ours, read_part, write_part
from jaxasr.errors import ConfigError
from jaxasr.nn.decoders import (
    DECODERS,
    PARALLEL_DECODERS,
    DynamicConv2dDecoder,
    ParaformerSanDecoder,
    ParaformerSanmDecoder,
    RnnDecoder,
    SanmDecoder,
    TransformerDecoder,
)
from jaxasr.nn.encoders import (
    ENCODERS,
    BranchformerEncoder,
    ConformerEncoder,
    EBranchformerEncoder,
    RnnEncoder,
    SanmChunkEncoder,
    SanmEncoder,
    TransformerEncoder,
)
from jaxasr.nn.frontends import FRONTENDS as OUR_FRONTENDS
from jaxasr.nn.frontends import SlidingWindow, StftFrontend, WavFrontend
from jaxasr.nn.normalize import NORMALIZERS, GlobalMvn, UtteranceMvn
from jaxasr.nn.predictors import CifPredictor, CifPredictorV3
from jaxasr.nn.preencoders import LinearPreEncoder, SincPreEncoder
from jaxasr.nn.specaug import SPECAUGS as OUR_SPECAUGS
from jaxasr.nn.specaug import SpecAugment, SpecAugmentLfr
from jaxasr.tasks import TASKS, AsrTask, ParaformerTask
from tests.parity.fixtures import HERE
from tests.parity.test_encoders import CASES

FAMILIES = {
    "transformer": "transformer",
    "conformer": "conformer",
    "branchformer": "branchformer",
    "e_branchformer": "e_branchformer",
    "sanm": "sanm",
    "sanm_chunk": "sanm_chunk_opt",
    "rnn": "rnn",
}
"""The beginnings of files' names, and what FunASR calls their encoders."""
NOT_THEIRS = ("sanm_conv2d", "transformer_embed")
"""Made of their parts in a way that no configuration says, or of units."""


def options_of(name: str) -> dict[str, Any]:
    with np.load(HERE / "more" / f"{name}.npz") as arrays:
        return json.loads(str(arrays["options"]))


def both_ways(part, registry, conf) -> Any:
    """What theirs is here; what is written of it is read as the same."""
    left_out: list[str] = []
    fields, _ = read_part(part, conf, "", left_out)
    rate = {name: fields.pop(name) for name in ("sample_rate",) if registry is OUR_FRONTENDS}
    made = config.from_mapping(registry[fields.pop("type")], fields, where="")
    of_task = {"channel": None, "interctc_layers": [], "interctc_conditioning": False}
    defaults = config.to_mapping(registry[part.ours]())
    written = write_part(part, config.to_mapping(made) | rate, defaults, of_task, left_out)
    again, _ = read_part(part, written, "", left_out)
    assert rate == {name: again.pop(name) for name in rate}
    assert config.from_mapping(registry[again.pop("type")], again, where="") == made
    assert not left_out
    return made


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_THEIRS])
def test_encoder(name):
    family = max((family for family in FAMILIES if name.startswith(f"{family}_")), key=len)
    part = part_called(encoder_options.ENCODERS, FAMILIES[family], "encoder")
    assert both_ways(part, ENCODERS, options_of(name)) == CASES[name]


@pytest.mark.parametrize(
    ("name", "theirs", "expected"),
    [
        ("rnn_location", "rnn", {"attention": "location", "d_attention": 8, "attention_filter": 4}),
        ("rnn_dot", "rnn", {"attention": "dot", "cell": "gru", "attention_filter": RnnDecoder.attention_filter}),
        ("dynamic_conv2d", "dynamic_conv2d", {"kernel_size": 5, "groups": 4, "dropout": 0.0}),
    ],
)
def test_decoder(name, theirs, expected):
    made = both_ways(part_called(decoder_options.DECODERS, theirs, "decoder"), DECODERS, options_of(name))
    assert {key: getattr(made, key) for key in expected} == expected


def test_decoder_of_fewer_blocks_than_look_at_the_frames():
    """Theirs makes six of them, whatever num_blocks says."""
    made = both_ways(decoder_options.PARAFORMER_SANM, PARALLEL_DECODERS, {"num_blocks": 3})
    assert (made.num_layers, made.attention_layers) == (6, None)


def test_shifts_of_memories():
    """With none a Paraformer's looks back only, and one below 0 is 0."""
    made = both_ways(decoder_options.PARAFORMER_SANM, PARALLEL_DECODERS, {"kernel_size": 11, "sanm_shfit": None})
    assert made.shift == 5
    assert both_ways(encoder_options.SANM, ENCODERS, {"input_layer": "pe", "sanm_shfit": -1}).shift == 0
    made = both_ways(decoder_options.SANM_DECODER, DECODERS, {"kernel_size": 6, "sanm_shfit": 3})
    assert made.kernel_size == 6
    with pytest.raises(ConfigError, match="sanm_shfit: None; 3 for a kernel_size of 6 was expected"):
        read_part(decoder_options.SANM_DECODER, {"kernel_size": 6}, "", [])  # it would see a token ahead


def test_mean_and_variance_of_an_utterance():
    """FunASR's divides by the root of the deviation, ESPnet's does not."""
    [_, theirs] = FUNASR.slots["normalize"][1]
    with pytest.raises(ConfigError, match="norm_vars: True; False beside norm_means was expected"):
        read_part(theirs, {"norm_vars": True}, "", [])
    assert both_ways(theirs, NORMALIZERS, {"norm_vars": True, "norm_means": False}) == UtteranceMvn(False, True)
    [_, theirs] = ESPNET.slots["normalize"][1]
    assert both_ways(theirs, NORMALIZERS, {"norm_vars": True}) == UtteranceMvn(True, True)


@pytest.mark.parametrize(
    "parts", [FUNASR.models, *(parts for _, parts in FUNASR.slots.values()), decoder_options.DECODERS]
)
def test_names_are_one_part_s(parts):
    names = [name.lower() for part in parts for name in {name.lower() for name in part.theirs}]
    assert len(names) == len(set(names))


def test_defaults_are_theirs():
    """Not ours, which are those of recipes."""
    made = both_ways(encoder_options.CONFORMER, ENCODERS, {})
    assert (made.positions, made.macaron, made.d_ff) == ("relative_legacy", False, 2048)
    made = both_ways(part_called(SPECAUGS, "specaug_lfr", ""), OUR_SPECAUGS, {"time_mask_width_range": 12})
    assert (made.time_warp_window, made.max_freq_width, made.max_time_width) == (5, 19, 11)


def test_samples_are_milliseconds():
    conf = {"fs": "22.05k", "hop_length": 220, "win_length": 551, "n_fft": 1024}
    made = both_ways(part_called(FRONTENDS, "default", ""), OUR_FRONTENDS, conf)
    assert made.window_and_hop(22_050) == (551, 220)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"macaron": True}, r"conf.macaron: no option of this part.*Did you mean 'macaron_style'"),
        ({"input_layer": "conv2dpad"}, r"conf.input_layer: 'conv2dpad'; one of .*'conv2d6' or .* was expected"),
        ({"positionwise_layer_type": "conv1d"}, r"positionwise_layer_type: 'conv1d'; 'linear' was expected"),
        ({"pos_enc_layer_type": "abs_pos"}, r"rel_pos_type: 'abs_pos, rel_selfattn, legacy'; one of rel_pos, rel_self"),
    ],
)
def test_what_ours_cannot_do(conf, message):
    with pytest.raises(ConfigError, match=message):
        read_part(encoder_options.CONFORMER, conf, "conf.", [])


def test_what_is_idle_is_told_where_it_says_something():
    left_out: list[str] = []
    conf = {"dropout_rate": 0.2, "positional_dropout_rate": 0.1, "padding_idx": 0, "stochastic_depth_rate": 0.0}
    read_part(encoder_options.CONFORMER, conf, "conf.", left_out)
    assert sorted(left_out) == ["conf.padding_idx=0", "conf.positional_dropout_rate=0.1"]


SIZES = {"num_layers": 2, "d_model": 16, "num_heads": 2}
WIDTHS = SpecAugment(max_time_share=None)
STACKED = {"lfr_m": 7, "lfr_n": 6}
PLAIN = {"lfr_m": 1, "lfr_n": 1}
TASKS_BOTH_WAYS = {
    "sanm": AsrTask(
        encoder=SanmEncoder(**SIZES, shift=2), decoder=SanmDecoder(d_model=16, num_heads=2), specaug=WIDTHS
    ),
    "chunks": AsrTask(
        encoder=SanmChunkEncoder(**SIZES, chunk_size=(8, 16), stride=(5, 10)),
        decoder=RnnDecoder(attention="dot"),
        sample_rate=8000,
        specaug=WIDTHS,
    ),
    "conformer": AsrTask(
        encoder=ConformerEncoder(**SIZES),
        decoder=TransformerDecoder(d_model=16, num_heads=2),
        interctc_layers=(1,),
        specaug=WIDTHS,
    ),
    "only CTC": AsrTask(
        encoder=TransformerEncoder(**SIZES),
        decoder=None,
        ctc_weight=1.0,
        label_smoothing=0.1,
        interctc_layers=(1,),
        interctc_conditioning=True,
        specaug=None,
        normalizer=None,
    ),
    "raw samples": AsrTask(
        frontend=SlidingWindow(**PLAIN),
        preencoder=SincPreEncoder(width=128),
        encoder=RnnEncoder(projection=False),
        decoder=RnnDecoder(),
        normalizer=UtteranceMvn(),
        specaug=WIDTHS,
    ),
    "mel": AsrTask(
        frontend=StftFrontend(**PLAIN),
        preencoder=LinearPreEncoder(40),
        encoder=BranchformerEncoder(**SIZES, merge="learned_average"),
        decoder=DynamicConv2dDecoder(d_model=16, num_heads=2),
        normalizer=None,
        specaug=SpecAugment(max_time_width=None),
    ),
    "paraformer": ParaformerTask(
        frontend=WavFrontend(**STACKED, snip_edges=False),
        encoder=SanmEncoder(**SIZES),
        predictor=CifPredictor(tail_threshold=0.4),
        decoder=ParaformerSanmDecoder(d_model=16, attention_layers=4, shift=5),
        specaug=SpecAugmentLfr(num_freq_masks=0),
        share_embedding=True,
        ctc_weight=0.3,
    ),
    "online": ParaformerTask(
        frontend=WavFrontend(**STACKED),
        encoder=SanmChunkEncoder(**SIZES, chunk_size=(12, 15), stride=(8, 10), look_back=(4,)),
        decoder=ParaformerSanmDecoder(d_model=16, num_heads=2, shift=5),
        decoder_look_back=(2,),
        specaug=WIDTHS,
    ),
    "chunks that tokens look beyond": ParaformerTask(
        frontend=WavFrontend(**STACKED),
        encoder=SanmChunkEncoder(**SIZES),
        decoder=ParaformerSanmDecoder(d_model=16, num_heads=2),
        specaug=WIDTHS,
    ),
    "fine frames": ParaformerTask(
        encoder=EBranchformerEncoder(**SIZES, feed_forward=False),
        predictor=CifPredictorV3(upsample=5),
        decoder=ParaformerSanDecoder(d_model=16),
        first_pass_loss=True,
        specaug=WIDTHS,
    ),
}


@pytest.mark.parametrize("name", TASKS_BOTH_WAYS)
def test_task_is_what_is_written_of_it(name):
    task: Any = TASKS_BOTH_WAYS[name]
    left_out: list[str] = []
    theirs = write_model(FUNASR, task, left_out)
    mapping = read_model(FUNASR, theirs, left_out, where="", statistics=task.normalizer is AsrTask().normalizer)
    again: Any = config.from_mapping(TASKS[mapping.pop("task")], mapping, where="")
    assert dataclasses.replace(again, frontend=task.frontend) == task
    assert again.frontend == task._frontend
    assert write_model(FUNASR, again, left_out) == theirs
    assert not left_out


def test_an_online_model_is_written_as_one():
    theirs = write_model(FUNASR, TASKS_BOTH_WAYS["online"], [])
    assert (theirs["model"], theirs["frontend"]) == ("ParaformerStreaming", "WavFrontendOnline")
    assert theirs["encoder_conf"]["input_layer"] == "pe_online"
    assert theirs["encoder_conf"]["decoder_att_look_back_factor"] == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_conf": {"decoder_attention_chunk_type": "full"}}, "decoder_attention_chunk_type: 'full'; 'chunk' was"),
        ({"encoder": "SANMEncoder"}, "encoder: 'SANMEncoder'; SANMEncoderChunkOpt, sanm_chunk_opt was expected"),
    ],
)
def test_an_online_model_without_chunks(change, message):
    theirs = write_model(FUNASR, TASKS_BOTH_WAYS["online"], []) | change
    with pytest.raises(ConfigError, match=message):
        read_model(FUNASR, theirs, [], where="", statistics=False)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (AsrTask(encoder=ConformerEncoder(conv_norm="layer"), decoder=TransformerDecoder()), "conv_norm of conformer"),
        (AsrTask(encoder=SanmEncoder(subsampling="conv2d")), "subsampling of sanm is 'conv2d'"),
        (AsrTask(decoder=TransformerDecoder(d_model=128)), "decoder.d_model=128 with --encoder.d_model=256"),
        (AsrTask(frontend=WavFrontend(preemphasis=0.9)), "preemphasis of wav_frontend"),
        (
            dataclasses.replace(TASKS_BOTH_WAYS["online"], predictor=CifPredictorV3()),
            r"decoder_look_back of paraformer is \[2\]: BiCifParaformer has no such option",
        ),
        (AsrTask(normalizer=GlobalMvn(variance=False)), "--normalizer=global_mvn with options"),
        (AsrTask(normalizer=UtteranceMvn(variance=True)), "variance of utterance_mvn is True: UtteranceMVN has False"),
        (AsrTask(frontend=StftFrontend(**PLAIN)), "--normalizer=global_mvn"),
        (AsrTask(frontend=StftFrontend(**STACKED), normalizer=None), "lfr_m of default is 7"),
    ],
)
def test_what_theirs_cannot_do(task, message):
    with pytest.raises(ConfigError, match=message):
        write_model(FUNASR, task, [])


def test_what_only_training_needs_is_told():
    left_out: list[str] = []
    task = AsrTask(encoder=SanmEncoder(remat=True), specaug=SpecAugment(), cr_weight=0.2, dtype="bfloat16")
    write_model(FUNASR, task, left_out)
    expected = ["asr.cr_weight=0.2", "asr.dtype=bfloat16", "sanm.remat=True", "specaug.max_time_share=0.2"]
    assert sorted(left_out) == expected


def test_a_part_that_is_ours_alone():
    with pytest.raises(ConfigError, match="--frontend=features"):
        part_of_ours(FRONTENDS, "features", "frontend")
    assert part_of_ours(PREENCODERS, "sinc", "preencoder").theirs[-1] == "sinc"
