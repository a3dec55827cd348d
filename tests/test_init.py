"""Fine-tuning: what a run that starts from a model takes of it, and what not."""

import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import yaml

from jaxasr import checkpoint, command_line, config, train
from jaxasr.adapters import Lora
from jaxasr.data.lexicon import SegDictTokenizer
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, Vocabulary, WordTokenizer
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.finetune import OPTIONS, check_given, given_params, token_axes, with_model, with_new_tokens
from jaxasr.init import Init, Rule, planned
from jaxasr.nn.batch_norm import STATS
from jaxasr.nn.decoders import ParaformerSanDecoder, RnnDecoder, SanmDecoder
from jaxasr.nn.encoders import ConformerEncoder, TransformerEncoder
from jaxasr.nn.frontends import WavFrontend
from jaxasr.nn.normalize import Cmvn, UtteranceMvn
from jaxasr.nn.postencoders import TransformerPostEncoder
from jaxasr.parallel import Devices
from jaxasr.params import flatten, shapes_by_path
from jaxasr.paths import Known, unflatten, with_given
from jaxasr.tasks import ParaformerTask
from jaxasr.train_config import TrainConfig

from . import tiny
from .parity.fixtures import HERE as PARITY

CMVN = Cmvn(np.linspace(-9, 9, 80, dtype=np.float32), np.full(80, 0.5, np.float32))
OLD = Vocabulary(("<blank>", "<s>", "</s>", "ONE", "TWO", "SIX", "<unk>"))
NEW = Vocabulary(("<blank>", "<s>", "</s>", "SIX", "ten", "ONE", "nil", "<unk>"))
TASK = tiny.TASK.with_resources(vocabulary=OLD, cmvn=CMVN)


def drawn(task, seed: int) -> dict[str, np.ndarray]:
    """Numbers for every parameter of a task, by path."""
    rng, shapes = np.random.default_rng(seed), checkpoint.flatten_shapes(task)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("old")
    checkpoint.save_model(folder, TASK, unflatten(drawn(TASK, 0)))
    return folder


def run(folder: pathlib.Path, task: Any = tiny.TASK, **init) -> Any:
    return with_model(TrainConfig(task=task, init=Init(str(folder), **init)))


def begun(cfg: Any, task: Any = None, seed: int = 1) -> tuple[dict, dict, str]:
    """Parameters as drawn and as the run begins with them, by path, and what it said."""
    said: list[str] = []
    task = task or cfg.task
    fresh = drawn(task, seed)
    given = given_params(cfg, task, said.append)
    return fresh, flatten(with_given(unflatten(fresh), given)), "\n".join(said)


# Rules


MODEL = {
    "encoder/blocks/scale": (2, 3),
    "encoder/blocks2/scale": (2, 3),
    f"{STATS}/encoder/blocks/mean": (2, 3),
    "decoder/out/bias": (5,),
    "ctc/bias": (5,),
}


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (["encoder"], {"encoder/blocks/scale", "encoder/blocks2/scale", f"{STATS}/encoder/blocks/mean"}),
        (["encoder:encoder"], {"encoder/blocks/scale", "encoder/blocks2/scale", f"{STATS}/encoder/blocks/mean"}),
        (["encoder/blocks"], {"encoder/blocks/scale", f"{STATS}/encoder/blocks/mean"}),
        (["::decoder,ctc"], {"encoder/blocks/scale", "encoder/blocks2/scale", f"{STATS}/encoder/blocks/mean"}),
        (["::encoder/blocks"], {"encoder/blocks2/scale", "decoder/out/bias", "ctc/bias"}),
        (
            ["encoder::encoder/blocks2", "ctc/bias"],
            {"encoder/blocks/scale", f"{STATS}/encoder/blocks/mean", "ctc/bias"},
        ),
        (["::"], set(MODEL)),
        ([], set(MODEL)),
    ],
)
def test_rules_take_whole_names_and_the_statistics_of_modules(rules, kept):
    plan = planned(Init("old", tuple(rules)), MODEL, MODEL)
    assert plan.sources == {path: path for path in kept}
    assert set(plan.drawn) == set(plan.left_out) == set(MODEL) - kept


def test_rules_rename():
    rule = Rule.parse("encoder/blocks:acoustic/layers")
    assert [rule.place(path) for path in rule.taken(MODEL)] == [
        "acoustic/layers/scale",
        f"{STATS}/acoustic/layers/mean",
    ]
    assert Rule.parse(":encoder").place("blocks/scale") == "encoder/blocks/scale"
    assert Rule.parse("ctc/bias:decoder/out/bias").place("ctc/bias") == "decoder/out/bias"
    network = {"decoder/out/bias": (5,), "ctc/bias": (5,)}
    plan = planned(Init("old", ("ctc/bias:decoder/out/bias",)), MODEL, network)
    assert (plan.sources, plan.drawn, len(plan.left_out)) == ({"decoder/out/bias": "ctc/bias"}, ["ctc/bias"], 4)


@pytest.mark.parametrize(
    ("rules", "changes", "said"),
    [
        (["encodr"], {}, "the model has no parameters below 'encodr'; .* Did you mean 'encoder'?"),
        (["enc"], {}, "no parameters below 'enc'"),
        (["::ctx"], {}, "'::ctx' excludes nothing by 'ctx'; .* Did you mean 'ctc'?"),
        (["encoder::decoder"], {}, "'encoder::decoder' excludes nothing by 'decoder'; .* below 'encoder' was expected"),
        (["ctc", "encoder::encoder"], {}, "'encoder::encoder' takes nothing, since all below 'encoder' is excluded"),
        (["::encoder,decoder,ctc"], {}, "takes nothing, since all below '' is excluded"),
        (["encoder:encoder2"], {}, "takes encoder/blocks/scale to encoder2/blocks/scale; a parameter of this run's"),
        (["::", "ctc"], {}, "'ctc' takes ctc/bias to ctc/bias, which ctc/bias fills"),
        (
            ["ctc:decoder/out"],
            {"decoder/out/bias": (6,)},
            r"ctc/bias has shape \(5,\); decoder/out/bias of shape \(6,\)",
        ),
        ([], {"ctc/bias": (6,)}, r"ctc/bias has shape \(5,\); ctc/bias of shape \(6,\) .*\(1 parameters differ\)"),
        ([], {"ctc/kernel": (6,)}, r"the model has no ctc/kernel \(1 of this run's parameters are missing\)"),
        (
            [],
            {"ctc/bias": None},
            r"network of this run has no ctc/bias \(1 of the model's parameters have no place\)",
        ),
    ],
)
def test_what_does_not_fit(rules, changes, said):
    network = {path: shape for path, shape in (MODEL | changes).items() if shape}
    with pytest.raises(ConfigError, match=said):
        planned(Init("old", tuple(rules)), MODEL, network)


# Parameters


def test_all_are_taken(model):
    _, now, said = begun(run(model))
    old = drawn(TASK, 0)
    assert now.keys() == old.keys()
    for path in old:
        np.testing.assert_array_equal(now[path], old[path])
    assert said == f"--init={model}: {len(old)} parameters taken"


def test_what_no_rule_fills_is_drawn_and_said(model):
    task = dataclasses.replace(tiny.TASK, encoder=dataclasses.replace(tiny.TASK.encoder, d_model=8))
    fresh, now, said = begun(run(model, task, map=("::encoder,ctc,decoder/blocks/memory_attention",)))
    old = drawn(TASK, 0)
    own = [path for path in fresh if path.startswith(("encoder/", "ctc/", "decoder/blocks/memory_attention/"))]
    assert 0 < len(own) < len(fresh)
    for path in fresh:
        np.testing.assert_array_equal(now[path], fresh[path] if path in own else old[path])
    assert f"drawn anew: {len(own)} (" in said
    assert "left out: " in said


def test_options_of_another_network_are_refused_before_data_is_read(model, tmp_path):
    task = dataclasses.replace(tiny.TASK, encoder=dataclasses.replace(tiny.TASK.encoder, num_layers=4))
    cfg = TrainConfig(task=task, init=Init(str(model)), train=("none.jsonl",), workdir=str(tmp_path / "run"))
    with pytest.raises(
        ConfigError, match=r"encoder/blocks/.* has shape \(1, .* of shape \(3, .* was expected \(13 param"
    ):
        train.train(cfg)
    assert not (tmp_path / "run").exists()


def test_a_file_of_weights_is_not_read_where_the_model_has_them(tmp_path):
    blocks = TransformerPostEncoder(num_layers=2, d_model=16, num_heads=2, d_ff=24, weights="gone")
    task = dataclasses.replace(TASK, decoder=None, ctc_weight=1.0, postencoder=blocks)
    checkpoint.save_model(tmp_path, task, unflatten(drawn(task, 0)))
    cfg = run(tmp_path, task)
    check_given(cfg)
    assert "--postencoder: of --init=" in begun(cfg)[2]
    there = dataclasses.replace(blocks, weights=str(PARITY / "more" / "bert_post_norm"))
    partly = run(tmp_path, dataclasses.replace(task, postencoder=there), map=("::postencoder",))
    fresh, now, said = begun(partly)
    assert "32 tensors of 2 blocks" in said
    assert "drawn anew: 2 (postencoder/input/bias, postencoder/input/kernel)" in said
    np.testing.assert_array_equal(now["postencoder/input/kernel"], fresh["postencoder/input/kernel"])
    assert np.any(now["postencoder/blocks/ff/in/kernel"] != fresh["postencoder/blocks/ff/in/kernel"])
    with pytest.raises(CheckpointError, match="gone: "):
        check_given(run(tmp_path, task, map=("::postencoder",)))


# Tokens


def test_rows_of_new_tokens_are_drawn_and_all_else_is_taken(model):
    cfg = run(model, tokens="new")
    assert cfg.task.vocabulary is None
    task = cfg.task.with_resources(vocabulary=NEW)
    fresh, now, said = begun(cfg, task)
    old, shared = drawn(TASK, 0), [token for token in NEW.tokens if token in OLD.tokens]
    axes = token_axes(task)
    assert axes == {
        "ctc/bias": [0],
        "ctc/kernel": [1],
        "decoder/embed/embedding": [0],
        "decoder/output/bias": [0],
        "decoder/output/kernel": [1],
    }
    for path in fresh:
        if path not in axes:
            np.testing.assert_array_equal(now[path], old[path])
            continue
        (axis,) = axes[path]
        for row, token in enumerate(NEW.tokens):
            expected = old[path].take(OLD.tokens.index(token), axis) if token in shared else fresh[path].take(row, axis)
            np.testing.assert_array_equal(now[path].take(row, axis), expected)
    assert said.splitlines()[1] == (
        "--init.tokens=new: 6 tokens as the model has them; new: 2 (ten, nil); of the model's left out: 1 (TWO)"
    )


@pytest.mark.parametrize(
    ("changes", "also"),
    [
        ({"decoder": RnnDecoder()}, {}),
        ({"decoder": SanmDecoder(num_layers=1, d_model=16, num_heads=2, d_ff=8)}, {}),
        ({"interctc_layers": (1,), "interctc_conditioning": True}, {"condition/kernel": [0]}),
    ],
)
def test_token_axes_of_any_network(changes, also):
    check_token_axes(dataclasses.replace(tiny.TASK, **changes), also | {"ctc/bias": [0], "ctc/kernel": [1]})


def test_token_axes_of_paraformer():
    encoder, decoder = tiny.TASK.encoder, ParaformerSanDecoder(num_layers=1, num_heads=2, d_ff=8)
    task = ParaformerTask(frontend=tiny.TASK.frontend, encoder=encoder, decoder=decoder)
    check_token_axes(task, {"decoder/output/kernel": [1]})


def check_token_axes(task, expected):
    found = token_axes(task)
    assert expected.items() <= found.items()
    grown = {p: s for p, s in shapes_by_path(task.parameter_shapes(13)).items() if 13 in s}
    assert grown.keys() == found.keys()


def test_tokens_on_two_axes_and_in_a_stack():
    values, fresh = (np.random.default_rng(seed).normal(size=(2, 7, 7)) for seed in (0, 1))
    known = with_new_tokens(values, [1, 2], OLD, NEW)
    fresh = np.resize(fresh, (2, 8, 8))
    now = np.asarray(with_given(fresh, Known(known.values.astype(np.float32), known.known)))
    for row, first in enumerate(NEW.tokens):
        for column, second in enumerate(NEW.tokens):
            both = first in OLD.tokens and second in OLD.tokens
            at = (OLD.tokens.index(first), OLD.tokens.index(second)) if both else (row, column)
            expected = (values if both else fresh)[:, at[0], at[1]].astype(np.float32)
            np.testing.assert_array_equal(now[:, row, column], expected)


def test_what_is_drawn_and_does_not_learn_is_said(model, tmp_path):
    cfg = dataclasses.replace(run(model, tokens="new"), adapter=Lora(rank=2, train=("ctc", "embed")))
    task = cfg.task.with_resources(vocabulary=NEW)
    said = begun(cfg, task)[2].splitlines()[-1]
    assert said.startswith("warning: --adapter: parameters drawn, whole or for new tokens, and not learnt: 2 (decoder/")
    cfg = dataclasses.replace(cfg, adapter=None, freeze=("encoder",))
    assert "warning" not in begun(cfg, task)[2]
    cfg = dataclasses.replace(run(model, map=("::ctc",)), freeze=("encoder", "ctc"))
    said = begun(cfg)[2].splitlines()[-1]
    assert said.startswith("warning: --freeze: parameters drawn, whole or for new tokens, and not learnt: 2 (ctc/bias,")
    assert "warning" not in begun(dataclasses.replace(run(model, tokens="new"), adapter=Lora()), TASK)[2]
    drawn_alone = TrainConfig(task=TASK, adapter=Lora(rank=2))
    assert begun(drawn_alone)[2].startswith("warning: --adapter: parameters drawn, whole or for new tokens, and not")
    assert begun(TrainConfig(task=TASK, freeze=("ctc",)))[2].endswith(
        "not learnt: 2 (ctc/bias, ctc/kernel); they stay as they are drawn; freeze fewer, or take them by --init"
    )
    assert begun(TrainConfig(task=TASK))[2] == ""


# Options


def parse(*argv: str) -> Any:
    made = command_line.parse(
        TrainConfig, argv, prog="prog", description="", fallback=train.digits_recipe, below=train.options_below
    )
    assert made is not None
    return made


def test_the_model_s_options_stand_below_recipe_and_flags(model, tmp_path, capsys):
    made = parse(f"--init={model}", "--train=x")
    assert made == TrainConfig(task=tiny.TASK, train=("x",), init=Init(str(model)))
    recipe = tmp_path / "c.yaml"
    recipe.write_text("encoder: {dropout: 0.5, kernel_size: 7}\ndecoder: {type: sanm, num_layers: 3}\nepochs: 3\n")
    made = parse(
        f"--config={recipe}", "--init", str(model), "--encoder.kernel_size=9", "--init.map", "::decoder", "ctc"
    )
    assert made.task.encoder == dataclasses.replace(tiny.TASK.encoder, dropout=0.5, kernel_size=9)
    assert (type(made.task.decoder), made.task.decoder.num_layers, made.task.decoder.d_model) == (SanmDecoder, 3, 16)
    assert (made.epochs, made.init) == (3, Init(str(model), ("::decoder", "ctc")))
    recipe.write_text(f"init: {{folder: {model}, tokens: new}}\n")
    assert parse(f"--config={recipe}").task == tiny.TASK
    recipe.write_text(f"init: {model}\nencoder: transformer\n")
    assert parse(f"--config={recipe}").task.encoder == TransformerEncoder(
        num_layers=2, d_model=16, num_heads=2, d_ff=32
    )
    assert parse(f"--config={recipe}", "--init=none").init is None
    assert "config.yaml: --encoder: TransformerEncoder has no kernel_size" in capsys.readouterr().err
    assert parse("--init", str(model), "--print_config=false").init == Init(str(model))
    recipe.write_text(config.to_yaml(made))
    assert parse(f"--config={recipe}") == made


def test_the_digits_are_learnt_with_the_model_s_task_and_the_recipe_s_training(model):
    made, digits = parse(f"--init={model}"), parse()
    assert made == dataclasses.replace(digits, task=tiny.TASK, init=Init(str(model)))
    assert parse(f"--init={model}", "--encoder=conformer").task.encoder.d_model == 16


def test_new_tokens_by_a_tokenizer_that_is_nothing_without_its_file(tmp_path):
    """FunASR's seg_dict: the digits' recipe says words, and where none does they are a new run's."""
    task = dataclasses.replace(TASK, tokenizer=SegDictTokenizer(file="seg_dict", lines=()))
    checkpoint.save_model(tmp_path, task, {"none": np.zeros(1)})
    assert type(parse(f"--init={tmp_path}").task.tokenizer) is SegDictTokenizer
    assert type(parse(f"--init={tmp_path}", "--init.tokens=new").task.tokenizer) is WordTokenizer
    assert type(parse(f"--init={tmp_path}", "--init.tokens=new", "--train=x").task.tokenizer) is CharTokenizer


def test_the_recipe_is_the_one_for_the_model_s_task(model, tmp_path):
    task = ParaformerTask(tokenizer=tiny.TASK.tokenizer).with_resources(vocabulary=OLD, cmvn=CMVN)
    checkpoint.save_model(tmp_path, task, {"none": np.zeros(1)})
    own = parse("--task=paraformer")
    assert parse(f"--init={tmp_path}") == dataclasses.replace(own, task=task, init=Init(str(tmp_path)))
    assert parse(f"--init={tmp_path}", "--task=asr").workdir == parse().workdir
    assert parse(f"--init={model}", "--task=paraformer").workdir == own.workdir


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--init.mpa=x"], "--init.mpa: no such option; .*Did you mean 'map'?"),
        (["--map=x"], "Did you mean 'init.map'?"),
        (["--init.map=x"], "--init.map: init is none; --init=FOLDER was expected beside it"),
        (["--init=none", "--init.tokens=new"], "--init.tokens: init is none"),
        (["--init=kaiming_normal"], "to draw all weights by this rule give --initialization=kaiming_normal"),
        (["--init=a", "--init.folder=b"], "--init: given twice, alone and as init.folder"),
        (["--init=a", "--init.tokens=old"], "--init.tokens: 'old'; one of model, new"),
        (["--init=nowhere"], "nowhere: no model there"),
        (["--init="], "--init=: no folder; that of a model was expected"),
    ],
)
def test_faults_of_flags(argv, said):
    with pytest.raises((ConfigError, CheckpointError), match=said):
        parse(*argv)


# Token list and statistics


def test_tokens_are_the_model_s_unless_asked_for_others(model, tmp_path):
    assert run(model).task.vocabulary == OLD
    assert run(model, tokens="new").task.vocabulary is None
    for changes in ({"token_list": "t.txt"}, {"tokenizer": BpeTokenizer()}, {"non_linguistic_symbols": ("<noise>",)}):
        task = dataclasses.replace(tiny.TASK, **changes)
        with pytest.raises(ConfigError, match=f"--{next(iter(changes))}: .*give --init.tokens=new"):
            run(model, task)
        assert run(model, task, tokens="new").task == task
    named = dataclasses.replace(TASK, token_list="gone.txt", non_linguistic_symbols=("gone",), symbols=())
    checkpoint.save_model(tmp_path, named, unflatten(drawn(TASK, 0)))
    (tmp_path / "non_linguistic_symbols.txt").write_text("")
    assert parse(f"--init={tmp_path}").task.token_list == "gone.txt"
    task = parse(f"--init={tmp_path}", "--init.tokens=new").task
    assert (task.token_list, task.non_linguistic_symbols) == (None, ())


def test_statistics_are_the_model_s_where_the_features_are(model):
    for changes in ({"cmvn_file": "c.mvn"}, {"frontend": WavFrontend(num_mels=8)}, {"sample_rate": 16_000}):
        assert run(model, dataclasses.replace(tiny.TASK, **changes)).task.cmvn is None
    same = run(model, dataclasses.replace(tiny.TASK, encoder=ConformerEncoder(), normalizer=UtteranceMvn()))
    np.testing.assert_array_equal(same.task.cmvn.shift, CMVN.shift)


# A run


def test_a_run_starts_from_a_model_and_goes_on_without_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    folder, task = tmp_path / "model", tiny.CTC_TASK.with_resources(vocabulary=OLD, cmvn=CMVN)
    checkpoint.save_model(folder, task, unflatten(drawn(task, 0)))
    argv = [f"--init={folder}", "--init.tokens=new", f"--train={tiny.corpus(tmp_path / 'train', 'train', 40)}"]
    argv += [f"--valid={tiny.corpus(tmp_path / 'valid', 'valid', 40)}", f"--workdir={tmp_path / 'run'}"]
    argv += ["--batch_seconds=9", "--max_buckets=1", "--keep_best=1", "--report=false"]
    train.main([*argv, "--steps=1"])
    said = capsys.readouterr().out
    assert f"--init={folder}: " in said
    assert "--init.tokens=new: 5 tokens as the model has them; new: 3 (FIVE, SEVEN, ZERO); of the" in said
    options = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert options["init"] == {"folder": str(folder), "map": [], "tokens": "new"}
    file = folder / "config.yaml"
    file.write_text(file.read_text().replace("d_model: 16", "d_model: 32"))
    assert parse(*argv).task == tiny.CTC_TASK
    assert parse(*argv[:2]).task.encoder.d_model == 32
    shutil.rmtree(folder)
    train.main([*argv, "--steps=2"])
    said = capsys.readouterr().out
    assert "going on from step 1" in said
    assert "--init=" not in said
    with pytest.raises(SystemExit):
        train.main([*argv, "--steps=2", "--init.map=::"])
    assert "init was" in capsys.readouterr().err
    (tmp_path / "run" / OPTIONS).unlink()
    with pytest.raises(CheckpointError, match="no model there"):
        parse(*argv)
