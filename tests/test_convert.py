"""Rules of exactly a task's network, both ways: every part of every registry, and how they say that they cannot."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from jaxasr.convert import convert_params, left_out, rules_of, theirs_of
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.nn.decoders import DECODERS, PARALLEL_DECODERS
from jaxasr.nn.encoders import ENCODERS, SanmEncoder
from jaxasr.nn.frontends import FRONTENDS
from jaxasr.nn.postencoders import POSTENCODERS
from jaxasr.nn.predictors import PREDICTORS
from jaxasr.nn.preencoders import PREENCODERS
from jaxasr.tasks import AsrTask, ParaformerTask

SIZES = {
    "num_layers": 2,
    "d_model": 8,
    "num_heads": 2,
    "d_ff": 12,
    "d_gate": 12,
    "d_hidden": 6,
    "d_attention": 5,
    "attention_filter": 3,
    "kernel_size": 5,
}


def small(registry, name, **options):
    fields = {field.name for field in dataclasses.fields(registry[name])}
    return registry[name](**{key: value for key, value in (SIZES | options).items() if key in fields})


def encoder(name, **options):
    return small(ENCODERS, name, **options)


def asr(**parts):
    return AsrTask(**{"encoder": encoder("rnn"), "decoder": small(DECODERS, "rnn")} | parts)


def ctc(**parts):
    return asr(decoder=None, ctc_weight=1.0, **parts)


def paraformer(**parts):
    given = {"encoder": encoder("sanm"), "decoder": small(PARALLEL_DECODERS, "paraformer_sanm", attention_layers=1)}
    return ParaformerTask(**given | parts)


WITHOUT = {"subsampling": "none", "positions": "absolute"}
BARE = {"num_layers": 2, "d_model": 8, "num_heads": 2}
UNITS = {"frontend": FRONTENDS["features"](width=1, lfr_m=1, lfr_n=1), "normalizer": None, "specaug": None}
SAMPLES = {"frontend": FRONTENDS["sliding_window"](window=400), "normalizer": None, "specaug": None}
BERT = small(POSTENCODERS, "transformer")
CONFORMER = encoder("conformer")

OF_BOTH = {
    **{f"encoder {name}": ctc(encoder=encoder(name)) for name in ENCODERS if not name.startswith("sanm")},
    "transformer, linear": ctc(encoder=encoder("transformer", subsampling="linear", norm_first=False)),
    "transformer, none": ctc(encoder=encoder("transformer", subsampling="none", concat_after=True)),
    "conformer, conv2d8": ctc(encoder=CONFORMER.clone(subsampling="conv2d8", positions="scaled", macaron=False)),
    "conformer, linear": ctc(
        encoder=ENCODERS["conformer"](**BARE, subsampling="linear", positions="scaled", convolution=False)
    ),
    "conformer, embed": ctc(
        encoder=CONFORMER.clone(subsampling="embed", num_units=9, positions="scaled", norm_first=False), **UNITS
    ),
    "conformer, none": ctc(encoder=CONFORMER.clone(subsampling="none", positions="scaled", d_model=560)),
    "branchformer, average": ctc(
        encoder=encoder("branchformer", merge="learned_average", positions="absolute", gate_linear=True)
    ),
    "e_branchformer, none": ctc(encoder=ENCODERS["e_branchformer"](**BARE, feed_forward=False, **WITHOUT)),
    "rnn without projection": ctc(encoder=encoder("rnn", projection=False, cell="gru")),
    "rnn in one direction": ctc(encoder=encoder("rnn", bidirectional=False)),
    "conditioned": ctc(encoder=CONFORMER, interctc_layers=(1,), interctc_conditioning=True),
    **{f"decoder {name}": asr(decoder=small(DECODERS, name)) for name in DECODERS if name != "sanm"},
    "dynamic_conv2d, biased": asr(decoder=small(DECODERS, "dynamic_conv2d", use_bias=True), ctc_weight=0.0),
    "rnn, dot": asr(decoder=DECODERS["rnn"](d_hidden=6, attention="dot", cell="gru")),
    "preencoder linear": ctc(preencoder=PREENCODERS["linear"](width=8)),
    "preencoder sinc": ctc(preencoder=PREENCODERS["sinc"](width=128), **SAMPLES),
    "postencoder transformer": asr(postencoder=BERT),
}
CONVERTED = {
    **{f"{toolkit}: {name}": (toolkit, task) for toolkit in ("funasr", "espnet") for name, task in OF_BOTH.items()},
    **{
        f"espnet: length_adaptor of {width}": (
            "espnet",
            ctc(postencoder=small(POSTENCODERS, "length_adaptor", d_model=width)),
        )
        for width in (None, 8)
    },
    **{
        f"funasr: {name}": ("funasr", task)
        for name, task in {
            "encoder sanm": asr(encoder=encoder("sanm", num_layers=1)),
            "encoder sanm_chunk": ctc(encoder=encoder("sanm_chunk")),
            "decoder sanm": asr(decoder=small(DECODERS, "sanm")),
            **{f"decoder {name}": paraformer(decoder=small(PARALLEL_DECODERS, name)) for name in PARALLEL_DECODERS},
            **{f"predictor {name}": paraformer(predictor=PREDICTORS[name]()) for name in PREDICTORS},
            **{
                f"cif_v3, {kind}": paraformer(predictor=PREDICTORS["cif_v3"](upsample_type=kind))
                for kind in ("cnn", "cnn_attn")
            },
            "one table": paraformer(share_embedding=True),
            "nothing shown": paraformer(sampling_ratio=0.0, ctc_weight=0.3),
            "convolutions": paraformer(encoder=encoder("transformer"), preencoder=PREENCODERS["linear"]()),
        }.items()
    },
}


def drawn(task):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), task.parameter_shapes())


@pytest.mark.parametrize("name", CONVERTED)
def test_there_and_back(name):
    toolkit, task = CONVERTED[name]
    rules, params = rules_of(task, toolkit), drawn(task)
    found = convert_params(theirs_of(params, rules), rules, task.parameter_shapes())
    assert jax.tree.structure(found) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_every_part_is_among_them():
    slots = {
        "encoder": ENCODERS,
        "preencoder": PREENCODERS,
        "postencoder": POSTENCODERS,
        "decoder": DECODERS,
        "predictor": PREDICTORS,
    }
    tasks = [task for _, task in CONVERTED.values()]
    for slot, registry in slots.items():
        assert {registry[name] for name in registry} <= {type(getattr(task, slot, None)) for task in tasks}
    assert {PARALLEL_DECODERS[name] for name in PARALLEL_DECODERS} <= {type(task.decoder) for task in tasks}


@pytest.mark.parametrize(
    ("name", "names"),
    {
        "funasr: conformer, conv2d8": ["encoder.embed.out.0.bias", "encoder.embed.out.1.alpha"],
        "espnet: conformer, conv2d8": ["encoder.embed.out.bias", "encoder.embed.pos_enc.alpha"],
        "funasr: conformer, linear": ["encoder.embed.0.bias", "encoder.embed.1.bias", "encoder.embed.3.alpha"],
        "funasr: conformer, embed": ["encoder.embed.0.weight", "encoder.embed.1.alpha"],
        "funasr: conformer, none": ["encoder.embed.0.alpha"],
        "funasr: transformer, none": ["encoder.embed.weight"],
        "funasr: rnn without projection": ["encoder.enc.0.nbrnn.weight_hh_l1_reverse", "encoder.enc.0.l_last.bias"],
        "funasr: rnn in one direction": ["encoder.enc.0.rnn1.weight_hh_l0", "encoder.enc.0.bt1.bias"],
        "funasr: encoder rnn": ["encoder.enc.0.birnn1.weight_hh_l0_reverse"],
        "funasr: encoder conformer": ["encoder.encoders.1.conv_module.norm.num_batches_tracked"],
        "funasr: preencoder sinc": ["preencoder.filters.f", "preencoder.blocks.SincConvBlock.Filters.f"],
        "funasr: conditioned": ["encoder.conditioning_layer.weight", "ctc.ctc_lo.weight"],
        "funasr: predictor cif_v2": ["predictor.cif_conv1d.weight", "decoder.embed.0.weight"],
        "funasr: nothing shown": ["decoder.embed.0.weight", "ctc.ctc_lo.bias"],
    }.items(),
)
def test_the_names_of_a_configuration(name, names):
    toolkit, task = CONVERTED[name]
    assert set(names) <= theirs_of(drawn(task), rules_of(task, toolkit)).keys()


def test_what_ours_does_not_say():
    task = CONVERTED["funasr: encoder conformer"][1]
    counted = theirs_of(drawn(task), rules_of(task))["encoder.encoders.1.conv_module.norm.num_batches_tracked"]
    assert (counted.dtype, counted.shape, int(counted)) == (np.int64, (), 0)
    task = CONVERTED["funasr: decoder lightweight_conv"][1]
    taps = theirs_of(drawn(task), rules_of(task))["decoder.decoders.0.self_attn.weight"]
    assert taps.shape == (4, 1, 5) and np.all(taps[..., :3]) and not np.any(taps[..., 3:])
    task = paraformer(sampling_ratio=0.0)
    assert not np.any(theirs_of(drawn(task), rules_of(task))["decoder.embed.0.weight"])


def test_what_is_left_out_is_told():
    names = ["normalize.mean", "encoder.after_norm.bias", "decoder.embed.0.weight", "ctc.ctc_lo.bias"]
    expected = {0.75: ["normalize.mean", "ctc.ctc_lo.bias"], 0.0: [names[0], *names[2:]]}
    for ratio, left in expected.items():
        rules = rules_of(paraformer(sampling_ratio=ratio))
        assert left_out(names, rules) == left


# --- what cannot be ----------------------------------------------------------------------------------------------


class Own(SanmEncoder):
    """A user's."""


@pytest.mark.parametrize(
    ("toolkit", "task", "message"),
    [
        ("funasr", ctc(encoder=Own()), r"^--encoder=Own: funasr has none like it; transformer, .* can be converted"),
        ("funasr", ctc(encoder=encoder("sanm", subsampling="conv2d")), r"^--encoder\.subsampling=conv2d: .* none was"),
        ("funasr", ctc(encoder=CONFORMER.clone(conv_norm="layer")), r"^--encoder\.conv_norm=layer: .* batch was"),
        ("funasr", ctc(encoder=CONFORMER.clone(subsampling_channels=4)), r"^--encoder\.subsampling_channels=4: "),
        ("funasr", ctc(encoder=CONFORMER.clone(subsampling="none")), r"^encoder/input/bias: .* \(2 in all: "),
        ("funasr", ctc(encoder=encoder("transformer", positions="relative")), r"^--encoder\.positions=relative: "),
        ("funasr", ctc(encoder=encoder("branchformer", subsampling="none")), r"^--encoder\.positions=relative: "),
        ("funasr", ctc(postencoder=small(POSTENCODERS, "length_adaptor")), r"^--postencoder=length_adaptor: funasr "),
        ("funasr", asr(postencoder=BERT.clone(norm_first=True)), r"^--postencoder\.norm_first=True: .* False was exp"),
        ("espnet", ctc(encoder=encoder("sanm")), r"^--encoder=sanm: espnet has none"),
        (
            "espnet",
            paraformer(encoder=CONFORMER),
            r"^--predictor=cif_v2: espnet .*; nothing there can be ",
        ),
        (
            "espnet",
            ctc(encoder=encoder("e_branchformer", d_model=560, **WITHOUT)),
            r"^--encoder\.subsampling=none with frames ",
        ),
        *(
            (
                "funasr",
                ctc(encoder=encoder(name, subsample=()), interctc_layers=(1,), interctc_conditioning=True),
                f"^--interctc_conditioning with --encoder={name}: ",
            )
            for name in ("branchformer", "e_branchformer", "rnn")
        ),
    ],
)
def test_a_part_without_a_counterpart(toolkit, task, message):
    with pytest.raises(ConfigError, match=message):
        rules_of(task, toolkit)


TASK = ctc(encoder=encoder("sanm", num_layers=3))


def changed(change):
    tensors = theirs_of(drawn(TASK), rules_of(TASK))
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.update(lm=np.zeros(3)), r"^Tensors: 1 without a place: lm \(3,\); exactly those of the network"),
        (lambda x: x.pop("ctc.ctc_lo.bias"), r"^Tensors: 1 missing: ctc\.ctc_lo\.bias \(4,\); exactly"),
        (
            lambda x: x.update({"encoder.encoders.1.norm1.bias": np.zeros(9)}),
            r"^Tensors: 1 of another shape: encoder\.encoders\.1\.norm1\.bias \(9,\), not \(8,\); exactly",
        ),
        (
            lambda x: x.update({"encoder.encoders0.0.self_attn.fsmn_block.weight": np.zeros((8, 1, 3))}),
            r"^Tensors: 1 of another shape: encoder\S+fsmn_block\.weight \(8, 1, 3\), not \(8, 1, 5\); exactly",
        ),
        (
            lambda x: x.update({f"encoder.encoders.{i}.norm1.bias": np.zeros(8) for i in range(2, 14)}),
            r"^Tensors: 12 without a place: (encoder\.encoders\.\d+\.norm1\.bias \(8,\), ){10}and 2 more; exactly",
        ),
        (
            lambda x: (x.pop("encoder.after_norm.bias"), x.update({"after_norm.bias": np.zeros(8)})),
            r"^Tensors: 1 without a place: after_norm\.bias \(8,\); 1 missing: encoder\.after_norm\.bias \(8,\); ",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(CheckpointError, match=message):
        convert_params(changed(change), rules_of(TASK), TASK.parameter_shapes())


def test_what_is_derived_may_be_missing():
    task = CONVERTED["funasr: preencoder sinc"][1]
    rules, params = rules_of(task), drawn(task)
    tensors = {k: x for k, x in theirs_of(params, rules).items() if not re.search(r"num_batches|^preencoder\.f", k)}
    found = convert_params(tensors | {"normalize.mean": np.zeros(80)}, rules, task.parameter_shapes())
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_parameters_of_another_network_are_named():
    params = drawn(TASK)
    params["more"] = {"bias": params["ctc"].pop("bias")}
    with pytest.raises(CheckpointError, match=r"^Parameters: 1 missing .*: ctc\.ctc_lo\.bias; 1 .*: more/bias; "):
        theirs_of(params, rules_of(TASK))
