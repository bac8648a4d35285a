"""How fast two tokenizations are aligned and how much memory it takes, against simpler ways."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suite.align.chunks import align_chunks, align_each
from suite.errors import ConfigError, SuiteError
from suite.models.tokenizers import open_source
from suite.pipelines.align import read_text
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.bench.two_pointer import two_pointer_chunks
from suite.text.bytelevel import byte_tokenizer, longest_suffix_ids
from suite.text.encoding import Encoding
from suite.text.suffix_trie import SuffixTrie
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

NUM_RUNS = 5
LONG_BYTES = 10_000_000


@dataclass(frozen=True)
class Speed:
    """Median of `num_runs` runs, taken in turns with what it is compared with.

    `ratio` is the time divided by that of `against`; below 1 is faster.
    """

    what: str
    data: str
    num_bytes: int
    median_seconds: float
    megabytes_per_second: float
    num_runs: int
    against: str | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Memory:
    """Peak memory over one document."""

    what: str
    num_bytes: int
    peak_bytes: int
    bytes_per_byte: float


def record_align(teacher_spec: str, novel: Path, documents: Path, output: Path) -> Path:
    """Measure, and write `align.json` in a folder; returns its path.

    Raises:
        SuiteError: The tokenizer, a text or the folder cannot be used.
    """
    folder = open_folder(output)
    text, texts = read_text(novel), _read_documents(documents)
    teacher = open_source(teacher_spec, "--teacher")
    student = open_tokenizer(byte_tokenizer(teacher), name=f"bytes:{teacher_spec}")
    rows: list[Speed | Memory] = [
        *_alignment_speed(teacher, student, text, novel.name),
        _documents_speed(teacher, student, texts, documents.name),
        _suffix_speed(teacher, student, text, novel.name),
        *_tokenising_speed(teacher, student, texts, documents.name),
        *_memory(teacher, student, teacher_spec, text),
    ]
    return write_record(folder / "align.json", rows)


def _read_documents(path: Path) -> list[str]:
    """The text fields of each line, joined by newlines."""
    texts = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        try:
            values = json.loads(line).values() if line.strip() else ()
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{path}: line {number} is no JSON object") from error
        texts.append("\n".join(value for value in values if isinstance(value, str)))
    return [text for text in texts if text]


def _alignment_speed(
    teacher: OpenedTokenizer, student: OpenedTokenizer, text: str, data: str
) -> list[Speed]:
    sides = teacher.encode(text), student.encode(text)
    stops = [side.byte_spans[:, 1].tolist() for side in sides]
    fast, plain = _medians(lambda: align_chunks(*sides), lambda: two_pointer_chunks(*stops))
    size = len(sides[0].text)
    name = "two pointers over lists"
    return [
        _speed("align_chunks", data, size, fast, against=(name, plain)),
        _speed(name, data, size, plain),
    ]


def _documents_speed(
    teacher: OpenedTokenizer, student: OpenedTokenizer, texts: list[str], data: str
) -> Speed:
    pairs = [(teacher.encode(text), student.encode(text)) for text in texts]

    def align_each() -> None:
        for pair in pairs:
            align_chunks(*pair)

    (seconds,) = _medians(align_each)
    size = sum(len(pair[0].text) for pair in pairs)
    return _speed("align_chunks, one document a call", data, size, seconds)


def _suffix_speed(
    teacher: OpenedTokenizer, student: OpenedTokenizer, text: str, data: str
) -> Speed:
    trie = SuffixTrie.from_vocabulary(teacher.vocabulary)
    ids = student.encode(text).ids
    (seconds,) = _medians(lambda: longest_suffix_ids(ids, trie))
    return _speed("longest_suffix_ids", data, len(ids), seconds)


def _tokenising_speed(
    teacher: OpenedTokenizer, student: OpenedTokenizer, texts: list[str], data: str
) -> list[Speed]:
    backend = teacher.hf.backend_tokenizer

    def tokenise() -> list[list[int]]:
        return [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encode() -> tuple[list[Encoding], list[Encoding]]:
        return _encodings(teacher, texts), _encodings(student, texts)

    alone, checked, both = _medians(tokenise, encode, lambda: align_each(*encode()))
    size = sum(len(text.encode()) for text in texts)
    name = "teacher's ids alone, by the tokenizers library, one batch"
    checked_name = "encoding both sides, every byte checked, one batch"
    aligned = "encoding both sides and aligning, one batch"
    return [
        _speed(aligned, data, size, both, (checked_name, checked)),
        _speed(aligned, data, size, both, (name, alone)),
        _speed(checked_name, data, size, checked, (name, alone)),
        _speed(name, data, size, alone),
    ]


def _encodings(tokenizer: OpenedTokenizer, texts: list[str]) -> list[Encoding]:
    found = tokenizer.encode_each(texts)
    return [encoding for encoding in found if isinstance(encoding, Encoding)]


def _memory(
    teacher: OpenedTokenizer, student: OpenedTokenizer, teacher_spec: str, text: str
) -> list[Memory]:
    repeated = (text * (1 + LONG_BYTES // len(text.encode()))).encode()[:LONG_BYTES]
    text = repeated.decode(errors="ignore")
    sides = teacher.encode(text), student.encode(text)
    size = len(sides[0].text)
    tracemalloc.start()
    align_chunks(*sides)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long.txt"
        file.write_bytes(sides[0].text)
        command = ["-m", "suite", "align", "--teacher", teacher_spec, "--file", str(file)]
        whole = _peak_of(command)
    return [
        Memory("align_chunks alone", size, peak, peak / size),
        Memory("suite align, whole process", size, whole, whole / size),
    ]


def _peak_of(arguments: list[str]) -> int:
    """Peak resident bytes of a Python process.

    Raises:
        SuiteError: It failed.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SuiteError(f"suite align ended with exit code {process.returncode}")
    # Linux counts in kibibytes, macOS in bytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _medians(*calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, taken in turns so that a slow moment hits all of them."""
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(NUM_RUNS):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            seconds[number].append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def _speed(
    what: str, data: str, size: int, seconds: float, against: tuple[str, float] | None = None
) -> Speed:
    return Speed(
        what=what,
        data=data,
        num_bytes=size,
        median_seconds=seconds,
        megabytes_per_second=size / seconds / 1e6,
        num_runs=NUM_RUNS,
        against=against[0] if against else None,
        ratio=seconds / against[1] if against else None,
    )
