"""What runs again runs in an order in which little is held, and never more than twice."""

from collections import Counter

import keras
from keras import layers

from custom_layers.lean import lean
from custom_layers.lean_again import Again


def runs(model, kept):
    """The names of the layers that run again if the results of `kept` alone are there."""
    (segment,) = lean(model).plan.segments
    places = {id(place) for place in segment.inputs}
    places |= {id(link.output) for link in segment.links if link.name in kept}
    again = Again(segment, dict.fromkeys(places))
    for link in reversed(segment.links):
        again.read(link, ())
    return [link.name for link in again.runs]


def convolutions(n):
    """Dear ones (288 products a result), with what reads its input between them."""
    x = y = keras.Input((8, 8, 32))
    for i in range(n):
        y = layers.Conv2D(32, 3, padding="same", use_bias=False, name=f"conv{i}")(y)
        y = layers.Activation("silu", name=f"silu{i}")(y)
    return keras.Model(x, y)


def test_a_chain_runs_from_its_start():
    """conv1's kernel reads silu0, and that reads conv0: nothing lies between, both are held."""
    assert runs(convolutions(2), {"conv1"}) == ["conv0", "silu0"]


def test_what_is_read_after_the_next_convolution_is_let_go():
    """All of it runs for conv2, but silu0 reads conv0's result after conv1 had its turn."""
    assert runs(convolutions(3), {"conv2"}) == ["conv0", "silu0", "conv1", "silu1", "conv0"]


def test_no_convolution_runs_more_than_twice():
    counts = Counter(runs(convolutions(8), {"conv7"}))
    assert set(counts) == {f"{kind}{i}" for kind in ("conv", "silu") for i in range(7)}
    assert max(counts.values()) == 2


def test_what_several_read_runs_once():
    x = keras.Input((8, 8, 32))
    y = layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv0")(x)
    y = layers.Add()([y, layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv1")(y)])
    y = layers.Conv2D(32, 3, use_bias=False, name="conv2")(y)
    found = runs(keras.Model(x, layers.Activation("silu")(y)), {"conv1", "conv2"})
    assert found.count("conv0") == 1
