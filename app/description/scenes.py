"""Digit scenes with a sentence each: "a three left of a five"."""

from app import scenes

SIDE = 32
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = 12, 15  # pixels


def compose(digits, rng):
    """(image uint8 (SIDE, SIDE, 1), sentence) of one digit, or two beside or above each other."""
    sizes = [int(rng.integers(SIZES[0], SIZES[1] + 1)) for _ in range(rng.integers(1, 3))]
    if len(sizes) == 1:
        placed, relation = [scenes.put(digits, rng, sizes[0], *_free(rng, sizes[0]))], ""
    else:
        relation = str(rng.choice(["left of", "above"]))
        # One axis apart, the other one near: no scene is as well described the other way round.
        first, second = _apart(rng, *sizes), _near(rng, *sizes)
        places = zip(first, second) if relation == "above" else zip(second, first)
        placed = [scenes.put(digits, rng, size, *place) for size, place in zip(sizes, places)]
    words = [f"a {NAMES[one.digit]}" for one in placed]
    return scenes.render(placed, rng, SIDE)[0], f" {relation} ".join(words)


def _free(rng, size):
    return rng.integers(0, SIDE - size + 1, 2)


def _apart(rng, a, b):
    """Where the first begins and, behind its end, the second."""
    first = int(rng.integers(0, SIDE - a - b + 1))
    return first, int(rng.integers(first + a, SIDE - b + 1))


def _near(rng, a, b):
    """Two beginnings at most 3 pixels apart."""
    first = int(rng.integers(0, SIDE - max(a, b) - 2))
    return first, int(min(SIDE - b, first + rng.integers(0, 4)))
