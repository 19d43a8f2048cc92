"""Files that stay readable after a kill at any time: atomic replacement and whole-line appends.

Every file of a study is opened here, so that each rule has one place: links are not followed, only regular files are
read. Content that cannot be read is a `CorruptFileError`, a full disk a `StorageFullError`, and a file system that does
not answer a `StorageUnavailableError`, with the path and what to do.
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nasproxy.errors import ConfigError, CorruptFileError, StorageFullError, StorageUnavailableError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota and a file beyond its largest size."""
MISPLACED = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENXIO)
"""Error numbers of a link, a folder or a device in place of a file, or a file in place of a folder."""
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers of a file that this user may not read or write."""


def open_file(path: Path, flags: int) -> int:
    """Open a regular file without following a link, and return its descriptor.

    Args:
        path: The file.
        flags: Flags of `os.open`; a file that they create has the mode 0o644.

    Raises:
        FileNotFoundError: The file does not exist.
        CorruptFileError: There is something else than a regular file at `path`.
        StorageFullError: The file cannot be created because the disk is full.
        StorageUnavailableError: It cannot be opened now, or not by this user.
    """
    with _explain_errors(path):
        # Without O_NONBLOCK, opening a named pipe waits for its other end.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise make_misplaced_error(path)
    return descriptor


@contextmanager
def _open_existing(path: Path) -> Iterator[BinaryIO | None]:
    """Open a regular file for reading during a block; None if it does not exist."""
    try:
        descriptor = open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        descriptor = None
    if descriptor is None:
        yield None
        return
    with _explain_errors(path), os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path) -> bytes | None:
    """Read a whole file; None if it does not exist.

    Raises:
        CorruptFileError: It is no regular file.
        StorageUnavailableError: It cannot be read now.
    """
    with _open_existing(path) as file:
        return None if file is None else file.read()


def read_from(path: Path, offset: int) -> bytes:
    """Read the bytes of a file from an offset on; empty if it is shorter or does not exist.

    Raises:
        CorruptFileError: It is no regular file.
    """
    with _open_existing(path) as file:
        if file is None:
            return b""
        file.seek(offset)
        return file.read()


def get_size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist.

    Raises:
        CorruptFileError: It is no regular file.
    """
    with _open_existing(path) as file:
        return 0 if file is None else os.fstat(file.fileno()).st_size


def read_version(path: Path) -> tuple[bytes, int] | None:
    """Read the content of a small file and the time of its last change in ns; None if it does not exist.

    The time is for comparison with that of an earlier reading only, since it is of another machine's clock.

    Raises:
        CorruptFileError: It is no regular file.
    """
    with _open_existing(path) as file:
        return None if file is None else (file.read(), os.fstat(file.fileno()).st_mtime_ns)


def get_etag(path: Path) -> str | None:
    """Return a digest of a file's content, which changes with it; None if the file does not exist.

    Raises:
        CorruptFileError: It is no regular file, or cannot be read.
    """
    content = read_bytes(path)
    return None if content is None else digest_bytes(content)


def digest_bytes(content: bytes) -> str:
    """Return a digest (hex) of content, to see whether it has changed."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def replace_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace a file atomically: readers see the whole old content or the whole new one.

    Args:
        path: The file; a link at its place is replaced, its target is left alone.
        content: The new content.
        durable: Whether the content outlasts a loss of power once this returns; else the file may then be the old one,
            or empty.

    Raises:
        StorageFullError: The disk is full; the old content is kept.
        CorruptFileError: There is a folder at `path`, or a file in place of its folder.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _explain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                _write_all(descriptor, content)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):  # the first error says what happened
                temporary.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)
            _sync_folder(path.parent.parent)  # the folder itself may be new


def replace_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace a text file atomically, as `replace_bytes` does."""
    replace_bytes(path, text.encode(), durable=durable)


def append_line(path: Path, text: str) -> None:
    """Append one line to a file with one writer, after removing an incomplete line that a killed writer left.

    Raises:
        StorageFullError: The disk is full; the file is as before.
        CorruptFileError: There is something else than a regular file at `path`.
    """
    with _explain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_file(path, os.O_RDWR | os.O_CREAT), "rb+", buffering=0) as file:
            # Readers ignore an incomplete line, so no reader has seen what is removed.
            end = _find_end_of_lines(file.fileno())
            file.truncate(end)
            try:
                file.seek(end)
                _write_all(file.fileno(), text.encode() + b"\n")
            except OSError:
                file.truncate(end)
                raise


def append_shared_line(path: Path, text: str, *, create: bool = True) -> None:
    """Append one line to a file that several processes append to, in one write.

    An incomplete line of a killed writer is ended, so that it is a line of its own, which readers skip.

    Args:
        path: The file.
        text: The line.
        create: Whether to create the file; else nothing is done without it.

    Raises:
        StorageFullError: The disk is full.
        CorruptFileError: There is something else than a regular file at `path`.
    """
    with _explain_errors(path):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = open_file(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))
        except FileNotFoundError:
            if create:
                raise
            return
        try:
            size = os.fstat(descriptor).st_size
            begins_line = size == 0 or os.pread(descriptor, 1, size - 1) in (b"\n", b"")
            _write_all(descriptor, (b"" if begins_line else b"\n") + text.encode() + b"\n")
        finally:
            os.close(descriptor)


def read_lines(path: Path) -> list[str]:
    """Read all complete lines; an empty list if the file does not exist.

    Raises:
        CorruptFileError: The file cannot be read, or is not UTF-8.
    """
    return split_lines(path, read_bytes(path) or b"")


def split_lines(path: Path, content: bytes) -> list[str]:
    """Split the content of a file into its complete lines.

    Raises:
        CorruptFileError: The content is not UTF-8.
    """
    try:
        text = content[: content.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise make_corrupt_error(path, str(error)) from error
    return text.split("\n")[:-1]


def make_folder(path: Path) -> None:
    """Create a folder with the folders above it, unless there is one.

    Raises:
        CorruptFileError: There is something else in its place.
    """
    with _explain_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def create_file(path: Path) -> None:
    """Create an empty file, unless there is one."""
    os.close(open_file(path, os.O_WRONLY | os.O_CREAT))


def overwrite_bytes(path: Path, content: bytes) -> None:
    """Write content of constant length into a file in place, creating it if needed; not atomic, but cheap."""
    descriptor = open_file(path, os.O_WRONLY | os.O_CREAT)
    try:
        with _explain_errors(path):
            os.pwrite(descriptor, content, 0)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file outlast a loss of power; does nothing if it does not exist."""
    with _open_existing(path) as file:
        if file is not None:
            os.fsync(file.fileno())


def remove_file(path: Path) -> None:
    """Remove a file, or a link, whose target stays; does nothing if there is none."""
    with _explain_errors(path):
        path.unlink(missing_ok=True)


def list_files(path: Path) -> list[str]:
    """List the names of the regular files in a folder, sorted, without hidden ones; empty if it does not exist."""
    return _list(path, lambda entry: entry.is_file(follow_symlinks=False))


def list_folders(path: Path) -> list[str]:
    """List the names of the folders in a folder, sorted, without hidden ones; empty if it does not exist."""
    return _list(path, lambda entry: entry.is_dir(follow_symlinks=False))


def _list(path: Path, is_listed: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    with _explain_errors(path):
        try:
            with os.scandir(path) as entries:
                names = [entry.name for entry in entries if is_listed(entry)]
        except FileNotFoundError:
            return []
    return sorted(name for name in names if not name.startswith("."))


def move_path(path: Path, target: Path) -> None:
    """Move a file or folder to a new place in the study, creating the folder of the place.

    Raises:
        StorageFullError: The disk is full.
        CorruptFileError: There is something else in place of the target's folder.
    """
    with _explain_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def make_private_folder(path: Path, variable: str) -> Path:
    """Create a folder that only this user can write to, in one that all users can write to, and return it.

    Args:
        path: The folder.
        variable: Environment variable that names another place for it.

    Raises:
        ConfigError: There is a link, a file or the folder of another user at `path`.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        owner = "" if found.st_uid == os.getuid() else f" of user {found.st_uid}"
        raise ConfigError(
            f"{path} must be a folder of user {os.getuid()}, got {_name_kind(found.st_mode)}{owner}: remove it, or set "
            f"{variable} to a folder of your own"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def make_corrupt_error(path: Path, why: str) -> CorruptFileError:
    """Make the error for an unreadable file; `why` is the reason."""
    reason = f"{path} cannot be read: {why}"
    return CorruptFileError(
        f"{reason}. Nothing was changed: restore the file, or move its folder away and run the command again to repeat "
        f"this part.",
        reason,
    )


def make_misplaced_error(path: Path) -> CorruptFileError:
    """Make the error for a path with something else than the regular file, or the folder, that belongs there."""
    try:
        found = f"it is {_name_kind(path.lstat().st_mode)}"
    except OSError:
        found = f"{path.parent} is not a folder"
    reason = f"{path} cannot be read: {found}"
    return CorruptFileError(
        f"{reason}. Nothing was changed: move that away, put what belongs there in its place if you have it, and run "
        f"the command again.",
        reason,
    )


def _make_unavailable_error(path: Path, error: OSError) -> StorageUnavailableError:
    """Make the error for a file that cannot be used now, which says nothing about its content."""
    if error.errno in FORBIDDEN:
        advice = "let this user read and write it, and run the command again"
    else:
        advice = (
            "run the command again once its file system answers and this machine has memory and free file descriptors"
        )
    return StorageUnavailableError(f"{path} cannot be used: {error.strerror or error}. Nothing was changed: {advice}")


def _name_kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link, which is not followed"
    return "a folder" if stat.S_ISDIR(mode) else "a regular file" if stat.S_ISREG(mode) else "a device or pipe"


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file system that a user can act on into sentences."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFullError(
                f"{path} cannot be written: {error.strerror}. Free space and run the command again: finished trials "
                f"are kept"
            ) from None
        if error.errno in MISPLACED or isinstance(error, FileExistsError):
            raise make_misplaced_error(path) from None
        if isinstance(error, FileNotFoundError):  # callers know what a missing file means
            raise
        raise _make_unavailable_error(path, error) from error


def _write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes: a disk that is nearly full takes a part first."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _find_end_of_lines(descriptor: int) -> int:
    """Return the size of a file without an incomplete last line."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync folders by themselves
            raise
    finally:
        os.close(descriptor)
