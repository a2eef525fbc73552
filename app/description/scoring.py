"""How good sentences are: those that are exactly as written, and BLEU."""

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from app.description.bleu import bleu
from app.description.vocabulary import PAD, words_of


@dataclass(frozen=True, eq=False)
class Described:
    """What a network said of N images.

    Attributes:
        sentences: what it said of each.
        exact: whether someone wrote it so, bool (N,).
        bleu: BLEU-1 to BLEU-4 of all.
    """

    sentences: tuple[str, ...]
    exact: np.ndarray
    bleu: tuple[float, ...]

    @property
    def measures(self):
        """What a network is judged by, the most telling first."""
        return {"sentence_accuracy": float(self.exact.mean()),
                **{f"bleu_{n}": value for n, value in enumerate(self.bleu, 1)}}

    def as_dict(self):
        return {"images": len(self.sentences), **self.measures}

    def table(self):
        table = Table(title=str(self), title_justify="left", title_style="bold")
        table.add_column("measure")
        table.add_column("value", justify="right")
        for name, value in self.measures.items():
            table.add_row(name, f"{value:.4f}")
        return table

    def __str__(self):
        return (f"{self.exact.mean():.2%} of {len(self.exact)} sentences exactly as written, "
                f"BLEU-4 {self.bleu[-1]:.4f}")


def score(tokens, labels, words):
    """The `Described` of token ids (N, T-1), beside those (N, K, T) of people."""
    said = [words_of(ids, words) for ids in tokens]
    written = [[words_of(ids, words) for ids in of_image if ids[0] != PAD] for of_image in labels]
    exact = np.array([words in known for words, known in zip(said, written)])
    return Described(tuple(" ".join(words) for words in said), exact, bleu(said, written))
