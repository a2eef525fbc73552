"""Search on more than one machine: a worker, which runs the trials that a chief hands out."""

import contextlib
import json
import os
import threading
import time
import uuid
from pathlib import Path

import grpc

from app.errors import HandgradError, UsageError
from tuning.chief import LONG, SERVICE, as_bytes
from tuning.worker import Limits, TrialFailed, Worker

PAUSE = 1.0  # seconds between two tries to reach the chief
QUICK = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000)]


class _Lost(Exception):
    """The trial is another's by now."""


class _Ended(Exception):
    """The search is over."""


class Link:
    """Calls a chief, again and again where it does not answer.

    Args:
        address: "HOST:PORT".
        name: of this worker; one that is started again under its name gets its trial back.
        patience: seconds after which a chief that does not answer is given up.
        say: called with a line for people.
    """

    def __init__(self, address, name, patience=300.0, say=print):
        if not patience >= 0:
            raise UsageError(f"--wait must be at least 0 seconds. Received: {patience}")
        self.address, self.name, self.patience, self.say = address, name, patience, say
        self.instance = uuid.uuid4().hex
        self.channel = grpc.insecure_channel(address, QUICK)

    def call(self, method, *, patience=None, **message):
        """The chief's answer.

        Raises:
            HandgradError: where it does not answer for too long.
        """
        message |= {"worker": self.name, "instance": self.instance}
        call = self.channel.unary_unary(f"/{SERVICE}/{method}", request_serializer=as_bytes,
                                        response_deserializer=json.loads)
        patience = self.patience if patience is None else patience
        until, said = time.monotonic() + patience, False
        while True:
            try:
                return self._read(call(message, timeout=LONG + 10))
            except grpc.RpcError as error:
                reason = error.details()
            if time.monotonic() >= until:
                raise HandgradError(f"No chief answers at {self.address}: {reason}. Tried for "
                                    f"{patience:g} seconds. What was finished is kept.")
            if not said and patience:
                said = True
                self.say(f"no chief answers at {self.address}: trying again for "
                         f"{patience:g} seconds")
            time.sleep(PAUSE)

    def _read(self, answer):
        if answer.get("error"):
            raise HandgradError(f"The chief's search has ended: {answer['error']}")
        if answer.get("end"):
            raise _Ended
        if answer.get("namesake"):
            raise HandgradError("Another worker has been started under this name. "
                                f"Received: --worker {self.name}")
        if answer.get("lost"):
            raise _Lost
        return answer


def work(link, *, threads=None):
    """Runs the trials of a chief until there are none left; returns how many.

    Raises:
        HandgradError: where the chief is not reached, its folder is not here, or no trial can be
            run on this machine.
    """
    count, worker = 0, None
    try:
        while True:
            job = link.call("ask").get("job")
            if job is None:
                continue
            _check_shared(job, link)
            if worker is None or worker.ended:
                folder = Path(job["folder"]).parent
                worker = Worker(folder / f"worker-{link.name}.log", threads=threads)
            worker.limits = Limits(**job["limits"])
            link.say(f"trial {job['trial']}")
            with contextlib.suppress(_Lost):
                link.call("done", trial=job["trial"], **_outcome(link, worker, job))
                count += 1
    except _Ended:
        return count
    finally:
        if worker is not None:
            worker.end()


def _outcome(link, worker, job):
    """What came of a job, in the words of the chief's messages."""
    def on_epoch(row):
        return link.call("tell", trial=job["trial"], row=row)["go"]

    with _heartbeat(link, worker, job) as lost:
        try:
            return {"result": worker.run(job, on_epoch)}
        except TrialFailed as error:
            if lost.is_set():
                raise _Lost from error
            return {"error": str(error)}
        except _Lost:
            worker.end()
            raise
        except HandgradError as error:
            with contextlib.suppress(_Lost, HandgradError):
                link.call("done", patience=0, trial=job["trial"], fatal=str(error))
            raise


@contextlib.contextmanager
def _heartbeat(link, worker, job):
    """Tells the chief that this worker lives; ends the worker where its trial is another's."""
    lost, over = threading.Event(), threading.Event()

    def beat():
        while not over.wait(job["beat"]):
            try:
                link.call("beat", patience=0, trial=job["trial"])
            except HandgradError:
                continue  # the next epoch's call waits for the chief
            except (_Lost, _Ended):
                if not over.is_set():
                    lost.set()
                    worker.end()
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()


def _check_shared(job, link):
    journal = Path(job["folder"]).parent / "journal.jsonl"
    if not journal.exists():
        raise HandgradError(
            f"There is no {journal} in {os.getcwd()}: a worker should be started in the folder "
            "that the chief was started in, or a mount of it. Received: --chief {link.address}")
