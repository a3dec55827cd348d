"""A model as a file that needs jaxasr no more: sound to tokens by `jax.export`, and a server that only calls it.

`export` writes into a folder one program for each length of sound, for CPUs, GPUs and TPUs at once, with the parameters
and the tokens beside them. `serve` reads that folder and imports neither jaxasr nor Flax: copy it out as it is.

    python -m jaxasr.train --task=asr --encoder=sanm --workdir=exp/digits
    python examples/export_and_serve.py export exp/digits exp/exported --seconds 2 8
    python examples/export_and_serve.py serve exp/exported a.wav b.wav
"""

import argparse
import json
import pathlib
import sys

import jax
import numpy as np
import safetensors.numpy
import soundfile
from jax import export as jax_export

PLATFORMS = ("cpu", "cuda", "tpu")
FIRST = 3
"""The first token that is text, after <blank>, <s> and </s>."""


def text_of(tokens: list[str], between: str) -> str:
    """What characters, words or sub-words say together."""
    return between.join(tokens).replace("<space>", " ").replace("▁", " ").strip()


def export(model: pathlib.Path, folder: pathlib.Path, seconds: list[float], imports: tuple[str, ...] = ()) -> None:
    """Writes SAMPLES.jax for each length of sound, params.safetensors, and model.json."""
    import jax.numpy as jnp

    import jaxasr
    from jaxasr.params import flatten, save_params
    from jaxasr.paths import unflatten

    loaded = jaxasr.load(model, imports=imports)
    task, params = loaded.task, flatten(loaded.params)  # names such as encoder/input/kernel to arrays
    decode = task.decode_fn(task.usual_search())

    def recognize(params, audio, lengths):
        """Flat parameters, int16 (B, S) and int32 (B,) to tokens int32 (B, N) and how many of them there are (B,)."""
        spec = task.batch_spec(jaxasr.BucketShape(*audio.shape, tokens=1))
        batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), spec)  # a search does not look at the tokens
        found = decode(unflatten(params), batch._replace(audio=audio, audio_lengths=lengths))
        return found.tokens, found.lengths

    tokens, ids = list(task.vocabulary.tokens), range(FIRST, len(task.vocabulary))
    between = " " if type(task.tokenizer).__name__ == "WordTokenizer" else ""
    if text_of([tokens[i] for i in ids], between) != task.text(ids):
        sys.exit(f"{type(task.tokenizer).__name__}: its tokens are put together in another way; write it in text_of")
    folder.mkdir(parents=True, exist_ok=True)
    specs = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in params.items()}
    for samples in (int(s * task.sample_rate) for s in seconds):
        audio, lengths = jax.ShapeDtypeStruct((1, samples), jnp.int16), jax.ShapeDtypeStruct((1,), jnp.int32)
        program = jax_export.export(jax.jit(recognize), platforms=PLATFORMS)(specs, audio, lengths)
        (folder / f"{samples}.jax").write_bytes(program.serialize())
        print(f"{folder}/{samples}.jax: {samples / task.sample_rate:g} s of sound, for {', '.join(PLATFORMS)}")
    save_params(folder / "params.safetensors", loaded.params)
    known = {"sample_rate": task.sample_rate, "tokens": tokens, "between": between}
    (folder / "model.json").write_text(json.dumps(known, ensure_ascii=False))


class Server:
    """What `export` wrote: samples in, text out."""

    def __init__(self, folder: pathlib.Path):
        known = json.loads((folder / "model.json").read_text())
        self.sample_rate, self.tokens, self.between = known["sample_rate"], known["tokens"], known["between"]
        self.params = jax.device_put(safetensors.numpy.load_file(folder / "params.safetensors"))
        programs = {int(p.stem): jax_export.deserialize(bytearray(p.read_bytes())) for p in folder.glob("*.jax")}
        self.programs = {samples: jax.jit(programs[samples].call) for samples in sorted(programs)}

    def __call__(self, samples: np.ndarray) -> str:
        """The text of int16 samples (S,), which are padded to the next length that there is a program for."""
        room = next((length for length in self.programs if length >= len(samples)), None)
        if room is None:
            longest = max(self.programs) / self.sample_rate
            raise ValueError(f"{len(samples) / self.sample_rate:g} s; the longest program is of {longest:g} s")
        audio = np.zeros((1, room), np.int16)
        audio[0, : len(samples)] = samples
        tokens, lengths = jax.device_get(self.programs[room](self.params, audio, np.array([len(samples)], np.int32)))
        return text_of([self.tokens[i] for i in tokens[0, : lengths[0]] if i >= FIRST], self.between)


def serve(folder: pathlib.Path, files: list[str]) -> None:
    server = Server(folder)
    for file in files:
        samples, rate = soundfile.read(file, dtype="int16")
        if rate != server.sample_rate or samples.ndim != 1:
            sys.exit(f"{file}: {rate} Hz, shape {samples.shape}; one channel of {server.sample_rate} Hz was expected")
        print(file, server(samples))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("export")
    one.add_argument("model", type=pathlib.Path)
    one.add_argument("folder", type=pathlib.Path)
    one.add_argument("--seconds", type=float, nargs="+", default=[2.0, 8.0, 32.0])
    one.add_argument("--import", dest="imports", nargs="+", default=(), help="modules with parts of the model")
    two = commands.add_parser("serve")
    two.add_argument("folder", type=pathlib.Path)
    two.add_argument("files", nargs="+")
    options = vars(parser.parse_args(argv))
    {"export": export, "serve": serve}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
