"""Objects by name, created and replaced on condition of their version: the contract of object stores, and memory."""

import threading
from dataclasses import dataclass
from typing import Protocol


class VersionConflictError(Exception):
    """An object has another version than the one that was to be replaced."""


@dataclass(frozen=True)
class StoredObject:
    """An object as it was read.

    Attributes:
        content: Its content.
        version: Text that changes whenever it is written.
    """

    content: bytes
    version: str


class Objects(Protocol):
    """Protocol of all object stores: names are paths divided by `/`, and an object is read and replaced whole.

    A method raises `StorageUnavailableError` if the store does not answer, or refuses.
    """

    def get(self, name: str) -> StoredObject | None:
        """Read an object; None if it does not exist."""
        ...

    def put(self, name: str, content: bytes, *, replaces: str | None) -> str:
        """Write an object on condition of its version and return the new one.

        Args:
            name: Name of the object.
            content: Its new content.
            replaces: Version that it must have; None if it must not exist.

        Raises:
            VersionConflictError: It has another version, exists, or does not exist; nothing is written.
        """
        ...

    def overwrite(self, name: str, content: bytes) -> None:
        """Write an object, whatever it was before."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist."""
        ...

    def list_names(self, prefix: str, *, after: str = "") -> list[str]:
        """List the names of all objects with a prefix that come after a name, sorted as text.

        The cost follows the number of names that are returned.
        """
        ...

    def list_folders(self, prefix: str) -> list[str]:
        """List the prefixes right below a prefix below which there are objects, without the last `/`, sorted."""
        ...


class MemoryObjects:
    """Objects in this process's memory."""

    def __init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}
        self._lock = threading.Lock()
        self._versions = 0

    def get(self, name: str) -> StoredObject | None:
        """Read an object; None if it does not exist."""
        return self._objects.get(name)

    def put(self, name: str, content: bytes, *, replaces: str | None) -> str:
        """Write an object on condition of its version, as in `Objects.put`."""
        with self._lock:
            found = self._objects.get(name)
            if (None if found is None else found.version) != replaces:
                raise VersionConflictError(name)
            return self._write(name, content)

    def overwrite(self, name: str, content: bytes) -> None:
        """Write an object, whatever it was before."""
        with self._lock:
            self._write(name, content)

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist."""
        with self._lock:
            self._objects.pop(name, None)

    def list_names(self, prefix: str, *, after: str = "") -> list[str]:
        """List the names of all objects with a prefix that come after a name, sorted."""
        with self._lock:
            return sorted(name for name in self._objects if name.startswith(prefix) and name > after)

    def list_folders(self, prefix: str) -> list[str]:
        """List the prefixes right below a prefix below which there are objects, without the last `/`, sorted."""
        below = [name.removeprefix(prefix).partition("/") for name in self.list_names(prefix)]
        return sorted({prefix + folder for folder, divider, _ in below if divider})

    def _write(self, name: str, content: bytes) -> str:
        self._versions += 1
        self._objects[name] = StoredObject(content, str(self._versions))
        return str(self._versions)
