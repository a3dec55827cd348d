"""Models on disk, and other toolkits' parameters."""

import dataclasses
import functools
import json
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from jaxasr.checkpoint import PARAMS_FILE, load_model, load_params, load_task, save_model
from jaxasr.convert import convert_params, exactly, rules_of, rules_of_part, theirs_of, torch_file
from jaxasr.convert.bert import read_blocks
from jaxasr.convert.models import CTC_HEAD
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.info import parameters
from jaxasr.nn.encoders import ConformerEncoder, EBranchformerEncoder, RnnEncoder, SanmEncoder
from jaxasr.nn.normalize import Cmvn, GlobalMvn
from jaxasr.nn.postencoders import LengthAdaptor, TransformerPostEncoder
from jaxasr.params import MOST_HEADER
from tests import tiny
from tests.errors.files import write
from tests.parity.fixtures import HERE as PARITY

TASK = dataclasses.replace(tiny.TASK, normalizer=None, decoder=None, ctc_weight=1.0).with_resources(
    vocabulary=Vocabulary(("<blank>", "<s>", "</s>", "a", "<unk>"))
)

SANM = rules_of_part("encoder", SanmEncoder())
BARE = EBranchformerEncoder(d_model=80, subsampling="none", positions="absolute")


def saved() -> pathlib.Path:
    folder = pathlib.Path("model")
    save_model(folder, TASK, {"ctc": {"kernel": np.zeros((2, 3), np.float32)}})
    return folder


def absurd_options() -> None:
    """A sample rate that no array has as many samples of."""
    file = saved() / "config.yaml"
    file.write_text(file.read_text().replace("sample_rate: 8000", f"sample_rate: {10**30}"))
    load_model("model")


def other_tokens() -> None:
    folder = saved()
    write("model/tokens.txt", (folder / "tokens.txt").read_text().replace("\na\n", "\nb\n"))
    load_task(folder)


def other_statistics() -> None:
    """Those of a model, with a digit of another."""
    file = with_statistics() / "am.mvn"
    file.write_text(file.read_text().replace("0.25", "0.75"))
    load_task(file.parent)


def with_statistics() -> pathlib.Path:
    folder = pathlib.Path("model")
    cmvn = Cmvn(np.zeros(80, np.float32), np.full(80, 0.25, np.float32))
    save_model(folder, dataclasses.replace(TASK, normalizer=GlobalMvn()).with_resources(cmvn=cmvn), None)
    return folder


def no_statistics() -> None:
    (with_statistics() / "am.mvn").unlink()
    load_task(pathlib.Path("model"))


def no_task() -> None:
    load_task(pathlib.Path(write("model/config.yaml", "sample_rate: 8000\n")).parent)


BERT = PARITY / "more" / "bert_post_norm"


def bert(path: str | pathlib.Path = BERT, **options: Any) -> None:
    """Reads the blocks of a model of two, for a post-encoder that fits them but for `options`."""
    sizes = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24}
    postencoder = TransformerPostEncoder(**sizes | options, weights=str(path))
    init = functools.partial(postencoder.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), np.zeros((1, 3, 4), np.float32), np.array([3]))["params"]
    read_blocks(postencoder, shapes, print)


def bert_beside(config: str) -> None:
    """Reads blocks beside a config.json of this text."""
    write("config.json", config)
    bert("model.safetensors")


def bert_of(change: Callable[[dict[str, Any]], Any]) -> None:
    """Reads the blocks of a file with other tensors."""
    tensors = safetensors.numpy.load_file(BERT / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, "model.safetensors")
    bert("model.safetensors")


def bert_of_float8() -> None:
    """Of a dtype that NumPy has not."""
    tensors = safetensors.numpy.load_file(BERT / "model.safetensors")
    header, content = {}, b""
    for name, x in tensors.items():
        dtype, data = ("F8_E4M3", bytes(x.size)) if "layer.0.output.dense" in name else ("F32", x.tobytes())
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": dtype, "shape": x.shape, "data_offsets": offsets}
        content += data
    head = json.dumps(header).encode()
    pathlib.Path("model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + content)
    bert("model.safetensors")


def of_torch(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> dict[str, Any]:
    """Reads a zip with these files beside each other."""
    with zipfile.ZipFile("model.pt", "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"model/{name}", content)
    return torch_file.read("model.pt", print)


def of_pickle(content: bytes) -> dict[str, Any]:
    return of_torch({"data.pkl": b"\x80\x02" + content})


def of_a_tensor(size: int, data: bytes) -> dict[str, Any]:
    """Reads a tensor of so many numbers from a storage that should hold two."""
    storage = b"(Nctorch\nFloatStorage\nX\x01\x00\x00\x000NK\x02tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + b"K%c\x85K\x01\x85tR" % size
    return of_torch({"data.pkl": b"\x80\x02}X\x01\x00\x00\x00x" + tensor + b"s.", "data/0": data})


def needs_a_module() -> None:
    save_model(pathlib.Path("model"), TASK, None, ("no_such_module",))
    load_task(pathlib.Path("model"))


def a_link() -> None:
    (saved() / "tokens.txt").unlink()
    pathlib.Path("model/tokens.txt").symlink_to(write("others.txt"))
    load_task(pathlib.Path("model"))


def an_oversized_head() -> None:
    with pathlib.Path(PARAMS_FILE).open("wb") as file:
        file.write((2 * MOST_HEADER).to_bytes(8, "little"))
        file.truncate(3 * MOST_HEADER)
    load_params(pathlib.Path(PARAMS_FILE))


def changed_params() -> None:
    tensors = {"a": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(tensors, PARAMS_FILE, {"sha256": "of other numbers"})
    load_params(pathlib.Path(PARAMS_FILE))


CASES = {
    "a module that nobody asked for": needs_a_module,
    "a link for a file": a_link,
    "an oversized head": an_oversized_head,
    "an empty folder": lambda: load_model("."),
    "a config.yaml without a task": no_task,
    "the token list of another model": other_tokens,
    "the statistics of another model": other_statistics,
    "no statistics, which are needed": no_statistics,
    "no options": lambda: load_task(pathlib.Path("model")),
    "parameters of another network": lambda: load_model(saved()),
    "parameters that were changed": changed_params,
    "parameters that are none": lambda: load_params(pathlib.Path(write(PARAMS_FILE, "rubbish"))),
    "a model of absurd options": absurd_options,
    "parameters that are none, looked at": lambda: parameters(pathlib.Path(write(PARAMS_FILE, "rubbish"))),
    "a tensor without a rule": lambda: convert_params({"lm.weight": np.zeros(1)}, CTC_HEAD),
    "a layer left out": lambda: convert_params({"encoders.1.norm1.weight": np.zeros(1)}, SANM),
    "layers of two widths": lambda: convert_params(
        {"encoders.0.norm1.weight": np.zeros(2), "encoders.1.norm1.weight": np.zeros(3)}, SANM
    ),
    "a filter of one dimension": lambda: convert_params({"encoders.0.self_attn.fsmn_block.weight": np.zeros(2)}, SANM),
    "a parameter that theirs has not": lambda: exactly([], {"bias": np.zeros(1)}),
    "parameters without rules": lambda: theirs_of({"bias": np.zeros(1)}, []),
    "a part that FunASR has not": lambda: rules_of_part("postencoder", LengthAdaptor()),
    "an option that FunASR has not": lambda: rules_of_part("encoder", ConformerEncoder(conv_norm="layer")),
    "conditioning that FunASR has not": lambda: rules_of(
        dataclasses.replace(TASK, encoder=RnnEncoder(subsample=()), interctc_layers=(1,), interctc_conditioning=True)
    ),
    "positions that ESPnet adds": lambda: rules_of(dataclasses.replace(TASK, encoder=BARE), "espnet"),
    "a dtype that torch has not": lambda: torch_file.write("model.pt", {"x": np.zeros(1, np.uint32)}),
    "no folder to write to": lambda: torch_file.write("none/model.pt", {}),
    "a map of one name": lambda: bert(weights_map=("encoder",)),
    "weights that are none": lambda: bert(write("model.safetensors", "rubbish")),
    "weights of a dtype too small": bert_of_float8,
    "a configuration that is none": lambda: bert_beside("{"),
    "a configuration that is a list": lambda: bert_beside("[]"),
    "an activation that there is not": lambda: bert_beside('{"hidden_act": "quick_gelu"}'),
    "heads of another number": lambda: bert(num_heads=4),
    "weights of no encoder": lambda: bert(weights_map=("encoder=coder",)),
    "fewer blocks than layers": lambda: bert(num_layers=3),
    "more blocks than layers": lambda: bert(num_layers=1),
    "blocks of another width": lambda: bert(d_ff=32),
    "a norm of two names": lambda: bert_of(
        lambda tensors: tensors.update({"bert.encoder.layer.0.output.LayerNorm.gamma": np.zeros(16, np.float32)})
    ),
    "no file of torch": lambda: torch_file.read("none.pt", print),
    "rubbish for a file of torch": lambda: torch_file.read(write("model.pt", "rubbish"), print),
    "a file of an old torch": lambda: torch_file.read(write("model.pt", pickle.dumps({}, protocol=2)), print),
    "a zip of something else": lambda: of_torch({}),
    "a pickle cut short": lambda: of_pickle(b"}"),
    "a pickle that would run something": lambda: of_pickle(b"cos\nsystem\n."),
    "a pickle of sets": lambda: of_pickle(b"\x8f."),
    "a pickle without tensors": lambda: of_pickle(b"}X\x01\x00\x00\x00xK\x03s."),
    "a pickle in another compression": lambda: of_torch({"data.pkl": b"\x80\x02}."}, zipfile.ZIP_BZIP2),
    "a tensor outside its storage": lambda: of_a_tensor(3, bytes(8)),
    "a storage cut short": lambda: of_a_tensor(2, bytes(4)),
}
