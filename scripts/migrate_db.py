"""The guide's name for `gamemetrics migrate`: makes the tables, in the database that DB_HOST and the rest name.

    python scripts/migrate_db.py [--check]

With another Python than the one of `.venv`, it hands over to that one.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run `gamemetrics migrate` with the arguments given."""
    own = ROOT / ".venv" / "bin" / "python"
    if own.exists() and Path(sys.prefix).resolve() != own.parent.parent.resolve():
        os.execv(own, [str(own), __file__, *sys.argv[1:]])  # noqa: S606 - a program of this checkout, no shell
    sys.path.insert(0, str(ROOT))
    from pipeline.cli.main import main as gamemetrics  # noqa: PLC0415 - only now is it known which Python runs

    sys.argv[1:1] = ["migrate"]
    gamemetrics()


if __name__ == "__main__":
    main()
