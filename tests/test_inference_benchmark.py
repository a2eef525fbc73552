"""`benchmarks.inference`: what it compares gives the same, and its page says what was measured."""

import pytest

from benchmarks import inference

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("tf2onnx", reason="the extra `onnx` is not installed")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(inference, "NETWORKS", {"tiny": ("vgg-a-bn", {"width": 1 / 16,
                                                                      "units": 8})})
    monkeypatch.setattr(inference, "BATCHES", (1, 3))


def test_a_small_run(tiny):
    rows = list(inference.measure(0.05))
    assert [(row["network"], row["batch"]) for row in rows] == [("tiny", 1), ("tiny", 3)]
    for row in rows:
        assert row["difference"] <= inference.TOLERANCE
        assert set(row["ms"]) == set(row["ratio"]) == {"stock", "ours", "onnx", "litert"}
        assert row["ratio"]["stock"] == 1 and min(row["ms"].values()) > 0


def test_networks_that_differ_are_not_compared(tiny, monkeypatch):
    right = inference.predictor
    monkeypatch.setattr(inference, "predictor",
                        lambda file: lambda images: right(file)(images) + 1e-3)
    with pytest.raises(ValueError, match="tiny: all must give the same probabilities to 1e-05"):
        next(inference.measure(0.05))


def test_the_page_says_where_the_bar_is_missed():
    times = {"stock": 2.0, "ours": 1.9, "onnx": 1.0, "litert": 4.0}
    row = {"network": "net", "batch": 64, "difference": 3e-7, "ms": times,
           "ratio": {key: ms / 2 for key, ms in times.items()}}
    page = inference.page("here", [row])
    assert "| net | 64 | 2.00 | 1.90 | 0.95 | 1.00 | 0.50 | 4.00 | 2.00 | 3e-07 |" in page
    assert "The bar is missed by net at batch 64." in page
    row["ratio"]["ours"] = 0.8
    assert "The bar is met everywhere." in inference.page("here", [row])
