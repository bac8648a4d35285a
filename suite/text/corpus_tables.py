"""Rows of training data through `datasets`: parquet files and data sets of the hub."""

from __future__ import annotations

import contextlib
import glob
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import ConfigError
from suite.text.corpus_sources import Row, Rows, RowStream, files_identity, missing_field


@dataclass(frozen=True)
class HubData:
    """Which rows of the hub: a data set `org/name`, its subset (configuration) and split."""

    name: str
    subset: str | None
    split: str
    revision: str | None


def open_parquet(
    name: str,
    files: Sequence[Path],
    *,
    columns: Sequence[str],
    streaming: bool,
    cache_dir: Path | None,
) -> Rows | RowStream:
    """Rows of parquet files.

    Args:
        name: Path or glob that led to the files, for messages.
        files: Absolute, in the order of their rows.
        columns: Fields that are wanted; nothing else is read.
        streaming: Read from front to back, without a copy.
        cache_dir: Where `datasets` puts its Arrow copy; None for its own place.

    Raises:
        ConfigError: A file can't be read, or has no such column.
    """
    from datasets import load_dataset_builder

    # The library takes names of files as patterns.
    patterns = [glob.escape(str(file)) for file in files]
    with _errors_as_sentences(name):
        builder = load_dataset_builder(
            "parquet", data_files=patterns, cache_dir=_optional_text(cache_dir)
        )
    return _open_table(
        builder,
        name,
        lambda: files_identity("parquet", files),
        columns=columns,
        streaming=streaming,
    )


def open_hub(
    data: HubData, *, columns: Sequence[str], streaming: bool, cache_dir: Path | None
) -> Rows | RowStream:
    """Rows of a data set of the hub; see `open_parquet` for the other arguments.

    Raises:
        ConfigError: The hub or the data set can't be reached, or there is no such subset, split,
            revision or column.
    """
    from datasets import load_dataset_builder
    from datasets.packaged_modules.cache.cache import Cache

    name = f"hub:{data.name}"
    with _errors_as_sentences(name):
        builder = load_dataset_builder(
            f"hf://datasets/{data.name}",  # never a folder that happens to have this name
            data.subset,
            revision=data.revision,
            cache_dir=_optional_text(cache_dir),
        )
    # Without the hub, the library silently takes the newest copy it has, whatever was asked for.
    if isinstance(builder, Cache) and data.revision not in (None, builder.hash):
        raise ConfigError(
            f"{name}: the hub cannot be reached and the local cache holds commit {builder.hash},"
            f" not revision {data.revision}; go online, or give that commit as revision"
        )
    identity = {
        "hub": data.name,
        "subset": data.subset,
        "split": data.split,
        "commit": builder.hash,
    }
    return _open_table(
        builder, name, lambda: identity, columns=columns, streaming=streaming, split=data.split
    )


@dataclass(frozen=True)
class TableRows:
    """A data set that `datasets` keeps in memory-mapped Arrow files."""

    name: str
    table: Any
    identity: Callable[[], dict[str, Any]]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.table)

    def read(self, number: int) -> Row:
        """The row of that number, from 0."""
        with _errors_as_sentences(f"{self.name} document {number}"):
            return Row(f"{self.name} document {number}", self.table[number])


@dataclass(frozen=True)
class TableStream:
    """A data set that `datasets` reads from front to back.

    In a worker process of a torch DataLoader that library gives each worker a part of the files.
    """

    name: str
    table: Any
    identity: Callable[[], dict[str, Any]]

    def read_from(self, number: int) -> Iterator[Row]:
        """The rows from that number on; those before are left out as Arrow tables, unread."""
        with _errors_as_sentences(self.name):
            for found, fields in enumerate(self.table.skip(number), number):
                yield Row(f"{self.name} document {found}", fields)


def _open_table(
    builder: Any,
    name: str,
    identity: Callable[[], dict[str, Any]],
    *,
    columns: Sequence[str],
    streaming: bool,
    split: str = "train",
) -> TableRows | TableStream:
    with _errors_as_sentences(name), _no_progress_bars():
        if streaming:
            table = builder.as_streaming_dataset(split=split)
        else:
            builder.download_and_prepare()
            table = builder.as_dataset(split=split)
    # Some streams learn their columns only from the first row.
    if table.column_names is not None:
        for column in columns:
            if column not in table.column_names:
                raise missing_field(name, column, table.column_names)
        table = table.select_columns(list(dict.fromkeys(columns)))
    return (TableStream if streaming else TableRows)(name, table, identity)


def _optional_text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@contextlib.contextmanager
def _errors_as_sentences(name: str) -> Iterator[None]:
    """What `datasets` raises, in one line; its messages span many."""
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    try:
        yield
    except ConnectionError as error:
        off = datasets.config.HF_HUB_OFFLINE
        state = "the hub is switched off (HF_HUB_OFFLINE)" if off else "the hub cannot be reached"
        raise ConfigError(
            f"{name} is not in the local cache and {state}; go online, or give a path with files"
            " instead (--data PATH)"
        ) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        # Only its cause says what happened.
        is_vague = type(error) is DatasetGenerationError
        reason = textwrap.shorten(str(error.__cause__ if is_vague else error), 300)
        raise ConfigError(f"{name}: cannot be read ({reason.rstrip('.')})") from error


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Without the bars of `datasets`, unless its environment variable decides about them."""
    import datasets

    is_fixed = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is not None
    if is_fixed or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
