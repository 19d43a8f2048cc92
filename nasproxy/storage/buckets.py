"""Objects in a bucket of S3, Google Cloud Storage or Azure, by obstore."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from nasproxy.errors import ConfigError, MissingExtraError, StorageUnavailableError, advise_install
from nasproxy.storage.objects import StoredObject, VersionConflictError

SCHEMES = ("s3", "gs", "az", "memory")
"""Schemes of the URLs of buckets; `memory` is a bucket in this process, for tests of what uses one."""


class Bucket:
    """Objects below a prefix of a bucket.

    Args:
        url: URL of the prefix, such as `s3://bucket/studies/digits`.
        options: Options of obstore's store, such as `{"region": "eu-west-1"}`; credentials are found as the provider's
            own tools find them.

    Raises:
        ConfigError: The URL is no bucket's, or an option is unknown.
        MissingExtraError: obstore is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url = url.rstrip("/")
        self._options = dict(options or {})
        scheme, divider, _ = url.partition("://")
        if not divider or scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise ConfigError(f"a bucket's URL must begin with one of {known}, got {url}: give s3://BUCKET/FOLDER")

    def get(self, name: str) -> StoredObject | None:
        """Read an object; None if it does not exist."""
        with self._name_errors(f"read {name}"):
            try:
                found = self._obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            return StoredObject(bytes(found.bytes()), str(found.meta["e_tag"]))

    def put(self, name: str, content: bytes, *, replaces: str | None) -> str:
        """Write an object on condition of its version, as in `Objects.put`."""
        exceptions = self._obstore.exceptions
        mode = "create" if replaces is None else {"e_tag": replaces}
        with self._name_errors(f"write {name}"):
            try:
                return str(self._obstore.put(self._store, name, content, mode=mode, use_multipart=False)["e_tag"])
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                raise VersionConflictError(name) from error
            except FileNotFoundError as error:
                if replaces is None:
                    raise  # it is the bucket that does not exist
                raise VersionConflictError(name) from error

    def overwrite(self, name: str, content: bytes) -> None:
        """Write an object, whatever it was before."""
        with self._name_errors(f"write {name}"):
            self._obstore.put(self._store, name, content)

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist."""
        with self._name_errors(f"remove {name}"):
            try:
                self._obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    def list_names(self, prefix: str, *, after: str = "") -> list[str]:
        """List the names of all objects below a prefix that ends with `/` and after a name, sorted."""
        with self._name_errors(f"list {prefix}"):
            pages = self._obstore.list(self._store, prefix.rstrip("/") or None, offset=after or None)
            return sorted(entry["path"] for page in pages for entry in page)

    def list_folders(self, prefix: str) -> list[str]:
        """List the prefixes right below a prefix that ends with `/`, without their last `/`, sorted."""
        with self._name_errors(f"list {prefix}"):
            return sorted(self._obstore.list_with_delimiter(self._store, prefix.rstrip("/"))["common_prefixes"])

    @property
    def _obstore(self) -> Any:
        try:
            import obstore
            import obstore.exceptions
        except ImportError as error:
            raise MissingExtraError(
                f"a study at {self.url} needs obstore, which is not installed: {advise_install('buckets')}"
            ) from error
        return obstore

    @cached_property
    def _store(self) -> Any:
        obstore = self._obstore
        from obstore.store import from_url

        try:
            url = self.url if not self.url.startswith("memory:") else "memory:///"
            return from_url(url, **self._options)
        except obstore.exceptions.BaseError as error:
            raise ConfigError(f"{self.url} needs options that obstore knows for it: {_shorten(error)}") from error

    @contextmanager
    def _name_errors(self, what: str) -> Iterator[None]:
        """Turn an error of the store into one of this program."""
        exceptions = self._obstore.exceptions
        try:
            yield
        except (exceptions.BaseError, OSError) as error:
            raise StorageUnavailableError(f"{self.url} did not {what}: {_shorten(error)}") from error


def _shorten(error: Exception) -> str:
    """Return the first line of an error of obstore, whose others are debugging output."""
    return str(error).strip().splitlines()[0]
