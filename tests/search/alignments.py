"""CTC by brute force."""

import itertools

import numpy as np


def texts_of(logits):
    """Every text, without blank, that an alignment with these frames (T, V) says, with its probability."""
    probs = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    texts = {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        text = tuple(k for k, _ in itertools.groupby(path) if k != 0)
        texts[text] = texts.get(text, 0.0) + np.prod([row[k] for row, k in zip(probs, path, strict=True)])
    return texts
