"""The page of real data: what it says of bars, classes and distances."""

from typer.main import get_command

from app.augmentation import parse
from app.balance import BALANCES
from app.cli import app
from app.runs import Config, Run
from app.tasks import TASKS, find_task
from benchmarks.real_data import CASES, minutes, page


def case(measure, value, minutes, **more):
    return {"parameters": 1234567, "epochs": 3, "minutes": minutes, "machine": "A machine",
            "test": {measure: value, "classes": [{"name": "sky", "iou": 0.5, "pixels": 1000}],
                     **more}}


def test_a_missed_bar_is_said():
    name, (_, measure, bar, most) = next(iter(CASES.items()))
    good, bad, late = (page({name: case(measure, value, minutes)}) for value, minutes in (
        (bar, most), (bar - 0.01, most), (bar, most + 1)))
    assert "missed" not in good and "1,234,567" in good and "| sky | 0.5000 | 1,000 |" in good
    assert f"{bar - 0.01:.4f} **missed**" in bad
    assert f"of {most} **missed**" in late


def test_a_distance_stands_beside_those_of_real_images_and_of_noise():
    beside = {"held out": {"fid": 3.25, "confidence": 0.99}}
    text = page({"mnist-dcgan": case("fid", 12.5, 1, beside=beside)})
    assert "held out: FID 3.25, recognised with confidence 0.9900." in text
    assert "missed" not in text


def test_the_minutes_of_the_run_that_it_started_from_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = started("first", Config("mlp", "digits"), seconds=[60.0, 120.0])
    second = started("second", Config("mlp", "digits", start_from=str(first.path)), seconds=[30.0])
    assert (minutes(first), minutes(second)) == (3.0, 3.5)


def started(name, config, seconds):
    run = Run.start(name, config)
    rows = [f"{epoch},{each}" for epoch, each in enumerate(seconds)]
    (run.path / "history.csv").write_text("\n".join(["epoch,seconds", *rows]) + "\n")
    return run


def test_every_case_is_a_command_that_there_is():
    for name, (command, measure, _, _) in CASES.items():
        words = command.split()
        options = dict(zip(words[1::2], words[2::2]))
        task = options["--task"]
        assert words[0] in find_task(task).networks
        assert TASKS[task].measure.name == measure
        assert options["--data"] in find_task(task).data_sets
        parse(options.get("--augment"))
        assert options.get("--balance", "log") in BALANCES
        assert options.get("--from", name) in CASES
        known = {name for parameter in get_command(app).commands["train"].params
                 for name in parameter.opts}
        assert set(words[1::2]) <= known
