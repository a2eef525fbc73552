"""The page of what int8 costs in accuracy says what was found."""

import pytest

from benchmarks import lean_accuracy

RUNS = {"lenet5 stock": {"0": [0.5, 0.90], "1": [0.5, 0.92], "2": [0.1, 0.1]},
        "lenet5 int8": {"1": [0.5, 0.93], "0": [0.5, 0.90]}, "resnet20 stock": {"0": [0.3]}}


def test_only_seeds_of_both_sides_count():
    found = lean_accuracy.summary(RUNS)
    assert list(found) == ["lenet5"]
    assert found["lenet5"]["stock"].tolist() == [[50, 90], [50, 92]]
    assert found["lenet5"]["int8"].tolist() == [[50, 90], [50, 93]]


def test_the_page_has_means_difference_and_curves():
    page = lean_accuracy.page({"runs": RUNS, "machine": "an abacus"})
    row, = (line for line in page.splitlines() if line.startswith("| lenet5 | mnist"))
    assert row.split(" | ")[2:6] == ["2", "91.00 (1.00)", "91.50 (1.50)", "+0.50"]
    assert row.endswith(" 0.50 |")
    assert "| lenet5 | int8 | 50.00 | 91.50 |" in page and "Machine: an abacus" in page


def test_every_run_is_drawn():
    figure = lean_accuracy.draw(lean_accuracy.summary(RUNS))
    assert [len(axes.lines) for axes in figure.axes] == [2 * (2 + 1)]


def test_an_unknown_network_is_named(capsys):
    with pytest.raises(SystemExit):
        lean_accuracy.main(["resnet"])
    assert "Received: resnet" in capsys.readouterr().err
