"""Kinds of files that users hand us: a valid one of each, and what reads it."""

import csv
import functools
import gzip
import io
import json
import pathlib
import tempfile
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from jaxasr import config
from jaxasr.data import arpa, manifest, subwords, tables
from jaxasr.data.audio import SoundSource
from jaxasr.data.cleaners import read_symbols
from jaxasr.data.lexicon import PhoneTokenizer, SegDictTokenizer
from jaxasr.data.manifest import Utterance
from jaxasr.data.selection import Measures, select
from jaxasr.data.source import Header
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, Vocabulary
from jaxasr.errors import DataError
from jaxasr.nn.normalize import Cmvn, read_mvn, write_kaldi_mvn
from jaxasr.recipes import RECIPES
from jaxasr.search.hotwords import read_hotwords
from jaxasr.train_config import TrainConfig


class Target(NamedTuple):
    files: dict[str, bytes]
    """The content of valid files by name."""
    load: Callable[[pathlib.Path], object]
    """Reads the files in a folder."""
    words: tuple[bytes, ...] = ()
    """What stands in such files, beside what `mutations.ODD` has."""


# Manifests: of all that is named every utterance is used, or left out for a reason that is told

_MEASURES = Measures(
    SoundSource(8000),
    frames=lambda samples: samples // 800,
    frames_needed=lambda text: len(text.split()),
    num_tokens=lambda text: len(text.split()),
    unknown=lambda text: [word for word in text.split() if not word.isascii()],
)


def _account(named: int, utterances: Sequence[Utterance]) -> None:
    """The identity: named = used + left out, each with a reason."""
    infos = {u.audio: header for u in utterances if (header := _header(u))}
    selection = select(utterances, infos, _MEASURES, speeds=(0.9, 1.0, 1.1), max_seconds=4.0)
    out = list(selection.left_out_rows())
    assert named == len(selection.utterances) + len(out)
    assert all(row["reason"] for row in out)
    assert {u.id for u in utterances} == {u.id for u in selection.utterances} | {row["id"] for row in out}
    assert selection.accounting().startswith(f"{named} in = ")
    for row in out:
        assert json.loads(json.dumps(row, ensure_ascii=False).encode()) == row


def _header(utterance: Utterance) -> Header | DataError | None:
    """What a file says of itself; None where the manifest's duration is believed."""
    drawn = zlib.crc32(utterance.audio.encode())
    if utterance.seconds is not None and drawn % 3 == 0:
        return None
    return DataError(f"{utterance.audio}: cannot be decoded") if drawn % 3 == 1 else Header(drawn % 50_000, 8000, 1)


def _lines(path: pathlib.Path) -> int:
    """Lines that are not blank."""
    return sum(not line.isspace() for line in path.read_bytes().decode("utf-8-sig").split("\n") if line)


def _kaldi(folder: pathlib.Path) -> None:
    named = folder / "segments"
    utterances = manifest.read(folder)
    _account(_lines(named if named.exists() else folder / "wav.scp"), utterances)
    sentences = manifest.read(folder, kind="text")
    assert len(sentences) == _lines(folder / "text")


def _jsonl(name: str, folder: pathlib.Path) -> None:
    path = folder / name
    utterances = manifest.read(path, need_text=False, kind=None)
    _account(_lines(path), utterances)
    list(tables.read_texts(str(path)))


def _packed(folder: pathlib.Path) -> None:
    utterances = manifest.read(folder / "m.jsonl.gz")
    (folder / "m.txt").write_bytes(gzip.decompress((folder / "m.jsonl.gz").read_bytes()))
    _account(_lines(folder / "m.txt"), utterances)


def _table(name: str, folder: pathlib.Path) -> None:
    path = folder / name
    utterances = manifest.read(path)
    text = io.StringIO(path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n"), newline="")
    reader = csv.reader(text) if name.endswith("csv") else csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    _account(sum(any(cell.strip() for cell in row) for row in reader) - 1, utterances)


def _text(folder: pathlib.Path) -> None:
    manifest.read(folder / "m.txt", kind="text")


_ROWS = [
    {"id": "u1", "audio_filepath": "a.wav", "text": "one two", "duration": 1.5, "offset": 0.5, "speaker": "s"},
    {"key": "u2", "source": "/x/b.flac", "target": "zwölf 三", "duration": None},
    {"path": "c.mp3", "sentence": "", "client_id": "t", "other": [1, {"a": None}]},
]
_JSONL = "".join(json.dumps(row, ensure_ascii=i == 1) + "\n" for i, row in enumerate(_ROWS)).encode()
_FIELDS = (b"text", b"duration", b"offset", b"id", b"path", b"duratoin", b'"id": "u2", ', b'"duration": 1e300, ')
_KALDI = {
    "wav.scp": b"a a.wav\nb sub/b c.flac\nc /x/c.wav\n",
    "text": "u1 one two\nu2 zwölf 三\nu3\n".encode(),
    "segments": b"u1 a 0 1.5\nu2 a 1.5 2.25\nu3 b 0.25 -1\n",
    "utt2spk": b"u1 s\nu2 s\nu3 t\n",
}
_WHOLE = {
    "wav.scp": b"u1 a.wav\nu2 b.wav\nu3 c.wav\n",
    "text": b"u1 one\nu2 two\nu3 three\n",
    "utt2dur": b"u1 1.5\nu2 3\nu3 1e-3\n",
}
_CSV = b'id,audio_filepath,text,duration,offset\nx,"a, b.wav","one, ""two""\nthree",1.5,2\ny,/x/b.wav,,,\n'
_TSV = b'client_id\tpath\tsentence\tage\ns1\tcv_1.mp3\tHe said "go\t\ns2\tsub/2.mp3\tOne, two\t30\n'

# Token lists and what cuts texts


def _vocabulary(name: str, folder: pathlib.Path) -> None:
    vocabulary = Vocabulary.from_file(folder / name)
    vocabulary.save(folder / f"again-{name}")
    assert Vocabulary.from_file(folder / f"again-{name}").hash == vocabulary.hash


def _subwords(folder: pathlib.Path) -> None:
    tokenizer = BpeTokenizer(model=str(folder / "bpe.model")).prepared(())
    tokens = tokenizer.tokens("one two zwölf")
    tokenizer.join(tokens)
    Vocabulary.from_texts((), tokenizer)


def _phones(folder: pathlib.Path) -> None:
    tokenizer = PhoneTokenizer(file=str(folder / "lexicon.txt")).prepared(())
    Vocabulary.from_texts((), tokenizer).encode(tokenizer.tokens("HELLO two WORLD"))


def _seg_dict(folder: pathlib.Path) -> None:
    tokenizer = SegDictTokenizer(file=str(folder / "seg_dict")).prepared(())
    tokenizer.join(tokenizer.tokens("hello 三 two"))


def _symbols(folder: pathlib.Path) -> None:
    read_symbols((str(folder / "symbols.txt"),), "--ignore")


_TOKENS = ["<blank>", "<s>", "</s>", *"abcdef", "三", "▁one", "<unk>"]

# Statistics, n-gram models, configurations


def _statistics(name: str, folder: pathlib.Path) -> None:
    cmvn = read_mvn(folder / name)
    assert np.isfinite([*cmvn.shift, *cmvn.scale]).all()
    assert cmvn.shift.shape == cmvn.scale.shape
    assert len(cmvn.shift)


def _mvn() -> bytes:
    cmvn = Cmvn(np.linspace(-9, -1, 12, dtype=np.float32), np.linspace(0.1, 2, 12, dtype=np.float32))
    with tempfile.TemporaryDirectory() as folder:
        write_kaldi_mvn(pathlib.Path(folder, "am.mvn"), cmvn)
        return pathlib.Path(folder, "am.mvn").read_bytes()


def _sums() -> bytes:
    content = io.BytesIO()
    np.savez(content, count=np.array(7), sum=np.arange(5.0), sum_square=np.arange(5.0) ** 2 + 1)
    return content.getvalue()


_ARPA = b"""\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-99\t<s>\t-0.3
-1.0\t</s>
-0.7\ta\t-0.2
-0.8\tb\t-0.1
-1.5\t<unk>\t0

\\2-grams:
-0.4\t<s> a\t-0.1
-0.5\ta b\t-0.2
-0.6\tb a\t0
-0.9\tb </s>

\\3-grams:
-0.1\t<s> a b
-0.2\ta b a

\\end\\
"""
_OF_ARPA = (
    b"ngram 1=" + b"9" * 5000,
    b"ngram 4=1\n",
    b"\\data\\",
    b"\\end\\",
    b"\\2-grams:",
    b"-99",
    b"ngram 1=1000000000000",
)


def _ngrams(name: str, folder: pathlib.Path) -> None:
    arpa.read(folder / name)


def _options(folder: pathlib.Path) -> None:
    path = folder / "config.yaml"
    found = config.from_mapping(TrainConfig, config.read_yaml(path), where=str(path))
    config.to_yaml(found).encode()


LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 30)
)
_OF_YAML = (
    *(b"&a [*a]", b"&a {b: *a}", b"*a", b"&a", b"<<: *a\n", b"<<: {a: 1}\n", b"!!python/object/apply:os.system [id]"),
    *(b"!!timestamp x", b"2001-99-99", b"2001-01-01", b"!!binary x", b"!!int x", b"!!float x", b"!!bool x"),
    *(b"!!omap [a]", b"!!pairs [a]", b"!!set {a}", b"!!map [a]", b"!!seq {a: b}", b"!!str [a]", b"!!null x", b"!x y"),
    *(b"0b2", b"0x", b"1:99:99", b"08", b"%YAML 9.9\n---\n", b"---\n", b"...\n", b"\t", b"- a\n"),
    *(b"? [a]\n: b\n", b"a: b\n", b'"\\ud800"', b'"\\0"'),
    *(b"[" * 200 + b"]" * 200, b"{a: " * 200 + b"}" * 200, LAUGHS),
    *(b"task: paraformer\n", b"encoder: {type: [a]}\n", b"encoder: none\n"),
)  # fmt: skip


def _hotwords(folder: pathlib.Path) -> None:
    vocabulary, tokenizer = Vocabulary(("<blank>", "<s>", "</s>", *"onetw三", "<space>", "<unk>")), CharTokenizer()
    read_hotwords(folder / "hotwords.txt", vocabulary, tokenizer.tokens, tokenizer.bounds(vocabulary.tokens))


# Sound


_FORMS = {
    "wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III", "aiff": "PCM_24",
    "au": "FLOAT", "caf": "PCM_16", "w64": "PCM_32", "rf64": "DOUBLE", "voc": "PCM_U8", "nist": "ULAW",
}  # fmt: skip


def _sound(name: str, folder: pathlib.Path) -> None:
    path, source = str(folder / name), SoundSource(8000)
    source.check(path, source.info(path))
    for _ in source.blocks(Utterance("u", path, "")):
        pass


def sounds() -> dict[str, Target]:
    """Short sound files by their form, most of which is a header."""
    found = {}
    for suffix, subtype in _FORMS.items():
        form = {"opus": "OGG"}.get(suffix, suffix.upper())
        soundfile.write(content := io.BytesIO(), np.sin(np.arange(160)), 8000, format=form, subtype=subtype)
        name = f"a.{suffix}"
        found[suffix] = Target({name: content.getvalue()}, functools.partial(_sound, name))
    return found


def targets(bpe: bytes) -> dict[str, Target]:
    """By the name of what is read; `bpe` is a sentencepiece model."""
    of = functools.partial
    tokens = json.dumps(_TOKENS, ensure_ascii=False).encode()
    return {
        "kaldi": Target(_KALDI, _kaldi, (b"u1", b"u2", b"a", b"c 0 -1", b"1e300", b"-1")),
        "kaldi without segments": Target(_WHOLE, _kaldi, (b"u1", b"u2", b"1e300")),
        "jsonl": Target({"m.jsonl": _JSONL}, of(_jsonl, "m.jsonl"), _FIELDS),
        "packed jsonl": Target({"m.jsonl.gz": gzip.compress(_JSONL, mtime=0)}, _packed),
        "csv": Target({"m.csv": _CSV}, of(_table, "m.csv"), _FIELDS),
        "tsv": Target({"m.tsv": _TSV}, of(_table, "m.tsv"), _FIELDS),
        "text": Target({"m.txt": b"one two\n\nthree\n"}, _text),
        "tokens.txt": Target({"tokens.txt": "\n".join(_TOKENS).encode()}, of(_vocabulary, "tokens.txt")),
        "tokens.json": Target({"tokens.json": tokens}, of(_vocabulary, "tokens.json")),
        "bpe.model": Target({"bpe.model": bpe}, _subwords),
        "lexicon": Target({"lexicon.txt": b"HELLO HH AH0 L OW1\nWORLD W ER1 L D\nHELLO HH EH0 L OW1\n"}, _phones),
        "seg_dict": Target({"seg_dict": "hello he@@ llo\n三 三\ntwo two\n".encode()}, _seg_dict),
        "symbols": Target({"symbols.txt": b"<noise>\n[laughter]\n"}, _symbols),
        "am.mvn": Target(
            {"am.mvn": _mvn()}, of(_statistics, "am.mvn"), (b"[", b"]", b"<AddShift>", b"<Rescale>", b"<LearnRateCoef>")
        ),
        "feats_stats.npz": Target({"s.npz": _sums()}, of(_statistics, "s.npz")),
        "arpa": Target({"lm.arpa": _ARPA}, of(_ngrams, "lm.arpa"), _OF_ARPA),
        "packed arpa": Target({"lm.arpa.gz": gzip.compress(_ARPA, mtime=0)}, of(_ngrams, "lm.arpa.gz")),
        "hot words": Target({"hotwords.txt": "one two\t2.0\n三\n".encode()}, _hotwords),
        "config.yaml": Target({"config.yaml": (RECIPES / "digits.yaml").read_bytes()}, _options, _OF_YAML),
    }


def learnt() -> bytes:
    """A small sentencepiece model."""
    texts = ["one two three four five", "six seven eight nine ten", "one three five"]
    return subwords.train(texts, size=20, algorithm="unigram", character_coverage=1.0, symbols=())
