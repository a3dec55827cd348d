import csv
import gzip
import json
import pathlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxasr.data import manifest
from jaxasr.data.manifest import Utterance
from jaxasr.errors import DataError

# One folder serves every example of a property test: each overwrites the files it reads.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8).filter(
    lambda word: word.split() == [word] and not word.startswith("\ufeff") and "://" not in word
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"), max_size=20)


def write(folder: pathlib.Path, **files: str | bytes) -> pathlib.Path:
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("__", ".")).write_bytes(raw)
    return folder


def kaldi(folder: pathlib.Path, **files: str | bytes) -> pathlib.Path:
    return write(folder, **{"wav__scp": "a a.wav\nb b.wav\n", "text": "a one\nb two\n"} | files)


def jsonl(folder: pathlib.Path, *rows: object) -> pathlib.Path:
    path = folder / "m.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def nemo(**changes: object) -> dict[str, object]:
    return {"audio_filepath": "a.wav", "duration": 1.5, "text": "one"} | changes


def fault(path: pathlib.Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        manifest.read(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.count("; ") >= 2, "what came; what was expected; what to do"
    return message.removeprefix(str(path))


# Kaldi folders


def test_kaldi_folder(tmp_path):
    kaldi(tmp_path, wav__scp="a sub/a b.wav\nb /x/b.wav\n", text="b  zwei \u3000drei \na\n", utt2spk="a s\nb t\n")
    assert manifest.read(tmp_path) == [
        Utterance("a", str(tmp_path / "sub/a b.wav"), "", "s"),
        Utterance("b", "/x/b.wav", "zwei \u3000drei", "t"),
    ]


def test_a_kaldi_segment_may_go_to_the_end(tmp_path):
    kaldi(tmp_path, segments="u1 a 0.5 -1\nu2 a 0.5 -1.00\n", text="u1 one\nu2 two\n")
    assert [(u.start, u.seconds) for u in manifest.read(tmp_path)] == [(0.5, None)] * 2


def test_kaldi_durations(tmp_path):
    kaldi(tmp_path, utt2dur="b 2\na 0.5\n")
    assert [(u.id, u.start, u.seconds) for u in manifest.read(tmp_path)] == [("a", 0.0, 0.5), ("b", 0.0, 2.0)]


def test_kaldi_segments(tmp_path):
    kaldi(tmp_path, segments="u1 a 0 0.5\nu2 a 0.5 1.25\n", text="u1 one\nu2 two\n")
    audio = str(tmp_path / "a.wav")
    assert manifest.read(str(tmp_path)) == [
        Utterance("u1", audio, "one", "", 0.0, 0.5),
        Utterance("u2", audio, "two", "", 0.5, 0.75),
    ]


def test_kaldi_bom_carriage_returns_and_blank_end(tmp_path):
    kaldi(tmp_path, wav__scp=b"\xef\xbb\xbfa a.wav\r\nb b.wav\r\n\r\n \n", text="a one\r\nb two\r\n\n")
    assert [(u.id, u.text) for u in manifest.read(tmp_path)] == [("a", "one"), ("b", "two")]
    assert manifest.read(tmp_path)[0].audio == str(tmp_path / "a.wav")


def test_kaldi_paths_of_a_linked_folder_start_at_its_target(tmp_path):
    (tmp_path / "corpus" / "train").mkdir(parents=True)
    kaldi(tmp_path / "corpus" / "train", wav__scp="a ../audio/a.wav\n", text="a one\n")
    (tmp_path / "link").symlink_to(tmp_path / "corpus" / "train")
    assert manifest.read(tmp_path / "link")[0].audio == str(tmp_path / "corpus/audio/a.wav")


def test_kaldi_without_text(tmp_path):
    write(tmp_path, wav__scp="a a.wav\n")
    assert manifest.read(tmp_path, need_text=False)[0].text == ""
    assert fault(tmp_path).startswith("/text: no such file; ")


@given(
    st.dictionaries(
        WORDS, st.tuples(WORDS, TEXTS, st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=4
    )
)
@SHARED
def test_kaldi_round_trip(tmp_path, rows):
    write(
        tmp_path,
        wav__scp="".join(f"r{i} {word}.wav\n" for i, (word, *_) in enumerate(rows.values())),
        text="".join(f"{id_} {text}\n" for id_, (_, text, *_) in rows.items()),
        segments="".join(
            f"{id_} r{i} {start / 8000:.6f} {(start + count) / 8000:.6f}\n"
            for i, (id_, (_, _, start, count)) in enumerate(rows.items())
        ),
    )
    for utterance, (id_, (_, text, start, count)) in zip(manifest.read(tmp_path), rows.items(), strict=True):
        assert (utterance.id, utterance.text) == (id_, text.strip())
        assert utterance.seconds is not None
        assert utterance.start * 8000 == pytest.approx(start, abs=1e-3)
        assert utterance.seconds * 8000 == pytest.approx(count, abs=1e-3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav__scp": "a a.wav\nb sox b.mp3 -t wav - |\n"}, "/wav.scp:2: 'sox b.mp3 -t wav - |' is a shell command; "),
        ({"wav__scp": "a a.wav\nb\n"}, "/wav.scp:2: no path after id 'b'; "),
        ({"wav__scp": "a https://x.org/a.wav\n"}, "/wav.scp:1: 'https://x.org/a.wav' is a URL; "),
        ({"wav__scp": "a a.wav\n\nb b.wav\n"}, "/wav.scp:2: a blank line; "),
        ({"wav__scp": "a a.wav\nb b\0.wav\n"}, "/wav.scp:2: a NUL character; "),
        ({"wav__scp": "\n \n"}, "/wav.scp: no lines; "),
        ({"wav__scp": ""}, "/wav.scp: no lines; "),
        ({"text": b"a one\nb tw\xff\n"}, "/text:2: byte 0xff is not UTF-8; "),
        ({"text": b"\xef\xbb\xbf\n\xff"}, "/text:2: byte 0xff is not UTF-8; "),
        ({"text": "a one\nb two\nc three\n"}, "/text:3: 1 of 3 ids are not in wav.scp ('c'); "),
        ({"text": "x one\n"}, "/text: 2 of the 2 ids of wav.scp are missing ('a', 'b'); "),
        ({"text": "", "utt2spk": ""}, "/text: no lines; "),
        ({"utt2spk": "a s\n"}, "/utt2spk: 1 of the 2 ids of wav.scp are missing ('b'); "),
        ({"utt2dur": "a 1\nb 1 s\n"}, "/utt2dur:2: time '1 s'; "),
        ({"utt2dur": "b 1\na 0\n"}, "/utt2dur:2: 0 seconds; "),
        ({"segments": "u a 0\n"}, "/segments:1: 3 fields; "),
        ({"segments": "u a 0 1 A\n"}, "/segments:1: 5 fields; "),
        ({"segments": "u a 1 1\n"}, "/segments:1: end 1.0 is not after start 1.0; "),
        ({"segments": "u a 0 -2\n"}, "/segments:1: time '-2'; "),
        ({"segments": "u a -1 1\n"}, "/segments:1: time '-1'; "),
        ({"segments": "u a 0 nan\n"}, "/segments:1: time 'nan'; "),
        ({"segments": "u a 0 1_0\n"}, "/segments:1: time '1_0'; "),
        ({"segments": "u a 0 1e999\n"}, "/segments:1: time '1e999'; "),
        ({"segments": "u aa 0 1\n"}, "/segments:1: recording 'aa' is not in wav.scp; "),
        (
            {"segments": "u a 0 1\nv a 1 2\n", "text": "u one\n"},
            "/text: 1 of the 2 ids of segments are missing ('v'); ",
        ),
    ],
)
def test_kaldi_faults(tmp_path, files, message):
    assert fault(kaldi(tmp_path, **files)).startswith(message)


def test_kaldi_duplicate_id_names_both_lines(tmp_path):
    message = fault(kaldi(tmp_path, text="a one\nb two\na three\n"))
    assert message.startswith(f"/text:3: id 'a' is already at {tmp_path}/text:1; ")


def test_kaldi_missing_ids_are_counted_and_the_first_shown(tmp_path):
    kaldi(tmp_path, wav__scp="".join(f"u{i} {i}.wav\n" for i in range(9)), text="u0 one\n")
    assert "8 of the 9 ids of wav.scp are missing ('u1', 'u2', 'u3', ...)" in fault(tmp_path)


def test_folder_without_wav_scp(tmp_path):
    assert fault(tmp_path).startswith(": a folder without 'wav.scp'; ")


def test_missing_path_and_unknown_suffix(tmp_path):
    assert fault(tmp_path / "no.jsonl").startswith(": no such file or folder; ")
    (tmp_path / "a.xlsx").touch()
    assert fault(tmp_path / "a.xlsx").startswith(": neither a folder nor a .jsonl or .json or .csv or .tsv file; ")


def test_unreadable_file(tmp_path):
    kaldi(tmp_path)
    (tmp_path / "text").unlink()
    (tmp_path / "text").mkdir()
    assert fault(tmp_path).startswith("/text: Is a directory; ")


# JSON lines


def test_nemo(tmp_path):
    path = jsonl(tmp_path, nemo(id="x", text=" a  b\n", offset=2, speaker="s", lang="en"), nemo(duration=None))
    assert manifest.read(path) == [
        Utterance("x", str(tmp_path / "a.wav"), "a  b", "s", 2.0, 1.5),
        Utterance("a", str(tmp_path / "a.wav"), "one", "", 0.0, None),
    ]


def test_funasr(tmp_path):
    path = jsonl(tmp_path, {"key": "k", "source": "/x/a.wav", "source_len": 90, "target": "", "target_len": 0})
    assert manifest.read(path) == [Utterance("k", "/x/a.wav", "")]


def test_json_ids_are_made_from_file_offset_and_line(tmp_path):
    rows = [nemo(), nemo(offset=1.25), nemo(), nemo(id="a-0001250"), nemo(audio_filepath="b/a c.wav"), nemo(utt_id="z")]
    ids = [utterance.id for utterance in manifest.read(jsonl(tmp_path, *rows))]
    assert ids == ["a", "a-0001250-2", "a-3", "a-0001250", "a_c", "z"]


def test_json_line_separators_inside_a_text(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(nemo(text="a\u2028b\x0cc"), ensure_ascii=False) + "\r\n")
    assert manifest.read(path)[0].text == "a\u2028b\x0cc"


def test_names_of_hugging_face(tmp_path):
    path = jsonl(tmp_path, {"audio": "a.wav", "sentence": "x"}, {"file_name": "b.wav", "transcription": "y"})
    assert [(u.id, u.text) for u in manifest.read(path)] == [("a", "x"), ("b", "y")]


def test_json_without_text(tmp_path):
    path = jsonl(tmp_path, {"audio_filepath": "a.wav"}, {"source": "b.wav"})
    assert [(u.id, u.text) for u in manifest.read(path, need_text=False)] == [("a", ""), ("b", "")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"audio_filepath": "a.wav", "txt": "x"},
            ":1: no field 'text', 'target', 'sentence' or 'transcription', but 'audio_filepath', 'txt'; ",
        ),
        ({"source": "a.wav"}, ":1: no field 'text', 'target', 'sentence' or 'transcription', but 'source'; "),
        (
            {"audio_file": "a.wav"},
            ":1: no field 'audio_filepath', 'source', 'path', 'audio' or 'file_name', but 'audio_file'; ",
        ),
        ({}, ":1: no field 'audio_filepath', 'source', 'path', 'audio' or 'file_name', but none; "),
        (nemo(text=3), ":1: field 'text' is a number; "),
        (nemo(text=None), ":1: field 'text' is a null; "),
        (nemo(id=12), ":1: field 'id' is a number; "),
        (nemo(id="a b"), ":1: id 'a b'; "),
        (nemo(id=""), ":1: id ''; "),
        (nemo(text="a\0"), ":1: field 'text' holds a NUL character or half a surrogate pair; "),
        (nemo(text="\ud800"), ":1: field 'text' holds a NUL character or half a surrogate pair; "),
        (nemo(audio_filepath=""), ":1: field 'audio_filepath' is empty; "),
        (nemo(audio_filepath="cat a |"), ":1: 'cat a |' is a shell command; "),
        (nemo(duration="1"), ":1: field 'duration' is a string; "),
        (nemo(duration=True), ":1: field 'duration' is a boolean; "),
        (nemo(duration=float("nan")), ":1: field 'duration' is nan; "),
        (nemo(duration=float("inf")), ":1: field 'duration' is inf; "),
        (nemo(duration=10**400), ":1: field 'duration' is 1000"),
        (nemo(duration=-1), ":1: field 'duration' is -1; "),
        (nemo(offset=-0.5), ":1: field 'offset' is -0.5; "),
        (nemo(duration=0), ":1: 'duration' is 0; "),
        ([1], ":1: a JSON list; "),
        ('{"a": ', ":1: not JSON (Expecting value: "),
        ("[" * 100_000, ":1: not JSON ("),
        ('{"duration": ' + "1" * 5000 + "}", ":1: not JSON ("),
    ],
)
def test_json_faults(tmp_path, row, message):
    assert fault(jsonl(tmp_path, row)).startswith(message)


def test_json_faults_name_their_line_and_near_fields(tmp_path):
    message = fault(jsonl(tmp_path, nemo(), {"audio_path": "a.wav"}))
    assert message.startswith(":2: ")
    assert message.endswith("Did you mean 'audio_path'?")


@pytest.mark.parametrize("name", ["duratoin", "Duration", "durations", "ofset", "speakr", "Speaker"])
def test_a_misspelt_field_is_not_left_alone(tmp_path, name):
    row = {"audio_filepath": "a.wav", "text": "a"}
    message = fault(jsonl(tmp_path, row, row | {name: 1}))
    assert message.startswith(f":2: field {name!r}, which is not known, and none '")
    assert message.endswith("'?")


def test_other_fields_are_left_alone(tmp_path):
    names = (
        "speaker_id spk lang accents source_len target_len start_offset end_offset duration_ms orig_duration "
        "num_samples sentence_id sentence_domain segment pred_text locale emo_target text_language"
    )
    others = dict.fromkeys(names.split())
    row = {"audio_filepath": "a.wav", "text": "a"} | others
    both = row | {"duration": 1.0, "durations": 2, "speaker": "s", "speakers": 3}
    assert [u.seconds for u in manifest.read(jsonl(tmp_path, row, both))] == [None, 1.0]


def test_json_duplicate_id_names_both_lines(tmp_path):
    path = jsonl(tmp_path, nemo(id="x"), nemo(), nemo(id="x"))
    assert fault(path).startswith(f":3: id 'x' is already at {path}:1; ")


@given(st.lists(st.tuples(st.none() | st.sampled_from("abc"), st.sampled_from("ab"), TEXTS, st.integers(0, 3))))
@SHARED
def test_json_round_trip(tmp_path, rows):
    given_ids = [id_ for id_, *_ in rows if id_]
    path = jsonl(
        tmp_path,
        *(
            nemo(audio_filepath=f"{stem}.wav", text=text, offset=offset / 4) | ({"id": id_} if id_ else {})
            for id_, stem, text, offset in rows
        ),
    )
    if not rows or len(set(given_ids)) < len(given_ids):
        fault(path)
        return
    utterances = manifest.read(path)
    assert len({utterance.id for utterance in utterances}) == len(rows)
    for utterance, (id_, stem, text, offset) in zip(utterances, rows, strict=True):
        assert id_ is None or utterance.id == id_
        assert (utterance.audio, utterance.start) == (str(tmp_path / f"{stem}.wav"), offset / 4)
        assert utterance.text == text.strip()


# Features instead of sound


def test_a_kaldi_folder_of_features(tmp_path):
    kaldi(tmp_path, feats__scp="a x.ark:12\nb /y/b.npy\n", segments="u1 a 0 1\n", utt2spk="a s\nb t\n")
    assert manifest.read(tmp_path, kind="features") == [
        Utterance("a", str(tmp_path / "x.ark:12"), "one", "s"),
        Utterance("b", "/y/b.npy", "two", "t"),
    ]
    (tmp_path / "wav.scp").unlink()
    message = fault(tmp_path)
    assert message.startswith(": a folder without 'wav.scp'; ")
    assert message.endswith(" --frontend=features --preprocess=none reads its 'feats.scp'.")
    (tmp_path / "feats.scp").rename(tmp_path / "wav.scp")
    assert fault(tmp_path, kind="features").endswith(" --frontend=wav_frontend reads its 'wav.scp'.")


@pytest.mark.parametrize("value", ["a.wav", "a.npz", "a.ark", "a.ark:", "a.ark:x", "a.ark:-1", "a.ark:1[0:9]", "npy"])
def test_a_task_of_features_takes_nothing_else(tmp_path, value):
    message = fault(jsonl(tmp_path, nemo(audio_filepath=value)), kind="features")
    assert message.startswith(f":1: {value!r}; --frontend=features reads .npy files and PATH.ark:OFFSET; ")
    assert "--frontend=wav_frontend" in message
    assert manifest.read(jsonl(tmp_path, nemo(audio_filepath=value)))[0].audio == str(tmp_path / value)


@pytest.mark.parametrize("value", ["a.npy", "a.ark:0", "b/a.ark:123"])
def test_a_task_of_sound_takes_no_features(tmp_path, value):
    path = jsonl(tmp_path, nemo(audio_filepath=value))
    message = fault(path)
    assert message.startswith(f":1: {value!r} holds features; a sound file was expected; ")
    assert "--frontend=features --preprocess=none" in message
    for kind in ("features", None):
        assert manifest.read(path, kind=kind)[0].audio == str(tmp_path / value)


# Tables


def table(folder: pathlib.Path, content: str, name: str = "m.csv") -> pathlib.Path:
    return write(folder, **{name: content}) / name


def test_csv_with_quotes(tmp_path):
    path = table(
        tmp_path,
        "id,audio_filepath,text,duration,offset,speaker,lang,\r\n"
        'x,"a, b.wav"," one, ""two""\r\n\r\nthree ",\x1c1.5,2,s,en,\r\n'
        "y,/x/b.wav,,,,,,\r\n\r\n",
    )
    assert manifest.read(path) == [
        Utterance("x", str(tmp_path / "a, b.wav"), 'one, "two"\n\nthree', "s", 2.0, 1.5),
        Utterance("y", "/x/b.wav", ""),
    ]


def test_common_voice(tmp_path):
    rows = [
        "client_id\tpath\tsentence\tup_votes\tage",
        's1\tcommon_voice_1.mp3\tHe said "go\t2\t',
        "s1\tsub/2.mp3\tOne, two\t1\t",
        "s2\tcommon_voice_3.mp3\tNow\t0\t",
    ]
    path = table(tmp_path, "\n".join(rows) + "\n", "train.tsv")
    assert manifest.read(path)[0].audio == str(tmp_path / "common_voice_1.mp3")
    (tmp_path / "clips").mkdir()
    assert manifest.read(path) == [
        Utterance("common_voice_1", str(tmp_path / "clips/common_voice_1.mp3"), 'He said "go', "s1"),
        Utterance("2", str(tmp_path / "sub/2.mp3"), "One, two", "s1"),
        Utterance("common_voice_3", str(tmp_path / "clips/common_voice_3.mp3"), "Now", "s2"),
    ]


def test_any_of_the_names_in_any_form(tmp_path):
    row = {"path": "a.wav", "target": "one", "utt_id": "u", "client_id": "s"}
    expected = [Utterance("u", str(tmp_path / "a.wav"), "one", "s")]
    assert manifest.read(jsonl(tmp_path, row)) == expected
    assert manifest.read(table(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")) == expected


def test_table_without_text(tmp_path):
    path = table(tmp_path, "path\na.wav\n")
    assert manifest.read(path, need_text=False)[0].text == ""
    assert fault(path).startswith(":1: no field 'text', 'target', 'sentence' or 'transcription', but 'path'; ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": no lines; "),
        ("path,text\n", ": a header and no rows; "),
        ("path,text,id,text\na,b,c,d\n", ":1: column 'text' stands twice; "),
        ("path,txt\na.wav,b\n", ":1: no field 'text', 'target', 'sentence' or 'transcription', but 'path', 'txt'; "),
        (
            "pathh,text\na.wav,b\n",
            ":1: no field 'audio_filepath', 'source', 'path', 'audio' or 'file_name', but 'pathh', 'text'; ",
        ),
        ('path,text\na.wav,"one\ntwo"\nb.wav\n', ":4: 1 columns; 2, as in the header, were expected; "),
        ("path,text\na.wav,one, two\n", ":2: 3 columns; 2, as in the header, were expected; "),
        ('path,text\na.wav,one\nb.wav,"two\nc.wav,"three"\n', ":3: not a row of a table ("),
        ('path,text\na.wav,one\nb.wav,"two\nc.wav,three\n', ":3: not a row of a table (unexpected end of data); "),
        ("path,text\na.wav,one\n\nb.wav,two\n", ":3: a blank line; "),
        ("path,text\na.wav,on\0e\n", ":2: a NUL character; "),
        ("path,text\n,one\n", ":2: field 'path' is empty; "),
        ("path,text\nsox a |,one\n", ":2: 'sox a |' is a shell command; "),
        ("path,text,id\na.wav,one,\n", ":2: id ''; "),
        ("path,text,duration\na.wav,one,1_0\n", ":2: field 'duration' is '1_0'; "),
        ("path,text,duration\na.wav,one,nan\n", ":2: field 'duration' is 'nan'; "),
        ("path,text,duration\na.wav,one,1e999\n", ":2: field 'duration' is inf; "),
        ("path,text,offset\na.wav,one,-1\n", ":2: field 'offset' is -1.0; "),
        ("path,text,duration\na.wav,one,0\n", ":2: 'duration' is 0; "),
        (f"path,text\na.wav,{'x' * 200_000}\n", ":2: not a row of a table (field larger than field limit"),
    ],
)
def test_table_faults(tmp_path, content, message):
    assert fault(table(tmp_path, content)).startswith(message)


def test_semicolons_are_told(tmp_path):
    assert fault(table(tmp_path, "path;text\na.wav;b\n")).endswith(
        " A .csv has commas between its fields, and no semicolons."
    )


def test_tab_and_carriage_return_in_a_tsv(tmp_path):
    path = table(tmp_path, "path\ttext\na.wav\tone\ttwo\n", "m.tsv")
    assert (
        fault(path) == ":2: 3 columns; 2, as in the header, were expected; add or remove some, or take tabs "
        "out of the text."
    )
    assert fault(table(tmp_path, "path\ttext\na.wav\to\rne\n", "m.tsv")).startswith(":2: not a row of a table (")


def test_table_faults_name_near_columns_and_both_lines_of_an_id(tmp_path):
    assert fault(table(tmp_path, "path,sentense\na.wav,b\n")).endswith("Did you mean 'sentense'?")
    path = table(tmp_path, 'path,text,id\na.wav,"one\ntwo",x\nb.wav,three,x\n')
    assert fault(path).startswith(f":4: id 'x' is already at {path}:2; ")


@given(st.lists(st.tuples(WORDS, TEXTS, st.none() | st.integers(0, 9)), min_size=1, max_size=4))
@SHARED
def test_csv_round_trip(tmp_path, rows):
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "path", "offset"])
        writer.writerows([text, f"{word}.wav", offset] for word, text, offset in rows)
    for utterance, (word, text, offset) in zip(manifest.read(tmp_path / "m.csv"), rows, strict=True):
        assert utterance.text == text.strip()
        assert (utterance.audio, utterance.start) == (str(tmp_path / f"{word}.wav"), offset or 0)


# Packed


@pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.csv", "m.tsv"])
def test_gzip_changes_nothing(tmp_path, name):
    if name.startswith("m.json"):
        content = "".join(json.dumps(nemo(id=id_)) + "\n" for id_ in "ab")
    else:
        content = "path,text\na.wav,one\nb.wav,two\n".replace(",", "," if name == "m.csv" else "\t")
    plain = manifest.read(table(tmp_path, content, name))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert manifest.read(tmp_path / f"{name}.gz") == plain
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"\n" + content.encode()))
    assert fault(tmp_path / f"{name}.gz").startswith(":1: a blank line; ")


def test_broken_gzip(tmp_path):
    whole = gzip.compress(json.dumps(nemo()).encode() * 99)
    path = tmp_path / "m.jsonl.gz"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for broken in (b"plain text", whole[:-9], whole[:5], bytes(flipped), whole + b"rest"):
        path.write_bytes(broken)
        assert fault(path).startswith(": cannot be unpacked (")
    path.write_bytes(b"")
    assert fault(path).startswith(": no lines; ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["audio_filepath", "text", "source", "target", "duration", "x"]), inner)
    ),
    max_leaves=6,
)


CELLS = st.lists(
    st.sampled_from(["a.wav", "1.5", '"', ",", "\t", "\n", "\r", "path", "text", "\x1c", " "]), max_size=12
)


@given(
    st.binary(max_size=40)
    | st.lists(JSON.map(json.dumps), min_size=1, max_size=3).map("\n".join)
    | CELLS.map("".join)
    | CELLS.map(lambda cells: "path\ttext\n" + "".join(cells))
)
@SHARED
def test_whatever_a_file_holds_only_a_data_error_comes_out(tmp_path, content):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "m.jsonl").write_bytes(raw)
    (tmp_path / "m.jsonl.gz").write_bytes(raw)
    (tmp_path / "m.csv").write_bytes(b"path,text,duration\n" + raw)
    (tmp_path / "m.tsv").write_bytes(raw + b"\n")
    for name in ("wav.scp", "text", "segments"):
        folder = tmp_path / name[:1]
        folder.mkdir(exist_ok=True)
        kaldi(folder, segments="a a 0 1\nb b 0 1\n")
        (folder / name).write_bytes(raw)
    for path in sorted(tmp_path.iterdir()):
        try:
            utterances = manifest.read(path, need_text=False)
        except DataError:
            fault(path, need_text=False)
        else:
            assert all(isinstance(utterance, Utterance) for utterance in utterances)
            assert utterances


# Several manifests


def test_read_all(tmp_path):
    (tmp_path / "k").mkdir()
    kaldi(tmp_path / "k")
    path = jsonl(tmp_path, nemo(id="c"))
    assert [utterance.id for utterance in manifest.read_all([tmp_path / "k", path])] == ["a", "b", "c"]


def test_ids_from_file_names_are_numbered_over_all_manifests(tmp_path):
    rows = [nemo(audio_filepath="x/a.wav"), nemo(audio_filepath="y/a.wav"), nemo(audio_filepath="y/a.wav", id="a-2")]
    (tmp_path / "other").mkdir()
    paths = [jsonl(tmp_path, *rows[:2]), jsonl(tmp_path / "other", *rows[1:])]
    assert [u.id for u in manifest.read_all(paths)] == ["a", "a-3", "a-1", "a-2"]


def test_read_all_names_both_places_of_an_id(tmp_path):
    (tmp_path / "k").mkdir()
    kaldi(tmp_path / "k")
    path = jsonl(tmp_path, nemo(id="c"), nemo(id="b"))
    with pytest.raises(DataError) as caught:
        manifest.read_all([tmp_path / "k", path])
    assert str(caught.value).startswith(f"{path}:2: id 'b' is already at {tmp_path}/k/wav.scp:2; ")
