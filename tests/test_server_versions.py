"""The versions of models: which serve, which are refused, and how they come and go."""

import shutil
import threading
import time

import pytest
import tensorflow as tf
from served_models import half, save, spec

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server.errors import RestError  # noqa: E402
from app.server.loaded import Loaded  # noqa: E402
from app.server.models import Models  # noqa: E402
from app.serving import versions  # noqa: E402


def _half_copied(whole, folder):
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("variables.data*"))


def _cut(whole, folder):
    shutil.copytree(whole, folder)
    (data,) = folder.glob("variables/variables.data*")
    data.write_bytes(data.read_bytes()[:-2])


def _flipped(whole, folder):
    shutil.copytree(whole, folder)
    (data,) = folder.glob("variables/variables.data*")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])


def _without_graph(whole, folder):
    shutil.copytree(whole, folder)
    (folder / "saved_model.pb").write_bytes(b"\x08")


def _empty(whole, folder):
    folder.mkdir()


def _other_sums(whole, folder):
    shutil.copytree(whole, folder)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "SHA256SUMS").write_text("0" * 64 + "  saved_model.pb\n")


def _other_signature(whole, folder):
    save(folder, lambda module: {"serving_default": (
        lambda z: {"y": z * module.weight}, [spec(tf.float32, None, name="z")])})


def looked(folder, **options):
    """Models, looked at as often as it takes to see that their files lie still."""
    models = Models(folder, **options)
    models.look()
    models.look()
    return models


@pytest.mark.parametrize("broken", [_half_copied, _cut, _flipped, _without_graph, _empty,
                                    _other_sums, _other_signature])
def test_what_is_broken_never_serves(tmp_path, broken):
    """The version before it goes on; where it is mended, it takes over."""
    folder = tmp_path / "half"
    save(folder / "1", half(1.0))
    save(tmp_path / "new", half(2.0))
    models = looked(tmp_path / "half")
    broken(tmp_path / "new", folder / "2")
    for _ in range(3):
        models.look()
    model = models.models["half"]
    assert list(model.available()) == [1]
    if broken is not _empty:
        assert model.known[2].state == "END" and model.known[2].reason, model.known[2].reason
    shutil.rmtree(folder / "2")
    shutil.copytree(tmp_path / "new", folder / "2")
    for _ in range(3):
        models.look()
    assert list(model.available()) == [2] and model.known[1].state == "END"


def test_the_newest_n_and_those_with_labels(tmp_path):
    folder = tmp_path / "half"
    for number in (1, 2, 3, 10):
        save(folder / str(number), half(number))
    models = looked(folder, latest=2)
    model = models.models["half"]
    assert list(model.available()) == [3, 10]
    (folder / "labels.json").write_text('{"old": 1}')
    for _ in range(2):
        models.look()
    assert list(model.available()) == [1, 3, 10] and model.get(label="old").version == 1
    (folder / "labels.json").write_text('{"old"')  # half written
    models.look()
    assert model.get(label="old").version == 1
    shutil.rmtree(folder)
    models.look()
    assert list(model.available()) == [1, 3, 10]  # nothing better: what serves goes on


def test_a_label_moves_once_its_version_serves(tmp_path, monkeypatch):
    """Until then it answers from the version that it named before, which is not let go."""
    folder, labelled = tmp_path / "half", []
    for number in (1, 2):
        save(folder / str(number), half(number))
    (folder / "labels.json").write_text('{"stable": 1}')
    models = looked(folder)
    model = models.models["half"]

    def loading(path):
        labelled.append(model.get(label="stable").version)
        return Loaded(path)

    monkeypatch.setattr("app.server.model.Loaded", loading)
    (folder / "labels.json").write_text('{"stable": 3}')
    _half_copied(folder / "2", folder / "3")
    for _ in range(3):
        models.look()
    assert labelled and model.known[3].state == "END"
    assert list(model.available()) == [1, 2] and model.get(label="stable").version == 1
    shutil.copytree(folder / "2", folder / "3", dirs_exist_ok=True)
    for _ in range(2):
        models.look()
    assert list(model.available()) == [3] and model.get(label="stable").version == 3
    assert set(labelled) == {1}
    (folder / "labels.json").unlink()
    models.look()
    with pytest.raises(RestError, match="label: stable"):
        model.get(label="stable")


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), MemoryError()])
def test_what_fails_holds_up_nothing_else(tmp_path, monkeypatch, capsys, error):
    """A folder that cannot be read, a version that raises anything: each is said once."""
    for name in ("bad", "good"):
        save(tmp_path / name / "1", half())
    (tmp_path / "lost+found").mkdir()

    def unreadable(folder):
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return versions(folder)

    def loading(folder):
        if folder.parent.name == "bad":
            raise error
        return Loaded(folder)

    monkeypatch.setattr("app.server.models.versions", unreadable)
    monkeypatch.setattr("app.server.model.Loaded", loading)
    monkeypatch.setattr("app.server.model.AGAIN", 0)
    models = looked(tmp_path)
    models.look()
    assert list(models.models) == ["bad", "good"] and models.get("good").version == 1
    (told,) = models.status("bad")
    assert told["state"] == "END" and told["status"]["error_message"]

    def look():
        raise OSError(5, "Input/output error")

    models.models["bad"].look = look
    save(tmp_path / "good" / "2", half())
    for _ in range(2):
        models.look()
    assert models.get("good").version == 2
    said = capsys.readouterr().err
    assert said.count("lost+found is left as it is: PermissionError") == 1
    assert said.count("not served: bad version 1: ") == 1
    assert said.count("bad is left as it is: OSError") == 1 and said.count("\n") == 3


def test_a_request_sees_no_half_of_a_change(tmp_path):
    """What it goes through stays as it is while the watcher works."""
    save(tmp_path / "half" / "1", half())
    models = looked(tmp_path)
    model = models.models["half"]
    walks = [iter(seen) for seen in (models.models, model.known, model.available())]
    for name, number in (("half", "2"), ("other", "1")):
        save(tmp_path / name / number, half())
    for _ in range(2):
        models.look()
    assert [list(walk) for walk in walks] == [["half"], [1], [1]]
    assert list(model.available()) == [2] and list(models.models) == ["half", "other"]


def test_links_are_models_of_their_own_names(tmp_path):
    """Whatever they lead to."""
    (tmp_path / "models").mkdir()
    for link, added in (("old", 1.0), ("new", 2.0)):
        save(tmp_path / link / "half" / "1", half(added))
        (tmp_path / "models" / link).symlink_to(tmp_path / link / "half")
    models = looked(tmp_path / "models")
    assert {name: models.get(name).name for name in models.models} == {"new": "new", "old": "old"}
    assert list(Models(tmp_path / "models" / "new").models) == ["half"]


def test_watching_ends_behind_a_look_that_runs(tmp_path, monkeypatch):
    """One that fails ends it not."""
    (tmp_path / "half" / "1").mkdir(parents=True)
    monkeypatch.setattr("app.server.models.POLL", 0.01)
    models, looks, running = Models(tmp_path), [], threading.Event()

    def look():
        looks.append("begins")
        if len(looks) == 1:
            raise OSError("standard error is closed")
        running.set()
        time.sleep(0.3)
        looks.append("ends")

    models.look = look
    models.watch()
    assert running.wait(10)
    models.end()
    assert looks == ["begins", "begins", "ends"]
