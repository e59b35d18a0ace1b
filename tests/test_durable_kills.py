"""Jobs that are killed at random moments go on and end as if nothing had been.

`TWINLENS_KILLS=50 python -m pytest -n 0 -m slow tests/test_durable_kills.py` kills at
fifty moments, a fifth of them in each job; by default once in each. Every other
moment is a time, the others stand before a change of a file. `TWINLENS_KILLS_SEED`
chooses others.
"""

import os
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import durable_jobs
import numpy as np
import pytest
from killed import (
    answers_of,
    changes_of,
    differences,
    fresh_home,
    prepare,
    refuse_halves,
    result_of,
    run_process,
    work_of,
)

# They train and kill in processes of their own.
pytestmark = [pytest.mark.slow, pytest.mark.long]
JOBS = list(durable_jobs.JOBS)
KILLS = int(os.environ.get("TWINLENS_KILLS", len(JOBS)))
SEED = int(os.environ.get("TWINLENS_KILLS_SEED", 0))
LOST = {  # pieces of work between two entries of a journal, or two checkpoints
    "p": 8,  # batches
    "t": 16,  # batches
    "e": 1,  # epochs
    "s": 1,  # steps
}


def moments():
    """`(job, share of it, whether a time or a change of a file)`, all different."""
    random = np.random.default_rng(SEED)
    found = []
    for number in range(KILLS):
        job, turn = JOBS[number % len(JOBS)], number // len(JOBS)
        turns = max(1, KILLS // len(JOBS))
        share = (turn % turns + random.random()) / turns
        timed = (turn + number) % 2 == 0
        found.append(pytest.param(job, share, timed, id=f"{job}-{share:.3f}-{timed}"))
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Of each job: `home`, `seconds`, `changes`, `result` and `work` without a kill."""
    prepare()
    base = tmp_path_factory.mktemp("base")
    durable_jobs.draw_all(base)

    @cache
    def of(job):
        if job in ("phase2", "build", "add"):
            shutil.copytree(
                of("phase1").home / "runs", base / "runs", dirs_exist_ok=True
            )
            source = of("phase1").home / "features"
            shutil.copytree(source, base / "features", dirs_exist_ok=True)
        if job == "add":
            shutil.copytree(of("build").home / "index", base / "index")
        home = fresh_home(job, base)
        ended = run_process(job, home, base)
        assert ended.code == 0, (home / "said.txt").read_text()
        return SimpleNamespace(
            home=home,
            seconds=ended.seconds,
            changes=changes_of(home),
            result=result_of(job, home),
            work=work_of(home),
        )

    return SimpleNamespace(base=base, of=of)


@pytest.mark.parametrize(("job", "share", "timed"), moments())
def test_a_killed_job_goes_on_and_ends_with_the_same_bits(
    undisturbed, job, share, timed
):
    whole, home = undisturbed.of(job), fresh_home(job, undisturbed.base)
    place = f"{home}: {job} killed at {share:.3f} of its "
    place += "time" if timed else "changes of files"
    options = {"kill_after": share * whole.seconds}
    if not timed:
        options = {"kill_before": int(share * whole.changes)}
    killed = run_process(job, home, undisturbed.base, **options)
    assert killed.code in ((-9, 0) if timed else (-9,)), place
    look_at_what_is_left(job, home, undisturbed, place)
    ended = run_process(job, home, undisturbed.base)
    assert ended.code == 0, place + (home / "said.txt").read_text()
    assert differences(whole.result, result_of(job, home)) == [], place
    lost = work_of(home) - whole.work
    assert all(lost[letter] <= LOST[letter] for letter in lost), f"{place}: lost {lost}"
    assert [path for path in home.rglob("*") if "partial" in path.name] == [], place
    shutil.rmtree(home)


def look_at_what_is_left(job, home: Path, undisturbed, place):
    """No file is half there, and an index answers as before or as after."""
    refuse_halves(home)
    if job == "add" or (home / "index").exists():
        states = [undisturbed.of("build"), undisturbed.of(job)]
        found = answers_of(home)
        assert any(not differences(each.result, found) for each in states), place
