"""Sound to text with a trained model: `python -m jaxasr.decode --model=DIR INPUT...`."""

import dataclasses
import io
import math
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, BinaryIO, Literal

import jax
import rich.console
import tyro

from jaxasr import checkpoint, config, consoles, stream, tuning
from jaxasr.command_line import Imports, options_of
from jaxasr.compiled import use_persistent_cache
from jaxasr.data import kaldi, manifest, reading, sounds, tables
from jaxasr.data.audio import SUFFIXES
from jaxasr.data.manifest import Utterance
from jaxasr.data.segmenter import Segmenter
from jaxasr.data.source import MAX_AUDIO_SECONDS, check_max_seconds, of_files
from jaxasr.data.utterance import Kind, holds_features
from jaxasr.errors import ConfigError, DataError, exit_with_message, harmless
from jaxasr.fetch import arrived, id_of, is_url
from jaxasr.hypothesis import Hypothesis, with_words
from jaxasr.inputs import check_batches, evaluation_inputs
from jaxasr.long import Batching, recognized
from jaxasr.outputs import files
from jaxasr.outputs.formats import USUAL, check_formats, kaldi_text, needing_times, use_times
from jaxasr.parallel import Devices, is_main_process
from jaxasr.recognizer import Recognizer
from jaxasr.searching import SearchFlags
from jaxasr.speech_to_text import as_utterance
from jaxasr.tasks.base import Task
from jaxasr.typing import Params


@dataclasses.dataclass(frozen=True)
class DecodeOptions:
    """Sound to text with a trained model.

    Prints one line `id text` an utterance, and at the end on stderr how fast it was. An INPUT is a sound file, a folder
    of sound files, a Kaldi folder or a .jsonl, .csv or .tsv manifest; any number of them, mixed. A model that reads
    features takes .npy files and PATH.ark:OFFSET instead.
    """

    input: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT ...")]
    """Sound files, folders, Kaldi folders, manifests; - for a sound file on standard input; URLs of --allow_url."""
    model: str
    """Workdir of a run, or its model folder."""
    searching: Annotated[SearchFlags, tyro.conf.arg(name="")] = SearchFlags()
    """Which search, and its options."""
    segmenter: Annotated[Segmenter, tyro.conf.arg(name="")] = Segmenter()
    """How long sound is cut."""
    allow_url: tuple[str, ...] = ()
    """Hosts that http:// and https:// INPUTs may lead to, such as example.org; by default none. Names lead to public
    addresses alone; a private one is named by its number, as 127.0.0.1:8000."""
    max_audio_seconds: float | None = None
    """Longer INPUTs are refused; None: URLs of more than 600 s, and no files, whose length costs no memory."""
    output: str | None = None
    """Folder for what --formats names, and for `decode.yaml`: every option, the model and the versions."""
    formats: tuple[str, ...] = USUAL
    """What to write, any of: text (Kaldi's), jsonl (`hyp.jsonl`, all that is known) and ctm, each one file; txt, json,
    srt, vtt, tsv and TextGrid, a file `ID.FORMAT` for each utterance."""
    rows: int | None = None
    """Utterances in a batch; by default as many as --batch_seconds holds. Changes the speed, not the text."""
    batch_seconds: float = 200.0
    """Sound in a batch, padding included, in seconds."""
    max_buckets: int = 6
    """Most batch shapes; one compilation each."""
    extra_padding: float = 0.0
    """Seconds of padding added to every row; changes nothing but the time it takes."""
    progress: Literal["auto", "off"] = "auto"
    """A progress bar on stderr where that is a terminal; with --stream the text as it grows."""
    tune: str | None = None
    """Manifest with transcripts: first look for the weights that a beam search makes the fewest word errors on it with,
    print what they are, and decode INPUT, if there is any, with them."""
    stream: bool = False
    """Decode while the sound plays, one INPUT behind the other; INPUT - then is 16-bit little-endian mono PCM at the
    model's sample rate on standard input."""
    pace: float = 1.0
    """With --stream, how many times as fast as real time files play; 0 for as fast as they are decoded."""
    stall_seconds: float | None = reading.STALL_SECONDS
    """End, with the stacks of all threads, when nothing at all has been read for so many seconds, as when a disk has
    gone; none: wait for ever."""
    imports: Imports = ()


STREAMED = {"input", "model", "output", "formats", "progress", "stream", "pace", "imports"}
"""The options that --stream reads."""


def read_inputs(paths: Sequence[str], kind: Kind, arrived: Mapping[str, str] | None = None) -> list[Utterance]:
    """The utterances that INPUT arguments name, each id once; what is named must be of this kind.

    Args:
      arrived: the files that hold what is no file by itself, by INPUT.

    Raises:
      DataError: a folder has no such files, or a path is nothing that can be read.

    >>> read_inputs(["calls/zero.flac"], "sound")[0].id
    'zero'
    """
    found: list[Utterance] = []
    suffixes, what = ((".npy",), "feature") if kind == "features" else (SUFFIXES, "sound")
    script = kaldi.script(kind)
    for name in paths:
        path = pathlib.Path(name)
        if arrived and name in arrived:
            found.append(as_utterance(_id(id_of(name)), arrived[name], kind))
        elif os.path.isdir(path) and not os.path.exists(path / script):
            inside = sorted(map(pathlib.Path, sounds.inside(name, name, suffixes)))
            if not inside:
                raise DataError(
                    f"{name}: a folder without {script} and without {what} files; one of them was expected "
                    f"({', '.join(suffixes)}); give another path."
                )
            found += [as_utterance(_id(str(p.relative_to(path).with_suffix(""))), p, kind) for p in inside]
        elif path.suffix.lower() in SUFFIXES or holds_features(name):
            found.append(as_utterance(_id(path.stem), path, kind))
        elif os.path.exists(path) and not os.path.isdir(path) and not tables.is_table(name):
            raise DataError(
                f"{name}: neither a {what} file ({', '.join(suffixes)}), nor a folder, nor a manifest "
                f"({', '.join(tables.SUFFIXES)}); one of these was expected; convert it, or rename it."
            )
        else:
            found += manifest.read(path, need_text=False, kind=kind)
    return _with_unique_ids(found)


def _id(name: str) -> str:
    """The name without white space, which would end an id in Kaldi's files."""
    return re.sub(r"\s", "_", name)


def _with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    """The same utterances; an id that stands more than once gets its number behind it (`a`, `a-2`)."""
    seen: dict[str, int] = {}
    taken = {u.id for u in utterances}
    out = []
    for utterance in utterances:
        seen[utterance.id] = seen.get(utterance.id, 0) + 1
        new = utterance.id
        while seen[utterance.id] > 1 and new in taken:
            new = f"{utterance.id}-{seen[utterance.id]}"
            seen[utterance.id] += new in taken
        taken.add(new)
        out.append(dataclasses.replace(utterance, id=new))
    return out


def decode(options: DecodeOptions) -> list[Hypothesis]:
    """What the command line does, without printing the hypotheses.

    Raises:
      ConfigError: options mean nothing, or do not go together.
    """
    if not options.input and options.tune is None:
        raise ConfigError(
            "INPUT: none; sound files, folders or manifests were expected; name what to decode, before --formats, "
            "--allow_url and --import, which take all that stands behind them."
        )
    check_batches(options)
    if not 0.0 <= options.extra_padding < math.inf:
        raise ConfigError(f"--extra_padding={options.extra_padding}: 0 or more seconds were expected; change it.")
    check_max_seconds(options.max_audio_seconds)
    options.segmenter.check()
    _check_stream(options)
    _check_output(options)
    config.import_modules(options.imports, "--import")
    reading.allow(options.stall_seconds)
    use_persistent_cache()
    task, params = checkpoint.load_model(options.model)
    console = consoles.console(stderr=True, quiet=options.progress == "off" or not is_main_process())
    if options.stream:
        hypotheses = list(_streamed(task, params, options, files.shown_on(console)))
    else:
        hypotheses, options = _at_once(task, params, options, console)
    if options.output is not None and is_main_process():
        if options.input:
            hypotheses = [with_words(task, said) for said in hypotheses]
            files.write(pathlib.Path(options.output), hypotheses, options.formats)
        files.write_options(pathlib.Path(options.output) / "decode.yaml", options)
    return hypotheses


def _check_output(options: DecodeOptions) -> None:
    """Raises ConfigError where it cannot be written or a format cannot be; makes the folder."""
    check_formats(options.formats)
    if options.output is None:
        if options.formats != USUAL:
            raise ConfigError(
                f"--formats={' '.join(options.formats)}: no --output; a folder to write them in was expected; give one."
            )
        return
    files.make_folder(options.output)
    if options.stream and (timed := needing_times(options.formats)):
        raise ConfigError(
            f"--formats={' '.join(timed)} with --stream: what is said while sound comes has no times; formats without "
            "them were expected; choose from text, jsonl, txt and json, or decode without --stream."
        )


def _check_stream(options: DecodeOptions) -> None:
    """Raises ConfigError where an option would change nothing."""
    given, usual = (files.flat(dataclasses.asdict(each)) for each in (options, DecodeOptions((), "")))
    for name in [n for n in given if n not in STREAMED] if options.stream else ["pace"]:
        if given[name] != usual[name]:
            raise ConfigError(
                f"--{name}={given[name]} {'with' if options.stream else 'without'} --stream: it would change nothing; "
                f"{usual[name]} was expected; remove one of the two, or add --stream."
            )
    if not 0.0 <= options.pace < math.inf:
        raise ConfigError(f"--pace={options.pace}: a finite number from 0 was expected; change it.")
    if options.stream and (("-" in options.input and len(options.input) > 1) or any(map(is_url, options.input))):
        raise ConfigError(
            f"INPUT: {' '.join(options.input)}; files, or - alone, were expected with --stream; change them."
        )


def _streamed(
    task: Task, params: Params, options: DecodeOptions, console: rich.console.Console | None
) -> Iterator[Hypothesis]:
    listener = stream.Listener.of(task, jax.device_put(params, jax.devices()[0]))
    if options.input == ("-",):
        heard = [("-", stream.arriving(_standard_input()))]
    else:
        utterances = _written(read_inputs(options.input, task.source.kind), options)
        heard = [(u.id, stream.played(listener, u, options.pace)) for u in utterances]
    for name, ended in stream.shown(listener, heard, console):
        yield Hypothesis(name, listener.text(ended), ended.score, list(ended.tokens))


def _at_once(
    task: Task, params: Params, options: DecodeOptions, console: rich.console.Console
) -> tuple[list[Hypothesis], DecodeOptions]:
    """The hypotheses, and the options with the weights that they were found by; tells how it went."""
    devices = Devices.all() if (options.rows or 0) % jax.device_count() == 0 else Devices.first()
    flags, formats = options.searching, () if options.output is None else options.formats
    search = dataclasses.replace(flags.choices(task), times=use_times(formats))
    scorers = flags.scorers(task)
    recognizer = Recognizer(task, search, devices, fusion=flags.fusion(scorers))
    params = jax.device_put(params, devices.replicated)
    if timed := needing_times(formats):
        check_times(timed, search.name, recognizer.tells_times(params))
    batching = Batching(
        options.batch_seconds, options.max_buckets, options.rows, devices.mesh.size, options.extra_padding
    )
    if options.tune is not None:
        utterances = manifest.read(options.tune, kind=task.source.kind)
        inputs = evaluation_inputs(task, utterances, **dataclasses.asdict(batching))
        found = tuning.tuned(recognizer, params, inputs, flags, scorers, files.shown_on(console))
        tuning.show(found, options.tune, consoles.console(stderr=True, quiet=not is_main_process()))
        options = dataclasses.replace(options, searching=found.flags(flags))
        recognizer.weighed(options.searching.fusion(scorers))
    if not options.input:
        return [], options
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        others = arrived(
            options.input,
            of_files(task.source),
            pathlib.Path(folder),
            standard_input=_standard_input(),
            hosts=options.allow_url,
            max_seconds=options.max_audio_seconds or MAX_AUDIO_SECONDS,
        )
        utterances = _written(read_inputs(options.input, task.source.kind, others), options)
        shown = files.shown_on(console)
        most = options.max_audio_seconds or math.inf
        found = recognized(
            recognizer, params, utterances, options.segmenter, batching, max_seconds=most, progress=shown
        )
    files.tell(found, time.perf_counter() - began, console)
    return found, options


def _standard_input() -> BinaryIO:
    """Empty where it is closed."""
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer


def _written(utterances: list[Utterance], options: DecodeOptions) -> list[Utterance]:
    """The same, of which each can have its files."""
    if options.output is not None:
        files.check_ids(pathlib.Path(options.output), [u.id for u in utterances], options.formats)
    return utterances


def check_times(formats: Sequence[str], search: str, told: bool) -> None:
    """Raises ConfigError where the search tells no times, of which these formats are made."""
    if not told:
        raise ConfigError(
            f"--formats={' '.join(formats)}: --search={search} tells no times of words, and this model has no CTC head "
            "to find them by; formats without times were expected; choose from text, jsonl, txt and json, another "
            "search, or a model that was trained with --ctc_weight above 0."
        )


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(DecodeOptions, argv, "decode")
    lines = map(kaldi_text, decode(options))
    if sys.stdout.isatty():
        lines = (f"{harmless(line[:-1])}\n" for line in lines)
    print("".join(lines), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
