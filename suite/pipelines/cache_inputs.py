"""What `suite cache-teacher` reads, and the state of the folder it writes to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from suite.align.cut import PackConfig
from suite.align.documents import DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row
from suite.distill.cache_manifest import (
    CacheManifest,
    CacheSettings,
    check_fingerprints,
    read_manifest,
)
from suite.distill.cache_shards import Place
from suite.errors import ConfigError, ModelError, SuiteError
from suite.models.entry import ModelConfig
from suite.models.resolve import check_entry
from suite.models.sources import TransplantSource
from suite.models.tokenizers import open_source
from suite.pipelines.transplant_inputs import open_inputs
from suite.text.corpus import CorpusConfig, open_corpus
from suite.text.tokenizers import OpenedTokenizer

_SHARD_TOKENS = 262_144
_BATCH_TOKENS = {"cuda": 32_768}
_BATCH_TOKENS_ELSEWHERE = 4_096


@dataclass(frozen=True)
class CacheTeacherOptions:
    """What to store, and where.

    Attributes:
        teacher: The model.
        data: The text; one epoch of it is stored.
        pack: How rows are cut.
        output: The folder.
        student: A source of the student's tokenizer, which bears on the text's normal form and
            chat template, or the transplant that makes it; `bytes` for the teacher's bytes, None
            for the teacher's own.
        teacher_roles: Names of roles of the teacher's special tokens, where those found are wrong.
        batch_tokens: Most tokens a batch, padding included; None for what the folder was begun
            with, or what suits the device.
        shard_tokens: A shard ends behind the row that reaches it; None as above.
    """

    teacher: ModelConfig
    data: CorpusConfig
    pack: PackConfig
    output: Path
    student: str | TransplantSource | None = None
    teacher_roles: Mapping[str, str] = field(default_factory=dict)
    batch_tokens: int | None = None
    shard_tokens: int | None = None


class CacheInputs:
    """The text as teacher and student read it, in rows.

    Attributes:
        corpus: The text.
        teacher: The teacher's tokenizer.
        student: The student's.
        reader: Counts what it reads.
    """

    def __init__(self, options: CacheTeacherOptions) -> None:
        """Check and open everything but the model's weights.

        Raises:
            SuiteError: Something is missing or wrong; one sentence.
        """
        check_entry(options.teacher)
        spec = str(options.teacher.source)
        self.corpus = open_corpus(options.data)
        self.teacher: OpenedTokenizer = open_source(spec, "--teacher", options.teacher_roles)
        self.student = self._open_student(options.student, spec)
        self.reader = DocumentReader(self.teacher, self.student)
        self._pack = options.pack

    def _open_student(self, student: str | TransplantSource | None, spec: str) -> OpenedTokenizer:
        if student is None:
            return self.teacher
        if isinstance(student, TransplantSource):
            return open_inputs(student).new
        return open_source(f"bytes:{spec}" if student == "bytes" else student, "--student")

    def rows(self, place: Place) -> Iterator[Row]:
        """The rows of one epoch, from a place on."""
        documents = self.corpus.documents(place.position, epochs=1)
        return pack_rows(
            self.reader.read(documents, place.position),
            self.teacher,
            self.student,
            self._pack,
            first_token=place.token,
        )


def check_length(folder: Path, options: CacheTeacherOptions) -> None:
    """Check that the teacher was made for rows of this length.

    Args:
        folder: With the model's configuration.
        options: For the length.

    Raises:
        ConfigError: It has fewer positions.
        ModelError: The configuration is none that transformers knows.
    """
    from transformers import AutoConfig

    source, length = options.teacher.source, options.pack.length
    try:
        config = AutoConfig.from_pretrained(folder).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        what = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(f"--teacher {source}: {folder} cannot be loaded ({what})") from error
    num_positions = getattr(config, "max_position_embeddings", None)
    if num_positions is not None and length > num_positions:
        raise ConfigError(
            f"--length is {length}, but {source} has {num_positions} positions; give a smaller"
            " --length"
        )


def open_folder(folder: Path, fingerprints: Mapping[str, str]) -> CacheManifest | None:
    """The manifest of a cache that was begun in a folder; None in a new one. Writes nothing.

    Raises:
        ConfigError: The folder holds something else or cannot be written.
        CacheError: The cache in it is of something else: names what differs.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        check_fingerprints(folder, manifest.fingerprints, fingerprints)
        return manifest
    check_writable(folder)
    if folder.exists():
        # Hidden files are what a lock or a kill leaves.
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if names:
            raise ConfigError(
                f"{folder}: holds {names[0]} and no teacher cache; give a new or an empty --output"
            )
    return None


def check_writable(folder: Path) -> None:
    """Check that a folder can be made or filled; writes nothing.

    Raises:
        ConfigError: It cannot.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise _unwritable(folder, "Not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, "Permission denied")


def pick_settings(
    options: CacheTeacherOptions, device: str, begun: CacheManifest | None
) -> CacheSettings:
    """Sizes of batches and shards; a folder keeps to those that it was begun with.

    Raises:
        ConfigError: Others were asked for.
    """
    asked = {"batch_tokens": options.batch_tokens, "shard_tokens": options.shard_tokens}
    if begun is None:
        default = {
            "batch_tokens": _BATCH_TOKENS.get(device, _BATCH_TOKENS_ELSEWHERE),
            "shard_tokens": _SHARD_TOKENS,
        }
        return CacheSettings(**{name: asked[name] or default[name] for name in default})
    for name, value in asked.items():
        stored = getattr(begun.settings, name)
        if value not in (None, stored):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{option} is {value}, but {options.output} was begun with {stored}; leave it out"
                " or give another --output"
            )
    return begun.settings


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Make a folder and hold its lock, so that two runs never fill one cache.

    Raises:
        ConfigError: It cannot be written.
        SuiteError: Another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SuiteError(
            f"another run is writing to {folder}; wait for it or give another --output"
        ) from error
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(f"cannot write to {folder} ({reason}); give another --output")
