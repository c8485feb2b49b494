"""Real consumers in processes, as many as a cluster asks for; and the picture of how that went."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.edges import free_port


class Fleet:
    """Consumers of one group, each with a metrics port of its own, in the place of the pods that are fake."""

    def __init__(self, environment: Mapping[str, str], most: int, logs: Path) -> None:
        self.ports = [free_port() for _ in range(most)]
        self._environment = dict(environment)
        self._logs = logs
        self._running: list[subprocess.Popen[bytes]] = []

    def __len__(self) -> int:
        return len(self._running)

    def resize(self, number: int) -> None:
        """Start or stop consumers, the last ones first; those that stop leave the group in their own time."""
        while len(self._running) < number:
            port = self.ports[len(self._running)]
            with (self._logs / f"consumer-{port}.log").open("ab") as log:
                command = [sys.executable, "-m", "pipeline", "consume", "all"]
                environment = {**self._environment, "METRICS_PORT": str(port)}
                self._running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        leaving = self._running[number:]
        del self._running[number:]
        for process in leaving:
            process.terminate()
        for process in leaving:
            process.wait(60)


@dataclass(frozen=True)
class Moment:
    """What was seen at one time."""

    second: float
    lag: int
    replicas: int


def draw(moments: Sequence[Moment], title: str) -> str:
    """Return an SVG: the lag as an area, the replicas as steps."""
    width, height, left, top = 760, 260, 60, 30
    end = moments[-1].second or 1
    most_lag, most_replicas = max(one.lag for one in moments) or 1, max(one.replicas for one in moments) + 1

    def x(second: float) -> float:
        return round(left + second / end * width, 1)

    def y(share: float) -> float:
        return round(top + height * (1 - share), 1)

    area = " ".join(f"{x(one.second)},{y(one.lag / most_lag)}" for one in moments)
    steps, before = "", None
    for one in moments:
        if before is not None:
            steps += f"{x(one.second)},{y(before / most_replicas)} "
        steps += f"{x(one.second)},{y(one.replicas / most_replicas)} "
        before = one.replicas
    ticks = "".join(
        f'<text x="{left + width + 8}" y="{y(n / most_replicas) + 4}" fill="#b00">{n}</text>'
        for n in range(most_replicas + 1)
    )
    ticks += "".join(
        f'<text x="{x(second)}" y="{top + height + 18}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(end) + 1, 30)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 120} {height + 70}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/><text x="{left}" y="18">{title}: '
        f"lag (blue, at most {most_lag:,} records) and consumers (red)</text>"
        f'<polygon points="{left},{y(0)} {area} {x(end)},{y(0)}" fill="#9bd" stroke="#37a"/>'
        f'<polyline points="{steps.strip()}" fill="none" stroke="#b00" stroke-width="2"/>{ticks}</svg>\n'
    )
