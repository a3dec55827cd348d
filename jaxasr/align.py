"""Where known text is in its sound: `python -m jaxasr.align --model=DIR MANIFEST --output=DIR`."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Literal

import jax
import tyro

from jaxasr import checkpoint, config, consoles
from jaxasr.command_line import Imports, options_of
from jaxasr.compiled import use_persistent_cache
from jaxasr.data import manifest
from jaxasr.data.probe import headers
from jaxasr.data.selection import Selection, select
from jaxasr.errors import DataError, exit_with_message
from jaxasr.hypothesis import Hypothesis, with_words
from jaxasr.inputs import check_batches, evaluation_inputs_of, measures, write_left_out
from jaxasr.outputs import files
from jaxasr.outputs.formats import check_formats
from jaxasr.parallel import Devices, is_main_process
from jaxasr.recognizer import Recognizer
from jaxasr.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class AlignOptions:
    """Where known text is in its sound, by the CTC head of a trained model.

    A MANIFEST is a Kaldi folder or a .jsonl, .csv or .tsv file with transcripts. What cannot be aligned is counted by
    reason, and listed in `left_out.jsonl`.
    """

    manifest: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST ...")]
    """Kaldi folders, manifests."""
    model: str
    """Workdir of a run, or its model folder; trained with a CTC head."""
    output: str
    """Folder for what --formats names, and for `align.yaml`: every option, the model and the versions."""
    formats: tuple[str, ...] = ("ctm", "TextGrid")
    """What to write, any of: text (Kaldi's), jsonl (`hyp.jsonl`, all that is known) and ctm, each one file; txt, json,
    srt, vtt, tsv and TextGrid, a file `ID.FORMAT` for each utterance."""
    rows: int | None = None
    """Utterances in a batch; by default as many as --batch_seconds holds."""
    batch_seconds: float = 200.0
    """Sound in a batch, padding included, in seconds."""
    max_buckets: int = 6
    """Most batch shapes; one compilation each."""
    progress: Literal["auto", "off"] = "auto"
    """A progress bar on stderr where that is a terminal."""
    imports: Imports = ()


def align(options: AlignOptions) -> list[Hypothesis]:
    """What the command line does; the text of each utterance as the model's tokens say it, scored by CTC's best path.

    Raises:
      ConfigError: the model has no CTC head, or an option means nothing.
      DataError: nothing can be aligned.
    """
    check_formats(options.formats)
    check_batches(options)
    files.make_folder(options.output)
    config.import_modules(options.imports, "--import")
    use_persistent_cache()
    task, params = checkpoint.load_model(options.model)
    aligned = task.align_fn()
    console = consoles.console(stderr=True, quiet=options.progress == "off" or not is_main_process())
    began, folder = time.perf_counter(), pathlib.Path(options.output)
    selection = alignable(task, options.manifest)
    files.check_ids(folder, [u.id for u in selection.utterances], options.formats)
    console.print(f"align: {selection.accounting()}", highlight=False, markup=False, soft_wrap=True)
    write_left_out(selection, folder, console)
    devices = Devices.all() if (options.rows or 0) % jax.device_count() == 0 else Devices.first()
    inputs = evaluation_inputs_of(
        task,
        selection,
        batch_seconds=options.batch_seconds,
        max_buckets=options.max_buckets,
        rows=options.rows,
        rows_multiple=devices.mesh.size,
        extra_seconds=0.0,
    )
    recognizer = Recognizer(task, aligned, devices)
    found, _ = recognizer(jax.device_put(params, devices.replicated), inputs, progress=files.shown_on(console))
    found = [with_words(task, said) for said in found]
    if is_main_process():
        files.write(folder, found, options.formats)
        files.write_options(folder / "align.yaml", options)
    files.tell(found, time.perf_counter() - began, console)
    return found


def alignable(task: Task, manifests: Sequence[str]) -> Selection:
    """What can be aligned, and why the rest cannot.

    Raises:
      DataError: nothing can.
    """
    utterances = manifest.read_all(manifests, kind=task.source.kind)
    found = select(utterances, headers(utterances, task.source), measures(task))
    if not found.utterances:
        first = "".join(f" {fault}" for fault in list(found.faults.values())[:1])
        raise DataError(
            f"MANIFEST: nothing can be aligned: {found.accounting()}; at least one utterance was expected, with a text "
            f"of the model's tokens and a frame for each; correct the data.{first}"
        )
    return found


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(AlignOptions, argv, "align")
    align(options)


if __name__ == "__main__":
    main(sys.argv[1:])
