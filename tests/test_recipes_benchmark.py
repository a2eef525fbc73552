"""The page of what recipes reach: collected from runs, written, drawn."""

import json

import keras
import numpy as np
import pytest

from app.drawing import save
from app.recipes import RECIPES
from benchmarks import recipes
from benchmarks.lean_networks import NETWORKS


@pytest.fixture
def runs(tmp_path):
    """What `handgrad recipe mnist-best` leaves of two seeds, each wrong once, elsewhere."""
    labels, sure = np.array([0, 1, 2, 1]), 0.9 * np.eye(3) + 0.05
    for seed, (predicted, minutes) in enumerate([([0, 1, 2, 0], 4.0), ([0, 1, 1, 1], 6.0)]):
        run = tmp_path / f"recipe-mnist-best-{seed}"
        run.mkdir()
        probabilities = sure[predicted]
        probabilities[3] = (0.45, 0.4, 0.1) if seed == 0 else (0.1, 0.8, 0.1)
        np.savez(run / "predictions.npz", labels=labels, probabilities=probabilities)
        (run / "recipe.json").write_text(json.dumps({
            "seed": seed, "error": 25.0, "minutes": minutes, "run": "gone", "test": "same"}))
    return tmp_path


def test_results_are_collected_wherever_the_runs_lie(runs):
    found = recipes.collected(runs)
    assert list(found) == ["mnist-best"]
    assert [r["error"] for r in found["mnist-best"]["results"]] == [25.0, 25.0]
    # The first's doubt is outvoted, the second's mistake is not.
    assert found["mnist-best"]["together"] == 25.0


def test_the_page_has_a_row_a_recipe_and_the_curves(runs, tmp_path):
    curves = {"fast": [(1.0, 0.7), (2.0, 0.91)], "stock": [(1.5, 0.5), (3.0, 0.8)]}
    found = {"data": "mnist", "command": "handgrad baseline", "network": 0.99, "baselines": [
        {"features": "hog", "reduction": None, "classifier": "svm", "values": 9,
         "test_accuracy": 0.95, "seconds": 3.2}]}
    text = recipes.page({"machine": "a machine", "recipes": recipes.collected(runs),
                         "curves": curves, "baselines": {"mnist": found}})
    assert "airbench, 16 epochs | 25.00, 25.00 | 25.00 | 25.00 |  | 5.0 | 10 |" in text
    assert "| fast | 2.0 | 91.00 | 2.0 |" in text
    assert "| stock | 3.0 | 80.00 | not reached |" in text
    assert "| hog |  | svm | 9 | 95.00 | 3 |" in text and "| the network itself" in text
    save(recipes.draw(curves), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert recipes.FAST in RECIPES


def test_the_rival_has_the_penalty_of_its_paper():
    model = recipes.decayed(NETWORKS["resnet20"]((8, 8, 3), 3))
    kernels = [w for w in model.trainable_weights if w.name == "kernel"]
    expected = sum(0.5e-4 * np.sum(np.square(w.numpy())) for w in kernels)
    assert float(keras.ops.sum(model.losses)) == pytest.approx(expected, rel=1e-4)


def test_a_folder_without_runs_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipes.main(["collect", str(tmp_path)])
    assert f"Received: {tmp_path}" in capsys.readouterr().err
