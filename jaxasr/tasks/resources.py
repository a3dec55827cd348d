"""The files in which a model's folder has what only data could tell its task."""

import hashlib
import pathlib

from jaxasr.data.tokenizer import Tokenizer, Vocabulary
from jaxasr.errors import CheckpointError
from jaxasr.nn.normalize import Cmvn, read_kaldi_mvn, write_kaldi_mvn

TOKENS_FILE, STATISTICS_FILE = "tokens.txt", "am.mvn"


def save(folder: pathlib.Path, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    """Writes the token list and the tokenizer's files."""
    vocabulary.save(folder / TOKENS_FILE)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)


def save_statistics(folder: pathlib.Path, cmvn: Cmvn | None) -> None:
    """Writes the statistics, where there are any."""
    if cmvn is not None:
        write_kaldi_mvn(folder / STATISTICS_FILE, cmvn)


def load_statistics(folder: pathlib.Path, *, needed: bool) -> Cmvn | None:
    """The statistics, None where there are none and none are needed.

    Raises:
      CheckpointError: there are none.
    """
    file = folder / STATISTICS_FILE
    if file.exists():
        return read_kaldi_mvn(file)
    if needed:
        raise CheckpointError(
            f"{file}: no such file; the feature statistics that the model was trained with were expected; put it "
            "back, or use another folder."
        )
    return None


def hash_of_texts(vocabulary: Vocabulary, tokenizer: Tokenizer) -> str:
    """A fingerprint of what texts become tokens by."""
    found = vocabulary.hash
    for content in tokenizer.files().values():
        found = hashlib.sha256(found.encode() + content).hexdigest()
    return found
