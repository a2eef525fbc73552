"""`handgrad serve` as a process: it starts, ends, and takes what clients and disks do to it."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
from served_models import half, save

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.cli import app  # noqa: E402
from app.console import execute  # noqa: E402

SERVE = [sys.executable, "-m", "app.cli", "serve"]


class Server:
    def __init__(self, process, port):
        self.process, self.port = process, port

    def ask(self, body, path="/v1/models/half:predict", method="POST"):
        """(status, JSON)"""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(link):
            link.request(method, path, body if body is None else json.dumps(body).encode())
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())

    def status(self, name="half"):
        answer = self.ask(None, f"/v1/models/{name}", "GET")[1]
        return {int(v["version"]): (v["state"], v["status"]["error_message"])
                for v in answer["model_version_status"]}


@contextlib.contextmanager
def serving(folder, *more):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*SERVE, str(folder), "--port", str(port), *more],
                               stderr=subprocess.PIPE, text=True)
    server = Server(process, port)
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if server.ask(None, "/healthz", "GET")[0] == 200:
                    break
            time.sleep(0.05)
        assert process.poll() is None, process.stderr.read()
        yield server
    finally:
        process.kill()
        process.communicate()


class Load:
    """Threads that ask one after the other; `answers` are (status, JSON)."""

    def __init__(self, server, threads=8):
        self.server, self.answers, self.errors, self.over = server, [], [], False
        self.threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def _ask(self):
        link = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        with contextlib.closing(link):
            while not self.over:
                sent = False
                try:
                    link.request("POST", "/v1/models/half:predict", b'{"instances": [1.0, 2.0]}')
                    sent = True
                    answer = link.getresponse()
                    self.answers.append((answer.status, json.loads(answer.read())))
                    if answer.will_close:
                        return  # the server has said that it ends
                except http.client.RemoteDisconnected:
                    return  # between two requests: the server ends
                except OSError as error:
                    if sent and not self.over:
                        self.errors.append(error)
                    return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.over = True
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("switches, requests", [
    (8, 1_000), pytest.param(50, 10_000, marks=pytest.mark.slow)])
def test_versions_are_switched_under_load(tmp_path, switches, requests):
    """Each request is answered by exactly one version, and none fails."""
    for number in (1, 2):
        save(tmp_path / "kept" / str(number), half(number))
    shutil.copytree(tmp_path / "kept" / "1", tmp_path / "models" / "half" / "1")
    folder = tmp_path / "models" / "half"
    with serving(tmp_path / "models") as server, Load(server) as load:
        for number in range(2, 2 + switches):
            aside = folder / f".{number}"
            shutil.copytree(tmp_path / "kept" / str(2 - number % 2), aside)
            os.rename(aside, folder / str(number))
            until = time.monotonic() + 30
            while server.status().get(number, ("",))[0] != "AVAILABLE":
                assert time.monotonic() < until, server.status()
                time.sleep(0.05)
            shutil.rmtree(folder / str(number - 1))
        until = time.monotonic() + 60
        while len(load.answers) < requests and time.monotonic() < until:
            time.sleep(0.1)
        assert server.process.poll() is None
    assert not load.errors and len(load.answers) >= requests
    expected = [{"predictions": [0.5 + added, 1.0 + added]} for added in (1, 2)]
    assert all(status == 200 and answer in expected for status, answer in load.answers)
    assert all(answer in [a for _, a in load.answers] for answer in expected)


def test_sigterm_under_load(tmp_path):
    """Every request that was accepted is answered."""
    save(tmp_path / "half" / "1", half())
    with serving(tmp_path) as server:
        with Load(server, 16) as load:
            time.sleep(1)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0
        assert load.answers and not load.errors
        assert {status for status, _ in load.answers} == {200}


def test_sigkill_and_again(tmp_path):
    save(tmp_path / "half" / "1", half())
    with serving(tmp_path) as server:
        server.process.kill()
        server.process.wait()
    with serving(tmp_path) as server:
        assert server.ask({"instances": [1.0]}) == (200, {"predictions": [2.5]})
        took = psutil.Process(server.process.pid).cpu_times()  # whatever else the machine does
        assert took.user + took.system < 10
        body = b" " * 2**20
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        link.request("POST", "/v1/models/half:predict", (body for _ in range(2**10)),
                     {"content-length": str(2**30)})
        answer = link.getresponse()
        assert answer.status == 413 and b"1073741824 bytes" in answer.read()
        link.close()
        taken = subprocess.run([*SERVE, str(tmp_path), "--port", str(server.port)],
                               capture_output=True, text=True)
        assert taken.returncode == 2 and "cannot be listened on" in taken.stderr
        assert server.ask({"instances": [1.0]})[0] == 200


def _talk(link):
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: link.recv(65536), b""))


def test_slow_heads_and_bodies_end(tmp_path):
    """A client that sends a byte now and then holds its connection for the time of a request."""
    save(tmp_path / "half" / "1", half())
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n"
    with serving(tmp_path, "--timeout", "2") as server:
        for sent, what in ((head, b"head"), (head + b"\r\n", b"body")):
            with socket.create_connection(("127.0.0.1", server.port), 20) as link:
                began = time.monotonic()
                link.sendall(sent)
                while not select.select([link], [], [], 0.4)[0]:
                    link.sendall(b"x")
                answer = _talk(link)
                assert answer.startswith(b"HTTP/1.1 408 ") and what in answer, answer
                assert 2 <= time.monotonic() - began < 10
        with socket.create_connection(("127.0.0.1", server.port), 20) as link:
            for part in (head, b"\r\n", b'{"instances"', b": [1.0]}"):  # slow, but in time
                time.sleep(0.3)
                link.sendall(part)
            assert link.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(3)  # between two requests there is more time
            link.sendall(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n")
            assert b"200" in _talk(link)


@pytest.mark.parametrize("arguments, message", [
    (["none"], "There is no folder none"), (["."], "holds no model"),
    ([".", "--port", "70000"], "--port must be at most 65535"),
    ([".", "--batch", "0"], "--batch must be at least 1"),
    ([".", "--timeout", "0"], "--timeout must be above 0"),
    ([".", "--queue", "0"], "--queue must be at least 1"),
    ([".", "--timeout", "inf"], "--timeout must be above 0, and finite"),
    ([".", "--token", ""], "must not be empty"),
])
def test_what_cannot_be_served(empty_folder, capsys, arguments, message):
    assert execute(app, ["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_token_of_the_environment(empty_folder, monkeypatch, capsys):
    monkeypatch.setenv("HANDGRAD_TOKEN", "")
    assert execute(app, ["serve", "."]) == 2
    assert "HANDGRAD_TOKEN, must not be empty" in capsys.readouterr().err


def test_no_saved_model(empty_folder, tmp_path, capsys):
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / "1" / "saved_model.pb").write_bytes(b"none")
    assert execute(app, ["serve", "--port", "0", "."]) == 1
    assert "No model in . can be served: a version 1: it cannot be" in capsys.readouterr().err
