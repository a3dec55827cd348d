"""Decoding: options, inputs and arrays."""

import dataclasses
import errno
import io
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxasr import align, fetch
from jaxasr.data.audio import SoundSource
from jaxasr.data.segmenter import Segmenter
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.decode import DecodeOptions, check_times, decode, read_inputs
from jaxasr.hypothesis import Hypothesis
from jaxasr.long import samples_of
from jaxasr.outputs import files
from jaxasr.searching import SearchFlags
from jaxasr.speech_to_text import SpeechToText
from jaxasr.stream import Listener
from jaxasr.tasks import ParaformerTask
from tests import tiny
from tests.errors.files import kaldi, sound, write


def check(**options: Any) -> None:
    decode(DecodeOptions(("a.wav",), "model", **options))


def transcribe(samples: Any) -> None:
    SpeechToText(tiny.TASK, {}).transcribe(samples)


def fetched(url: str, *hosts: str) -> None:
    fetch.arrived([url], SoundSource(8000), pathlib.Path(), standard_input=io.BytesIO(), hosts=hosts)


def no_room() -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fetch.arrived(["-"], SoundSource(8000), pathlib.Path(), standard_input=Full(), hosts=())


class Answer(NamedTuple):
    """Of a server that says nothing, and how many bytes of it are still to come."""

    length: int

    def read1(self, size: int) -> bytes:
        del size
        return b""


def align_unknown_text() -> None:
    folder = kaldi("k", text="u b\n")
    sound("k/u.wav")
    align.alignable(tiny.TASK.with_resources(vocabulary=Vocabulary(tiny.TOKENS)), [folder])


CASES = {
    "no such format": lambda: check(output="out", formats=("srr",)),
    "formats without a folder": lambda: check(formats=("srt",)),
    "subtitles of a stream": lambda: decode(DecodeOptions(("a.wav",), "m", stream=True, output="o", formats=("srt",))),
    "subtitles without times": lambda: check_times(["srt"], "attention_greedy", told=False),
    "an id outside of the folder": lambda: files.write(pathlib.Path("out"), [Hypothesis("../a", "", 0.0, [])], ["txt"]),
    "alignment without CTC": lambda: dataclasses.replace(tiny.TASK, ctc_weight=0.0).align_fn(),
    "nothing to align": align_unknown_text,
    "an output that is a file": lambda: check(output=write("out")),
    "a file of another kind": lambda: read_inputs([write("a.m4a")], "sound"),
    "files that are no sound": lambda: samples_of(
        read_inputs([write("a.wav"), write("b.wav")], "sound"), SoundSource(8000)
    ),
    "no room for standard input": no_room,
    "no input": lambda: decode(DecodeOptions((), "model")),
    "batches of a stream": lambda: decode(DecodeOptions(("a.wav",), "model", stream=True, rows=3)),
    "a pace without a stream": lambda: check(pace=2.0),
    "a pace below 0": lambda: check(stream=True, pace=-1.0),
    "a stream of two": lambda: decode(DecodeOptions(("-", "-"), "model", stream=True)),
    "nothing on standard input": lambda: fetched("-"),
    "a host that is not allowed": lambda: fetched("http://example.org/a.wav"),
    "a name of this computer": lambda: fetched("http://localhost:1/a.wav", "localhost:1"),
    "a URL that is none": lambda: fetched("http://a b/a.wav", "a b"),
    "too much of a URL": lambda: fetch.copy("http://a/a.wav", Answer(fetch.MOST_BYTES + 1), io.BytesIO()),
    "too little of a URL": lambda: fetch.copy("http://a/a.wav", Answer(1), io.BytesIO()),
    "a cut of less than nothing": lambda: Segmenter(overlap=-1.0).check(),
    "what is no sound": lambda: transcribe(3),
    "a rate of 0": lambda: transcribe((np.zeros(5), 0)),
    "a model that waits for the end": lambda: Listener.of(tiny.TASK, {}),
    "a Paraformer that waits for the end": lambda: Listener.of(ParaformerTask(), {}),
    "no rows": lambda: check(rows=0),
    "padding below 0": lambda: check(extra_padding=-1.0),
    "a folder without sound": lambda: read_inputs(["."], "sound"),
    "a search that the model does not have": lambda: tiny.TASK.decode_fn("beam"),
    "a misspelt search with a beam": lambda: SearchFlags("ctc_baem", beam=5).choices(tiny.TASK),
    "half a token at most": lambda: SearchFlags("joint", maxlenratio=-0.5).choices(tiny.TASK),
    "more hypotheses than the beam has": lambda: SearchFlags("ctc_beam", beam=2, nbest=3).choices(tiny.TASK),
    "a probability above 1": lambda: SearchFlags("ctc_beam", blank_skip=1.5).choices(tiny.TASK),
    "a share above 1": lambda: SearchFlags("joint", ctc_weight=1.5).choices(tiny.TASK),
    "a ratio that is no number": lambda: SearchFlags("joint", maxlenratio=np.inf).choices(tiny.TASK),
    "a beam of a search that has none": lambda: SearchFlags("ctc_greedy", beam=5).choices(tiny.TASK),
    "two channels": lambda: transcribe(np.zeros((2, 5))),
    "samples of int16 as floats": lambda: transcribe(np.array([0.0, 1000.0])),
    "a NaN": lambda: transcribe(np.array([np.nan])),
}
