"""A thread with a queue, whose work is told by futures."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Task = tuple["Future[Any]", Callable[[], Any]]


class Worker:
    """One thread, begun by the first work. A daemon, as an executor's is not.

    What hangs in it with a server, in a statement that is never answered, keeps neither the process nor its end.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._begun = False

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have work done after all that was submitted before. From one thread."""
        future: Future[T] = Future()
        self._tasks.put((future, lambda: work(*args, **kwargs)))
        if not self._begun:
            self._begun = True
            self._thread.start()
        return future

    def close(self, timeout: float | None) -> bool:
        """End the thread once its queue is empty; whether it has ended within `timeout` seconds (None: it has)."""
        self._tasks.put(None)
        if self._begun:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            _do(*task)
            del task  # or what an epoch held would be kept until the next one comes


def _do(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - nothing is caught: it is raised where the result is asked for
        future.set_exception(error)
    finally:
        del future, work  # otherwise the error's traceback keeps this frame, and it the error
