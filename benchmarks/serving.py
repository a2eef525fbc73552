"""`handgrad serve` under load, beside itself without batching and beside LitServe.

    python -m benchmarks.serving [write]

Clients and server share the machine; all servers of a network run at once and are asked in turn,
in several rounds, so that noise hits all alike.
"""

import argparse
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import tensorflow as tf

from app.export import export
from app.models import build
from benchmarks.__main__ import machine
from benchmarks.lean_page import lines
from benchmarks.serving_clients import closed, open_loop

NETWORKS = {"lenet5": (28, 28, 1), "resnet20": (32, 32, 3)}
CLIENTS, ROUNDS, SECONDS = 32, 3, 4.0
BAR = 3  # times the answers without batching
SERVERS = ("batching", "without", "LitServe")
LOADS = (1, 2, 4)  # times the load that can be borne
PAGE, FIGURES = (Path(__file__).with_name(f"SERVING.{suffix}") for suffix in ("md", "json"))
INTRODUCTION = f"""\
# Serving

Made by `python -m benchmarks.serving write`: an export with weights as they are drawn, served on
the loopback, asked by one process for one image a request, which takes its part of the same cores.
Rates are answers a second with {CLIENTS} clients, medians of {ROUNDS} rounds; every server in the
same run, in turn. The server's own processor time for an answer stands beside: what else the
machine does disturbs it less."""


def exported(name, folder):
    """The folder of a version."""
    shape = NETWORKS[name]
    images = np.random.default_rng(0).random((8, *shape), np.float32)
    model = build(name, shape, 10, statistics=((0.5,) * shape[-1], (0.25,) * shape[-1]))
    return export(model, name=name, class_names=list("0123456789"), to=folder, card={},
                  sample_images=np.round(images * 255).astype("float32") / 255)


def requests(name):
    """The bodies of a request, {form: (path's end, bytes)}."""
    image = np.random.default_rng(1).integers(0, 256, NETWORKS[name], np.uint8)
    png = base64.b64encode(tf.io.encode_png(image).numpy()).decode()
    floats = {"instances": [np.round(image / 255, 4).tolist()]}
    encoded = {"signature_name": "image_bytes", "instances": [{"b64": png}]}
    return {"floats": json.dumps(floats).encode(), "PNG": json.dumps(encoded).encode()}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(command, port, path, body):
    """A server in a process, once it answers."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        until = time.monotonic() + 90
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                tally = closed(port, path, body, 1, 0.2)
                if tally.seconds and not tally.lost:
                    break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"{command} does not answer")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LitServe leaves its workers behind


def used(process):
    """Seconds of processor time that a server has used, all its processes together."""
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def bare(version, name):
    """Seconds of a call of the loaded function, for a request of floats."""
    model = tf.saved_model.load(str(version))
    predict = model.signatures["serving_default"]
    image = tf.zeros((1, *NETWORKS[name]))
    times = []
    for _ in range(400):
        begin = time.perf_counter()
        {k: v.numpy() for k, v in predict(images=image).items()}
        times.append(time.perf_counter() - begin)
    return median(times[50:])


def measured(name):
    """The figures of a network."""
    bodies, found = requests(name), {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        version = exported(name, folder)
        path, ports, processes = f"/v1/models/{name}:predict", {}, {}
        serve = [sys.executable, "-m", "app.cli", "serve", folder, "--port"]
        peer = [sys.executable, str(Path(__file__).with_name("serving_peer.py")), str(version)]
        for server, command, more, at in (
                ("batching", serve, [], path), ("without", serve, ["--batch", "1"], path),
                ("LitServe", peer, ["32"], "/predict")):
            ports[server] = port, at = free_port(), at
            processes[server] = stack.enter_context(started(
                [*command, str(port), *more], port, at, bodies["floats"]))
        calls, latency = [], []
        for _ in range(ROUNDS):
            calls.append(bare(version, name))
            latency.append(median(closed(*ports["batching"], bodies["floats"], 1, 2.0).seconds))
        found["bare_ms"], found["request_ms"] = median(calls) * 1e3, median(latency) * 1e3
        for form, body in bodies.items():
            rates = {server: [] for server in ports if form == "floats" or server != "LitServe"}
            times = {server: [] for server in rates}
            for _ in range(ROUNDS):
                for server in rates:
                    before = used(processes[server])
                    tally = closed(*ports[server], body, CLIENTS, SECONDS)
                    if failed := tally.refused + tally.lost:
                        raise RuntimeError(f"{server}: {failed} requests failed")
                    rates[server].append(len(tally.seconds) / tally.took)
                    spent = used(processes[server]) - before
                    times[server].append(spent / len(tally.seconds) * 1e6)
            found[form] = {server: median(values) for server, values in rates.items()}
            found[f"{form}, CPU us"] = {server: median(values) for server, values in times.items()}
        found["loads"] = {}
        for times_as_much in LOADS:
            rate = times_as_much * 0.8 * found["floats"]["batching"]
            tally = open_loop(*ports["batching"], bodies["floats"], rate, 2 * SECONDS)
            p50, p99 = 1e3 * np.percentile(tally.seconds, (50, 99))
            found["loads"][str(times_as_much)] = {
                "rate": rate, "answered": len(tally.seconds) / tally.took,
                "refused": tally.refused, "lost": tally.lost, "p50_ms": p50, "p99_ms": p99,
                "behind_ms": 1e3 * tally.behind}
    return found


def page(figures, by):
    latency, rates, loads, missed = [], [], [], []
    for name, found in figures.items():
        bare, whole = found["bare_ms"], found["request_ms"]
        latency.append((name, f"{bare:.2f}", f"{whole:.2f}", f"{whole - bare:.2f}"))
        for form in ("floats", "PNG"):
            answers, spent = found[form], found[f"{form}, CPU us"]
            if answers["batching"] < BAR * answers["without"]:
                missed.append(f"{name} asked with {form}")
            shown = [f"{answers[server]:.0f} ({spent[server]:.0f})" if server in answers else "-"
                     for server in SERVERS]
            rates.append((name, form, *shown, f"{answers['batching'] / answers['without']:.2f}",
                          f"{spent['without'] / spent['batching']:.2f}",
                          f"{answers['batching'] / answers['LitServe']:.2f}"
                          if "LitServe" in answers else "-"))
        loads += [(name, f"{n}x", f"{load['rate']:.0f}", f"{load['answered']:.0f}",
                   str(load["refused"]), str(load["lost"]), f"{load['p50_ms']:.0f}",
                   f"{load['p99_ms']:.0f}", f"{load['behind_ms']:.0f}")
                  for n, load in found["loads"].items()]
    return "\n".join([
        INTRODUCTION, "", f"Machine: {by}", "",
        *lines(("network", "bare call, ms", "request, ms", "beyond it, ms"), latency), "",
        "Answers a second, in brackets microseconds of the server's processor time for one:", "",
        *lines(("network", "form", *SERVERS, "of without", "by time", "of LitServe"), rates), "",
        f"The bar, {BAR} times the answers without batching, is missed by {', '.join(missed)}: to "
        "read an image's JSON, and to compute one row of a full call, take more than a third of "
        "what a call for one image does." if missed else "The bar, "
        f"{BAR} times the answers without batching, is met.", "",
        "Under more load than can be borne, one sends and does not wait: 1x is 0.8 of the rate "
        "above, over 512 connections. What does not fit into the queue is refused at once by "
        "status 503. Times count from when a request was due; `late` is how far behind the client "
        "itself has been.", "",
        *lines(("network", "load", "sent a second", "answered", "refused", "lost", "p50, ms",
                "p99, ms", "late, ms"), loads)]) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("write", nargs="?", choices=["write"],
                        help=f"keep the figures in {PAGE.name}")
    write = parser.parse_args(arguments).write
    load = f"{os.getloadavg()[1]:.1f} processes at work before the run"
    figures = {name: measured(name) for name in NETWORKS}
    text = page(figures, f"{machine()}; {load}")
    print(text)
    if write:
        PAGE.write_text(text)
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
