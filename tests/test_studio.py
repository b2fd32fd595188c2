"""The studio as others reach it: raw requests to a server on a free port, and signals to a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import thorough
from test_cli import call, here, refused  # noqa: F401  (fixtures)
from test_generate import cascade  # noqa: F401  (fixture)

pytest.importorskip("gradio", reason="takes gradio: pip install 'phosphene[web]'")

import phosphene.web.serve  # noqa: F401  (its command)
from phosphene.web import guard, jobs, tabs
from phosphene.web.guard import Uploads, is_loopback
from phosphene.web.jobs import Job, Studio
from phosphene.web.studio import open_studio

API = "/gradio_api"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1000)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Client:
    """What is no browser: it sends just the headers it is told to."""

    def __init__(self, port: int) -> None:
        self.port, self.own = port, f"127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        told = {"Host": self.own, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "POST":
            told.setdefault("Content-Length", str(len(body)))
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in told.items():
            connection.putheader(name, value)
        connection.endheaders()
        if body and "Transfer-Encoding" not in told:
            connection.send(body)
        answer = connection.getresponse()
        found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return found

    def upload(self, content: bytes = PICTURE, name: str = "a.png", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
        body = head.encode() + content + b"\r\n--x--\r\n"
        return self.ask("POST", f"{API}/upload", body, Content_Type="multipart/form-data; boundary=x", **headers)

    def join(self, label: str, session: str, **values: object) -> int:
        """Press the button of the tab that has an input called ``label``; its inputs are ``values`` where not as they stand."""
        config = json.loads(self.ask("GET", "/config")[1])
        parts = {part["id"]: part for part in config["components"]}
        of = next(d for d in config["dependencies"] if label in [parts[i]["props"].get("label") for i in d["inputs"]])
        data = [values.get(parts[i]["props"].get("label"), parts[i]["props"].get("value")) for i in of["inputs"]]
        body = {"data": data, "fn_index": of["id"], "session_hash": session, "trigger_id": of["targets"][0][0]}
        return self.ask("POST", f"{API}/queue/join", json.dumps(body).encode(), Content_Type="application/json")[0]

    def listen(self, session: str) -> Iterator[dict]:
        """What the visitor is sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"{API}/queue/data?session_hash={session}")
        answer = connection.getresponse()
        try:
            while line := answer.readline():
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        finally:
            answer.close()
            connection.close()


@pytest.fixture(scope="module")
def open_one(cascade) -> Iterator[tuple[Studio, Client]]:  # noqa: F811
    port = free_port()
    with open_studio(str(cascade), "cpu", "127.0.0.1", port) as (studio, _):
        yield studio, Client(port)


@pytest.fixture
def studio(open_one) -> Studio:
    return open_one[0]


@pytest.fixture
def client(open_one) -> Client:
    return open_one[1]


def held(studio: Studio) -> list[Path]:
    return [file for file in studio.uploads.folder.rglob("*") if file.is_file()]


# Who is answered


def test_a_name_that_another_site_lets_point_here_is_not_answered(client):
    for path in ("/", "/config", f"{API}/info"):
        assert client.ask("GET", path, Host="evil.example")[0] == 400
        assert client.ask("GET", path, Host=f"evil.example:{client.port}")[0] == 400
    for own in (client.own, f"localhost:{client.port}", f"[::1]:{client.port}"):
        assert client.ask("GET", "/config", Host=own)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ],
    ids=str,
)
def test_another_site_uploads_nothing_and_starts_nothing(client, studio, headers):
    before = held(studio)
    assert client.upload(**headers)[0] == 403 and held(studio) == before
    assert client.ask("POST", f"{API}/queue/join", b"{}", Content_Type="text/plain", **headers)[0] == 403
    assert client.ask("GET", f"{API}/queue/data?session_hash=x", **headers)[0] == 403


def test_the_studios_own_page_and_a_link_to_it_are_answered(client):
    own = {"Origin": f"http://{client.own}", "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}
    assert client.upload(**own)[0] == 200
    assert client.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


def test_every_answer_says_what_its_page_may_load(client):
    for path in ("/", "/config", "/nothing-here"):
        headers = client.ask("GET", path)[2]
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == "'none'" and policy["object-src"] == "'none'"
        assert "http" not in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("route", ["file=", "file/"])
@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xhtml", "a.txt", "a.png"])
def test_what_a_visitor_uploaded_runs_no_script_of_his(client, name, route):
    """It lies on the studio's own origin: what is no picture is not shown, and in nothing does a script run."""
    script = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"
    place = json.loads(client.upload(script, name)[1])[0]
    code, content, headers = client.ask("GET", f"{API}/{route}{place}")
    assert (code, content) == (200, script)
    assert headers["content-security-policy"] == "default-src 'none'; sandbox" and headers["x-content-type-options"] == "nosniff"
    harmless = headers["content-type"].startswith(("image/png", "text/plain"))
    assert harmless or headers.get("content-disposition", "").startswith("attachment")


def test_what_nobody_can_press_is_no_error_of_ours(client, caplog):
    for index in (99_999, -1, "x", None):
        body = json.dumps({"data": [], "fn_index": index, "session_hash": "x"}).encode()
        assert 400 <= client.ask("POST", f"{API}/queue/join", body, Content_Type="application/json")[0] < 500


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "studio.example"])
def test_an_address_that_others_reach_is_not_opened_without_a_word(refused, host):  # noqa: F811
    refused("serve", "--host", host, words=(f"--host {host}", "--auth USER:PASSWORD", "--open-to-all"))


def test_what_cannot_be_listened_at_is_one_sentence_before_a_model_is_loaded(refused, monkeypatch):  # noqa: F811
    monkeypatch.setattr("phosphene.web.serve._share_memory", lambda: pytest.fail("it went on"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused("serve", "--port", port, words=(f"--port {port}: cannot be listened at on 127.0.0.1 (", "; choose another."))
    refused("serve", "--host", "", "--open-to-all", words='--host "": is empty')
    for host, words in (("no address", "is no address"), ("x" * 300, "is no address"), ("192.0.2.1", "is not this machine's")):
        refused("serve", "--host", host, "--open-to-all", "--port", 7991, words=(f"--host {host}: {words}", "127.0.0.1"))


def test_a_password_that_is_none_is_refused_and_not_shown(refused, monkeypatch):  # noqa: F811
    for auth in ("secret", ":secret", "name:"):
        refused("serve", "--auth", auth, words="--auth: is no USER:PASSWORD")
    monkeypatch.setenv("PHOSPHENE_AUTH", "hunter2")
    refused("serve", words="--auth: is no USER:PASSWORD; write a name, a colon and a password.")


def test_loopback_is_told_from_the_world():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", ""))


def test_who_does_not_say_the_password_gets_nothing(cascade):  # noqa: F811
    client = Client(free_port())
    with open_studio(str(cascade), "cpu", "127.0.0.1", client.port, ("ada", "secret")) as (studio, _):
        before = held(studio)
        assert client.upload()[0] == 401 and held(studio) == before
        assert client.ask("POST", f"{API}/queue/join", b"{}", Content_Type="application/json")[0] == 401
        assert client.ask("GET", f"{API}/queue/data?session_hash=x")[0] == 401
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        assert client.ask("POST", "/login", b"username=ada&password=wrong", **form)[0] == 400
        code, _, headers = client.ask("POST", "/login", b"username=ada&password=secret", **form)
        assert code == 200 and client.upload(Cookie=headers["set-cookie"].partition(";")[0])[0] == 200


# How much


def test_a_request_that_is_too_large_is_refused_unread(client, studio):
    before = held(studio)
    for path in (f"{API}/upload", f"{API}/queue/join"):
        assert client.ask("POST", path, Content_Length=str(guard.MOST_BODY + 1))[0] == 413
        assert client.ask("POST", path, Transfer_Encoding="chunked")[0] == 411
    assert held(studio) == before


def test_uploads_have_a_total(client, studio, monkeypatch):
    monkeypatch.setattr(studio.uploads, "most", 100_000)
    for number in range(30):
        assert client.upload(bytes([number]) * 9000)[0] == 200
        assert sum(file.stat().st_size for file in held(studio)) <= 100_000
    last = json.loads(client.upload(b"last" * 1000)[1])[0]
    assert Path(last).read_bytes() == b"last" * 1000
    monkeypatch.setattr(studio.uploads, "most", 5000)
    assert client.upload(bytes(9000))[0] == 507 and Path(last).is_file()


def test_the_oldest_uploads_make_room(tmp_path):
    uploads = Uploads(tmp_path / "uploads", 50_000)
    for number in range(5):
        (uploads.folder / f"{number}").write_bytes(bytes(10_000))
        os.utime(uploads.folder / f"{number}", (number, number))
    with uploads.room(15_000) as fits, uploads.room(40_000) as both:
        assert fits and not both
    assert sorted(file.name for file in uploads.folder.iterdir()) == ["2", "3", "4"]


def test_a_thousand_empty_files_are_no_way_around_it(tmp_path):
    uploads = Uploads(tmp_path / "uploads", 100 * guard.BLOCK)
    for number in range(1000):
        (uploads.folder / f"{number}").touch()
    with uploads.room(guard.BLOCK):
        assert len(list(uploads.folder.iterdir())) == 99


# What is said, and to whom


def test_a_message_shows_what_a_visitor_typed_as_text(client):
    box = "Which digits"
    assert client.join(box, "typist", **{box: "<img src=x>"}) == 200
    said = "".join(str(each) for each in client.listen("typist"))
    assert "&lt;img src=x&gt;" in said and "<img" not in said and 'class=\\"failed' in said.replace('"', '\\"')


@pytest.fixture
def slow(monkeypatch) -> list[int]:
    """Steps take their time; those that were taken."""
    taken, step = [], Job.step

    def slowly(self, now, what):
        time.sleep(0.1)
        step(self, now, what)
        taken.append(now.index)

    monkeypatch.setattr(Job, "step", slowly)
    return taken


def wait_for(what, seconds: float = 30) -> None:
    due = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < due, "it did not come to that"
        time.sleep(0.05)


LONG = {"Steps": 100}


def test_a_client_that_never_listens_keeps_no_job(client, studio, slow, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 1.0)
    assert client.join("What to draw (one a line)", "deaf", **LONG) == 200
    wait_for(lambda: slow)
    wait_for(lambda: not studio.jobs)
    assert len(slow) < 60


def test_a_client_that_stops_listening_gives_up_its_job(client, studio, slow, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 1.0)
    assert client.join("What to draw (one a line)", "leaving", **LONG) == 200
    heard = client.listen("leaving")
    assert next(heard)
    wait_for(lambda: len(slow) > 20)  # two seconds: who listens is waited for
    assert studio.jobs and studio.listening["leaving"] == 1
    heard.close()
    wait_for(lambda: not studio.jobs)
    assert len(slow) < 80 and "leaving" not in studio.listening


# The end


def test_a_message_shows_the_name_of_an_uploaded_file_as_text(tmp_path):
    import gradio as gr

    from phosphene.web.widgets import taken

    (tmp_path / "<b>x<b>&amp;.png").write_text("this is no picture")
    with pytest.raises(gr.Error) as caught:
        taken(str(tmp_path / "<b>x<b>&amp;.png"))
    assert caught.value.message.startswith("picture &lt;b&gt;x&lt;b&gt;&amp;amp;.png: cannot be read as a picture")


# What is begun, and what is stopped


@pytest.fixture
def training(studio):
    """What the buttons of the tab that trains call: to begin, and to stop."""
    import gradio as gr

    with gr.Blocks() as page, gr.Tab("Train") as tab:
        tabs.train_tab(studio, tab)
    called = {event.name: event.fn for event in page.fns.values()}
    return called["begin"], called["end"]


def test_a_training_that_was_stopped_while_it_waited_does_not_begin(training, studio, monkeypatch):
    (begin, end), who = training, SimpleNamespace(session_hash="waiting")
    monkeypatch.setitem(studio.listening, "waiting", 1)  # whoever listens no longer is not trained for
    end(who)
    (only,) = begin(who, 7, True, "class", 1, 8)
    assert "stopped before it began" in only[1]
    assert "done: epoch 1 of 1" in list(begin(who, 7, True, "class", 1, 8))[-1][1]


def test_an_empty_seed_is_one_sentence(training):
    (only,) = training[0](SimpleNamespace(session_hash="seedless"), None, True, "class", 1, 8)
    assert "The seed is empty" in only[1] and "failed" in only[1]


def test_a_job_that_ends_late_leaves_the_next_one_of_its_visitor_alone(studio):
    line = ["generate", *studio.model, "--steps", "9", "--no-upscale", "--", "a heart"]
    jobs = [studio.run(line, "twice") for _ in range(2)]
    now = [next(job)[0] for job in jobs]
    jobs[0].close()
    assert studio.jobs["twice"] is now[1]
    jobs[1].close()
    assert "twice" not in studio.jobs


KINDS = {
    "drawing": ("What to draw (one a line)", {"Steps": 100}),
    "training": ("Epochs", {"Epochs": 100, "Width": 8}),
}


@pytest.mark.parametrize(("how", "kind"), [pytest.param(signal.SIGINT, "drawing", marks=thorough), (signal.SIGTERM, "training")])
def test_a_studio_at_work_ends_cleanly_and_leaves_nothing(tmp_path, how, kind):
    client, label = Client(free_port()), KINDS[kind]
    command = [sys.executable, "-m", "phosphene", "serve", "--port", str(client.port), "--device", "cpu"]
    surroundings = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings)
    try:
        assert "the studio is at" in serving.stdout.readline()
        client.upload()
        assert client.join(label[0], "visitor", **label[1]) == 200
        heard = client.listen("visitor")
        for said in heard:
            if said["msg"] == "process_generating" and ("step" in str(said) or "epoch" in str(said)):
                break
        serving.send_signal(how)
        begun = time.monotonic()
        _, complaint = serving.communicate(timeout=30)
        assert serving.returncode == 0 and "Traceback" not in complaint, complaint
        assert time.monotonic() - begun < 20
    finally:
        serving.kill()
    left = [path for path in tmp_path.rglob("*") if not path.name.startswith("torchinductor")]
    assert left == []  # but for torch's, which all of its processes share


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_the_folder_of_a_killed_studio_goes_when_another_begins(tmp_path, monkeypatch):
    """And that of one at work stays."""
    begun = (
        "import sys, time; from phosphene.web.jobs import Studio; studio = Studio('glyph', 'cpu')\n"
        "(studio.folder / 'inputs' / 'x.png').write_bytes(b'x'); print(studio.folder, flush=True); time.sleep(600)"
    )
    surroundings = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    several = [
        subprocess.Popen([sys.executable, "-c", begun], stdout=subprocess.PIPE, text=True, env=surroundings) for _ in range(2)
    ]
    try:
        killed, at_work = (Path(each.stdout.readline().strip()) for each in several)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        for name in ("phosphene-studio-mine", "phosphene-studio-file"):  # no lock: it may be about to be taken
            (tmp_path / name).mkdir() if "mine" in name else (tmp_path / name).write_text("x")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / ".lock").write_text("")
        (tmp_path / "phosphene-studio-link").symlink_to(tmp_path / "elsewhere")
        several[0].kill()
        several[0].wait()
        assert (killed / "inputs" / "x.png").is_file()
        studio = Studio("glyph", "cpu")
        assert not killed.exists() and (at_work / "inputs" / "x.png").is_file()
        assert {path.name for path in tmp_path.glob("phosphene-studio-[mfl]*")} >= {
            f"phosphene-studio-{kind}" for kind in ("mine", "file", "link")
        }
        assert (tmp_path / "elsewhere" / ".lock").exists()
        assert studio.close() and not studio.folder.exists()
    finally:
        for each in several:
            each.kill()
            each.wait()
