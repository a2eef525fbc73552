"""The benchmark of gradient checkers: each is what it says."""

import numpy as np
import pytest
import tensorflow as tf
from planted_bugs import relu, two_outputs
from planted_layers import dense, dropout, layer
from planted_modes import float32_alone, second_order, somewhere

from benchmarks import checkers
from custom_layers import check_gradients

OTHERS = [checkers.by_gradcheck, checkers.by_compute_gradient]


@pytest.mark.parametrize("check", OTHERS)
@pytest.mark.parametrize("build", [dense, relu, dropout, two_outputs, layer])
def test_right_ops_pass(check, build):
    assert check(*build())


@pytest.mark.parametrize("check", OTHERS)
@pytest.mark.parametrize("build, bug", [
    (dense, "factor 2"), (dense, "none"), (relu, "wrong side"), (dropout, "stale seed"),
    (two_outputs, "second ignored"), (somewhere, "eager alone"),
])
def test_plain_bugs_are_caught(check, build, bug):
    assert not checkers.passes(check, build, bug)[0]


@pytest.mark.parametrize("check", OTHERS)
@pytest.mark.parametrize("build, bug", [
    (somewhere, "graphs alone"), (float32_alone, "doubled"), (second_order, "stopped"),
    (layer, "statistics moved twice"),
])
def test_they_look_at_one_mode_one_precision_and_first_order(check, build, bug):
    assert checkers.passes(check, build, bug)[0]
    assert not check_gradients(*build(bug), second_order=build is second_order).ok


def test_only_gradcheck_takes_the_gradient_twice():
    assert not checkers.passes(checkers.by_gradcheck, dense, "random")[0]
    assert checkers.passes(checkers.by_compute_gradient, dense, "random")[0]


@pytest.mark.parametrize("factor, passed", [(1 + 2e-4, True), (1 + 5e-3, False)])
def test_gradcheck_allows_an_error_in_a_thousand(factor, passed):
    @tf.custom_gradient
    def scaled(x):
        return 3 * x, lambda dy: 3 * dy * factor

    assert checkers.by_gradcheck(scaled, np.ones(3)) is passed


def test_rows_count_bugs_and_name_what_is_missed():
    bugs = {relu: ["wrong side"], somewhere: ["graphs alone"]}
    rows = {row[0]: dict(zip(checkers.HEADER[1:], row[1:])) for row in checkers.rows(bugs)}
    assert list(rows) == list(checkers.CHECKERS)
    ours, theirs = rows["`check_gradients`"], rows["as `torch.autograd.gradcheck`"]
    assert (ours["bugs caught"], ours["missed"]) == ("2", "none")
    assert (theirs["bugs caught"], theirs["missed"]) == ("1", "somewhere: graphs alone")
    assert ours["right ops refused"] == theirs["right ops refused"] == "0"
