"""JSON lines, CSV and TSV: their form and their fields."""

from collections.abc import Iterator

from jaxasr.data.checks.part import Finding, Part
from jaxasr.data.checks.table import info, met

met("not-json", "a line that is not JSON", fix="write each utterance as one JSON object on a line of its own")
met("not-an-object", "a line of JSON that is no object", fix="write each utterance as one JSON object")
met("field-twice", "a field twice in an object, of which the last counts", fix="keep one of them", severity="warning")
met("not-csv", "a row whose quotes do not fit", fix="quote cells that hold a comma or a quote, and double these quotes")
met("columns", "a row with more or fewer columns than the header", fix="quote cells with commas; take tabs out of TSV")
met("column-twice", "a column's name that stands twice in the header", fix="rename or remove one")
met("header-alone", "a table without rows", fix="check what wrote the file")
met("no-audio-field", "no field with the path of the sound", fix="name it audio_filepath or path; .csv has commas")
met("no-text-field", "no field with the transcript", fix="name it text, sentence or transcription")
met("misspelt-field", "a field that is nearly offset, duration or speaker", fix="correct its name, or choose another")
met("field-type", "a path, text, id or speaker that is no string, or holds what is no text", fix="correct the field")
met("id-of-words", "an id with white space in it", fix="rename it to one word")


@info("mixed-fields", "a row that states what others do not, of offset or duration, and speaker", fix="state it in all")
def mixed_fields(part: Part) -> Iterator[Finding]:
    if part.form == "kaldi":
        return
    for name, has in (("duration", lambda r: r.seconds is not None), ("speaker", lambda r: bool(r.speaker))):
        with_it = sum(map(has, part.rows))
        if 0 < with_it < len(part.rows):
            few = with_it < len(part.rows) / 2
            odd = (row for row in part.rows if bool(has(row)) == few)
            yield from (part.at(row, f"{'a' if few else 'no'} {name}") for row in odd)
