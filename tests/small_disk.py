"""A disk so small that it is full at once, or that may only be read."""

import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of its own, in memory.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=16m", "tmpfs")

    def fill(self, but: int = 0) -> None:
        """Leaves no room, or but some bytes of it."""
        with open(self.path / "filling", "ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
            file.truncate(max(0, file.tell() - but))

    def make_room(self) -> None:
        """Takes back what `fill` has taken."""
        (self.path / "filling").unlink()

    def read_only(self, so: bool = True) -> None:
        """Refuses every change from now on, or allows them again."""
        self._mount("-o", "remount,ro" if so else "remount,rw")

    def close(self) -> None:
        """Unmounts it."""
        subprocess.run(["umount", "-l", self.path], check=True)

    def _mount(self, *options: str) -> None:
        command = ["mount", *options, str(self.path)]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    """A `SmallDisk`; skipped where mounting is not allowed."""
    try:
        found = SmallDisk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs root to mount a small disk ({error})")
    yield found
    found.close()
