"""Cgroup: a memory limit for the server, where this process may set one."""

import os
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Cgroup:
    """A cgroup of its own with a memory limit, of version 1 or 2; `folder` is None without it."""

    def __init__(self, limit_mib: int) -> None:
        self.folder = self._make(limit_mib * 2**20)
        where = f"in {self.folder}" if self.folder else "without a memory cgroup: none may be made"
        print(f"server {where}, limit {limit_mib} MiB")

    def enter(self) -> None:
        """Move the calling process into the cgroup."""
        if self.folder:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """Remove the cgroup, once the processes in it have ended."""
        if self.folder:
            with suppress(OSError):
                self.folder.rmdir()

    def _make(self, limit_bytes: int) -> Path | None:
        name = f"cxr-soak-{os.getpid()}"
        for parent, limit_file in (
            (ROOT / "memory", "memory.limit_in_bytes"),
            (ROOT, "memory.max"),
        ):
            folder = parent / name
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / limit_file).write_text(str(limit_bytes))
            except OSError:
                folder.rmdir()
                continue
            return folder
        return None
