"""BLEU: how much of a sentence stands in the sentences that people wrote."""

import math
from collections import Counter

from app.errors import UsageError


def bleu(candidates, references, highest=4):
    """(BLEU-1, ..., BLEU-highest) of a corpus, each in [0, 1].

        p_n = sum over candidates, n-grams of min(count, most in any one reference)
              / sum over candidates, n-grams of count
        BP = 1 where c > r, else exp(1 - r / c)
        BLEU-n = BP * (p_1 p_2 ... p_n)^(1/n)

    with c the words of all candidates, and r those of the references that are nearest to them in
    length, the shorter of two equally near.

    Args:
        candidates: the words of a sentence for each image: lists of str.
        references: the sentences of people for each image: lists of lists of str.

    Source: Papineni, Roukos, Ward, Zhu, BLEU: a Method for Automatic Evaluation of Machine
    Translation, ACL 2002, section 2. Not smoothed: 0 where no n-gram of the corpus matches.
    """
    if len(candidates) != len(references) or not all(references):
        raise UsageError(
            "BLEU needs a reference for each candidate, and one at least. Received: "
            f"{len(candidates)} candidates, {len(references)} lists of references, "
            f"{sum(not sentences for sentences in references)} of them empty")
    brevity = _brevity(candidates, references)
    scores, logs = [], 0.0
    for n in range(1, highest + 1):
        matched = total = 0
        for candidate, sentences in zip(candidates, references):
            counts, most = _ngrams(candidate, n), Counter()
            for sentence in sentences:
                most |= _ngrams(sentence, n)
            matched += (counts & most).total()
            total += counts.total()
        logs += math.log(matched / total) if matched else -math.inf
        scores.append(brevity * math.exp(logs / n))
    return tuple(scores)


def _ngrams(words, n):
    return Counter(zip(*(words[i:] for i in range(n))))


def _brevity(candidates, references):
    c = sum(map(len, candidates))
    r = sum(min((abs(len(s) - len(candidate)), len(s)) for s in sentences)[1]
            for candidate, sentences in zip(candidates, references))
    return 1.0 if c > r else math.exp(1 - r / c) if c else 0.0
