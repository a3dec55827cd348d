"""`python -m jaxasr.convert`: folders of FunASR's, there and back, and what is refused."""

import dataclasses
import json
import os
import pathlib
import pickle
import shlex
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml

from jaxasr import checkpoint, decode, info, train
from jaxasr.convert import __main__ as command
from jaxasr.convert import folders, torch_file
from jaxasr.data.lexicon import SegDictTokenizer
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, WordTokenizer
from jaxasr.errors import JaxasrError
from tests.parity.fixtures import HERE

RELEASE = HERE / "release"
NAMES = ["asr_0x", "asr_1x", "paraformer_0x", "paraformer_1x", "online_1x"]


def tensors_of(folder: pathlib.Path) -> dict[str, np.ndarray]:
    [file] = folder.glob("model.p*")
    return torch_file.read(file, lambda _: None)


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, tmp_path, capsys):
    command.main([str(RELEASE / name), str(tmp_path / "model")])
    shown = capsys.readouterr().out
    assert f"FunASR {name[-2]}.x" in shown
    assert f"python -m jaxasr.decode --model={tmp_path / 'model'}" in shown
    command.main(["--to=funasr", str(tmp_path / "model"), str(tmp_path / "back")])
    before, after = tensors_of(RELEASE / name), tensors_of(tmp_path / "back")
    assert before.keys() == after.keys()
    for tensor, x in before.items():
        assert x.dtype == after[tensor].dtype
        np.testing.assert_array_equal(x, after[tensor], err_msg=tensor)
    task: Any = checkpoint.load_task(tmp_path / "model")
    again: Any = folders.read(tmp_path / "back", print).task
    assert dataclasses.replace(again, tokenizer=task.tokenizer) == task
    assert again.resources_hash() == task.resources_hash()
    assert again.statistics_hash() == task.statistics_hash()
    if name.endswith("1x"):
        assert json.loads((tmp_path / "back/tokens.json").read_text()) == list(task.vocabulary.tokens)
        assert (tmp_path / "back/seg_dict").read_text() == (RELEASE / name / "seg_dict").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "model"]


def test_a_converted_model_decodes(tmp_path, capsys):
    command.main([str(RELEASE / "paraformer_1x"), str(tmp_path / "model")])
    capsys.readouterr()
    sound = RELEASE / "fcaw-an406-b.flac"
    decode.main([f"--model={tmp_path / 'model'}", str(sound)])
    with np.load(RELEASE / "expected.npz") as arrays:
        ids, count = arrays["paraformer/ids"][0], arrays["paraformer/token_lens"][0]
    said = capsys.readouterr().out.split(maxsplit=1)
    assert said[0] == sound.stem
    found = checkpoint.load_task(tmp_path / "model").text(ids[:count].tolist())
    # theirs sees the padding of a batch of two: a token or two differ where the predictor's last frames do
    assert said[1].split()[:20] == found.split()[:20]
    assert info.describe(tmp_path / "model")["task"] == "paraformer"


def test_the_commands_printed_can_be_run(tmp_path, capsys):
    folder = tmp_path / "a model"
    command.main([str(RELEASE / "paraformer_1x"), str(folder)])
    decoding, training = capsys.readouterr().out.split("Next:\n")[1].replace("\\\n", "").splitlines()
    assert shlex.split(decoding) == ["python", "-m", "jaxasr.decode", f"--model={folder}", "SOUND.wav"]
    python, _, module, *argv = shlex.split(training)
    assert (python, module) == ("python", "jaxasr.train")
    train.main([*argv, "--print_config"])
    cfg = yaml.safe_load(capsys.readouterr().out)
    assert cfg["init"]["folder"] == str(folder)
    assert cfg["task"] == "paraformer"
    assert cfg["schedule"]["type"] == "warmup_linear"


# --- texts -------------------------------------------------------------------------------------------------------


def copied(name: str, to: pathlib.Path, **changes: Any) -> pathlib.Path:
    """A folder with other options."""
    folder = pathlib.Path(shutil.copytree(RELEASE / name, to / "theirs"))
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes, allow_unicode=True))
    return folder


def without_seg_dict(folder: pathlib.Path) -> pathlib.Path:
    (folder / "seg_dict").unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "changes", "kind"),
    [
        ("asr_0x", {}, WordTokenizer),
        ("asr_0x", {"split_with_space": False, "token_type": "char"}, CharTokenizer),
        ("asr_0x", {"split_with_space": False, "token_type": "word"}, WordTokenizer),
        ("asr_0x", {"split_with_space": False, "token_type": "bpe", "bpemodel": "/there/bpe.model"}, BpeTokenizer),
        ("asr_0x", {"seg_dict_file": "/there/words"}, SegDictTokenizer),
        (
            "asr_0x",
            {"seg_dict_file": "/there/words", "split_with_space": False, "token_type": "char"},
            CharTokenizer,
        ),
        ("asr_1x", {}, SegDictTokenizer),
        ("asr_1x", {"tokenizer": "SentencepiecesTokenizer"}, BpeTokenizer),
    ],
)
def test_tokenizers(tmp_path, name, changes, kind):
    folder = copied(name, tmp_path, **changes)
    [model] = RELEASE.rglob("bpe.model")
    shutil.copy(model, folder)
    (folder / "words").write_text("hello hel@@ lo\n")
    task: Any = folders.read(folder, print).task
    assert type(task.tokenizer) is kind
    if kind is SegDictTokenizer:
        assert task.tokenizer.split("Hello") == ["hel@@", "lo"]


def test_1x_without_seg_dict(tmp_path):
    """Characters, unless tokens are longer."""
    folder = without_seg_dict(copied("asr_1x", tmp_path))
    assert isinstance(folders.read(folder, print).task.tokenizer, WordTokenizer)  # type: ignore[attr-defined]
    tokens = json.loads((folder / "tokens.json").read_text())
    changed = [{"hel@@": "吗", "lo": "们"}.get(token, token) for token in tokens]
    (folder / "tokens.json").write_text(json.dumps(changed))
    assert isinstance(folders.read(folder, print).task.tokenizer, CharTokenizer)  # type: ignore[attr-defined]


def test_a_file_of_tensors_by_its_name(tmp_path):
    folder = copied("asr_1x", tmp_path)
    (folder / "model.pt").rename(folder / "model.pt.avg10")
    with pytest.raises(JaxasrError, match=r"either model.pt or model.pb was expected, beside model.pt.avg10; name one"):
        folders.read(folder, print)
    assert len(folders.read(folder, print, model_file="model.pt.avg10").tensors) == 100


def test_files_by_the_names_of_configuration_json(tmp_path):
    folder = copied("asr_1x", tmp_path)
    usual = folders.read(folder, print).task
    metas = {"config": "config.yaml", "init_param": "model.pt", "lm_file": "none.pt"}
    metas |= {"tokenizer_conf": {"token_list": "tokens.json", "seg_dict_file": "seg_dict"}}
    metas |= {"frontend_conf": {"cmvn_file": "am.mvn"}}
    (folder / "configuration.json").write_text(json.dumps({"model": {"type": "funasr"}, "file_path_metas": metas}))
    assert folders.read(folder, print).task == usual
    for name in ("config.yaml", "model.pt", "tokens.json", "seg_dict", "am.mvn"):
        (folder / name).rename(folder / f"other_{name}")
    other = json.loads((folder / "configuration.json").read_text().replace(': "', ': "other_'))
    (folder / "configuration.json").write_text(json.dumps(other))
    model = folders.read(folder, print)
    assert model.task == usual
    assert len(model.tensors) == 100
    (folder / "configuration.json").write_text("[]")
    with pytest.raises(JaxasrError, match=r"configuration.json: .*a JSON object, with names of files"):
        folders.read(folder, print)


def test_given_features_and_options_that_say_nothing(tmp_path):
    config = yaml.safe_load((RELEASE / "paraformer_1x/config.yaml").read_text())
    encoder = config["encoder_conf"] | {"padding_idx": -1, "positional_dropout_rate": 0.1}
    folder = copied("paraformer_1x", tmp_path, frontend=None, input_size=560, encoder_conf=encoder, optim="adam")
    model = folders.read(folder, print)
    task: Any = model.task
    assert task.source.kind == "features"
    assert task.source.width == 560
    told = [f"{folder}/config.yaml: encoder_conf.positional_dropout_rate=0.1", "options of training: optim"]
    assert all(any(words in said for said in model.left_out) for words in told)


# --- what is refused ---------------------------------------------------------------------------------------------


def test_nothing_in_a_file_is_run(tmp_path):
    """A pickle that asks for os.system is refused by that name."""

    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'run'}",)

    folder = copied("asr_1x", tmp_path)
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Attack()}, protocol=2))
    symbol = f"{os.system.__module__}.system"
    with pytest.raises(JaxasrError, match=f"it asks for {symbol}; tensors"):
        folders.to_jaxasr(folder, tmp_path / "model", print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


def test_no_file_outside_of_the_folder_is_read(tmp_path):
    folder = without_seg_dict(copied("asr_1x", tmp_path))
    (tmp_path / "secret").write_text("hello mine\n")
    metas = {"config": "config.yaml", "init_param": "model.pt"}
    for name in (str(tmp_path / "secret"), "../secret"):
        said = {"file_path_metas": metas | {"tokenizer_conf": {"seg_dict": name}}}
        (folder / "configuration.json").write_text(json.dumps(said))
        assert isinstance(folders.read(folder, print).task.tokenizer, WordTokenizer)  # type: ignore[attr-defined]
    (folder / "configuration.json").write_text("[" * 100_000)
    with pytest.raises(JaxasrError, match=r"configuration.json: .*a JSON object, with names of files"):
        folders.read(folder, print)
    (folder / "configuration.json").unlink()
    for name in (str(tmp_path / "secret"), "../secret", "x" * 5000):
        change(tokenizer_conf={"seg_dict": name})(folder)
        with pytest.raises(JaxasrError, match=r"which cuts texts into tokens; it was expected beside the model"):
            folders.read(folder, print)
    (folder / "seg_dict").symlink_to("../secret")
    with pytest.raises(JaxasrError, match=r"theirs/seg_dict: leads out of the model's folder"):
        folders.read(folder, print)


def old_format(folder: pathlib.Path) -> None:
    shutil.copy(HERE / "more/torch_old.pt", folder / "model.pt")


def change(
    *, also: Callable[[pathlib.Path], None] = lambda folder: None, **changes: Any
) -> Callable[[pathlib.Path], None]:
    """Other options inside sections."""

    def changed(folder: pathlib.Path) -> None:
        file = folder / "config.yaml"
        config = yaml.safe_load(file.read_text())
        for key, value in changes.items():
            config[key] = config.get(key, {}) | value if isinstance(value, dict) else value
        file.write_text(yaml.safe_dump(config))
        also(folder)

    return changed


def remove(name: str) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / name).unlink()


def missing_statistics(folder: pathlib.Path) -> None:
    change(frontend_conf={"cmvn_file": "am.mvn"}, also=remove("am.mvn"))(folder)


def a_word_without_tokens(folder: pathlib.Path) -> None:
    with (folder / "seg_dict").open("a") as file:
        file.write("lonely\n")


def fewer_layers(folder: pathlib.Path) -> None:
    tensors = tensors_of(folder)
    kept = {name: np.array(x) for name, x in tensors.items() if not name.startswith("encoder.encoders.1.")}
    torch_file.write(folder / "model.pt", kept)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (old_format, "as torch wrote it before 1.6; a zip was expected; save it anew where torch is"),
        (change(model="SenseVoiceSmall"), "model: 'SenseVoiceSmall'; Transformer, SANM, .* was expected"),
        (change(encoder_conf={"num_block": 4}), "encoder_conf.num_block: no option .* Did you mean 'num_blocks'"),
        (
            change(encoder_conf={"kernel_size": 13}),
            r"of another shape: .*fsmn_block.weight \(48, 1, 11\), not \(48, 1, 13\)",
        ),
        (change(encoder_conf={"num_blocks": 4}), r"theirs: Tensors: \d+ missing: encoder.encoders.2"),
        (fewer_layers, r"Tensors: .* missing: encoder.encoders.1"),
        (change(normalize="UtteranceMVN"), "normalize: 'UtteranceMVN' beside the frontend's statistics"),
        (change(tokenizer="WhisperTokenizer"), "tokenizer: 'WhisperTokenizer'; CharTokenizer or Sent"),
        (remove("config.yaml"), "am.mvn, model.pt, seg_dict, tokens.json; config.yaml or decoding.yaml was expected"),
        (remove("model.pt"), "either model.pt or model.pb was expected"),
        (remove("tokens.json"), "no token list"),
        (missing_statistics, "no statistics of features; am.mvn"),
        (change(tokenizer_conf={"seg_dict": "/there/words"}, also=remove("seg_dict")), "no /there/words, which cuts"),
        (a_word_without_tokens, "theirs/seg_dict:3: 'lonely' without tokens"),
        (change(frontend_conf="abc"), "frontend_conf: 'abc'; a section of options was expected"),
        (
            change(specaug_conf={"freq_mask_width_range": "0,30"}),
            r"freq_mask_width_range, .*'0,30', 2; values of their",
        ),
    ],
)
def test_what_cannot_be_converted(tmp_path, fault, message):
    folder = copied("asr_1x", tmp_path)
    fault(folder)
    with pytest.raises(JaxasrError, match=message):
        folders.to_jaxasr(folder, tmp_path / "model", print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/notes.txt").write_text("mine")
    with pytest.raises(JaxasrError, match="there already, and not empty"):
        folders.to_jaxasr(RELEASE / "asr_1x", tmp_path / "model", print)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["notes.txt"]


def test_the_folder_that_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folders.to_jaxasr(RELEASE / "asr_1x", ".", print)
    assert checkpoint.load_task(tmp_path / "here").encoder is not None  # type: ignore[attr-defined]
