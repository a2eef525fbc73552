"""Words as numbers: the vocabulary of a data set of sentences."""

import re
from collections import Counter

import numpy as np

from app.errors import HandgradError

PAD, START, END, UNKNOWN = range(4)
SPECIALS = ("<pad>", "<start>", "<end>", "<unknown>")
_DROPPED = re.compile(r"[^\w\s]|_")


def tokens(sentence):
    """The words of a sentence in lower case, without punctuation, in which hyphens end no word.

    >>> tokens("A man's T-shirt, 2 dogs.")
    ['a', 'mans', 'tshirt', '2', 'dogs']

    Source: Karpathy, Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions,
    CVPR 2015, section 3: lower case, characters other than letters and digits discarded.
    """
    return _DROPPED.sub("", sentence.lower()).split()


def vocabulary(captions, minimum=1):
    """The specials, then every word that occurs `minimum` times, the most frequent first.

    captions: the sentences of each image of the training part: a list of lists of str.
    """
    counts = Counter(word for sentences in captions for s in sentences for word in tokens(s))
    words = sorted((word for word in counts if counts[word] >= minimum),
                   key=lambda word: (-counts[word], word))
    if not words:
        raise HandgradError(
            f"The training sentences must hold a word that occurs {minimum} times or more. "
            f"Received: {sum(map(len, captions))} sentences with {len(counts)} words, the most "
            f"frequent {max(counts.values(), default=0)} times")
    return SPECIALS + tuple(words)


def longest(captions):
    """T: the tokens of the longest sentence, its start and its end included."""
    return 2 + max((len(tokens(s)) for sentences in captions for s in sentences), default=0)


def encode(captions, words, length=None, most=None):
    """Token ids (N, K, T) int32: start, words, end, padding; images with fewer than K sentences
    are filled up with sentences of padding.

    Args:
        captions: the sentences of each image.
        words: the vocabulary. A word that it lacks becomes `UNKNOWN`.
        length: T, by default that of the longest sentence. Words beyond it are cut off.
        most: K, by default the most sentences of an image.
    """
    length, most = length or longest(captions), most or max(map(len, captions), default=0)
    ids = {word: i for i, word in enumerate(words)}
    encoded = np.full((len(captions), most, length), PAD, np.int32)
    for of_image, sentences in zip(encoded, captions):
        for row, sentence in zip(of_image, sentences):
            found = [ids.get(word, UNKNOWN) for word in tokens(sentence)][:length - 2]
            row[:len(found) + 2] = [START, *found, END]
    return encoded


def words_of(ids, words):
    """The words of token ids (T,), those up to the first end, without start and padding."""
    ids = [int(i) for i in ids]
    ids = ids[:ids.index(END)] if END in ids else ids
    return [words[i] for i in ids if i not in (PAD, START)]
