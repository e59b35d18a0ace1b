"""The service under load, against a fuzzer, and as a command that meets mistakes."""

import json
import signal
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serving import serving
from tiny import run

pytest.importorskip("nicegui", reason='needs pip install "twinlens[serve]"')

from twinlens.errors import InputError
from twinlens.serve_commands import open_port

CLIENTS, EACH = 50, 6
ODD = "/items/\xff\xe9%ff"  # bytes that are no UTF-8


@pytest.fixture(scope="module")
def served(index, trained, tmp_path_factory):
    ratings = tmp_path_factory.mktemp("ratings") / "ratings.sqlite"
    with serving(index.vectors.folder, trained.folder, ratings) as service:
        yield service


@pytest.mark.slow
def test_fifty_clients_at_a_time_all_have_their_own_answer(served, index):
    picture = Path(index.vectors.items["image_path"].iloc[5]).read_bytes()
    start = threading.Barrier(CLIENTS)

    def client(number):
        found = []
        with httpx.Client(base_url=served.address, timeout=60) as http:
            start.wait()
            for turn in range(EACH):
                if number % 5 == turn:
                    asked = {"files": {"image": ("p.png", picture)}}
                else:
                    text = f"number {number} is {'red' if turn % 2 else 'blue'}"
                    asked = {"json": {"text": text, "k": 1 + number % 4}}
                found.append((asked, http.post("/search", **asked)))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [each for part in pool.map(client, range(CLIENTS)) for each in part]
    assert len(answers) == CLIENTS * EACH
    for asked, answer in answers:
        assert answer.status_code == 200, answer.text
        query = asked.get("json", {"image": picture})
        found = index.search(**query)
        assert [each["id"] for each in answer.json()["results"]] == list(found["id"])
    counted = httpx.get(f"{served.address}/metrics").text.splitlines()
    numbers = dict(line.rsplit(" ", 1) for line in counted if line[0] != "#")
    batches = float(numbers["twinlens_batch_jobs_count"])
    assert batches < CLIENTS * EACH / 2  # they were encoded together


@pytest.mark.slow
def test_a_picture_of_200_mb_is_refused_and_not_kept(served):
    kind = 'Content-Disposition: form-data; name="image"; filename="a"'

    def chunks():
        yield f"--x\r\n{kind}\r\n\r\n".encode()
        for _ in range(200):
            yield b"\xff\xd8" * 500_000
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        said = httpx.post(
            f"{served.address}/search", content=chunks(), headers=headers, timeout=60
        )
        assert said.status_code == 413
    except httpx.WriteError:
        pass  # it stopped reading and hung up
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    peak_kb = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kb < 3_000_000
    assert httpx.get(f"{served.address}/health").json()["status"] == "ok"


@pytest.mark.slow
def test_raw_paths_that_climb_find_nothing(served):
    host, port = served.address.removeprefix("http://").split(":")
    for path in (
        "/items/../../../etc/passwd",
        "/items/..%2f..%2fetc%2fpasswd/image",
        ODD,
    ):
        with socket.create_connection((host, int(port))) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode("latin-1"))
            said = b"".join(iter(lambda: connection.recv(65536), b""))  # noqa: B023
        status = said.split(b" ", 2)[1]
        assert status in (b"404", b"400") and b"root:" not in said


@pytest.mark.slow
def test_unknown_addresses_beside_the_page_are_json(served):
    said = httpx.get(f"{served.address}/nothing/here")
    assert said.status_code == 404 and "nothing at" in said.json()["error"]


@pytest.mark.slow
def test_an_interrupted_service_ends_in_peace(index, trained, tmp_path):
    file = tmp_path / "r.sqlite"
    with serving(index.vectors.folder, trained.folder, file) as service:
        urllib.request.urlopen(f"{service.address}/health").read()
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(30) == 0
    said = service.log.read_text()
    assert said.rstrip().endswith("Stopped.") and "Traceback" not in said


@pytest.mark.slow
def test_a_fuzzer_finds_no_failure_of_the_server(index):
    schemathesis = pytest.importorskip("schemathesis")
    from fastapi.testclient import TestClient
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi import checks

    from twinlens.serve import Service, build_app

    app = build_app(Service(index))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    few = settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        for operation in schema.get_all_operations():
            operation = operation.ok()

            @given(case=operation.as_strategy())
            @few
            def never_fails(case):
                response = case.call(session=client)
                case.validate_response(
                    response,
                    checks=[
                        schemathesis.checks.not_a_server_error,
                        checks.response_schema_conformance,
                        checks.content_type_conformance,
                    ],
                )

            never_fails()
        counted = client.get("/metrics").text
    for path in ("/search", "/embed", "/items/{id}/similar"):
        assert f'path="{path}"' in counted


def test_a_port_in_use_is_named_before_anything_is_loaded(index):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match="name a free one with --port"):
            open_port("127.0.0.1", port)
        said = run("serve", index.vectors.folder, "--port", port)
        assert said.code == 1 and f"127.0.0.1:{port} cannot be served" in said.err
    with pytest.raises(InputError, match="an address of this machine"):
        open_port("203.0.113.7", port)


def test_mistakes_of_serve_are_sentences(index, trained, tmp_path, monkeypatch):
    said = run("serve", "/no/index", "--port", 18765)
    assert said.code == 1 and "There is no index in /no/index" in said.err
    info = json.loads((index.vectors.folder / "index.json").read_text())
    for path in index.vectors.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    info["model"]["digest"] = "f" * 32
    (tmp_path / "index.json").write_text(json.dumps(info))
    said = run("serve", tmp_path, "--run", trained.folder, "--port", 18765)
    assert said.code == 1 and "is another model" in said.err
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "nicegui" else name
    )
    said = run("serve", index.vectors.folder)
    assert said.code == 1 and 'pip install "twinlens[serve]"' in said.err
