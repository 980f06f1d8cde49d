"""A disk that loses power: what was not synced by then is lost, or half there, as the dice say."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from threading import RLock

from poolscout.tables import atomic

KEPT = (".lock",)  # says nothing that has to outlive a machine


class Disk:
    """Stands in for `fsync` and `rename`, and remembers what they have made durable.

    A file's content is durable once the file was synced, its name once the folder was synced since. Each of the two
    calls is a step; before step `cut_at` the power goes, and the process with it.

    Args:
        root: the folder that is on this disk.
        backups: outside of it, on the same file system; holds a link to every durable content.
        cut_at: the step, counted from 0.
        seed: of the dice that say which of the unsynced changes has reached the disk.
    """

    def __init__(self, root: Path, backups: Path, cut_at: int, seed: int) -> None:
        self.root, self.backups, self.cut_at = root, backups, cut_at
        self.random, self.lock, self.steps = random.Random(seed), RLock(), 0
        self.contents: set[int] = set()  # inodes of files
        self.names: dict[Path, int] = {}  # files and folders, durable in the folders they are in → inode
        backups.mkdir(parents=True)
        for folder in [root.parent, root, *(path for path in root.rglob("*") if path.is_dir())]:
            if folder.is_dir():
                for path in folder.iterdir():
                    if path.is_file():
                        self._content(path)
                self._names(folder)

    def sync(self, path: Path) -> None:
        with self.lock:
            self._step()
            self._names(path) if path.is_dir() else self._content(path)

    def replace(self, temporary: Path, path: Path) -> None:
        with self.lock:
            self._step()
            temporary.replace(path)

    def _step(self) -> None:
        if self.steps == self.cut_at:
            self._cut()
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1

    def _content(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self.contents:
            os.link(path, self.backups / str(inode))  # also keeps the number from being used again
            self.contents.add(inode)

    def _names(self, folder: Path) -> None:
        found = {path: path.stat().st_ino for path in folder.iterdir() if not path.is_symlink()}
        gone = [path for path, inode in self.names.items() if path.parent == folder and found.get(path) != inode]
        for path in gone:  # with a folder goes what was in it
            self.names = {known: inode for known, inode in self.names.items() if not known.is_relative_to(path)}
        self.names |= found

    def _cut(self) -> None:
        on_disk = {path for path in [self.root, *self.root.rglob("*")] if path.exists() and path.name not in KEPT}
        for path in sorted(on_disk | {path for path in self.names if path.is_relative_to(self.root)}):
            inode = path.stat().st_ino if path.exists() else None
            if path.is_dir():
                if path not in self.names and self.random.random() < 0.5:
                    shutil.rmtree(path)
                continue
            if inode != self.names.get(path) and self.random.random() < 0.5:
                self._old(path)
            elif inode is not None and inode not in self.contents:
                self._tear(path)

    def _old(self, path: Path) -> None:
        """The change of this name did not reach the disk."""
        path.unlink(missing_ok=True)
        backup = self.backups / str(self.names.get(path))
        if backup.exists() and path.parent.is_dir():
            shutil.copyfile(backup, path)

    def _tear(self, path: Path) -> None:
        """The name has reached the disk, the content only in part."""
        data = path.read_bytes()
        keep = self.random.randint(0, len(data))
        path.write_bytes(data[:keep] + bytes(len(data) - keep) * self.random.randint(0, 1))


def run_until_cut(work: Callable[..., object], args: tuple, root: Path, backups: Path, cut_at: int, seed: int) -> bool:
    """Do `work(*args)` in a process of its own on such a disk; returns whether the power went before it was done."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["__main__", "pandas", "poolscout.loop", "tests.tables.passes", "tests.tables.powerloss"]
    )
    process = processes.Process(target=_work, args=(work, args, root, backups, cut_at, seed))
    process.start()
    process.join(300)
    assert process.exitcode in (0, -signal.SIGKILL), f"the work itself failed at step {cut_at}"
    return process.exitcode != 0


def _work(work: Callable[..., object], args: tuple, root: Path, backups: Path, cut_at: int, seed: int) -> None:
    disk = Disk(root, backups, cut_at, seed)
    atomic._sync, atomic._replace = disk.sync, disk.replace
    work(*args)
