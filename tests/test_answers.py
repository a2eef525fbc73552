"""What people are told of an answer, in a line."""

import numpy as np
import pytest

from app.answers import ANSWERS

CELLS = ("RBC", "WBC")


def line(task, **answer):
    return ANSWERS[task].line(ANSWERS[task].row(answer, CELLS))


@pytest.mark.parametrize(("scores", "said"), [
    ((0.9, 0.5, 0.6, 0.4), "2 RBC, 1 WBC"), ((0.4,), "nothing"), ((), "nothing")])
def test_objects_are_counted_where_they_are_certain(scores, said):
    count = len(scores)
    assert line("detect", classes=np.array([0, 1, 0, 0][:count], int), scores=np.array(scores),
                boxes=np.zeros((count, 4)), count=count) == said


def test_all_objects_are_in_the_row():
    row = ANSWERS["detect"].row({"classes": np.array([1, 0]), "scores": np.array([0.2, 0.0]),
                                 "boxes": np.arange(8.0).reshape(2, 4), "count": 1}, CELLS)
    assert row == {"objects": [{"label": "WBC", "score": 0.2, "box": [0, 1, 2, 3]}]}


def test_shares_of_pixels():
    assert line("segment", mask=np.array([[0, 1], [1, 1]])) == "WBC 75.0%, RBC 25.0%"
