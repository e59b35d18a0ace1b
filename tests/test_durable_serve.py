"""A service whose index is changed beside it: what it answers, what it keeps.

`TWINLENS_SEARCHES=10000 python -m pytest -n 0 -m slow tests/test_durable_serve.py` asks
ten thousand times, with a change of the index after each hundredth; by default a
tenth of it.
"""

import asyncio
import gc
import os
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyparsing as pp
import pytest
from serving import serving

pytest.importorskip("nicegui", reason='needs pip install "twinlens[serve]"')

from fastapi.testclient import TestClient

from twinlens.errors import InputError
from twinlens.index import load
from twinlens.index.folder import read_info, write_info
from twinlens.search import SearchIndex
from twinlens.serve import Service, build_app
from twinlens.serve import state as states
from twinlens.serve.refusals import Refusal
from twinlens.serve.schemas import SearchRequest

SEARCHES = int(os.environ.get("TWINLENS_SEARCHES", 1_000))
UPDATES = SEARCHES // 100
CLIENTS = 8
GROWTH_MB = 30  # of 700: what the allocator keeps once it was needed


@pytest.fixture
def folder(index, tmp_path):
    """A copy of the shared index, to be changed."""
    return Path(shutil.copytree(index.vectors.folder, tmp_path / "index"))


@pytest.fixture
def service(folder, model):
    service = Service(opened(folder, model))
    yield service
    service.close()


def opened(folder, model):
    index = SearchIndex.load(folder, model.folder)
    index._model = model
    return index


def add_copy(folder, name, of=0):
    """Another process adds an item with the picture and vector of one that is there."""
    index = load(folder)
    item = index.items.iloc[[of]].assign(id=name)
    index.add(item, [np.array(index.vectors[of : of + 1])])


def search(service, **asked):
    found = asyncio.run(service.search(SearchRequest(**asked)))
    return [each["id"] for each in found["results"]]


def test_what_was_added_beside_it_is_found_and_what_was_removed_is_not(service, folder):
    first = service.index.vectors.items["id"].iloc[0]
    assert not service.refresh()
    add_copy(folder, "twin")
    assert service.refresh() and not service.refresh()
    assert search(service, item=first, k=1) == ["twin"]
    assert service.item("twin")["id"] == "twin"
    load(folder).remove(["twin"])
    assert service.refresh()
    assert "twin" not in search(service, item=first, k=10)
    with pytest.raises(Refusal):
        service.item("twin")


def test_a_running_service_looks_by_itself(service, folder, monkeypatch):
    monkeypatch.setattr(states.Watch.__init__, "__defaults__", (0.01,))
    with TestClient(build_app(service)) as client:
        add_copy(folder, "twin")
        end = time.monotonic() + 20
        while client.get("/items/twin").status_code == 404:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert client.get("/health").json()["items"] == 25
    assert not [t for t in threading.enumerate() if t.name == "watch"]


def test_a_request_is_answered_from_the_state_in_which_it_began(service, folder):
    began, goes_on = threading.Event(), threading.Event()
    work = service._collector._work

    def slow(jobs):
        began.set()
        goes_on.wait(20)
        return work(jobs)

    service._collector._work = slow
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(search, service, text="a red disc", k=24)
        assert began.wait(20)
        index = load(folder)
        index.remove(index.items["id"].iloc[:23])
        assert service.refresh()
        goes_on.set()
        assert len(asked.result(20)) == 24
    assert len(search(service, text="a red disc", k=24)) == 1


def test_states_that_nobody_asks_any_more_are_let_go(service, folder):
    pp.ParserElement.enable_packrat()  # as Matplotlib does
    old = weakref.ref(service.state)
    vectors = weakref.ref(service.index.vectors)
    search(service, text="a red disc", where='colour = "red"')
    add_copy(folder, "twin")
    service.refresh()
    service._collector.afterwards(lambda: None)
    service._collector._thread.submit(lambda: None).result()
    gc.collect()
    assert old() is None and vectors() is None


def test_an_index_of_another_model_is_not_served_and_the_one_before_is(service, folder):
    info = read_info(folder)
    digest = info["model"]["digest"]
    info["model"]["digest"] = "f" * 32
    write_info(folder, info)
    with pytest.raises(InputError, match="is another model"):
        service.refresh()
    assert len(search(service, text="a red disc", k=3)) == 3
    info["model"]["digest"] = digest
    write_info(folder, info)
    assert service.refresh()


def test_an_index_that_was_taken_away_is_served_on(service, folder):
    shutil.rmtree(folder)
    assert not service.refresh()
    assert len(search(service, text="a red disc", k=3)) == 3


def test_a_mistake_beside_it_is_said_once(service, folder):
    said = []
    info = read_info(folder)
    write_info(folder, info | {"format": 99})
    watch = states.Watch(service.refresh, said.append, 0.01)
    time.sleep(0.2)
    watch.close()
    assert len(said) == 1 and "served on: " in said[0] and "format 99" in said[0]


# === For long ===


def memory_mb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def ask(client, number, picture):
    """One of four kinds of question; every text is another."""
    asked = {"text": f"number {number} is {'red' if number % 3 else 'blue'}", "k": 5}
    if number % 4 == 1:
        asked |= {"where": f'number >= {number % 20} and colour != "green"'}
    if number % 4 == 2:
        return client.get("/items/00.png/similar", params={"k": 5})
    if number % 40 == 3:
        return client.post("/search", files={"image": ("p.png", picture)})
    return client.post("/search", json=asked)


@pytest.mark.slow
@pytest.mark.long
def test_memory_stays_flat_over_many_searches_and_updates(folder, trained, tmp_path):
    picture = Path(load(folder).items["image_path"].iloc[5]).read_bytes()
    usage = []
    with (
        serving(folder, trained.folder, tmp_path / "ratings.sqlite") as served,
        httpx.Client(base_url=served.address, timeout=60) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        for number in range(UPDATES):
            some = range(100 * number, 100 * (number + 1))
            answers = list(pool.map(lambda n: ask(client, n, picture), some))
            assert {each.status_code for each in answers} == {200}
            change(folder, number)
            usage.append(memory_mb(served.process))
        wait_for(client, len(load(folder)))
    early, late = usage[UPDATES // 10], usage[-1]
    table = pd.Series(usage).round(1).to_list()
    print(f"{early:.0f} MB after a tenth, {late:.0f} MB at the end: {table}")
    assert late - early < GROWTH_MB, table


def change(folder, number):
    """Ten items more, then ten less."""
    index = load(folder)
    names = [f"new {n}" for n in range(10)]
    if number % 2:
        return index.remove(names)
    items = index.items.iloc[:10].assign(id=names)
    return index.add(items, [np.array(index.vectors[:10])])


def wait_for(client, items):
    end = time.monotonic() + 30
    while client.get("/health").json()["items"] != items:
        assert time.monotonic() < end
        time.sleep(0.05)
