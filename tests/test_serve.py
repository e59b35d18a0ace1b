"""The HTTP API: answers, limits, batches and mistakes."""

import asyncio
import io
import struct
import threading
import time
from dataclasses import replace
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("nicegui", reason='needs pip install "twinlens[serve]"')

from fastapi.testclient import TestClient

from twinlens.errors import InputError
from twinlens.search import SearchIndex, build_index
from twinlens.serve import Limits, Service, build_app
from twinlens.serve.collector import Collector

ODD = "sub folder/a b.é?#%2F.jpg"  # what a file's name may be


@pytest.fixture(scope="module")
def served(model, items, tmp_path_factory):
    """An index with an odd id, loaded as `serve` does, and its model."""
    folder = tmp_path_factory.mktemp("served") / "index"
    items = items.copy()
    items.loc[3, "id"] = ODD
    items.loc[4, "id"] = "photos/image"
    build_index(model, items, folder)
    loaded = SearchIndex.load(folder, model.folder)
    return SearchIndex(loaded.vectors, loaded.defaults, loaded.run, model)


@pytest.fixture(scope="module")
def client(served):
    with TestClient(build_app(Service(served))) as client:
        yield client


@pytest.fixture
def picture(served):
    path = served.vectors.items["image_path"].iloc[5]
    return open(path, "rb").read()


# === Answers ===


def check(answers, found):
    """What came over HTTP is what the library finds."""
    assert [each["id"] for each in answers["results"]] == found["id"].tolist()
    scores = [each["score"] for each in answers["results"]]
    np.testing.assert_allclose(scores, found["score"], atol=1e-5)


def test_a_text_finds_what_the_library_finds(client, served):
    asked = {"text": "a red disc", "k": 7, "where": 'colour != "blue" and number > 3'}
    said = client.post("/search", json=asked)
    assert said.status_code == 200
    check(said.json(), served.search(**asked))
    first = said.json()["results"][0]
    assert first["attributes"]["colour"] in ("red", "green") and first["rank"] == 1
    assert "image_path" not in str(said.json())
    assert said.json()["model"]["digest"] == served.model().digest


def test_a_picture_alone_and_with_a_text_weighs_both(client, served, picture):
    for data in ({}, {"text": "a red disc", "text_weight": "0.7"}):
        said = client.post("/search", data=data, files={"image": ("p.png", picture)})
        weight = float(data.get("text_weight", 0.5))
        found = served.search(data.get("text", ""), picture, text_weight=weight)
        check(said.json(), found)
    weights = {"weights": '{"image": 2}', "k": "2"}
    said = client.post("/search", data=weights, files={"image": ("p.png", picture)})
    check(said.json(), served.search(image=picture, k=2))


def test_items_of_any_name_are_found_with_their_neighbours_and_picture(client, served):
    for id in (ODD, "photos/image", "00.png"):
        address = "/items/" + quote(id, safe="")
        assert client.get(address).json()["id"] == id
        similar = client.get(f"{address}/similar", params={"k": 3})
        check(similar.json(), served.search(item=id, k=3))
        shown = client.get(client.get(address).json()["image"])
        path = served.vectors.items.set_index("id").loc[id, "image_path"]
        assert shown.content == open(path, "rb").read()
        assert shown.headers["content-type"] == "image/png"
        small = client.get(f"{address}/image", params={"size": 20})
        with Image.open(io.BytesIO(small.content)) as opened:
            assert opened.size == (20, 20) and opened.format == "JPEG"
    slashes = client.get("/items/sub folder/a b.é%3F%23%252F.jpg")
    assert slashes.json()["id"] == ODD  # slashes of an id may stand as they are


def test_embeddings_are_those_of_the_library(client, served, picture):
    texts = ["a red disc", "blue", "a red disc"]
    said = client.post("/embed", json={"texts": texts}).json()
    np.testing.assert_allclose(
        said["texts"], served.model().embed_texts(texts), 0, 1e-5
    )
    assert said["pictures"] == []
    files = [("images", ("a.png", picture)), ("images", ("b.png", picture))]
    said = client.post("/embed", data={"texts": ["blue"]}, files=files).json()
    model = served.model()
    vectors = model.embed_image_features(model.image_features([picture]), np.arange(1))
    np.testing.assert_allclose(said["pictures"], np.repeat(vectors, 2, 0), 0, 1e-5)
    np.testing.assert_allclose(
        said["texts"][0], model.embed_texts(["blue"])[0], 0, 1e-5
    )


def test_health_and_counters_say_how_it_goes(client, served):
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["items"] == 24
    client.get("/items/00.png")
    counted = client.get("/metrics").text
    line = 'twinlens_requests_total{method="GET",path="/items/{id}",status="200"}'
    assert line in counted and "twinlens_batch_jobs_count" in counted


@pytest.mark.filterwarnings("ignore:The query has")
def test_a_text_beyond_the_encoder_is_said(client):
    said = client.post("/search", json={"text": "red " * 200}).json()
    assert "200 words" in said["note"] and said["results"]
    assert not client.post("/search", json={"text": "red"}).json()["note"]


# === Mistakes ===


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (422, b"{no", "Invalid JSON"),
        (422, b'{"text": "\\ud800"}', "Invalid JSON"),
        (422, b"[]", "should be an object"),
        (422, b'{"txt": "red"}', "txt"),
        (422, b'{"text": "red", "k": 0}', "greater than"),
        (422, b'{"text": "red", "k": 101}', "100 are the most"),
        (422, b'{"text": "red", "weights": {"image": NaN}}', "finite"),
        (422, b'{"text": "red", "weights": {"image": -1}}', "greater than"),
        (422, b'{"text": "  "}', "Say what the picture shows"),
        (422, b'{"text": "' + b"x" * 1001 + b'"}', "1,000 are the most"),
        (422, b'{"text": "x", "where": "' + b"(" * 1001 + b'"}', "1,000 are the most"),
        (400, b"{}", "The query is empty"),
        (400, b'{"text": "red", "weights": {"colour": 1}}', "has the fields image"),
        (400, b'{"text": "red", "where": "year = 1"}', "'year'"),
        (400, b'{"text": "red", "where": "image_path != \\"\\""}', "'image_path'"),
        (400, b'{"text": "red", "where": "' + b"(" * 999 + b'"}', "cannot be read"),
        (404, b'{"item": "../../etc/passwd"}', "no item"),
    ],
)
def test_a_mistake_is_named_in_json(client, served, status, body, message):
    headers = {"content-type": "application/json"}
    said = client.post("/search", content=body, headers=headers)
    assert said.status_code == status and message in said.json()["error"]
    assert str(served.vectors.folder) not in said.text


WORDS = ["colour", "number", "=", "<=", "!=", "in", "(", ")", '"red"', "'", "1", "2.5"]
WORDS += [",", "and", "or", "not", "true", "`", "\\", "1e400", "-", "split", "id"]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    text=st.text(min_size=1, max_size=50),
    where=st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join),
    diversity=st.floats(0, 1),
)
def test_strange_texts_and_filters_are_answered_or_refused(
    client, text, where, diversity
):
    asked = {"text": text, "where": where, "diversity": diversity}
    said = client.post("/search", json=asked)
    assert said.status_code in (200, 400, 422), said.text
    assert ("results" in said.json()) == (said.status_code == 200)


def test_a_huge_number_in_a_filter_compares(client):
    for value in ("9" * 500, "-" + "9" * 500, "1e999"):
        said = client.post("/search", json={"text": "a", "where": f"number < {value}"})
        assert said.status_code in (200, 400), said.text


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", ".", "\0"])
def test_no_path_of_a_client_opens_a_file(client, served, path):
    for address in ("/items/{}", "/items/{}/image", "/items/{}/similar"):
        said = client.get(address.format(quote(path, safe="")))
        assert said.status_code == 404 and "no item" in said.json()["error"]
    said = client.post("/search", data={"image": path})
    assert said.status_code == 422 and "a file was expected" in said.json()["error"]
    said = client.post("/search", files={"image": (path, b"words")})
    assert said.status_code == 400 and "not a picture" in said.json()["error"]


def test_what_is_no_picture_or_too_large_is_refused_unread(client, picture):
    huge = picture[:16] + struct.pack(">II", 30_000, 30_000) + picture[24:]
    said = client.post("/search", files={"image": ("huge.png", huge)})
    assert said.status_code == 400 and "30000 x 30000" in said.json()["error"]
    large = picture + b"\0" * 20_000_000
    said = client.post("/search", files={"image": ("large.png", large)})
    assert said.status_code == 413 and "20 MB" in said.json()["error"]
    said = client.post("/search", files={"image": ("cut.png", picture[:-50])})
    assert said.status_code == 400 and "damaged" in said.json()["error"]
    said = client.post("/search", content=b"<q/>", headers={"content-type": "text/xml"})
    assert said.status_code == 415


def test_unknown_addresses_have_the_same_shape(client):
    assert "/openapi.json" in client.get("/nothing").json()["what_to_do"]
    said = client.put("/search")
    assert said.status_code == 405 and "PUT" in said.json()["error"]


def test_an_item_whose_file_is_gone_says_so(model, items, tmp_path):
    index = build_index(model, items.iloc[:3], tmp_path / "index")
    index.vectors.items.loc[0, "image_path"] = str(tmp_path / "gone.png")
    with TestClient(build_app(Service(index))) as client:
        for size in (0, 100):
            said = client.get("/items/00.png/image", params={"size": size})
            assert said.status_code == 404 and "any more" in said.json()["error"]


# === Many at once ===


def together(app, requests):
    """Answers of requests that are all on their way at the same time."""

    async def ask():
        transport = httpx.ASGITransport(app)
        address = "http://test"
        async with httpx.AsyncClient(transport=transport, base_url=address) as client:
            return await asyncio.gather(*(client.request(**each) for each in requests))

    return asyncio.run(ask())


def test_requests_that_come_together_are_encoded_together(served, picture, monkeypatch):
    sizes, model = [], served.model()
    embed = type(model).embed_texts
    monkeypatch.setattr(
        type(model),
        "embed_texts",
        lambda self, texts: (sizes.append(len(texts)), embed(self, texts))[1],
    )
    asked = [{"text": f"number {n} is red", "k": 1 + n % 3} for n in range(20)]
    asked[7] = {"text": "red", "where": "nothing = 1"}
    asked[8] = {"text": "number 1 is red", "where": 'colour = "red"'}
    requests = [dict(method="POST", url="/search", json=each) for each in asked]
    files = {"image": ("p.png", picture)}
    requests.append(dict(method="POST", url="/search", files=files))
    requests.append(dict(method="POST", url="/embed", json={"texts": ["a", "b"]}))
    said = together(build_app(Service(served)), requests)
    assert len(sizes) <= 4 and sum(sizes) >= 20  # not one by one
    for each, answer in zip(asked, said, strict=False):
        if "nothing" in each.get("where", ""):
            assert answer.status_code == 400  # its neighbours have their answers
        else:
            check(answer.json(), served.search(**each))
    check(said[20].json(), served.search(image=picture))
    assert len(said[21].json()["texts"]) == 2


def test_too_many_at_a_time_are_told_to_come_back(served):
    limited = Service(served, Limits(in_flight=3))
    request = dict(method="POST", url="/search", json={"text": "red"})
    said = together(build_app(limited), [request] * 8)
    codes = [each.status_code for each in said]
    assert codes.count(200) == 3 and codes.count(503) == 5
    refused = said[codes.index(503)]
    assert refused.headers["retry-after"] == "1" and "error" in refused.json()


def test_what_takes_too_long_ends(served, monkeypatch):
    slow = Service(served, replace(Limits(), timeout_seconds=0.1))
    waits = threading.Event()
    slow._collector._work = lambda jobs: waits.wait(5) and [None] * len(jobs)
    request = dict(method="POST", url="/search", json={"text": "red"})
    start = time.monotonic()
    said = together(build_app(slow), [request] * 2)
    waits.set()
    assert [each.status_code for each in said] == [504, 504]
    assert time.monotonic() - start < 3 and "0.1 seconds" in said[0].json()["error"]


class Job:
    def __init__(self, number, size=1):
        self.number, self.size = number, size


def test_the_collector_takes_what_waits_up_to_its_limit():
    batches = []

    def work(jobs):
        batches.append([job.number for job in jobs])
        time.sleep(0.02)
        return [ValueError("odd") if job.number == 3 else -job.number for job in jobs]

    async def ask():
        collector = Collector(work, limit=4)
        first = asyncio.create_task(collector.do(Job(0)))
        await asyncio.sleep(0.005)
        sizes = [1, 2, 1, 9, 1]
        others = [collector.do(Job(n, size)) for n, size in enumerate(sizes, start=1)]
        found = await asyncio.gather(first, *others, return_exceptions=True)
        again = await collector.do(Job(7))
        collector.close()
        return [*found, again]

    *found, again = asyncio.run(ask())
    assert batches == [[0], [1, 2, 3], [4], [5], [7]]
    assert found[:3] == [0, -1, -2] and isinstance(found[3], ValueError)
    assert found[4:] == [-4, -5] and again == -7


def test_a_failure_of_the_work_reaches_all_who_wait():
    def work(jobs):
        raise MemoryError("no room")

    async def ask():
        collector = Collector(work, limit=4)
        return await asyncio.gather(
            *(collector.do(Job(n)) for n in range(3)), return_exceptions=True
        )

    assert [str(each) for each in asyncio.run(ask())] == ["no room"] * 3


def test_an_index_of_another_model_is_not_served(index, model):
    loaded = SearchIndex.load(index.vectors.folder, model.folder)
    loaded.vectors.info["model"]["digest"] = "f" * 32
    with pytest.raises(InputError, match="is another model"):
        Service(loaded)
