"""Kaldi folders, JSON lines and other text files."""

import gzip

from jaxasr.data import manifest
from tests.errors.files import kaldi, write


def jsonl(content: str | bytes) -> None:
    manifest.read(write("m.jsonl", content))


def folder(**files: str) -> None:
    manifest.read(kaldi("data", **files))


def csv(content: str) -> None:
    manifest.read(write("m.csv", content))


def without_a_text() -> None:
    write("data/wav.scp", "u u.wav\n")
    manifest.read("data")


CASES = {
    "no file": lambda: manifest.read("nowhere"),
    "a file of another kind": lambda: manifest.read(write("m.txt")),
    "a file that is not packed": lambda: manifest.read(write("m.jsonl.gz", "{}")),
    "a packed file of very much": lambda: manifest.read(write("m.jsonl.gz", gzip.compress(b"a" * 2**25))),
    "a packed file without .gz": lambda: jsonl(gzip.compress(b"{}")),
    "an empty file": lambda: jsonl(""),
    "a folder where a file belongs": lambda: folder(**{"utt2spk/x": ""}),
    "Latin-1": lambda: jsonl("é".encode("latin-1")),
    "a blank line": lambda: jsonl('\n{"source": "a.wav", "target": ""}\n'),
    "a NUL": lambda: jsonl('{"source": "a\0.wav"}\n'),
    "an id twice": lambda: folder(text="u a\nu b\n"),
    "a URL": lambda: folder(wav_scp="u https://example.org/u.wav\n"),
    "a pipe": lambda: folder(wav_scp="u sox u.sph -t wav - |\n"),
    "features for sound": lambda: folder(wav_scp="u u.npy\n"),
    "sound for features": lambda: manifest.read(kaldi("data", feats_scp="u u.wav\n"), kind="features"),
    "a folder without wav.scp": lambda: manifest.read("."),
    "a wav.scp without a path": lambda: folder(wav_scp="u\n"),
    "a segment of three fields": lambda: folder(segments="u u 0\n"),
    "a segment of an unknown recording": lambda: folder(segments="u v 0 1\n"),
    "a segment's time in minutes": lambda: folder(segments="u u 0:00 0:01\n"),
    "a segment that ends before it starts": lambda: folder(segments="u u 2 1\n"),
    "an utterance of no seconds": lambda: folder(utt2dur="u 0\n"),
    "no transcripts": without_a_text,
    "an id without a transcript": lambda: folder(wav_scp="u u.wav\nv v.wav\n"),
    "a transcript without sound": lambda: folder(text="u a\nv b\n"),
    "no JSON": lambda: jsonl("u.wav\n"),
    "a JSON list": lambda: jsonl("[]\n"),
    "a column twice": lambda: csv("path,text,path\n"),
    "a header alone": lambda: csv("path,text\n"),
    "a comma in a text": lambda: csv("path,text\nu.wav,a, b\n"),
    "a quote in a text": lambda: csv('path,text\nu.wav,"a"b\n'),
    "a row's duration in words": lambda: csv("path,text,duration\nu.wav,a,1 s\n"),
    "no path": lambda: jsonl('{"audio_path": "u.wav"}\n'),
    "a misspelt duration": lambda: csv("path,text,duratoin\nu.wav,a,1\n"),
    "an empty path": lambda: jsonl('{"source": "", "target": ""}\n'),
    "no text": lambda: jsonl('{"source": "u.wav", "txt": "a"}\n'),
    "a text that is a number": lambda: jsonl('{"source": "u.wav", "target": 7}\n'),
    "half a surrogate pair": lambda: jsonl('{"source": "u.wav", "target": "\\ud800"}\n'),
    "an id of two words": lambda: jsonl('{"source": "u.wav", "target": "", "key": "u v"}\n'),
    "a duration in words": lambda: jsonl('{"source": "u.wav", "target": "", "duration": "1 s"}\n'),
    "a duration below 0": lambda: jsonl('{"source": "u.wav", "target": "", "duration": -1}\n'),
    "a duration of 0": lambda: jsonl('{"source": "u.wav", "target": "", "duration": 0}\n'),
}
