"""A run's folder, kept on a second file system too: a shared path, S3 or Google Cloud Storage."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from marl_sched.checkpoints import PROGRESS, is_checkpoint, iteration_of, problem_of
from marl_sched.errors import UserError, WriteError, redacted
from marl_sched.files import check_folder


class Storage:
    """A folder on any file system that pyarrow reaches.

    Objects appear whole. A checkpoint counts once its `progress.json` is there, which is written
    last; older ones are removed after that.

    Args:
        uri: a path, or s3://BUCKET/PATH or gs://BUCKET/PATH. Credentials come from where the
            clouds' own tools take them; `?endpoint_override=HOST:PORT&scheme=http` names
            another S3 server.
        option: that it was given by, for errors; empty for an argument.

    Raises:
        UserError: when it is none of these, or cannot be written.
    """

    def __init__(self, uri: str, option: str = "--storage") -> None:
        from pyarrow import fs

        self.uri = redacted(uri)
        """Without credentials."""
        self._called = f"{option} {self.uri}".strip()
        self._seen: dict[str, tuple[int, int]] = {}
        self._tidied = False
        try:
            if "://" in uri:
                self._fs, self._root = fs.FileSystem.from_uri(uri)
                if not self._root.strip("/"):
                    raise ValueError("names no folder")
            else:
                self._fs, self._root = fs.LocalFileSystem(), str(Path(uri).resolve())
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{self._called}: {reason}; name a path, s3://BUCKET/PATH or gs://BUCKET/PATH"
            ) from None
        self._root = self._root.rstrip("/")
        self._whole = not isinstance(self._fs, fs.LocalFileSystem)

    def files(self) -> dict[str, int]:
        """Path below the root -> bytes, of all that is there.

        Raises:
            UserError: when the file system does not answer.
        """
        from pyarrow import fs

        try:
            selector = fs.FileSelector(self._root, allow_not_found=True, recursive=True)
            infos = self._fs.get_file_info(selector)
        except OSError as error:
            raise self._unusable(error) from None
        return {
            str(PurePosixPath(info.path).relative_to(self._root)): info.size
            for info in infos
            if info.is_file and not info.base_name.endswith(".part")
        }

    def read(self, name: str, errors: str = "strict") -> str | None:
        """Text of a file below the root; None without one.

        Args:
            errors: what becomes of bytes that are no text, as of `str`.

        Raises:
            UserError: when it cannot be had, or is no text.
        """
        from pyarrow import fs

        try:
            if self._fs.get_file_info(self._at(name)).type != fs.FileType.File:
                return None
            with self._fs.open_input_stream(self._at(name)) as source:
                return str(source.read(), "utf-8", errors)
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from None

    def iterations(self, files: Iterable[str]) -> list[int]:
        """Of the whole checkpoints among `files`, the newest first."""
        found = [
            iteration_of(path.parent)
            for path in map(PurePosixPath, files)
            if len(path.parts) == 3
            and path.parts[0] == "checkpoints"
            and path.name == PROGRESS
            and is_checkpoint(path.parent)
        ]
        return sorted(found, reverse=True)

    def latest_iteration(self, files: Iterable[str]) -> int | None:
        """Of the newest whole checkpoint among `files`."""
        return next(iter(self.iterations(files)), None)

    def prepare(self, out: Path, local: int | None, resume: bool, overwrite: bool) -> None:
        """Bring a run that goes on into `out`, where it is further here than there.

        Args:
            local: iteration of the newest whole checkpoint in `out`.

        Raises:
            UserError: when another run is here, or nothing can be written.
        """
        there = self.check(resume, overwrite)
        if resume:
            newest = self.latest_iteration(there)
            if newest is not None and (local is None or newest > local):
                self.fetch(out)
        else:
            self._remove(there)

    def check(self, resume: bool, overwrite: bool) -> dict[str, int]:
        """What is here, after seeing, leaving nothing behind, that a run may be kept here.

        Where there was nothing, an object store is left with the mark of an empty folder.

        Raises:
            UserError: when another run is here, or nothing can be written.
        """
        there = self.files()
        self._check_writable()
        if there and not resume and not overwrite:
            raise UserError(
                f"--storage {self.uri}: holds a run already; continue it with --resume auto, or "
                "choose another --storage"
            )
        return there

    def mirror(self, out: Path) -> None:
        """Make what is here equal to the run's folder; a failure is told, and mended next time."""
        try:
            self._mirror(out)
        except (OSError, UserError) as error:
            found = error if isinstance(error, UserError) else self._unusable(error)
            logging.getLogger(__name__).warning("%s", found)

    def finish(self, out: Path) -> None:
        """As `mirror`, for the last time.

        Raises:
            UserError: when it fails; the run is whole in `out`.
        """
        try:
            self._mirror(out)
        except OSError as error:
            raise UserError(f"{self._unusable(error)}; the run is whole in {out}") from None

    def fetch(self, out: Path) -> int:
        """Copy all that is here to the folder `out`; the number of files.

        Raises:
            UserError: when there is nothing, or it cannot be had, or would lie outside of `out`.
        """
        there = self.files()
        if not there:
            raise UserError(f"{self.uri}: nothing is there")
        for name in there:
            if ".." in PurePosixPath(name).parts:  # a bucket takes any name
                raise UserError(f"{self.uri}: {name!r} is no file of a run; nothing was copied")
        # A checkpoint that is whole in `out` stays: the one here may be damaged.
        whole = _whole_in(out, there)
        names = sorted((name for name in there if _folder(name) not in whole), key=_order)
        check_folder(out)
        try:
            for name in names:
                path = out / name
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(path.name + ".part")
                with self._fs.open_input_stream(self._at(name)) as source, open(part, "wb") as sink:
                    shutil.copyfileobj(source, sink)
                part.replace(path)
        except OSError as error:
            raise self._unusable(error) from None
        return len(names)

    def _mirror(self, out: Path) -> None:
        here = {
            str(path.relative_to(out).as_posix()): path
            for path in out.rglob("*")
            if path.is_file() and not any(p.startswith(".") for p in path.relative_to(out).parts)
        }
        for name in sorted(here, key=_order):
            status = here[name].stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if self._seen.get(name) != stamp:
                self._put(here[name], name)
                self._seen[name] = stamp
        # Also checkpoints that a process before this one has put here.
        known = set(self._seen) | (set() if self._tidied else set(filter(_folder, self.files())))
        self._tidied = True
        gone = [name for name in known if name not in here]
        self._remove(gone)
        for name in gone:
            self._seen.pop(name, None)

    def _put(self, path: Path, name: str) -> None:
        target = self._at(name)
        if not self._whole:
            self._fs.create_dir(str(PurePosixPath(target).parent), recursive=True)
        written = target if self._whole else target + ".part"
        with open(path, "rb") as source, self._fs.open_output_stream(written) as sink:
            shutil.copyfileobj(source, sink)
        if not self._whole:
            self._fs.move(written, target)

    def _remove(self, names: Iterable[str]) -> None:
        from pyarrow import fs

        # The mark of a whole checkpoint goes first.
        for name in sorted(names, key=_order, reverse=True):
            if self._fs.get_file_info(self._at(name)).type != fs.FileType.NotFound:
                self._fs.delete_file(self._at(name))
            if not self._whole:
                self._drop_empty(Path(self._at(name)).parent)

    def _drop_empty(self, folder: Path) -> None:
        """Remove folders that nothing is left in; object stores have none."""
        while folder != Path(self._root) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _check_writable(self) -> None:
        if not self._whole:
            try:
                check_folder(Path(self._root))
            except WriteError as error:
                raise self._unusable(error) from None
            return
        try:
            with self._fs.open_output_stream(self._at(".writable.part")) as sink:
                sink.write(b"")
            self._fs.delete_file(self._at(".writable.part"))
        except OSError as error:
            raise self._unusable(error) from None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _unusable(self, error: Any) -> UserError:
        reason = getattr(error, "strerror", None) or str(error)
        return UserError(f"{self._called}: {' '.join(str(reason).split())[:200]}")


def _order(name: str) -> tuple[bool, str]:
    """Marks of whole checkpoints after everything else."""
    return PurePosixPath(name).name == PROGRESS, name


def _folder(name: str) -> str:
    """checkpoints/iter_N of a file in it; empty for others."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:2]) if len(parts) > 2 and parts[0] == "checkpoints" else ""


def _whole_in(out: Path, names: Iterable[str]) -> set[str]:
    """Folders of checkpoints among those of `names` that are whole in `out`."""
    folders = {_folder(name) for name in names} - {""}
    return {one for one in folders if (out / one).is_dir() and problem_of(out / one) is None}
