"""Digit scenes with a sentence each: "a small three left of a large five"."""

from app import scenes

SIDE = 32
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = {"small": (8, 9), "large": (13, 15)}  # pixels


def compose(digits, rng):
    """(image uint8 (SIDE, SIDE, 1), sentence) of one digit, or two beside or above each other."""
    adjectives = [str(rng.choice(list(SIZES))) for _ in range(rng.integers(1, 3))]
    sizes = [int(rng.integers(SIZES[a][0], SIZES[a][1] + 1)) for a in adjectives]
    if len(sizes) == 1:
        placed, relation = [scenes.put(digits, rng, sizes[0], *_free(rng, sizes[0]))], ""
    else:
        relation = str(rng.choice(["left of", "above"]))
        # One axis apart, the other one near: no scene is as well described the other way round.
        first, second = _apart(rng, *sizes), _near(rng, *sizes)
        places = zip(first, second) if relation == "above" else zip(second, first)
        placed = [scenes.put(digits, rng, size, *place) for size, place in zip(sizes, places)]
    words = [f"a {adjective} {NAMES[one.digit]}" for adjective, one in zip(adjectives, placed)]
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
