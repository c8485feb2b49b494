"""kubectl as one user."""

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from tests.deploy.tools import DEPLOY, program

NAMESPACE: Final = "gamemetrics"
Finished = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    kubeconfig: str

    def run(self, *command: str, given: str | None = None) -> Finished:
        """Run any program as this user."""
        environment = {**os.environ, "KUBECONFIG": self.kubeconfig}
        return subprocess.run(
            command, env=environment, input=given, capture_output=True, text=True, check=False, timeout=300
        )

    def tried(self, *arguments: str, given: str | None = None) -> Finished:
        """Run kubectl, which may fail."""
        return self.run(program("kubectl"), *arguments, given=given)

    def __call__(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl, which must succeed."""
        finished = self.tried(*arguments, given=given)
        assert finished.returncode == 0, f"kubectl {' '.join(arguments)}:\n{finished.stdout}{finished.stderr}"
        return finished.stdout

    def get(self, *arguments: str) -> Any:
        """Read objects."""
        return json.loads(self("-n", NAMESPACE, "get", *arguments, "-o", "json"))

    def rollout(self, overlay: str, seconds: int = 120) -> Finished:
        """Roll an overlay out by the project's own script."""
        return self.run("bash", str(DEPLOY / "k8s" / "rollout.sh"), overlay, str(seconds))
