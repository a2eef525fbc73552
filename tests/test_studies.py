"""Studies: that they find what they are there to show."""

import json

import pytest

from app import studies
from app.cli import app
from app.console import execute
from app.studies import STUDIES


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """{name: rows} of every study on digits, drawn; each runs once."""
    found = {}

    def rows(name, capsys):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            capsys.readouterr()
            assert execute(app, ["study", name, "--to", str(folder), "--json"]) == 0
            value = json.loads(capsys.readouterr().out)
            assert all((folder / path.split("/")[-1]).stat().st_size > 10_000
                       for path in value["figures"])
            found[name] = value["rows"]
        return found[name]

    return rows


def test_sigmoid_s_gradients_vanish_and_he_keeps_relu_s(study, capsys):
    norms = {(row["activation"], row["initial values"]): row for row in study("init", capsys)}
    assert len(norms) == 8
    small = norms["relu", "N(0, 0.01^2)"]
    assert small["layer 1"] < 1e-4
    he = norms["relu", "He"]
    ratio = he["layer 1"] / he["layer 5"]
    assert 0.1 < ratio < 10
    xavier = norms["sigmoid", "Xavier"]
    assert xavier["layer 1"] < 0.1 * xavier["layer 5"]


@pytest.mark.slow
def test_normalisation_makes_initial_values_matter_less(study, capsys):
    rows = {row[""]: row["training accuracy"] for row in study("bn", capsys)}
    assert rows["N(0, 0.01^2), BN"] > 0.9 > rows["N(0, 0.01^2)"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decay", "dropout", "overfit"])
def test_what_is_remembered_is_not_all_learned(study, capsys, name):
    rows = {row[""]: row for row in study(name, capsys)}
    plain = rows.pop("none")
    gap = plain["training accuracy"] - plain["validation accuracy"]
    assert plain["training accuracy"] > 0.99 and gap > 0.03
    best = max(row["validation accuracy"] for row in rows.values())
    assert best >= plain["validation accuracy"] - 0.01


@pytest.mark.slow
def test_a_trunk_helps_where_images_are_few(study, capsys):
    rows = study("transfer", capsys)
    assert [row["images a class"] for row in rows] == ["10", "30", "100"]
    assert rows[0]["fine-tuned less from scratch"] > 0
    assert all(row["fine-tuned"] > 0.7 for row in rows)


@pytest.mark.slow
def test_optimizers_learn(study, capsys):
    rows = study("optimizers", capsys)
    assert len(rows) == 6 and all(row["training loss"] < 1 for row in rows)


def test_they_are_listed(capsys):
    assert execute(app, ["study", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["studies"]) == list(STUDIES)


def test_unknown_study(capsys):
    assert execute(app, ["study", "inti"]) == 2
    assert "Unknown study 'inti'. Did you mean 'init'?" in capsys.readouterr().err


def test_log_scales_have_numbers_for_labels():
    """No formulas: nothing is read as one here."""
    history = {"loss": [1.0, 0.1, 1e-4], "val_loss": [1.0, 0.5, 0.4]}
    norms = {f"layer {i}": 10.0**-i for i in range(1, 7)}
    rows = [{"activation": kind, "initial values": "He", **norms, "activations": 1.0}
            for kind in ("sigmoid", "relu")]
    for figure in (studies._draw_curves({"Adam": history}, "t", "loss"), studies._draw_norms(rows)):
        figure.canvas.draw()
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert "0.01" in labels and not [label for label in labels if "$" in label]
