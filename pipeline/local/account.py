"""PostgreSQL refuses to run as root. For root, find it another account, and places that account can reach."""

import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigurationError
from pipeline.local.state import make_directory
from pipeline.local.supervisor import OsAccount

PREFERRED: Final = ("postgres", "nobody")
REFUGE: Final = Path("/var/lib/gamemetrics")


def unprivileged_account() -> OsAccount | None:
    """Return the account for a server that refuses root, or None when the caller is not root."""
    if os.geteuid() != 0:
        return None
    entries = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in (*PREFERRED, *sorted(entries)):
        if name in entries:
            entry = entries[name]
            return OsAccount(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError("PostgreSQL does not run as root, and this system has no other account")


def reachable(directory: Path, account: OsAccount) -> bool:
    """Tell whether the account can pass through every directory down to this one."""
    return all(_passable(step.stat(), account) for step in (directory, *directory.parents))


def refuge(directory: Path) -> Path:
    """Name the substitute under /var/lib of a directory that the account cannot reach.

    The name follows from the directory's, so every command of a checkout finds the same place.
    """
    return REFUGE / hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]


def reachable_copy(trees: Sequence[Path], version: str, account: OsAccount) -> Path:
    """Return the first of some sibling directories, or a copy of it, beside copies of the others, that is reachable.

    The version is in the copy's name: an upgrade must not go on with the old programs.
    """
    first = trees[0]
    if reachable(first, account):
        return first
    copy = refuge(first) / version
    if not copy.exists():
        make_directory(copy.parent)
        partial = copy.with_name(f"partial-{os.getpid()}")
        for tree in trees:
            shutil.copytree(tree, partial / tree.name, symlinks=True)
        make_directory(partial)
        partial.rename(copy)
    return copy / first.name


def _passable(status: os.stat_result, account: OsAccount) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
