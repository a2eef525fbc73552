"""`handgrad serve` as a process: it starts, ends, and takes what clients and disks do to it."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import psutil
import pytest
import tensorflow as tf
from served_models import half, save, spec

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import uvicorn  # noqa: E402
from uvicorn.server import ServerState  # noqa: E402

from app.cli import app  # noqa: E402
from app.console import execute  # noqa: E402
from app.server.command import configuration  # noqa: E402
from app.server.errors import RestError  # noqa: E402
from app.server.loaded import Loaded  # noqa: E402
from app.server.models import Models  # noqa: E402
from app.server.protocol import Protocol  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402
from app.serving import versions  # noqa: E402

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


@contextlib.asynccontextmanager
async def connected(config):
    """(reader, writer) of a connection to an application that is served in this process."""
    config.load()
    listening = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=ServerState(), app_state={}),
        "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        listening.close()


def talked(application, *sent, pause=0.0, keep_alive=5):
    """All that comes until the connection ends, of what is sent with pauses until then."""
    async def talk():
        config = uvicorn.Config(application, ws="none", timeout_keep_alive=keep_alive,
                                http=partial(Protocol, head_seconds=0.2))
        async with connected(config) as (reader, writer):
            answers = asyncio.ensure_future(reader.read())
            for part in sent:
                if not answers.done():
                    writer.write(part)
                    await asyncio.sleep(pause)
            return await asyncio.wait_for(answers, 5)

    return asyncio.run(talk())


async def done(scope, receive, send):
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


async def done_late(scope, receive, send):
    await asyncio.sleep(0.5)
    await done(scope, receive, send)


async def done_with_a_body(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await done(scope, receive, send)


@pytest.mark.parametrize("rest", [b"GET / HT", b"\x00nonsense\r\n\r\n"])
def test_half_a_head_and_nonsense_behind_a_request_that_runs(rest):
    """The request is answered, and then the connection ends."""
    answers = talked(done_late, b"GET / HTTP/1.1\r\n\r\n" + rest)
    assert answers.startswith(b"HTTP/1.1 200 ") and answers.endswith(b"\r\n\r\ndone")
    assert answers.count(b"HTTP/1.1") == 1


def test_a_body_that_is_no_http():
    """It is answered at once: the rest of it will not come."""
    answer = talked(done_with_a_body, b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                    b"nonsense\r\n", pause=0.1)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("head, answered", [
    (b"", b""), (b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n", b"done")])
def test_bytes_that_begin_no_request_keep_no_connection(head, answered):
    """Empty lines, and a body that comes behind its answer."""
    began = time.monotonic()
    answer = talked(done, head, *[b"\r\n"] * 40, pause=0.1, keep_alive=0.5)
    assert answer.endswith(answered) and time.monotonic() - began < 3


def test_requests_that_are_sent_without_awaiting_answers():
    """Some wait in line, and are answered; the connection of more of them ends."""
    asked = []

    async def counted(scope, receive, send):
        asked.append(scope)
        await done(scope, receive, send)

    answers = talked(counted, b"GET / HTTP/1.1\r\n\r\n" * 5_000)
    assert answers.count(b"HTTP/1.1 200 ") == len(asked) == 17


def test_a_full_queue_costs_little(tmp_path):
    """A call is refused without a task, and counted; the connection goes on."""
    save(tmp_path / "half" / "1", half())
    models = Models(tmp_path)
    models.look()
    models.look()
    rest, head = Rest(models, Options(queue=2)), b"%s %s HTTP/1.1\r\n%s\r\n"
    call = head % (b"POST", b"/v1/models/half:predict", b"content-length: 20\r\n")

    async def talk():
        found = []

        async def ask(request):
            writer.write(request)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(re.search(rb"content-length: (\d+)", answer)[1])
            found.append((int(answer.split()[1]), await reader.readexactly(length)))

        async with connected(configuration(rest)) as (reader, writer):
            rest.admission.inside = 2
            await ask(call)
            await ask(b'{"instances": [1.0]}' + head % (b"GET", b"/healthz", b""))
            rest.admission.inside = 0
            await ask(call + b'{"instances": [1.0]}')
            await ask(head % (b"GET", b"/metrics", b""))
        return found

    found = asyncio.run(talk())
    assert [status for status, _ in found] == [503, 200, 200, 200]
    assert json.loads(found[0][1]) == {"error": "2 requests wait already: the queue is full"}
    assert b'handgrad_requests_total{model="half",status="503"} 1.0' in found[3][1]


def test_the_server_speaks_http_alone(tmp_path):
    """No WebSockets, and nothing that the page or another program could switch on beside it."""
    save(tmp_path / "half" / "1", half())
    config = configuration(Rest(Models(tmp_path), Options()))
    config.load()
    assert config.ws_protocol_class is None and not config.proxy_headers
    assert config.lifespan_class.__name__ == "LifespanOff"


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
