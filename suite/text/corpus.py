"""Training text as documents: where it is, what a document is, and in which order they come."""

from __future__ import annotations

import itertools
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from suite.config import Config, PositiveInt, content_hash, expand_path
from suite.errors import ConfigError, TextError
from suite.text.corpus_order import shuffled_blocks, shuffled_numbers
from suite.text.corpus_sources import (
    Row,
    Rows,
    RowStream,
    find_files,
    missing_field,
    open_files,
)
from suite.text.corpus_tables import HubData, open_hub, open_parquet
from suite.text.packaged import PackagedText, packaged_file
from suite.text.passages import LEAST_PASSAGE_BYTES, PassageFiles

_SHUFFLE_BLOCK = 10_000


class CorpusConfig(Config):
    """Where training text is, what a document is, and in which order documents come.

    `path` is a file, a folder or a glob; the suffix says how it is read: `.jsonl` and `.json` (one
    object a line; `.jsonl.gz` with `streaming`), `.parquet`, or `.txt` and `.md`, where each file
    is one document, or each passage of at most `passage_bytes` bytes, cut behind a line end. `hub`
    is a data set `org/name` with `subset`, `split` and `revision`. `packaged` is text that comes
    with the package.

    A document is the field `text` (the default), the fields `prompt` and `completion` joined by
    `separator`, which belongs to the prompt (with `chat`, they are a user's turn and its answer),
    or the field `messages`: a list of objects of which `role` and `content` are read.

    `skip` leaves out the first documents of the data, and `limit` keeps the first of those that are
    left, both before any shuffling: so one text has parts. With `streaming`, nothing
    is counted or copied first, and documents are shuffled within blocks of `shuffle_block`.
    """

    path: Path | None = None
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    packaged: PackagedText | None = None
    passage_bytes: Annotated[int, Field(ge=LEAST_PASSAGE_BYTES)] | None = None
    streaming: bool = False
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    separator: str = ""
    chat: bool = False
    messages: str | None = None
    shuffle: bool = True
    shuffle_block: PositiveInt = _SHUFFLE_BLOCK
    seed: Annotated[int, Field(ge=0)] = 0
    skip: Annotated[int, Field(ge=0)] = 0
    limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_place(self) -> CorpusConfig:
        places = [name for name in ("path", "hub", "packaged") if getattr(self, name) is not None]
        if len(places) != 1:
            found = " and ".join(places) or "nothing"
            raise ValueError(f"expected exactly one of path, hub, packaged, found {found}")
        if self.hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub):
            raise ValueError(f"hub is {self.hub!r}, should be of the form org/name")
        given = {"subset": self.subset, "revision": self.revision}
        given["split"] = None if self.split == "train" else self.split
        for key, value in given.items():
            if self.hub is None and value is not None:
                raise ValueError(f"{key} is {value!r}, but only a data set of the hub has one")
        if self.passage_bytes is not None and self.path is None:
            raise ValueError(
                f"passage_bytes cuts text files, and {places[0]} data have documents of their own;"
                " leave it out"
            )
        if self.shuffle_block != _SHUFFLE_BLOCK and not (self.streaming and self.shuffle):
            raise ValueError("shuffle_block applies only with streaming: true and shuffle: true")
        return self

    @model_validator(mode="after")
    def _one_kind_of_document(self) -> CorpusConfig:
        if (self.prompt is None) != (self.completion is None):
            there, absent = ("prompt", "completion")[:: 1 if self.completion is None else -1]
            raise ValueError(f"{there} without {absent}; give the names of both fields")
        kinds = {"text": self.text, "prompt": self.prompt, "messages": self.messages}
        found = " and ".join(kind for kind, field in kinds.items() if field is not None)
        if " and " in found:
            raise ValueError(
                f"expected one of text, prompt with completion, messages, found {found}"
            )
        if self.separator and (self.prompt is None or self.chat):
            raise ValueError("separator applies only between prompt and completion of one text")
        if self.chat and self.prompt is None:
            raise ValueError("chat applies only to prompt and completion")
        return self

    @property
    def has_chats(self) -> bool:
        """Whether documents are conversations."""
        return self.chat or self.messages is not None

    @property
    def place(self) -> str:
        """Where the text is, as on the command line."""
        if self.path is not None:
            return str(self.path)
        return f"hub:{self.hub}" if self.hub is not None else f"packaged:{self.packaged}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields a document is made of."""
        if self.prompt is not None and self.completion is not None:
            return (self.prompt, self.completion)
        if self.messages is not None:
            return (self.messages,)
        return ("text" if self.text is None else self.text,)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of documents: `index` of them were read in this epoch.

    `dataclasses.asdict` gives what JSON can store, `Position(**stored)` reads it.
    """

    epoch: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document, as it is in the data.

    A document may be empty; who can't use it leaves it out and counts it.

    Attributes:
        number: Its place in the data, from 0, whatever the order of reading.
        text: The text; None for a chat.
        messages: The turns of a chat; None for a text.
        prompt_bytes: How many UTF-8 bytes of `text`, from its start, are the prompt.
    """

    number: int
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    prompt_bytes: int = 0


class Corpus:
    """Documents in an order that depends on the settings alone; made by `open_corpus`.

    Whoever reads with several processes lets each of them read everything and keep its share.
    """

    def __init__(self, config: CorpusConfig, source: Rows | RowStream) -> None:
        self.config = config
        self._source = source

    @property
    def num_documents(self) -> int | None:
        """Documents of an epoch; None when streaming, where it is not known."""
        if isinstance(self._source, RowStream):
            return None
        num_rows = max(len(self._source) - self.config.skip, 0)
        return min(num_rows, self.config.limit or num_rows)

    def documents(
        self, position: Position = Position(), *, epochs: int | None = None
    ) -> Iterator[tuple[Position, Document]]:
        """Documents from a position on, each with the position to resume from after it.

        Every epoch gives each document once. Reading on from a stored position gives exactly what
        would have come next, on any machine, as long as settings and data are the same.

        Args:
            position: Where to begin.
            epochs: Stop at the end of epoch number `epochs` - 1, counted from the very first and
                not from `position`, so that a resumed run ends where it would have; None never
                stops.

        Raises:
            ConfigError: No documents, a position beyond the end, or a row that has no such
                document; the sentence says where it is.
            TextError: Text that UTF-8 can't hold, such as a lone surrogate written as an escape in
                JSON. Such a document is never left out silently.
        """
        for epoch in itertools.count(position.epoch):
            if epochs is not None and epoch >= epochs:
                return
            index = position.index if epoch == position.epoch else 0
            rows = self._epoch(epoch, index)
            held = next(rows, None)
            if held is None:
                raise self._nothing_at(epoch, index)
            # One row ahead: the position after the last document is the start of the next epoch,
            # so every stored position has a document, and one that hasn't shows changed data.
            for next_index, following in enumerate(rows, index + 1):
                yield Position(epoch, next_index), _read_document(self.config, *held)
                held = following
            yield Position(epoch + 1), _read_document(self.config, *held)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the documents and their numbers are; reads local files whole.

        It covers the bytes of the files in their order (for the hub: the commit, subset and
        split), how they are cut, the fields, and what skip and limit leave out. It doesn't cover
        where files are, how they are named, nor the order of reading: signals stored by a
        document's number stay valid under another seed.
        """
        config = self.config
        fields = [config.fields, config.separator, config.messages is not None]
        # What is not used has no trace, so that signals stored before it existed stay valid.
        used = {key: getattr(config, key) for key in ("skip", "chat") if getattr(config, key)}
        return content_hash(
            [self._source.identity(), fields, config.limit, *([used] if used else [])]
        )

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[int, Row]]:
        """Numbered rows in the order of an epoch, without the first `start` of them."""
        source, config, seeds = self._source, self.config, (self.config.seed, epoch)
        skip = config.skip
        if not isinstance(source, RowStream):
            count = self.num_documents or 0
            order = shuffled_numbers(count, seeds) if config.shuffle else range(count)
            numbers = (skip + int(number) for number in order[start:])
            return ((number, source.read(number)) for number in numbers)

        def read_from(number: int) -> Iterator[Row]:
            left = None if config.limit is None else max(config.limit - number, 0)
            return itertools.islice(source.read_from(skip + number), left)

        if not config.shuffle:
            return enumerate(read_from(start), skip + start)
        size = config.shuffle_block
        blocks = shuffled_blocks(read_from, block_size=size, seeds=seeds, start=start)
        return ((skip + number, row) for number, row in blocks)

    def _nothing_at(self, epoch: int, index: int) -> ConfigError:
        if index == 0:
            return _too_few(self._source, self.config)
        num = "" if self.num_documents is None else f" ({self.num_documents} documents)"
        return ConfigError(
            f"{self._source.name}: position {index} of epoch {epoch} is beyond the end{num}; the"
            " data or its settings have changed since the position was stored"
        )


def open_corpus(
    config: CorpusConfig, *, base: Path | None = None, cache_dir: Path | None = None
) -> Corpus:
    """Find the data and check its first document.

    JSON Lines are indexed by one pass over the files, parquet and hub data are copied into the
    cache of `datasets` once; with `streaming`, neither, and the first document is checked when it
    is read.

    Args:
        config: Where the text is and what a document is.
        base: The folder that a relative `path` is taken from; None for the working folder.
        cache_dir: Where `datasets` keeps its copies; None for its own place.

    Raises:
        ConfigError: Nothing there, a kind of file that can't be read, no such field, an
            unreachable hub.
        TextError: The first document is no UTF-8.
    """
    source = _open_source(config, base or Path(), cache_dir)
    if not isinstance(source, RowStream):
        if len(source) <= config.skip:
            raise _too_few(source, config)
        # A wrong field is an error now, not after a model was loaded.
        _read_document(config, config.skip, source.read(config.skip))
    return Corpus(config, source)


def _open_source(config: CorpusConfig, base: Path, cache_dir: Path | None) -> Rows | RowStream:
    columns, streaming = config.fields, config.streaming
    if config.hub is not None:
        data = HubData(config.hub, config.subset, config.split, config.revision)
        return open_hub(data, columns=columns, streaming=streaming, cache_dir=cache_dir)
    if config.packaged is not None:
        path = packaged_file(config.packaged)
    else:
        assert config.path is not None  # the settings have one of the three
        path = expand_path(config.path, base)
    kind, files = find_files(path)
    if config.passage_bytes is not None:
        return _open_passages(path, kind, files, config)
    if kind == "parquet":
        return open_parquet(
            str(path), files, columns=columns, streaming=streaming, cache_dir=cache_dir
        )
    return open_files(str(path), kind, files, streaming=streaming)


def _open_passages(
    path: Path, kind: str, files: tuple[Path, ...], config: CorpusConfig
) -> PassageFiles:
    assert config.passage_bytes is not None  # only called where there is one
    for key, has_no_effect in (("passage_bytes", kind != "text"), ("streaming", config.streaming)):
        if has_no_effect:
            raise ConfigError(f"{path}: {key} has no effect on {kind} files; leave it out")
    return PassageFiles(str(path), files, config.passage_bytes)


def _too_few(source: Rows | RowStream, config: CorpusConfig) -> ConfigError:
    """No document behind those left out; what is wrong with the data itself is raised first."""
    if isinstance(source, RowStream):
        first = next(source.read_from(0), None)
        found = f"at most {_documents(config.skip)}"
    else:
        first = source.read(0) if len(source) else None
        found = _documents(len(source))
    is_empty = first is None or _read_document(config, 0, first).text == ""
    # Several files may begin with an empty one.
    if first is None or (is_empty and found == _documents(1)):
        return ConfigError(f"{source.name}: no documents in it")
    return ConfigError(
        f"{source.name}: has {found}, and the first {config.skip:,} are left out (skip); give more"
        " text, or lower skip"
    )


def _documents(num: int) -> str:
    return f"{num:,} document{'' if num == 1 else 's'}"


def _read_document(config: CorpusConfig, number: int, row: Row) -> Document:
    fields, place = row.fields, row.place
    if config.messages is not None:
        return Document(number, messages=_read_messages(fields, config.messages, place))
    *prompts, text = (_read_text(fields, field, place) for field in config.fields)
    if config.chat:
        return Document(number, messages=(Message("user", *prompts), Message("assistant", text)))
    prompt = "".join(part + config.separator for part in prompts)
    return Document(number, text=prompt + text, prompt_bytes=len(prompt.encode()))


def _read_text(fields: Mapping[str, Any], field: str, place: str, inside: str = "") -> str:
    """A field's text; `inside` is put before the name of a field of a field in messages."""
    label = inside + field
    if field not in fields:
        raise missing_field(place, label, list(fields))
    value = fields[field]
    if not isinstance(value, str):
        raise _wrong_value(place, label, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"{place}: field {label!r} has a lone surrogate (U+{ord(value[error.start]):04X}) at"
            f" character {error.start}, which UTF-8 can't hold; remove or replace it"
        ) from error
    return value


def _read_messages(fields: Mapping[str, Any], field: str, place: str) -> tuple[Message, ...]:
    if field not in fields:
        raise missing_field(place, field, list(fields))
    turns = fields[field]
    if not isinstance(turns, list):
        raise _wrong_value(place, field, turns, "a list of messages")
    messages = []
    for number, turn in enumerate(turns):
        label = f"{field}[{number}]"
        if not isinstance(turn, Mapping):
            raise _wrong_value(place, label, turn, "an object with role and content")
        role, content = (
            _read_text(turn, key, place, inside=f"{label}.") for key in ("role", "content")
        )
        messages.append(Message(role, content))
    return tuple(messages)


def _wrong_value(place: str, label: str, value: object, expected: str) -> ConfigError:
    found = "null" if value is None else reprlib.repr(value)
    return ConfigError(f"{place}: field {label!r} is {found}, expected {expected}")
