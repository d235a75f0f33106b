"""The lake: Delta tables made from their declarations, and the folders beside them.

Every write here is idempotent: a source that changes nothing writes no version.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from operator import and_
from pathlib import Path
from urllib.parse import urlsplit

from delta.tables import DeltaTable
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import MapType, StructType
from pyspark.storagelevel import StorageLevel

from jobs.core.errors import JobError
from jobs.core.frames import persisted, settings
from schemas import REJECTED_ROWS
from schemas.table import Table, sql_path

_IS_NEW = "_is_new"
_LOCAL_PROTOCOLS = ("file", ("file", "local"))
# Where Delta's own store of a log looks whether a version is there, and then writes it, whoever wrote it meanwhile.
_S3_SCHEMES = ("s3", "s3a", "s3n")
_ONE_DRIVER_STORE = "io.delta.storage.S3SingleDriverLogStore"
# Where Delta keeps the files of a change data feed, below the table.
_FEED = "_change_data"
# Runs that create a table at once get in each other's way for a moment.
_CREATE_TRIES, _CREATE_PAUSE_S = 8, 0.5


@dataclass(frozen=True)
class MergeCounts:
    """Rows that a merge changed."""

    inserted: int = 0
    updated: int = 0

    @property
    def changed(self) -> int:
        """Inserted and updated together."""
        return self.inserted + self.updated


@dataclass(frozen=True)
class Access:
    """What a run has read and written so far; a table that it found nothing to change in counts as written.

    Attributes:
        sources: Addresses of what was read from outside of the lake.
        read: Tables by name.  What a write compares with is not read.
        written: Tables by name.
    """

    sources: list[str] = field(default_factory=list)
    read: dict[str, Table] = field(default_factory=dict)
    written: dict[str, Table] = field(default_factory=dict)


def root_uri(root: str) -> str:
    """A lake's root as all processes name it, in whichever folder they run."""
    fs, path = url_to_fs(root)
    # Neither Hadoop nor fsspec takes %20 for a space.
    return f"file://{path}" if fs.protocol in _LOCAL_PROTOCOLS else root.rstrip("/")


def is_on_s3(root: str) -> bool:
    """Whether Spark reaches a lake's tables through Hadoop's S3 client."""
    return urlsplit(root).scheme in _S3_SCHEMES


class Lake:
    """Tables and folders below one root.

    Args:
        spark: The session that reads and writes the tables.
        root: A folder or URI that Hadoop (for tables) and fsspec (for files) both reach.
        access: Where to keep what is read and written.
    """

    def __init__(self, spark: SparkSession, root: str, access: Access | None = None) -> None:
        self._spark = spark
        self._access = access or Access()
        self.fs: AbstractFileSystem
        # Tasks and other runs write here too: listings that a process keeps would not show it.
        self.fs, self._files_root = url_to_fs(root, use_listings_cache=False)
        self.is_local = self.fs.protocol in _LOCAL_PROTOCOLS
        self.root = root_uri(root)
        self._refuse_unknown_scheme()
        self._verified: set[str] = set()
        self._copies: list[tempfile.TemporaryDirectory] = []

    def _refuse_unknown_scheme(self) -> None:
        """Make sure that Spark can reach the tables.

        Raises:
            JobError: It has no client for such addresses.
        """
        scheme = urlsplit(self.root).scheme
        configuration = self._spark._jsc.hadoopConfiguration()
        try:
            self._spark._jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(scheme, configuration)
        except Py4JJavaError as error:
            raise JobError(
                f"{self.root}: Spark has no client for {scheme}:// among its JARs. For s3a:// `make s3` puts Hadoop's "
                "there; docs/cluster.md says what a cluster needs"
            ) from error

    @property
    def loses_commits(self) -> bool:
        """Whether of two drivers that commit to a table at once one may overwrite the other's commit, and none notices.

        On S3 that is so unless the session has a log store for several drivers.
        """
        if not is_on_s3(self.root):
            return False
        store = f"spark.delta.logStore.{urlsplit(self.root).scheme}.impl"
        return self._spark.conf.get(store, _ONE_DRIVER_STORE) == _ONE_DRIVER_STORE

    # ---------------------------------------------------------------- tables

    def table_uri(self, table: Table) -> str:
        """Where the table lies, as Spark names it."""
        return f"{self.root}/tables/{table.name}"

    def exists(self, table: Table) -> bool:
        """Whether the table was ever created."""
        return DeltaTable.isDeltaTable(self._spark, self.table_uri(table))

    def delta(self, table: Table) -> DeltaTable:
        """The table's handle; created from its declaration when absent, verified once a process."""
        uri = self.table_uri(table)
        if table.name not in self._verified:
            if self.exists(table):
                table.verify(self._spark, uri)
            else:
                self._create(table)
            self._verified.add(table.name)
        return DeltaTable.forPath(self._spark, uri)

    def _create(self, table: Table) -> None:
        """Create a table that other runs may be creating too: of those one wins, and the others find it there."""
        for tries_left in reversed(range(_CREATE_TRIES)):
            try:
                table.create(self._spark, self.table_uri(table))
            except (PySparkException, Py4JJavaError):  # some of Delta's exceptions come as they are
                if not tries_left:
                    raise
            # What this process knows of the log may be older than another run's table.
            if self._newest_snapshot(table).version() >= 0:
                return
            time.sleep(_CREATE_PAUSE_S)

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's present rows, or those of a version: what a job reads more than once should not move."""
        self._access.read[table.name] = table
        return self._rows(table, version)

    def _rows(self, table: Table, version: int | None = None) -> DataFrame:
        present = self.delta(table).toDF()
        if version is None:
            return present
        return self._spark.read.option("versionAsOf", version).format("delta").load(self.table_uri(table))

    def changes(self, table: Table, *, after: int, until: int) -> DataFrame:
        """The table's change data feed: rows as they were and as they became, `_change_type`, `_commit_version`.

        Naming or reading it raises a `PySparkException` or `Py4JJavaError` when it does not reach back so far.

        Args:
            table: A table whose declaration enables the feed.
            after: The version after which changes count.
            until: The last version that counts; later than `after`.
        """
        self._access.read[table.name] = table
        feed = self._spark.read.format("delta").option("readChangeFeed", True)
        versions = feed.option("startingVersion", after + 1).option("endingVersion", until)
        return versions.load(self.table_uri(table))

    def version(self, table: Table) -> int:
        """The table's newest version."""
        self.delta(table)
        # The log knows it; the public API tells it in a history alone, which takes a Spark job.
        return self._newest_snapshot(table).version()

    def _newest_snapshot(self, table: Table) -> JavaObject:
        """Delta's own snapshot of the table as its log is now."""
        log = self._spark._jvm.org.apache.spark.sql.delta.DeltaLog
        return log.forTableWithSnapshot(self._spark._jsparkSession, self.table_uri(table))._2()

    def versions(self, *tables: Table) -> dict[str, int]:
        """The newest version of each, by table name: the provenance of whatever is cut from them now."""
        return {table.name: self.version(table) for table in tables}

    def _target(self, table: Table) -> DeltaTable:
        """The table's handle, to write to it."""
        self._access.written[table.name] = table
        return self.delta(table)

    def append(self, table: Table, rows: DataFrame) -> None:
        """Add rows to a table of records."""
        self._target(table)
        table.conform(rows).write.format("delta").mode("append").save(self.table_uri(table))

    def replace(self, table: Table, rows: DataFrame, where: Column | None = None) -> bool:
        """Make `rows` the whole content of a slice.

        Args:
            table: The table.
            rows: All rows of the slice; each satisfies `where`.
            where: Predicate that names the slice; the whole table when absent.

        Returns:
            False when the slice already holds the same content, provenance aside: nothing was written.
        """
        self._target(table)
        present = self._rows(table)
        if where is not None:
            present = present.where(where)
        rows = table.conform(rows).persist(StorageLevel.DISK_ONLY)
        try:
            if _content_digest(table, rows) == _content_digest(table, present):
                return False
            writer = rows.writeTo(f"delta.`{self.table_uri(table)}`")
            writer.overwrite(F.lit(True) if where is None else where)
            return True
        finally:
            rows.unpersist()

    def merge(
        self,
        table: Table,
        source: DataFrame,
        *,
        when: Column | None = None,
        within: dict[str, str] | None = None,
        insert_only: bool = False,
    ) -> MergeCounts:
        """Upsert by the table's key; rows that would change nothing are left out first.

        Args:
            table: The table; it has a key.
            source: At most one row a key.
            when: Further condition for updates, over aliases `t` (target) and `s` (source).
            within: Partition column values that all rows share; keeps writers of other partitions out of each other's
                way.
            insert_only: Never update.  For rows that are named by their content.

        Returns:
            How many rows were inserted and updated; both 0 means that no version was written.
        """
        target = self._target(table)
        same_key = [F.col(f"t.{k}") == F.col(f"s.{k}") for k in table.key]
        same_key += [F.col(f"t.{k}") == F.lit(v) for k, v in (within or {}).items()]
        on = reduce(and_, same_key)
        differs = F.lit(False)
        if not insert_only:
            for name in table.content_columns:
                differs = differs | ~_comparable(table, "t", name).eqNullSafe(_comparable(table, "s", name))
            differs = differs if when is None else differs & when
        is_new = F.col(f"t.{table.key[0]}").isNull()
        # Of a version, because a plan over the moving table would be planned anew, in vain, after the commit below.
        present = self._rows(table, self.version(table))
        keys_and_content = present.select(*table.key, *(() if insert_only else table.content_columns))
        changes = (
            table.conform(source)
            .alias("s")
            .join(keys_and_content.alias("t"), on=on, how="left")
            .where(is_new | differs)
            .select("s.*", is_new.alias(_IS_NEW))
            .persist(StorageLevel.DISK_ONLY)
        )
        try:
            rows = {row[_IS_NEW]: row["count"] for row in changes.groupBy(_IS_NEW).count().collect()}
            counts = MergeCounts(inserted=rows.get(True, 0), updated=rows.get(False, 0))
            if counts.changed:
                merge = target.alias("t").merge(changes.drop(_IS_NEW).alias("s"), on).whenNotMatchedInsertAll()
                # Without this clause Delta rewrites nothing and appends, in a third of the time.  That rows differ was
                # found above; to ask it again here, Delta would read the content of the whole table.
                if counts.updated:
                    merge = merge.whenMatchedUpdateAll(condition=when)
                merge.execute()
            return counts
        finally:
            changes.unpersist()

    def delete(self, table: Table, where: Column) -> int:
        """Delete the rows for which `where` holds; returns how many, and writes no version when there are none."""
        target = self._target(table)
        rows = self._rows(table).where(where).count()
        if rows:
            target.delete(where)
        return rows

    def update(self, table: Table, where: Column, values: Mapping[str, Column]) -> None:
        """Set columns of the rows for which `where` holds."""
        self._target(table).update(where, dict(values))

    def delete_matching(self, table: Table, rows: DataFrame, *, within: dict[str, str]) -> int:
        """Delete what equals a row in its columns; returns how many, and writes no version when there are none.

        Args:
            table: The table.
            rows: Values of some of the table's columns.
            within: Column values that limit what is deleted, so that only their partition is read.
        """
        limits = [F.col(name) == F.lit(value) for name, value in within.items()]
        target = self._target(table).alias("t")
        present = self._rows(table, self.version(table)).where(reduce(and_, limits))
        with persisted(present.join(rows, on=rows.columns, how="left_semi").select(*rows.columns)) as matching:
            count = matching.count()
            if count:
                on = [F.col(f"t.{name}") == F.col(f"s.{name}") for name in rows.columns]
                on += [F.col(f"t.{name}") == F.lit(value) for name, value in within.items()]
                target.merge(matching.distinct().alias("s"), reduce(and_, on)).whenMatchedDelete().execute()
        return count

    def on_disk(self, table: Table) -> DataFrame:
        """Every row in any file of the table, whether or not a version shows it: deleted, replaced, or of the feed.

        Partition columns are missing: files do not hold them.
        """
        self._access.read[table.name] = table
        of_files = [column for column in table.schema if column.name not in table.partitioned_by]
        folders = [self.table_uri(table)]
        # Readers skip folders with such a name, unless they are told of it.
        if self.fs.isdir(self.path("tables", table.name, _FEED)):
            folders.append(f"{self.table_uri(table)}/{_FEED}")
        files = self._spark.read.schema(StructType(of_files)).option("recursiveFileLookup", True)
        return files.option("pathGlobFilter", "*.parquet").parquet(*folders)

    def purge(self, table: Table, *, retention_hours: int) -> None:
        """Take deleted rows out of the files that hold them, then remove files that no late version needs.

        Args:
            table: The table.
            retention_hours: Files are kept that some version of so many hours needs, and feed files so young.  Readers
                of such a version, and writers of files that no version has yet, go on undisturbed.
        """
        delta = self._target(table)
        self._spark.sql(f"REORG TABLE {sql_path(self.table_uri(table))} APPLY (PURGE)")
        # Or Delta allows a week and more only.
        with settings(self._spark, {"spark.databricks.delta.retentionDurationCheck.enabled": "false"}):
            delta.vacuum(retention_hours)

    def reject(self, rows: DataFrame, *, source: str, logical_date: date) -> int:
        """Record what an ingest refused; a later run for the same source and date replaces it.

        Args:
            rows: reason STRING, row STRING (the row as JSON).
            source: Which ingest: catalog or query_log.
            logical_date: The run's date.

        Returns:
            Number of rows refused.
        """
        slice_ = (F.col("source") == F.lit(source)) & (F.col("logical_date") == F.lit(logical_date))
        rows = rows.select(F.lit(source).alias("source"), F.lit(logical_date).alias("logical_date"), "reason", "row")
        self.replace(REJECTED_ROWS, rows, slice_)
        return self._rows(REJECTED_ROWS).where(slice_).count()

    # ---------------------------------------------------------------- folders

    def path(self, *parts: str) -> str:
        """A file or folder below the root, as `self.fs` names it."""
        return "/".join([self._files_root, *parts])

    def uri(self, *parts: str) -> str:
        """A file or folder below the root, as Spark names it."""
        return "/".join([self.root, *parts])

    def local_dir(self, *parts: str) -> Path:
        """A folder of the lake as a folder of this machine; fetched when the lake is remote, and kept with this object.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        path = self.path(*parts)
        if not self.fs.isdir(path):
            raise FileNotFoundError(f"the lake {self.root} has no folder {'/'.join(parts)}")
        if self.is_local:
            return Path(path)
        self._copies.append(tempfile.TemporaryDirectory(prefix="lake-"))
        copy = Path(self._copies[-1].name) / parts[-1]
        self.fs.get(path, str(copy), recursive=True)
        return copy

    def upload(self, folder: Path, *parts: str) -> None:
        """Put a local folder at a place of the lake, replacing what an interrupted upload left there."""
        path = self.path(*parts)
        if self.fs.exists(path):
            self.fs.rm(path, recursive=True)
        self.fs.makedirs(self.path(*parts[:-1]), exist_ok=True)
        self.fs.put(str(folder), path, recursive=True)


def _comparable(table: Table, alias: str, column: str) -> Column:
    """A column in a form that `=` takes: Spark compares no maps, so these become sorted entries."""
    value = F.col(f"{alias}.{column}")
    return F.array_sort(F.map_entries(value)) if isinstance(table.schema[column].dataType, MapType) else value


def _content_digest(table: Table, rows: DataFrame) -> tuple[int, int]:
    """Row count and an order-free digest of everything but provenance."""
    content = F.xxhash64(*table.key, *table.content_columns)
    digest = rows.agg(F.count("*").alias("rows"), F.sum(content.cast("decimal(38,0)")).alias("digest")).first()
    return digest["rows"], int(digest["digest"] or 0)
