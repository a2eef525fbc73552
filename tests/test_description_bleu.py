"""BLEU beside the paper's own examples, worked by hand."""

import math

import pytest

from app.description.bleu import bleu
from app.errors import UsageError

# Papineni et al. 2002, sections 2.1 and 2.2.
CANDIDATE_1 = ("It is a guide to action which ensures that the military always obeys the commands "
               "of the party").split()
CANDIDATE_2 = ("It is to insure the troops forever hearing the activity guidebook that party "
               "direct").split()
REFERENCES = [
    "It is a guide to action that ensures that the military will forever heed Party commands",
    "It is the guiding principle which guarantees the military forces always being under the "
    "command of the Party",
    "It is the practical guide for the army always to heed the directions of the party"]
REFERENCES = [reference.split() for reference in REFERENCES]


def test_counts_are_clipped_by_the_reference_that_has_most():
    references = ["the cat is on the mat".split(), "there is a cat on the mat".split()]
    # Seven words beside references of six and seven: no brevity penalty.
    assert bleu([["the"] * 7], [references], 1) == (pytest.approx(2 / 7),)
    assert bleu([["the"] * 7], [references])[1:] == (0, 0, 0)


def test_the_papers_candidates():
    one, two = (bleu([candidate], [REFERENCES]) for candidate in (CANDIDATE_1, CANDIDATE_2))
    # 17 of 18 words and 10 of 17 bigrams; the nearest reference has 18 words.
    assert one[0] == pytest.approx(17 / 18)
    assert one[1] == pytest.approx(math.sqrt(17 / 18 * 10 / 17))
    # 8 of 14 words and 1 of 13 bigrams; 14 words beside 16.
    penalty = math.exp(1 - 16 / 14)
    assert two[0] == pytest.approx(penalty * 8 / 14)
    assert two[1] == pytest.approx(penalty * math.sqrt(8 / 14 / 13))


def test_a_reference_itself_is_one():
    assert bleu(REFERENCES[:2], [REFERENCES, REFERENCES]) == (1, 1, 1, 1)


def test_a_corpus_adds_counts_and_is_no_mean_of_sentences():
    candidates = ["a b".split(), "a b c d".split()]
    references = [["x y".split()], ["a b c d".split()]]
    # 4 of 6 words, 3 of 4 bigrams; of the first sentence alone both are 0.
    scores = bleu(candidates, references, 2)
    assert scores == (pytest.approx(4 / 6), pytest.approx(math.sqrt(4 / 6 * 3 / 4)))


def test_of_two_equally_near_references_the_shorter_counts():
    references = ["a b".split(), "a b c d".split()]
    assert bleu(["a b c".split()], [references], 1) == (1,)
    assert bleu(["a".split()], [references], 1) == (pytest.approx(math.exp(1 - 2 / 1)),)


def test_empty_sentences_score_zero():
    assert bleu([[]], [[["a"]]]) == (0, 0, 0, 0)


@pytest.mark.parametrize("references", [[], [[]]])
def test_no_reference(references):
    with pytest.raises(UsageError, match="BLEU needs a reference for each candidate"):
        bleu([["a"]], references)
