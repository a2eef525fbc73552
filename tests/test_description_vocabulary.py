"""Words as numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.description.vocabulary import SPECIALS, encode, longest, tokens, vocabulary, words_of
from app.errors import HandgradError

CAPTIONS = [["A dog runs.", "The dog!"], ["A cat; a DOG."]]


def test_tokens_are_lower_case_letters_and_digits():
    assert tokens(" A man's T-shirt,\n2 dogs_ & Élan. ") == [
        "a", "mans", "tshirt", "2", "dogs", "élan"]


def test_the_most_frequent_words_come_first_and_equals_by_name():
    assert vocabulary(CAPTIONS) == (*SPECIALS, "a", "dog", "cat", "runs", "the")
    assert vocabulary(CAPTIONS, minimum=2) == (*SPECIALS, "a", "dog")


@pytest.mark.parametrize("captions, minimum, received", [
    ([], 1, "0 sentences with 0 words, the most frequent 0 times"),
    ([["..."], []], 1, "1 sentences with 0 words"),
    (CAPTIONS, 4, "3 sentences with 5 words, the most frequent 3 times")])
def test_no_words_is_one_clear_error(captions, minimum, received):
    with pytest.raises(HandgradError, match=f"occurs {minimum} times or more. .*{received}"):
        vocabulary(captions, minimum)


def test_sentences_are_framed_and_filled_up():
    words = vocabulary(CAPTIONS, minimum=2)
    encoded = encode(CAPTIONS, words)
    assert encoded.dtype == np.int32 and longest(CAPTIONS) == 6
    np.testing.assert_array_equal(encoded, [
        [[1, 4, 5, 3, 2, 0], [1, 3, 5, 2, 0, 0]],
        [[1, 4, 3, 4, 5, 2], [0, 0, 0, 0, 0, 0]]])


def test_longer_sentences_are_cut_off_and_still_end():
    words = vocabulary(CAPTIONS)
    assert encode([["a dog a cat"]], words, length=4).tolist() == [[[1, 4, 5, 2]]]


def test_decoding_stops_at_the_end():
    words = vocabulary(CAPTIONS)
    assert words_of(np.array([1, 4, 3, 5, 2, 6, 0]), words) == ["a", "<unknown>", "dog"]
    assert words_of([0, 0], words) == []


@given(st.lists(st.lists(st.sampled_from("a cat dog the".split()), max_size=5), min_size=1))
def test_what_is_encoded_is_decoded(sentences):
    captions = [[" ".join(words)] for words in sentences]
    words = (*SPECIALS, "a", "cat", "dog", "the")
    assert [words_of(row, words) for row, in encode(captions, words)] == sentences
