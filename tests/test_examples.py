import dataclasses
import importlib
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile

import jaxasr
from jaxasr import AsrTask, checkpoint, command_line, train
from jaxasr.data.tokenizer import CharTokenizer
from jaxasr.errors import ConfigError
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.train_config import TrainConfig
from tests.command_lines import own_parts

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SMALL = SanmEncoder(num_layers=1, d_model=16, num_heads=2, d_ff=16, kernel_size=5)


@pytest.fixture
def examples():
    """From its name to a script, imported as by `--import` and by scripts beside it."""
    with own_parts():
        yield importlib.import_module


@pytest.fixture(scope="module")
def data():
    """Training and validation inputs of a small model, of one shape each."""
    with own_parts():
        by_hand = importlib.import_module("train_loop_by_hand")
    learnt, valid = by_hand.digits()
    task = dataclasses.replace(by_hand.digits_task(), encoder=SMALL)
    inputs, held_out = by_hand.inputs_of(task, learnt[::30], valid[::15])
    return dataclasses.replace(inputs, shapes=inputs.shapes[-1:]), held_out


@pytest.fixture(scope="module")
def begun(data):
    """A batch, and parameters."""
    task, host = data[0].task, next(iter(data[0].epoch(0)))
    return host.batch, jax.jit(task.model().init)(jax.random.key(0), host.batch)


def test_every_example_is_short_and_its_commands_are_listed():
    page = joined_lines((EXAMPLES / "README.md").read_text(encoding="utf-8"))
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        commands = re.findall(
            r"^    (?:PYTHONPATH=examples )?python .*", joined_lines(text.split('"""')[1]), re.MULTILINE
        )
        assert text.count("\n") <= 120 and f"({path.name})" in page and commands, path.name
        assert [command for command in commands if command.strip() not in page] == [], path.name


def joined_lines(text: str) -> str:
    """With commands that go on in the next line in one."""
    return re.sub(r" \\\n\s*", " ", text)


def test_compose_learns(examples, capsys):
    losses = examples("compose").main()
    assert losses[-1] < 0.7 * losses[0]
    assert "encoded frames (8," in capsys.readouterr().out


def test_an_encoder_of_ones_own_is_a_choice(examples):
    module = examples("new_encoder")
    argv = ["--encoder=gated_conv", "--encoder.num_layers=2", "--interctc_layers=1"]
    cfg = command_line.parse(TrainConfig, argv, prog="test", description="")
    cfg.check()
    assert cfg.task.encoder == module.GatedConvEncoder(num_layers=2)


def test_the_loop_by_hand_learns(examples, data, capsys):
    examples("train_loop_by_hand").fit(*data, epochs=10)
    said = re.findall(r"epoch +(\d+) .* loss ([\d.]+)  valid WER ([\d.]+) %", capsys.readouterr().out)
    assert [epoch for epoch, _, _ in said] == ["5", "10"]
    assert float(said[1][1]) < 0.8 * float(said[0][1])


def test_two_losses_by_hand_are_the_built_in_ones(examples, data, begun):
    """Loss and gradient."""
    task, by_hand = data[0].task, examples("two_losses").two_losses(data[0].task, 0.2)
    built_in = dataclasses.replace(task, cr_weight=0.2).loss_fn()
    batch, params = begun
    (one, parts), gradient = _graded(by_hand, params, batch)
    (two, metrics), expected = _graded(built_in, params, batch)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    np.testing.assert_allclose(parts["consistency"], metrics["loss/cr"].value, rtol=1e-5)
    assert parts["consistency"] > 0.0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), gradient, expected)


def _graded(loss_fn, params, batch):
    return jax.device_get(jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params, batch, jax.random.key(1)))


def test_models_of_a_sweep_learn_as_each_would_alone(examples, data, capsys):
    module, rates = examples("sweep_vmap"), (1e-3, 1e-2)
    params, losses = module.sweep(data[0], rates, epochs=1)
    assert losses.shape == (1, 2) and np.isfinite(losses).all()
    task, (init_key, noise_key) = data[0].task, jax.random.split(jax.random.key(0))
    update = jax.jit(module.update_of(task.loss_fn()))
    for number, rate in enumerate(rates):
        alone = jax.jit(task.model().init)(init_key, task.batch_spec(data[0].shapes[0]))
        state, found = module.OPTIMIZER.init(alone), []
        for step, host in enumerate(data[0].epoch(0)):
            key = jax.random.fold_in(noise_key, step)
            alone, state, loss = update(alone, state, rate, host.batch, key)
            found.append(loss)
        np.testing.assert_allclose(losses[0, number], np.mean(found), rtol=1e-3)
        # Adam makes steps of the rate of what is 0 but for rounding, so that single numbers may differ by so much
        apart = jax.tree.map(lambda a, b: np.abs(a - b).ravel(), module.one_of(params, number), alone)
        assert np.concatenate(jax.tree.leaves(apart)).mean() < 0.01 * rate


# A task


def language_id(examples, *argv: str) -> TrainConfig:
    examples("new_task_language_id")
    argv = ("--task=language_id", "--sample_rate=8000", *argv)
    cfg = command_line.parse(TrainConfig, list(argv), prog="test", description="")
    cfg.check()
    return cfg


def test_a_task_of_ones_own_is_a_choice(examples):
    cfg = language_id(examples, "--encoder.num_layers=1", "--label_smoothing=0.2")
    assert cfg.task.label_smoothing == 0.2 and cfg.task.encoder == SanmEncoder(num_layers=1)
    assert cfg.metric == "wer"


@pytest.mark.parametrize(
    "option",
    ["ctc_weight=0.3", "decoder=transformer", "interctc_layers=1", "interctc_weight=0.1", "interctc_conditioning=true",
     "cr_weight=0.2", "length_normalized_loss=true"],
)  # fmt: skip
def test_a_task_of_ones_own_refuses_what_changes_nothing(examples, option):
    with pytest.raises(ConfigError, match=f"--{option.split('=')[0]}: LanguageIdTask has no such option"):
        language_id(examples, f"--{option}")


def test_a_label_is_one_token(examples):
    with pytest.raises(ConfigError, match="a label is one token; --tokenizer=word was expected"):
        language_id(examples, "--tokenizer=char")


def test_a_task_of_ones_own_learns(examples, tmp_path, data, capsys):
    module, by_hand = examples("new_task_language_id"), examples("train_loop_by_hand")
    learnt, valid = module.speakers(tmp_path)
    assert {u.text for u in learnt} == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    parts = {name: getattr(data[0].task, name) for name in ("sample_rate", "frontend", "normalizer", "encoder")}
    doubled = dataclasses.replace(learnt[0], id="doubled", text="two names")
    inputs, held_out = by_hand.inputs_of(module.LanguageIdTask(**parts), learnt[::30], valid[::15])
    assert inputs.task.unknown(doubled.text) == ["two names"]
    by_hand.fit(dataclasses.replace(inputs, shapes=inputs.shapes[-1:]), held_out, epochs=10)
    said = re.findall(r" loss ([\d.]+)  valid WER ([\d.]+) %", capsys.readouterr().out)
    assert float(said[1][0]) < float(said[0][0])


@pytest.mark.slow
def test_a_task_of_ones_own_by_the_commands(examples, tmp_path, capsys):
    from jaxasr import decode

    examples("new_task_language_id").speakers(tmp_path)
    argv = [f"--{name}={tmp_path}/{name}.jsonl" for name in ("train", "valid", "test")]
    small = ["--encoder.num_layers=1", "--encoder.d_model=32", "--encoder.d_ff=32", "--frontend.lfr_n=4"]
    task = ["--import=new_task_language_id", "--task=language_id", "--sample_rate=8000"]
    train.main([*task, *argv, *small, "--epochs=2", f"--workdir={tmp_path}/run"])
    capsys.readouterr()
    decode.main(["--import=new_task_language_id", f"--model={tmp_path}/run", f"{tmp_path}/test.jsonl"])
    said = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert len(said) == 300 and (tmp_path / "run/report.html").exists()
    assert np.mean([name.startswith(label) for name, label in said.items()]) > 0.2  # by chance a sixth


# An artifact

SERVE = """
import runpy, sys
sys.argv = ["export_and_serve.py", *sys.argv[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
found = {name.split(".")[0] for name in sys.modules} & {"jaxasr", "flax", "optax", "orbax", "tyro"}
assert not found, found
"""


def test_an_exported_model_says_the_same_without_the_package(examples, data, begun, tmp_path):
    task, module = data[0].task, examples("export_and_serve")
    checkpoint.save_model(tmp_path / "model", task, begun[1])
    samples = np.random.default_rng(0).integers(-9999, 9999, 12_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    module.main(["export", str(tmp_path / "model"), str(tmp_path / "out"), "--seconds", "2"])
    environment = {"PATH": "", "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
    argv = [sys.executable, "-c", SERVE, "serve", str(tmp_path / "out"), str(tmp_path / "a.wav")]
    ran = subprocess.run(argv, cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    expected = jaxasr.load(tmp_path / "model").transcribe(samples)
    assert expected and ran.stdout == f"{tmp_path}/a.wav {expected}\n"
    program = jax.export.deserialize(bytearray((tmp_path / "out/16000.jax").read_bytes()))
    assert program.platforms == module.PLATFORMS
    server = module.Server(tmp_path / "out")
    with pytest.raises(ValueError, match="3 s; the longest program is of 2 s"):
        server(np.zeros(24_000, np.int16))


def test_characters_and_sub_words_are_put_together_by_the_server_too(examples):
    text_of = examples("export_and_serve").text_of
    task = dataclasses.replace(AsrTask(), tokenizer=CharTokenizer())
    spoken = ["h", "i", "<space>", "y", "o", "u"]
    assert text_of(spoken, "") == task.tokenizer.join(spoken) == "hi you"
    assert text_of(["▁hi", "▁yo", "u"], "") == "hi you"
    assert text_of(["hi", "you"], " ") == "hi you"
