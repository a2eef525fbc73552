import numpy as np
import pytest

from app import scenes
from app.data import load
from app.description.scenes import NAMES, SIDE, compose


@pytest.fixture
def digits():
    return load("digits").train


def test_scenes_are_a_function_of_the_seed(monkeypatch):
    monkeypatch.setattr(scenes, "PARTS", {"train": 3, "test": 2})
    first, again, other = (scenes.parts(seed, compose) for seed in (1, 1, 2))
    for part in ("train", "test"):
        for (image, said), (same, same_said) in zip(first[part], again[part]):
            np.testing.assert_array_equal(image, same)
            assert said == same_said
    assert any((a[0] != b[0]).any() for a, b in zip(first["train"], other["train"]))


def test_a_scene_of_the_test_part_shows_digits_of_the_test_part(monkeypatch):
    monkeypatch.setattr(scenes, "PARTS", {"train": 2, "validation": 2, "test": 2})
    asked = scenes.parts(0, lambda digits, rng: digits)
    for part, digits in load("digits", seed=0).splits.items():
        for given in asked[part]:
            np.testing.assert_array_equal(given.images, digits.images)


def test_boxes_are_tight_and_masks_agree_with_them(digits):
    for number in range(20):
        rng = np.random.default_rng(number)
        placed = scenes.place(digits, rng)
        image, mask = scenes.render(placed, rng)
        assert image.shape == (*mask.shape, 1) and image.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, *(1 + one.digit for one in placed)}
        for one in placed:
            x1, y1, x2, y2 = one.box
            alone = scenes.render([one], np.random.default_rng(0))[1]
            rows, columns = np.nonzero(alone)
            assert (x1, y1, x2, y2) == (
                columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_digits_hardly_cover_each_other(digits):
    for number in range(50):
        placed = scenes.place(digits, np.random.default_rng(number))
        for i, a in enumerate(placed):
            for b in placed[:i]:
                both = np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2])
                smaller = min(np.prod(np.subtract(x.box[2:], x.box[:2])) for x in (a, b))
                assert np.prod(both.clip(0)) <= 0.1 * smaller


def test_a_sentence_says_what_the_scene_shows(digits, monkeypatch):
    seen = []
    monkeypatch.setattr(scenes, "put", lambda *given: seen.append(put(*given)) or seen[-1])
    for number in range(60):
        seen.clear()
        image, said = compose(digits, np.random.default_rng(number))
        assert image.shape == (SIDE, SIDE, 1)
        things = [f"a {NAMES[one.digit]}" for one in seen]
        if len(seen) == 1:
            assert said == things[0]
            continue
        a, b = seen
        relation = "above" if a.top + len(a.ink) <= b.top else "left of"
        assert relation == "above" or a.left + len(a.ink) <= b.left
        assert said == f" {relation} ".join(things)


put = scenes.put
