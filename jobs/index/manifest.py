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
    """One shard: a FAISS index and, row for row in the order of its ids, the items.

    `partition` is the value of the column that the build is partitioned by; None where it has none, and in builds that
    are not partitioned.
    """

    number: int
    rows: int
    file: str
    sha256: str
    items_file: str
    items_sha256: str
    partition: str | None


class Content(_Document):
    """What was indexed, whatever run did it."""

    items: int
    sha256: str


class Effort(_Document):
    """How hard an index is searched; what does not apply to its kind is 0.

    Args:
        nprobe: Inverted lists that a search reads.
        ef_search: Candidates that a search of a graph keeps.
        refine: Candidates that are compared as whole vectors, as a multiple of the results asked for.
    """

    nprobe: int = 0
    ef_search: int = 0
    refine: int = 0


class Training(_Document):
    """The empty trained index that every shard began as: its lists, and the codes in them.

    Args:
        file, sha256: Where it lies in the build's folder.
        build_id: The build that it was trained for; later ones keep it while it fits.
        imbalance: How unevenly this build's vectors lie in the lists: a search reads so many times the vectors that it
            would read of lists of one length.
        first_imbalance: The same of the build that it was trained for.
    """

    file: str
    sha256: str
    build_id: str
    imbalance: float
    first_imbalance: float


class Manifest(_Document):
    """A build.  Shards that no item hashes to are not written, so `shards` may skip numbers."""

    format: Literal[2] = 2
    build_id: str
    model_version: str
    dimension: int
    metric: Literal["inner_product"] = "inner_product"
    index_key: str
    effort: Effort
    training: Training | None
    partition_by: str | None
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

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every other file of the build, by name."""
        named = {self.training.file: self.training.sha256} if self.training else {}
        for shard in self.shards:
            named |= {shard.file: shard.sha256, shard.items_file: shard.items_sha256}
        return named

    def verify_files(self, folder: str) -> None:
        """Compare every file with its digest.

        Raises:
            BuildIntegrityError: A file is missing or differs; the first such file is named.
        """
        fs, root = url_to_fs(folder)
        for name, sha256 in self.digests.items():
            verify_file(fs, f"{root}/{name}", sha256)


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
        if first["loc"] == ("format",):
            raise BuildIntegrityError(
                f"{path} is of format {first['input']}, expected 2: another release wrote it; run `index build`"
            ) from None
        field = ".".join(str(part) for part in first["loc"])
        raise BuildIntegrityError(f"{path} does not parse: {field or 'document'}: {first['msg']}") from None
