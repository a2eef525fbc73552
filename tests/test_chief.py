"""Search on many machines: what a chief and its workers say to each other, whatever fails."""

import threading
import time

import pytest

from app.errors import HandgradError, UsageError
from tuning import remote
from tuning.chief import Chief
from tuning.remote import Link, work
from tuning.roles import HOST, ID, PORT, role_of
from tuning.worker import Limits, TrialFailed, WorkerLost

JOB = {"trial": "0", "until": 2}


class Run:
    """A chief in a thread, whose search is the function `search(worker)`."""

    def __init__(self, search, silence=2.0):
        self.said, self.error = [], None
        self.chief = Chief("localhost:0", Limits(seconds=60.0), silence, self.said.append)
        self.thread = threading.Thread(target=self._run, args=(search,))
        self.thread.start()

    def _run(self, search):
        try:
            self.chief.run(search)
        except BaseException as error:
            self.error = error

    def link(self, name="w0", patience=5.0):
        return Link(self.chief.address, name, patience, self.said.append)

    def join(self):
        self.thread.join(30)
        assert not self.thread.is_alive()


class Child:
    """In place of a worker's process: it tells two epochs and returns what they come to."""

    steps, made = (1, 2), []

    def __init__(self, log, threads=None):
        self.ended = False
        self.made.append(self)

    def run(self, job, on_epoch):
        told = []
        for epoch in self.steps:
            told.append(epoch)
            if not on_epoch({"epoch": epoch}):
                break
        return {"told": told, "limits": self.limits}

    def end(self):
        self.ended = True


@pytest.fixture(autouse=True)
def child(monkeypatch, tmp_path):
    monkeypatch.setattr(remote, "Worker", Child)
    monkeypatch.setattr(remote, "PAUSE", 0.1)
    monkeypatch.setattr(Child, "made", [])
    (tmp_path / "journal.jsonl").touch()
    monkeypatch.setitem(JOB, "folder", str(tmp_path / "trial-0"))
    return Child


def as_limits(result):
    return result | {"limits": vars(result["limits"])}


@pytest.fixture
def plain_results(monkeypatch, child):
    run = child.run
    monkeypatch.setattr(child, "run", lambda *given: as_limits(run(*given)))


@pytest.mark.usefixtures("plain_results")
def test_a_trial_s_way_to_a_worker_and_back():
    rows, results = [], []

    def search(worker):
        results.append(worker.run(JOB, rows.append))

    run = Run(search)
    assert work(run.link()) == 1
    run.join()
    assert rows == [{"epoch": 1}, {"epoch": 2}] and run.error is None
    assert results == [{"told": [1, 2], "limits": {"seconds": 60.0, "memory": None}}]
    assert run.said[1:] == ["worker w0 has come", "trial 0"]


@pytest.mark.usefixtures("plain_results")
def test_a_worker_is_told_to_stop_a_trial():
    results = []
    run = Run(lambda worker: results.append(worker.run(JOB, lambda row: False)))
    work(run.link())
    run.join()
    assert results[0]["told"] == [1]


def test_a_failed_trial_is_one_for_the_search_too(monkeypatch, child):
    def fail(*given):
        raise TrialFailed("Training diverged")

    monkeypatch.setattr(child, "run", fail)
    run = Run(lambda worker: worker.run(JOB))
    with pytest.raises(HandgradError, match="The chief's search has ended: Training diverged"):
        work(run.link())
    run.join()
    assert isinstance(run.error, TrialFailed)


def test_a_worker_that_can_run_nothing_leaves_and_the_search_goes_on(monkeypatch, child):
    def unable(*given):
        raise HandgradError("there is no such data here")

    monkeypatch.setattr(child, "run", unable)
    lost = []

    def search(worker):
        if lost:
            return
        try:
            worker.run(JOB)
        except WorkerLost as error:
            lost.append(str(error))
            raise

    run = Run(search)
    with pytest.raises(HandgradError, match="no such data here"):
        work(run.link())
    assert work(run.link("w1")) == 0
    run.join()
    assert lost == ["there is no such data here"] and run.error is None
    assert "worker w0 is lost: there is no such data here" in run.said


@pytest.mark.usefixtures("plain_results")
def test_the_trial_of_a_silent_worker_is_another_s():
    """The silent one, which only slept, finds out and gets another trial."""
    results, given = [], iter([JOB, JOB])

    def search(worker):
        results.append((worker.name, worker.run(next(given))))

    run = Run(search, silence=1.0)
    silent = run.link("silent")
    assert silent.call("ask")["job"]["trial"] == "0"
    time.sleep(1.5)
    assert any("worker silent is lost: not heard of for 1 seconds" in line for line in run.said)
    assert work(run.link("w1")) == 1
    with pytest.raises((remote._Lost, remote._Ended, HandgradError)):
        silent.call("done", patience=0, trial="0", result={})
    run.join()
    assert [name for name, _ in results] == ["w1"]


@pytest.mark.usefixtures("plain_results")
def test_heartbeats_keep_a_slow_worker(monkeypatch, child):
    run_quickly = child.run

    def slowly(self, job, on_epoch):
        time.sleep(2.0)
        return run_quickly(self, job, on_epoch)

    monkeypatch.setattr(child, "run", slowly)
    run = Run(lambda worker: worker.run(JOB), silence=1.0)
    assert work(run.link()) == 1
    run.join()
    assert not any("lost" in line for line in run.said)


def test_a_worker_started_again_gets_its_trial_back_and_its_namesake_an_error():
    results = []
    run = Run(lambda worker: results.append(worker.run(JOB)), silence=5.0)
    first, second = run.link(), run.link()
    job = first.call("ask")["job"]
    assert second.call("ask")["job"] == job
    with pytest.raises(HandgradError, match="Another worker has been started.*--worker w0"):
        first.call("tell", trial="0", row={"epoch": 1})
    with pytest.raises(HandgradError, match="Another worker"):
        first.call("ask")
    second.call("done", trial="0", result="made")
    with pytest.raises(remote._Ended):
        second.call("ask")
    run.join()
    assert results == ["made"]


def test_an_error_of_the_search_ends_all():
    def search(worker):
        if worker.name == "w1":
            raise HandgradError("no space left")
        worker.run(JOB)

    run = Run(search)
    first = run.link()
    first.call("ask")
    for link in (run.link("w1"), first):
        with pytest.raises(HandgradError, match="The chief's search has ended: no space left"):
            for _ in range(200):  # the search may not have failed yet when it is asked
                link.call("ask")
                time.sleep(0.05)
    run.join()
    assert str(run.error) == "no space left"


def test_a_chief_that_is_not_there_is_given_up():
    said = []
    link = Link("localhost:1", "w0", 0.5, said.append)
    with pytest.raises(HandgradError, match="No chief answers at localhost:1: .* for 0.5 seconds"):
        work(link)
    assert said == ["no chief answers at localhost:1: trying again for 0.5 seconds"]


def test_a_worker_in_another_folder_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(JOB, "folder", str(tmp_path / "elsewhere" / "trial-0"))
    run = Run(lambda worker: worker.run(JOB), silence=1.0)
    with pytest.raises(HandgradError, match="should be started in the folder that the chief was"):
        work(run.link())
    run.chief._over.set()
    run.join()


def test_an_address_that_is_taken_is_refused():
    run = Run(lambda worker: None)
    with pytest.raises(UsageError, match="--chief should be an address of this machine that is"):
        Chief(run.chief.address)
    work(run.link())
    run.join()


def test_times_that_cannot_be():
    with pytest.raises(UsageError, match="--silence must be above 0 seconds. Received: 0"):
        Chief("localhost:0", silence=0)
    with pytest.raises(UsageError, match="--wait must be at least 0 seconds. Received: -1"):
        Link("localhost:1", "w0", -1)


@pytest.mark.parametrize("given, environment, found", [
    ((None, None), {}, (None, None)),
    (("h:1", None), {}, ("h:1", None)),
    (("h:1", "w"), {}, ("h:1", "w")),
    ((None, None), {HOST: "h", PORT: "1", ID: "chief"}, ("h:1", None)),
    ((None, None), {HOST: "h", PORT: "1", ID: "tuner0"}, ("h:1", "tuner0")),
    (("a:2", None), {HOST: "h", PORT: "1", ID: "tuner0"}, ("a:2", None)),
])
def test_roles(given, environment, found):
    assert role_of(*given, environment) == found


@pytest.mark.parametrize("given, environment, message", [
    ((None, "w"), {}, "--worker needs --chief HOST:PORT"),
    (("host", None), {}, "--chief must be HOST:PORT, as in 10.0.0.5:8790. Received: host"),
    (("host:99999", None), {}, "--chief must be HOST:PORT"),
    ((None, None), {HOST: "h", ID: "chief"}, f"{HOST} is set, so that {PORT} should be set too"),
    ((None, None), {HOST: "h", PORT: "1"}, f"{ID} should be set too"),
])
def test_wrong_roles(given, environment, message):
    with pytest.raises(UsageError, match=message):
        role_of(*given, environment)
