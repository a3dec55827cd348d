"""N-gram models and hot words."""

from jaxasr.data import arpa
from jaxasr.data.tokenizer import CharTokenizer, Vocabulary
from jaxasr.ngram import NgramOptions, estimate
from jaxasr.search.hotwords import read_hotwords
from jaxasr.search.ngram import read_ngram
from jaxasr.searching import SearchFlags
from tests import tiny
from tests.errors.files import write

VOCABULARY = Vocabulary(("<blank>", "<s>", "</s>", "a", "b", "c", "<unk>"))
HEAD = "\\data\\\nngram 1={}\nngram 2={}\n\n"
WORDS = "\\1-grams:\n-1 <s> 0\n-1 </s> 0\n-1 a 0\n\n"
PAIRS = "\\2-grams:\n-1 a a\n\n"
END = "\\end\\\n"


def read(content: str | bytes) -> None:
    arpa.read(write("a.arpa", content))


def fused(words: str) -> None:
    unigrams = "".join(f"-1 {word}\n" for word in words.split())
    content = f"\\data\\\nngram 1={len(words.split())}\n\n\\1-grams:\n{unigrams}\n\\end\\\n"
    read_ngram(write("a.arpa", content), VOCABULARY, list)


def hotwords(content: str) -> None:
    tokenizer = CharTokenizer()
    read_hotwords(write("words.txt", content), VOCABULARY, tokenizer.tokens, tokenizer.bounds(VOCABULARY.tokens))


def estimated(text: str = "a b\n", **options: object) -> None:
    estimate(NgramOptions((write("a.txt", text),), **({"output": "a.arpa", "discount_fallback": True} | options)))  # type: ignore[arg-type]


CASES = {
    "no text": lambda: estimate(NgramOptions((), "a.arpa")),
    "an order of 0": lambda: estimated(order=0),
    "an end among the words": lambda: estimated("a </s>\n"),
    "no word in the text": lambda: estimate(NgramOptions((write("a.jsonl", '{"id": "u", "text": ""}'),), "a.arpa")),
    "Kaldi's text for sentences": lambda: estimate(NgramOptions((write("text", "u a b\n"),), "a.arpa")),
    "discounts of a tiny text": lambda: estimated(discount_fallback=False),
    "an output that is a folder": lambda: estimated(output="."),
    "no \\data\\": lambda: read("a binary model"),
    "no counts": lambda: read("\\data\\\n\n\\end\\\n"),
    "fewer n-grams than counted": lambda: read(HEAD.format(4, 1) + WORDS + PAIRS + END),
    "more n-grams than counted": lambda: read(HEAD.format(2, 1) + WORDS + PAIRS + END),
    "no end": lambda: read(HEAD.format(3, 1) + WORDS + PAIRS),
    "a word that is no unigram": lambda: read(HEAD.format(3, 1) + WORDS + PAIRS.replace("a a", "a b") + END),
    "a weight of nothing": lambda: SearchFlags("ctc_beam", ngram_weight=1.0).choices(tiny.TASK),
    "an n-gram model of words": lambda: fused("<s> </s> <unk> abc"),
    "an n-gram model of other tokens": lambda: fused("<s> </s> <unk> x y z"),
    "an n-gram model without <unk>": lambda: fused("<s> </s> a b"),
    "a weight of a hot word that is none": lambda: hotwords("a\tmuch\n"),
    "a hot word of 101 tokens": lambda: hotwords("a" * 101),
    "a hot word without tokens": lambda: hotwords("ax\n"),
    "a hot word of which nothing is left": lambda: read_hotwords(
        write("words.txt", "a\n"), VOCABULARY, lambda _: [], ([], [])
    ),
}
