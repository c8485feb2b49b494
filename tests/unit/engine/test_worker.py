"""A thread with a queue: in order, with what was raised, and no obstacle to the end of the process."""

import gc
import subprocess
import sys
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.worker import Worker


class Fault(BaseException):
    """What no code foresees, a panic of Rust's among it, is no Exception."""


@given(st.lists(st.one_of(st.integers(), st.sampled_from([ValueError("bad"), Fault("worse")])), max_size=20))
def test_each_future_tells_what_became_of_its_work_in_order(outcomes: list[int | BaseException]) -> None:
    worker, done = Worker("tested"), list[int | BaseException]()

    def work(outcome: int | BaseException) -> int:
        done.append(outcome)
        assert threading.current_thread().name == "tested"
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    futures = [worker.submit(work, outcome) for outcome in outcomes]
    assert worker.close(60)
    assert done == outcomes
    for future, outcome in zip(futures, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            assert future.exception() is outcome
        else:
            assert future.result() == outcome


@pytest.mark.parametrize("raising", [False, True])
def test_what_work_was_given_is_kept_by_nobody(raising: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """An epoch is a hundred megabytes, and the collector of cycles is made rare."""

    class Given:
        pass

    def work(given: Given) -> None:
        assert given
        if raising:
            raise ValueError

    worker, given = Worker("tested"), Given()
    kept = weakref.ref(given)
    gc.disable()
    try:
        future = worker.submit(work, given)
        assert (future.exception(60) is not None) == raising
        assert worker.submit(lambda: 1).result(60) == 1
        del future, given
        assert kept() is None
    finally:
        gc.enable()
        worker.close(60)


HANGING = """
import threading
from pipeline.engine.worker import Worker
worker = Worker("hanging")
worker.submit(threading.Event().wait)
raise SystemExit(0 if not worker.close(0.01) else 1)
"""


def test_work_that_hangs_does_not_keep_the_process() -> None:
    assert subprocess.run([sys.executable, "-c", HANGING], timeout=60, check=False).returncode == 0
