import dataclasses
import pathlib
import re
import subprocess
import sys
import typing
from typing import Literal

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from jaxasr import command_line, config, recipes, train
from jaxasr.__main__ import COMMANDS, main_of
from jaxasr.errors import ConfigError
from jaxasr.nn.decoders import DECODERS, ParaformerSanmDecoder
from jaxasr.nn.encoders import ENCODERS, SanmEncoder
from jaxasr.nn.normalize import NORMALIZERS
from jaxasr.registry import Registry
from jaxasr.tasks import TASKS, AsrTask, ParaformerTask
from jaxasr.train_config import TrainConfig

ENCODER_MODULE = """
import dataclasses
from jaxasr.nn.encoders import ENCODERS, SanmEncoder

@ENCODERS.register("{name}")
class MyEncoder(SanmEncoder):
    d_model: int = 99
    width: float = 2.0
    "How wide."
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch, tmp_path):
    """Each test has a folder of its own, and what it imports or registers is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(ENCODERS, "_entries", dict(ENCODERS._entries))


def parse(*argv: str, cls: type = TrainConfig, **options) -> typing.Any:
    return command_line.parse(cls, argv, prog="prog", description="What it does.", **options)


def fault(*argv: str, cls: type = TrainConfig, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv, cls=cls, **options)
    assert str(caught.value).count("; ") >= 1
    return str(caught.value)


def write(content: str, name: str = "c.yaml") -> str:
    pathlib.Path(name).write_text(content, encoding="utf-8")
    return f"--config={name}"


# Flags


def test_the_line_of_the_readme():
    made = parse("--task=asr", "--encoder=sanm", "--encoder.num_layers=7", "--decoder=none", "--ctc_weight=1.0")
    assert made == TrainConfig(task=AsrTask(encoder=SanmEncoder(num_layers=7), decoder=None, ctc_weight=1.0))
    made.check()


@pytest.mark.parametrize(
    "argv",
    [
        ("--batch-seconds=7", "--encoder.num-layers=3", "--max-buckets=2"),
        ("--batch_seconds", "7", "--encoder.num_layers", "3", "--max_buckets", "2"),
        ("--encoder", "sanm", "--batch-seconds", "7.0", "--encoder.num_layers=3", "--max_buckets=+2"),
    ],
)
def test_dash_and_underscore_equals_and_space_are_alike(argv):
    expected = TrainConfig(task=AsrTask(encoder=SanmEncoder(num_layers=3)), batch_seconds=7.0, max_buckets=2)
    assert parse(*argv) == expected


def test_values_by_type():
    made = parse(
        "--train", "a", "b", "--valid=c", "--test", "--preprocess.speeds", "1", "1.1", "--minutes=1e-1", "--seed=-3",
        "--length_normalized_loss", "--normalizer.mean=false", "--frontend.snip_edges", "True", "--workdir=none",
        "--parallel=pmap", "--ctc_weight", "-1.5",
    )  # fmt: skip
    assert (made.train, made.valid, made.test, made.task.preprocess.speeds) == (("a", "b"), ("c",), (), (1.0, 1.1))
    assert (made.minutes, made.seed, made.task.length_normalized_loss) == (0.1, -3, True)
    assert (made.task.normalizer.mean, made.task.frontend.snip_edges, made.workdir) == (False, True, "none")
    assert (made.parallel, made.task.ctc_weight) == ("pmap", -1.5)
    assert all(type(s) is float for s in made.task.preprocess.speeds)


@pytest.mark.parametrize("none", ["none", "None", "NONE", "null"])
def test_none_for_optional_values_and_slots(none):
    base = write("steps: 5\ntoken_list: tokens.txt\ndecoder: {type: transformer, num_layers: 9}\n")
    made = parse(base, f"--steps={none}", "--token_list", none, f"--decoder={none}")
    assert (made.steps, made.task.token_list, made.task.decoder) == (None, None, None)
    made = parse(write(f"steps: {none}\ntoken_list: {none}\ndecoder: {none}\n"))
    assert (made.steps, made.task.token_list, made.task.decoder) == (None, None, None)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--encoder.num_layer=3"], "--encoder.num_layer: no such option; correct or remove it. Did you mean 'num_l"),
        (["--num_layers=3"], "Did you mean 'encoder.num_layers' or 'decoder.num_layers'?"),
        (["--epoch=3"], "--epoch: no such option; correct or remove it. Did you mean 'epochs'?"),
        (["--ctc-wieght=3"], "Did you mean 'ctc_weight'?"),
        (["--qqqq=3"], "--qqqq: no such option; there are accumulate, adapter, average, batch_seconds"),
        (["--encoder=sann"], f"--encoder: encoder 'sann': not known; there are {', '.join(ENCODERS)}"),
        (["--encoder=sann"], "Did you mean 'sanm'?"),
        (["--task=asrr"], "--task: task 'asrr': not known; there are asr"),
        (["--encoder=none"], f"--encoder: none; one of {', '.join(ENCODERS)} was expected"),
        (["--task=none"], "--task: none; one of asr"),
        (["--task.ctc_weight=1"], "--task: a section; a name was expected"),
        (["--decoder=none", "--decoder.num_layers=3"], "--decoder.num_layers: decoder is none"),
        (["--parallel=pmp"], "--parallel: 'pmp'; one of jit, pmap was expected; choose one of them. Did you mean 'p"),
        (["--seed=1.5"], "--seed: '1.5'; a whole number was expected"),
        (["--seed=true"], "--seed: 'true'; a whole number was expected"),
        (["--seed=1e2"], "--seed: '1e2'; a whole number was expected"),
        (["--steps=six"], "--steps: 'six'; a whole number was expected"),
        (["--batch_seconds=long"], "--batch_seconds: 'long'; a finite number was expected"),
        (["--batch_seconds=nan"], "--batch_seconds: nan; a finite number was expected"),
        (["--batch_seconds=none"], "--batch_seconds: 'none'; a finite number was expected"),
        (["--preprocess.speeds", "1", "x"], "--preprocess.speeds: 'x'; a finite number was expected"),
        (["--speeds", "1"], "--speeds: no such option; correct or remove it. Did you mean 'preprocess.speeds'?"),
        (["--preprocess=none", "--preprocess.speeds=1"], "--preprocess.speeds: preprocess is none"),
        (["--length_normalized_loss=2"], "--length_normalized_loss: '2'; true or false was expected"),
        (["--workdir"], "--workdir: no value; text was expected; write --workdir=VALUE"),
        (["--workdir=a", "b"], "--workdir: 2 values (a b); text was expected"),
        (["--encoder", "sanm", "foo"], "--encoder: encoder 'sanm foo': not known"),
        (["--ctc_weight.x=1"], "--ctc_weight: {'x'"),
        (["sanm"], "sanm: stands before any option; --OPTION=VALUE was expected"),
        (["--seed=1", "--seed=2"], "--seed: given twice; once was expected"),
        (["--batch_seconds=1", "--batch-seconds=2"], "--batch-seconds: given twice"),
        (["--encoder=sanm", "--encoder", "sanm"], "--encoder: given twice"),
        (["--import", "a", "--imports", "b"], "--imports: given twice"),
        (["--config=a", "--config=b"], "--config: given twice"),
        (["--config="], "Is a directory"),
        (
            ["--config=nowhere/x.yaml"],
            "nowhere/x.yaml: no such file; a YAML file or one of the recipes an4_lm, an4_paraformer, an4_sanm, ",
        ),
        (
            ["--config=digit"],
            "digit: no such file; a YAML file or one of the recipes an4_lm, an4_paraformer, an4_sanm, an4_transformer, "
            "digits, digits_lm, digits_paraformer, digits_transformer, mandarin_words_ctc, mandarin_words_paraformer "
            "was expected",
        ),
        (["--config=digit"], "Did you mean 'digits'?"),
        (["--import=no_such_module"], "--import: no_such_module: No module named 'no_such_module'; a module that can"),
        (["--import=./x.py"], "--import: ./x.py: not the name of a module"),
    ],
)
def test_faults_of_flags(argv, said):
    assert said in fault(*argv)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_stands_once_in_every_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main_of(command)(["--import=a", "x", "--import", "b"])
    assert ended.value.code == 2
    assert "error: --import: given twice; once was expected" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"train"}))
def test_an_option_is_known_in_every_command(command, capsys):
    """The nearest one is named, or all are."""
    for option, said in (("--hepl", "correct or remove it. Did you mean 'help'?"), ("--qqqq=1", "there are ")):
        with pytest.raises(SystemExit) as ended:
            main_of(command)([option])
        assert ended.value.code == 2
        name = option.partition("=")[0]
        assert f"error: {name}: no such option; {said}" in capsys.readouterr().err


# YAML


def test_flags_stand_above_yaml_and_yaml_above_defaults():
    base = write(
        "encoder:\n  num-layers: 3\n  d_model: 64\nctc_weight: 0.5\nbatch-seconds: 9\ntrain: one\nminutes: 1e-3\n"
    )
    made = parse(base, "--encoder.d_model=32", "--batch_seconds=8")
    assert made.task.encoder == SanmEncoder(num_layers=3, d_model=32)
    assert (made.task.ctc_weight, made.batch_seconds, made.train, made.minutes) == (0.5, 8.0, ("one",), 0.001)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epoch: 3", "c.yaml: epoch: no such option; correct or remove it. Did you mean 'epochs'?"),
        ("ctcweight: 3", "Did you mean 'ctc_weight'?"),
        ("encoder: {num_layer: 3}", "c.yaml: encoder.num_layer: no such option; correct or remove it. Did you mean"),
        ("encoder: {type: sanm, num_layer: 3}", "Did you mean 'num_layers'?"),
        ("tokenizer: {type: char, x: 3}", "c.yaml: tokenizer.x: no such option; there are none here"),
        ("encoder: sann", "c.yaml: encoder: encoder 'sann': not known; there are branchformer, "),
        ("encoder: [sanm]", "c.yaml: encoder: encoder \"['sanm']\": not known"),
        ("encoder: null", f"c.yaml: encoder: none; one of {', '.join(ENCODERS)} was expected"),
        ("optimizer: none", "c.yaml: optimizer: none; one of adafactor, adam, adamw, lion"),
        ("decoder: {type: none, num_layers: 2}", "c.yaml: decoder.num_layers: decoder is none"),
        ("task: {type: asr}", "c.yaml: task: a section"),
        ("seed: 1.0", "c.yaml: seed: 1.0; a whole number was expected"),
        ("seed: true", "c.yaml: seed: True; a whole number was expected"),
        ("seed: '1'", "c.yaml: seed: '1'; a whole number was expected"),
        ("seed: null", "c.yaml: seed: None; a whole number was expected"),
        ("batch_seconds: true", "c.yaml: batch_seconds: True; a finite number was expected"),
        ("batch_seconds: .nan", "c.yaml: batch_seconds: nan; a finite number was expected"),
        ("batch_seconds: [1]", "c.yaml: batch_seconds: [1]; a finite number was expected"),
        ("preprocess: {speeds: [1, fast]}", "c.yaml: preprocess.speeds: 'fast'; a finite number was expected"),
        ("workdir: 3", "c.yaml: workdir: 3; text was expected"),
        ("length_normalized_loss: 1", "c.yaml: length_normalized_loss: 1; true or false was expected"),
        ("parallel: 1", "c.yaml: parallel: 1; one of jit, pmap was expected"),
        ("seed: 1\nepochs: 2\nseed: 3", "c.yaml:3: 'seed' for the second time"),
        ("encoder:\n  shift: 1\n  shift: 1", "c.yaml:3: 'shift' for the second time"),
        ("batch_seconds: 1\nbatch-seconds: 2", "c.yaml: batch_seconds: given twice"),
        ("- seed\n- epochs", "c.yaml: holds a list; a mapping was expected"),
        ("seed", "c.yaml: holds a str; a mapping was expected"),
        ("a: [1\nb: 2", "c.yaml:2: "),
        ("a: !!python/name:os.system", "c.yaml:1: "),
        ("a: \0", "c.yaml: unacceptable character"),
        ("imports: no_such_module", "c.yaml: imports: no_such_module: No module named"),
        ("imports: 3", "c.yaml: imports: 3; text was expected"),
    ],
)
def test_faults_of_yaml(content, said):
    assert said in fault(write(content))


def test_yaml_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    assert "c.yaml: 'utf-8' codec can't decode" in fault("--config=c.yaml")


def test_an_empty_file_and_a_merge_key_are_fine():
    assert parse(write("# nothing\n")) == TrainConfig()
    made = parse(write("encoder: &net {d_model: 8, num_layers: 2}\ndecoder:\n  <<: *net\n  num_layers: 1\n"))
    assert (made.task.decoder.d_model, made.task.decoder.num_layers) == (8, 1)


def test_recipes_by_name_and_the_fallback():
    digits = parse("--config=digits")
    assert digits == parse("--config=configs/digits.yaml") == parse(fallback=train.digits_recipe)
    assert digits.task.sample_rate == 8000
    assert TrainConfig.from_yaml("digits", epochs=2) == dataclasses.replace(digits, epochs=2)
    assert parse("--train=x", fallback=train.digits_recipe) == TrainConfig(train=("x",))
    assert parse(write("seed: 3"), fallback=train.digits_recipe) == TrainConfig(seed=3)
    assert parse("--epochs=2", fallback=train.digits_recipe) == dataclasses.replace(digits, epochs=2)
    own = parse("--config=digits_transformer")  # a recipe for the encoder asked for stands before the other
    for asked in (["--encoder=transformer"], ["--encoder", "transformer"]):
        assert parse(*asked, fallback=train.digits_recipe) == own
    for name in ("conformer", "branchformer", "e_branchformer", "rnn"):  # encoders that divide the frame rate
        made = parse(f"--encoder={name}", fallback=train.digits_recipe)
        assert type(made.task.encoder) is ENCODERS[name]
        assert made.task.frontend == own.task.frontend
    assert parse("--encoder=sanm_chunk", fallback=train.digits_recipe).task.frontend == digits.task.frontend
    made = parse("--task=paraformer", "--encoder=sanm", fallback=train.digits_recipe)
    assert made == parse("--config=digits_paraformer")
    assert type(made.task) is ParaformerTask
    assert "encoder 'nope': not known" in fault("--encoder=nope", fallback=train.digits_recipe)
    assert "Did you mean 'train'" in fault(
        "--trains=x", fallback=train.digits_recipe
    )  # no --train, though it begins like it
    write("seed: 4", "digits.yaml")
    assert parse("--config=digits.yaml") == TrainConfig(seed=4)  # a file of the user's is nearer than the recipe


# There and back


def values(hint: typing.Any) -> st.SearchStrategy:
    """Any value of an option's type."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return st.sampled_from(args)
    if typing.get_origin(hint) is tuple:
        if args[1:] != (...,):
            return st.tuples(*map(values, args))
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if args:
        return st.one_of([values(kind) for kind in args])
    if dataclasses.is_dataclass(hint):
        return st.builds(hint, **{name: values(kind) for name, kind in typing.get_type_hints(hint).items()})
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
        lambda t: t.lower() not in ("none", "null")
    )
    floats = st.floats(allow_nan=False, allow_infinity=False)
    return {float: floats, int: st.integers(), bool: st.booleans(), str: text, type(None): st.none()}[hint]


@st.composite
def configs(draw, cls: type = TrainConfig):
    """A `cls` with any choice in every slot and any value of the right type in a few options."""
    hints, changes = typing.get_type_hints(cls), {}
    for name, registry in config.slots(cls).items():
        chosen = draw(st.sampled_from([*registry, *([None] if type(None) in typing.get_args(hints[name]) else [])]))
        changes[name] = None if chosen is None else draw(configs(registry[chosen]))
    plain = [name for name in config.option_fields(cls) if name not in changes]
    for name in draw(st.lists(st.sampled_from(plain), max_size=4, unique=True)) if plain else []:
        changes[name] = draw(values(hints[name]))
    return cls(**changes)


@settings(max_examples=80, deadline=None)
@given(made=configs())
def test_what_is_printed_is_read_back_as_the_same(made):
    mapping, text = config.to_mapping(made), config.to_yaml(made)
    assert config.from_mapping(TrainConfig, mapping, where="here") == made
    read = yaml.load(text, recipes.Loader)
    assert read == mapping
    again = config.from_mapping(TrainConfig, read, where="here")
    assert again == made
    assert config.to_yaml(again) == text


def test_print_config_gives_the_same_run_and_the_same_text(capsys):
    argv = ("--config=digits", "--encoder.num_layers=2", "--decoder=none", "--ctc_weight=1", "--optimizer=adam")
    assert parse(*argv, "--print_config") is None
    text = capsys.readouterr().out
    again = write(text)
    assert parse(again) == parse(*argv)
    assert parse(again, "--print_config=true") is None
    assert capsys.readouterr().out == text
    assert parse(again, "--print_config=false") == parse(again)
    assert capsys.readouterr().out == ""


def test_a_config_is_hashable_and_resources_are_no_part_of_it():
    task = AsrTask()
    with_tokens = task.prepared([])
    assert with_tokens.vocabulary is not None
    assert with_tokens == task
    assert hash(with_tokens) == hash(task)
    assert "vocabulary" not in config.to_mapping(with_tokens)
    assert "vocabulary" in fault("--vocabulary=x")


def test_relative_manifests_start_from_the_data_root():
    cfg = parse("--data_root=a/b", "--train", "c", "/d.csv", "--test=e").rooted()
    assert (cfg.train, cfg.valid, cfg.test, cfg.data_root) == (("a/b/c", "/d.csv"), (), ("a/b/e",), "")
    assert cfg.rooted() == cfg
    assert parse("--train=c").rooted() == parse("--train=c")
    completed, typed = (parse(f"--train=c{end}", f"--init=m{end}").rooted() for end in ("/", ""))
    assert completed == typed
    assert parse("--train=/").rooted().train == ("/",)


def test_options_of_the_run_and_of_the_task_have_different_names():
    run_options, task_options = config.option_fields(TrainConfig), config.option_fields(AsrTask)
    assert not run_options.keys() & task_options.keys()
    assert not {"config", "print_config", "help", "import", "type"} & (run_options.keys() | task_options.keys())


# Choices


class Part:
    """What the toy registries hold."""


PARTS: Registry[Part] = Registry("part", Part)
JOBS: Registry[Part] = Registry("job", Part)


@PARTS.register("big")
@dataclasses.dataclass(frozen=True)
class Big(Part):
    width: int = 1
    depth: int = 2
    pair: tuple[int, float] = (1, 2.0)
    size: int | str = 3


@PARTS.register("small")
@dataclasses.dataclass(frozen=True)
class Small(Part):
    width: int = 1
    size: int | str = "of its own"
    inner: Part | None = config.slot(PARTS, Big())


@PARTS.register("strange")
@dataclasses.dataclass(frozen=True)
class Strange(Part):
    fn: typing.Any = len


@PARTS.register("unfinished")
@dataclasses.dataclass(frozen=True)
class Unfinished(Part):
    width: int


@JOBS.register("first")
@dataclasses.dataclass(frozen=True)
class First(Part):
    part: Part = config.slot(PARTS, Big())
    level: Literal[1, 2] = 1
    only_first: float = 0.5
    shared: str = "s"
    one: int = 1
    of_one: int = config.beside("one", 0)
    of_shared: int = config.beside("shared", 0)


@JOBS.register("second")
@dataclasses.dataclass(frozen=True)
class Second(Part):
    part: Part | None = config.slot(PARTS, Small())
    shared: str = "s"
    one: int = 2
    of_one: int = config.beside("one", 0)
    of_shared: int = config.beside("shared", 0)


@dataclasses.dataclass(frozen=True)
class Toy:
    job: Part = config.slot(JOBS, First(), flat=True)
    other: Part | None = config.slot(PARTS, None)
    count: int = 0


def toy(*argv: str) -> typing.Any:
    return parse(*argv, cls=Toy)


def test_another_choice_keeps_the_shared_options_of_the_file_and_names_the_others(capsys):
    base = write("part: {type: big, width: 5, depth: 6}\nother: {type: small, width: 7}\n")
    assert toy(base, "--part=small") == Toy(First(part=Small(width=5)), other=Small(width=7))
    assert capsys.readouterr().err == "note: c.yaml: --part: Small has no depth; left out.\n"
    assert toy(base, "--part=small", "--part.width=8").job.part == Small(width=8)
    assert capsys.readouterr().err == "note: c.yaml: --part: Small has no depth; left out.\n"
    assert toy(base, "--part=big", "--other=none") == Toy(First(part=Big(width=5, depth=6)))
    assert toy(base, "--other=big").other == Big(width=7)
    assert toy(write("part: {width: 5}"), "--part=small").job.part == Small(width=5)
    assert toy(write("part: big"), "--part=small").job.part == Small()
    assert capsys.readouterr().err == ""
    assert toy(write("part: {width: 5, depth: 6, size: 7}"), "--part=small").job.part == Small(width=5)
    assert capsys.readouterr().err == "note: c.yaml: --part: Small has no depth and has its own size; left out.\n"


def test_a_typo_in_the_file_is_no_option_of_another_choice():
    base = write("part: {type: big, widht: 5}")
    assert "c.yaml: part.widht: no such option" in fault(base, "--part=small", cls=Toy)
    assert "c.yaml: part.widht: no such option" in fault(base, "--part=big", cls=Toy)


def test_another_task_keeps_the_shared_options_of_the_file_and_names_the_others(capsys):
    base = write("job: first\nshared: x\nonly_first: 0.25\ncount: 3\npart: {type: big, width: 4}\n")
    made = toy(base, "--job=second")
    assert made == Toy(Second(part=Big(width=4), shared="x"), count=3)
    assert capsys.readouterr().err == "note: c.yaml: --job: Second has no only_first; left out.\n"
    assert toy("--job=second", "--part=none").job.part is None
    assert "--part: none; one of big" in fault("--part=none", cls=Toy)
    assert "no such option" in fault("--job=second", "--only_first=1", cls=Toy)
    assert "no such option" in fault(write("job: second\nonly_first: 1"), cls=Toy)


def test_an_option_goes_only_with_the_one_it_stands_beside(capsys):
    base = write("job: first\nof_one: 3\nof_shared: 4\n")
    assert toy(base, "--job=first").job == First(of_one=3, of_shared=4)
    assert toy(base, "--job=second").job == Second(of_shared=4)
    assert capsys.readouterr().err == "note: c.yaml: --job: Second has its own of_one; left out.\n"


def test_of_a_part_that_a_task_puts_another_kind_for_go_the_options_that_mean_the_same(capsys):
    """Nor what changes nothing but beside an option that is left out."""
    task = parse("--config=digits", "--task=paraformer").task
    task.check()
    assert task.decoder == ParaformerSanmDecoder(d_model=128, num_heads=4, d_ff=256)
    assert task.interctc_layers == ()
    note = "note: digits: --task: ParaformerTask has its own decoder, ctc_weight, interctc_layers; left out.\n"
    note += "note: digits: --task: decoder: ParaformerSanmDecoder has its own num_layers; left out.\n"
    assert capsys.readouterr().err == note


def test_slots_in_slots():
    made = toy("--part=small", "--part.inner.width=3", "--part.inner.depth=4")
    assert made.job.part == Small(inner=Big(width=3, depth=4))
    assert toy("--part=small", "--part.inner=small", "--part.inner.inner=none").job.part == Small(
        inner=Small(inner=None)
    )
    assert config.from_mapping(Toy, config.to_mapping(made), where="here") == made
    assert toy("--part=small", "--part.inner.type=none").job.part == Small(inner=None)


def test_tuples_unions_and_numbered_choices():
    assert toy("--part.pair", "3", "4").job.part.pair == (3, 4.0)
    assert toy(write("part: {pair: [3, 4], size: many}\nlevel: 2")).job == First(
        Big(pair=(3, 4.0), size="many"), level=2
    )
    assert toy("--part.size=many", "--level=2").job == First(Big(size="many"), level=2)
    assert toy("--part.size=4").job.part.size == 4
    assert "--part.pair: 1 values; 2 were expected" in fault("--part.pair=3", cls=Toy)
    assert "one of 1, 2 was expected" in fault("--level=3", cls=Toy)
    assert "one of 1, 2 was expected" in fault(write("level: true"), cls=Toy)


def test_what_yaml_cannot_hold_is_refused_before_the_run():
    message = fault("--other=strange", cls=Toy)
    assert "Strange.fn: <built-in function len>; an option is a number, text" in message


def test_an_entry_without_defaults_is_an_error():
    assert "--other: Unfinished cannot be made from its defaults" in fault("--other=unfinished", cls=Toy)


# Modules from outside


def test_import_registers_an_encoder():
    pathlib.Path("my_flag_module.py").write_text(ENCODER_MODULE.format(name="mine"))
    made = parse("--import=my_flag_module", "--encoder=mine", "--encoder.width=3", "--decoder=none")
    assert type(made.task.encoder).__name__ == "MyEncoder"
    assert (made.task.encoder.d_model, made.task.encoder.width, made.imports) == (99, 3.0, ("my_flag_module",))
    text = config.to_yaml(made)
    assert parse(write(text)) == made
    assert "load your own with --import=MODULE" in fault("--encoder=minee")


def test_imports_of_the_file_and_of_flags_add_up():
    pathlib.Path("my_first_module.py").write_text(ENCODER_MODULE.format(name="one"))
    pathlib.Path("my_second_module.py").write_text(ENCODER_MODULE.format(name="two"))
    base = write("imports: my_first_module\nencoder: {type: one, width: 4, shift: 1}\n")
    assert parse(base).imports == ("my_first_module",)
    made = parse(base, "--import", "my_second_module", "my_first_module", "--encoder=two")
    assert made.imports == ("my_first_module", "my_second_module")
    assert type(made.task.encoder) is ENCODERS["two"]
    assert (made.task.encoder.width, made.task.encoder.shift) == (4.0, 1)


def test_a_module_whose_own_import_fails_is_named():
    pathlib.Path("my_broken_module.py").write_text("import not_installed_at_all\n")
    assert "my_broken_module: No module named 'not_installed_at_all'" in fault("--import=my_broken_module")


# The program


def options(cls: type = TrainConfig) -> list[str]:
    return [path for path in config.paths(cls()) if path != "task"]


def test_help_shows_choices_and_every_option_with_its_doc_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # wider ones are printed in columns
    with pytest.raises(SystemExit) as caught:
        parse("--encoder=sanm", "--encoder.num_layers=3", "--normalizer=none", "--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "What it does." in text
    assert f"--encoder {{{','.join(ENCODERS)}}} (now: sanm)" in text
    assert f"--decoder {{{','.join(DECODERS)},none}} (now: transformer)" in text
    assert f"--normalizer {{{','.join(NORMALIZERS)},none}} (now: none)" in text
    assert f"--task {{{','.join(TASKS)}}} (now: asr)" in text
    assert "normalizer.mean" not in text
    assert "--init=FOLDER " in text
    slots = {*config.slots(TrainConfig), *config.slots(AsrTask), *config.sections(TrainConfig)}
    for path in options():
        if path in slots or path.startswith("normalizer"):
            continue
        flag = "--" + path.replace("_", "-")
        found = re.search(rf"{re.escape(flag)} (\S+|\[\S+ \[\S+ \.\.\.\]\]) (.+?)\(default: ", text)
        assert found, flag
        assert len(found[2].split()) > 1, f"{flag} has no doc"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_stands_above_other_flags_and_shows_the_recipe(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--no_such_option=1", flag, fallback=train.digits_recipe)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "Defaults are those of digits." in out
    assert "(default: 8000)" in out


def test_help_imports_no_more_than_it_needs():
    code = (
        "import sys\n"
        "from jaxasr import train\n"
        "try:\n"
        "    train.main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    heavy = {'orbax', 'tensorboardX', 'pandas', 'scipy', 'torch', 'matplotlib', 'sentencepiece', 'kaldiio'}\n"
        "    print('HEAVY', stop.code, sorted(heavy & {name.split('.')[0] for name in sys.modules}))\n"
        "    print({'jaxasr.data.features', 'jaxasr.tasks'} <= sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["HEAVY 0 []", "True"]  # kaldiio comes with an archive, not with features
    assert done.stderr == ""


FAULTS = [
    (["--config=c.yaml"], "error: c.yaml: encodr: no such option; correct or remove it. Did you mean 'encoder'?"),
    (["--train=/nowhere", "--encoder.num_layer=2"], "error: --encoder.num_layer: no such option"),
    (["--train=/nowhere", "--decoder=none"], "error: --decoder=none with --ctc_weight=0.3: the attention loss"),
]


@pytest.mark.parametrize(("argv", "said"), FAULTS)
def test_a_fault_ends_the_program_with_one_line_and_status_2(argv, said, capsys):
    write("encodr: sanm\ntrain: /nowhere\n")
    with pytest.raises(SystemExit) as caught:
        train.main(argv)
    assert_one_line(said, caught.value.code, *capsys.readouterr())


def test_a_fault_ends_the_process_so():
    """One for all of them: it takes seconds to start."""
    write("encodr: sanm\ntrain: /nowhere\n")
    argv, said = FAULTS[0]
    command = [sys.executable, "-m", "jaxasr.train", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert_one_line(said, done.returncode, done.stdout, done.stderr)


def assert_one_line(said: str, status: typing.Any, out: str, err: str) -> None:
    assert status == 2
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert "Traceback" not in err + out


CTC = ("--decoder=none", "--ctc_weight=1")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--ctc_weight=2"], "0 <= ctc_weight <= 1"),
        (["--optimizer.decay_exclude", "nrom"], "--optimizer.decay_exclude: 'nrom' matches no parameter;"),
        (["--freeze", "encodr"], "--freeze: 'encodr' matches no parameter;"),
        (["--adapter=lora", "--adapter.train", "ctc", "decodr"], "--adapter.train: 'decodr' matches no parameter;"),
        (["--adapter=lora", "--encoder=rnn", *CTC], "attention/out: no dense kernel of this network is meant; such as"),
        (
            ["--encoder=conformer", "--encoder.num_layers=1", "--optimizer.decay_exclude", "var"],  # of a batch norm
            "--optimizer.decay_exclude: 'var' matches no parameter;",
        ),
        (["--steps=99999999999"], "--steps=99999999999: a positive number up to 2147483647"),
        (["--epochs=0"], "--epochs=0: a positive number up to 2147483647, or none, was expected"),
        (["--seed=-1"], "--seed=-1: 0 to 2147483647 was expected"),
        (["--max_buckets=0"], "--max_buckets=0: a positive number was expected"),
        (["--train_weights", "1", "2"], "--train_weights 1 2 with 1 manifests in --train: a number above 0 for each"),
        (["--train_weights=0"], "--train_weights 0 with 1 manifests in --train: a number above 0 for each"),
        (["--frontend=features"], "--frontend=features with --preprocess or --channel: these are for sound"),
        (
            ["--interctc_weight=0.5"],
            "--interctc_weight=0.5 without --interctc_layers: it would change nothing; 0.3",
        ),
        (["--interctc_conditioning=true"], "--interctc_conditioning=True without --interctc_layers: it would change"),
        (["--label_smoothing=0", *CTC], "--label_smoothing=0.0 without --decoder: it would change nothing; 0.1 was"),
        (["--length_normalized_loss=true", *CTC], "--length_normalized_loss=True without --decoder: it would change"),
        (["--postencoder=transformer", "--postencoder.weights_map", "a=b"], "--postencoder.weights_map=('a=b',) with "),
        (
            ["--encoder=rnn", "--encoder.num_layers=3", "--encoder.subsample", "100000"],
            "--encoder=rnn with --postencoder=none: not one frame comes out for 1000 frames of features; at least one",
        ),
        (
            ["--postencoder=length_adaptor", "--postencoder.num_layers=20"],
            "--encoder=sanm with --postencoder=length_adaptor: not one frame comes out for 1000 frames of features;",
        ),
        (["--search=attention_greedy", "--decoder=none", "--ctc_weight=1"], "this model has ctc_greedy"),
    ],
)
def test_combinations_that_mean_nothing_are_refused_before_data_is_read(argv, said, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--train=/nowhere", *argv])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(pathlib.Path().iterdir())
