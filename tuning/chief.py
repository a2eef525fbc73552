"""Search on more than one machine: the chief, which hands trials to workers elsewhere.

Workers call, the chief answers: JSON over gRPC. Keras Tuner's own messages would round scores to
32 bits and know no heartbeat: its chief waits for ever for a worker that is gone.
"""

import json
import math
import queue
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import asdict

import grpc

from app.errors import UsageError
from tuning.roles import address_of
from tuning.worker import Limits, TrialFailed, WorkerLost

SERVICE = "handgrad.Search"
METHODS = ("ask", "tell", "done", "beat")
CALLS = 256  # that are answered at once: more than there are workers
HOLD = 2.0  # seconds that a call is held until there is something to answer
LONG = 60.0  # seconds that a search may take to answer for an epoch


class Remote:
    """A worker elsewhere, as a search sees it: like a `tuning.worker.Worker`.

    Attributes:
        job: what it is to run now, or None.
        instances: the processes that went by the worker's name, the present one last.
        ended: whether there is nothing left for it; `told`: whether it knows.
    """

    def __init__(self, name, instance, silence, limits):
        self.name, self.instances, self.silence, self.limits = name, [instance], silence, limits
        self.job, self.ended, self.told = None, False, False
        self.messages = queue.Queue()
        self.hear()

    def hear(self):
        self.heard = time.monotonic()

    def lost(self):
        return time.monotonic() - self.heard > self.silence

    def run(self, job, on_epoch=lambda row: True):
        """The result of a job that the worker runs.

        Raises:
            WorkerLost: where it is silent for too long, or cannot run any trial.
            TrialFailed: where the trial has failed.
        """
        self.messages = queue.Queue()
        self.job = job | {"limits": asdict(self.limits), "beat": self.silence / 6}
        try:
            while True:
                try:
                    message, answer = self.messages.get(timeout=0.2)
                except queue.Empty:
                    if self.ended:
                        raise WorkerLost("the search ends") from None
                    if self.lost():
                        raise WorkerLost(f"not heard of for {self.silence:g} seconds") from None
                    continue
                if "row" in message:
                    answer.set_result({"go": on_epoch(message["row"]) is not False})
                    continue
                answer.set_result({})
                if "fatal" in message:
                    raise WorkerLost(message["fatal"])
                if "error" in message:
                    raise TrialFailed(message["error"])
                return message["result"]
        finally:
            self.job = None

    def end(self):
        self.ended = True


class Chief:
    """The crew of a search on many machines: whoever calls at an address.

    Args:
        address: "HOST:PORT" to listen at; port 0 is any that is free.
        limits: of a trial.
        silence: seconds after which a worker that is not heard of is lost.
        say: called with a line for people.

    Raises:
        UsageError: where nothing can listen at the address, or `silence` is not above 0.
    """

    outlives = True  # its workers may go on while there is no driver

    def __init__(self, address, limits=Limits(), silence=30.0, say=print):
        if not 0 < silence < math.inf:
            raise UsageError(f"--silence must be above 0 seconds. Received: {silence}")
        self.limits, self.silence, self.say, self.workers = limits, silence, say, {}
        self._lock, self._work, self._pool = threading.Lock(), None, None
        self._error, self._over = None, threading.Event()
        host, port = address_of(address)
        self._server = grpc.server(ThreadPoolExecutor(CALLS), options=[("grpc.so_reuseport", 0)])
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                lambda message, context, name=name: self._answer(name, message),
                request_deserializer=json.loads, response_serializer=as_bytes)
            for name in METHODS}
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, handlers)])
        try:
            port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise UsageError("--chief should be an address of this machine that is free to listen "
                             f"at. Received: {address}") from error
        self.address = f"{host}:{port}"

    def run(self, work, over=False):
        """Calls `work(worker)` for each worker that comes, in a thread each, until all is done.

        over: whether it is already, so that whoever comes is only to be told.
        """
        self._work, self._pool = work, ThreadPoolExecutor(CALLS)
        self._server.start()
        if over:
            self.say("the search is over: telling workers that may wait for it")
            self._over.set()
            time.sleep(self.silence)
            self._server.stop(grace=1).wait()
            return
        host, port = address_of(self.address)
        here = socket.gethostname() if host in ("0.0.0.0", "[::]") else host
        self.say(f"waiting for workers at {self.address}: in the same folder (a shared one), "
                 f"handgrad tune --worker NAME --chief {here}:{port}")
        try:
            while not self._over.wait(timeout=0.5):
                pass
        except BaseException:
            self._over.set()
            self._server.stop(grace=None)  # workers wait for the next driver
            raise
        finally:
            for worker in list(self.workers.values()):
                worker.end()
            self._pool.shutdown()
        self._dismiss()
        if self._error:
            raise self._error

    def _dismiss(self):
        """Waits until all who are there know that it is over."""
        def waiting():
            return any(not w.told and not w.lost() for w in self.workers.values())

        until = time.monotonic() + self.silence
        while waiting() and time.monotonic() < until:
            time.sleep(0.05)
        self._server.stop(grace=1).wait()

    def _worker(self, message):
        """The worker that a message is from; it may be new, or have been lost."""
        with self._lock:
            name = message["worker"]
            if name not in self.workers and not self._over.is_set():
                self.say(f"worker {name} has come")
                worker = Remote(name, message["instance"], self.silence, self.limits)
                self.workers[name] = worker
                self._pool.submit(self._employ, worker)
            return self.workers.get(name)

    def _employ(self, worker):
        try:
            self._work(worker)
            worker.ended = True
            self._over.set()
        except WorkerLost as error:
            if not self._over.is_set():
                with self._lock:
                    del self.workers[worker.name]
                self.say(f"worker {worker.name} is lost: {error}")
        except BaseException as error:
            self._error = self._error or error
            worker.ended = True
            self._over.set()

    def _answer(self, method, message):
        worker = self._worker(message)
        if worker is None:
            return {"end": True}
        if message["instance"] != worker.instances[-1]:
            if message["instance"] in worker.instances or method != "ask":
                return {"namesake": True}
            worker.instances.append(message["instance"])  # it was started again
        worker.hear()
        if method == "ask":
            _until(lambda: worker.job or worker.ended)
            return self._end(worker) if worker.ended else {"job": worker.job}
        _until(lambda: worker.job or worker.ended, enough=5.0)
        job = worker.job
        if job is None or job["trial"] != message["trial"]:
            return self._end(worker) if worker.ended else {"lost": True}
        if method == "beat":
            return {}
        answer = Future()
        worker.messages.put((message, answer))
        try:
            return answer.result(LONG)
        except Late:
            return {"lost": True}

    def _end(self, worker):
        worker.told = True
        return {"end": True, "error": str(self._error) if self._error else None}


def as_bytes(value):
    """A message on its way."""
    return json.dumps(value).encode()


def _until(condition, enough=HOLD):
    until = time.monotonic() + enough
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
