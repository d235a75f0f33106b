"""What a build's folder holds: `manifest.json`, written last, without which there is no build."""

from __future__ import annotations

import hashlib
from typing import Literal, Self

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict, ValidationError

MANIFEST_FILE = "manifest.json"
CURRENT_FILE = "CURRENT"

_READ_BYTES = 4 * 2**20


class BuildIntegrityError(ValueError):
    """A build's files are missing, incomplete or not the ones that were written."""


class _Document(BaseModel):
    """A JSON document of an index: every field present, none unknown, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ShardEntry(_Document):
    """One shard: a FAISS index and, row for row in the order of its ids, the items."""

    number: int
    rows: int
    file: str
    sha256: str
    items_file: str
    items_sha256: str


class Content(_Document):
    """What was indexed, whatever run did it."""

    items: int
    sha256: str


class Manifest(_Document):
    """A build.  Shards that no item hashes to are not written, so `shards` may skip numbers."""

    format: Literal[1] = 1
    build_id: str
    model_version: str
    dimension: int
    metric: Literal["inner_product"] = "inner_product"
    index_key: str
    nprobe: int
    shards: tuple[ShardEntry, ...]
    content: Content

    def to_bytes(self) -> bytes:
        """The file's bytes: the same manifest always gives the same."""
        return self.model_dump_json(indent=2).encode()

    @classmethod
    def read(cls, folder: str) -> Self:
        """The manifest of a build's folder (a path or URL).

        Raises:
            BuildIntegrityError: There is none, or it does not parse.
        """
        fs, root = url_to_fs(folder)
        return _parse(cls, _read(fs, f"{root}/{MANIFEST_FILE}"), f"{folder}/{MANIFEST_FILE}")

    def verify_files(self, folder: str) -> None:
        """Compare every shard's files with their digests.

        Raises:
            BuildIntegrityError: A file is missing or differs; the first such file is named.
        """
        fs, root = url_to_fs(folder)
        for shard in self.shards:
            verify_file(fs, f"{root}/{shard.file}", shard.sha256)
            verify_file(fs, f"{root}/{shard.items_file}", shard.items_sha256)


class Current(_Document):
    """`indexes/CURRENT`: which build is published, for readers without Spark."""

    build_id: str
    model_version: str
    manifest_sha256: str

    @classmethod
    def read(cls, indexes: str) -> Self:
        """The pointer in the folder of all builds (a path or URL).

        Raises:
            BuildIntegrityError: No build was ever published, or the file does not parse.
        """
        fs, root = url_to_fs(indexes)
        return _parse(cls, _read(fs, f"{root}/{CURRENT_FILE}"), f"{indexes}/{CURRENT_FILE}")

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The pointer to a build."""
        return cls(
            build_id=manifest.build_id,
            model_version=manifest.model_version,
            manifest_sha256=hashlib.sha256(manifest.to_bytes()).hexdigest(),
        )


def file_sha256(fs: AbstractFileSystem, path: str) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def verify_file(fs: AbstractFileSystem, path: str, sha256: str) -> None:
    """Compare a file with its recorded digest.

    Raises:
        BuildIntegrityError: It is missing or differs.
    """
    if not fs.exists(path):
        raise BuildIntegrityError(f"{path} is missing: the build is not complete; build again or publish another")
    came = file_sha256(fs, path)
    if came != sha256:
        raise BuildIntegrityError(
            f"{path}: expected SHA-256 {sha256[:12]}..., got {came[:12]}...: the file was changed or damaged "
            "after the build; it is not opened. Build again or publish another"
        )


def _read(fs: AbstractFileSystem, path: str) -> bytes:
    try:
        return fs.cat_file(path)
    except FileNotFoundError:
        raise BuildIntegrityError(f"{path} is missing: nothing was completed there") from None


def _parse(kind: type[_Document], content: bytes, path: str) -> _Document:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BuildIntegrityError(f"{path} does not parse: {field or 'document'}: {first['msg']}") from None
