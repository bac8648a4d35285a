"""`suite cache-teacher` with a tiny model: sizes, the live numbers, kills, plans."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from suite.align.collate import collate
from suite.align.cut import PackConfig
from suite.distill.cache_manifest import read_manifest
from suite.distill.cache_shards import Place
from suite.distill.cache_writer import CacheWriter
from suite.distill.teacher import live_teacher
from suite.distill.teacher_cache import TeacherCache
from suite.errors import CacheError, ConfigError, ModelError, SuiteError
from suite.models.entry import ModelConfig
from suite.models.loading import Placement, load_model
from suite.models.resolve import resolve
from suite.pipelines import cache_teacher as pipeline
from suite.pipelines.cache_inputs import CacheInputs, CacheTeacherOptions, only_run_in
from suite.pipelines.cache_teacher import CachedTeacher, cache_teacher, plan_cache
from suite.text.corpus import CorpusConfig

WORDS = (
    "the",
    "in",
    "a",
    "of\nred",
    "",
    "night",
    "12",
    "+",
    "water\tquestion,",
    "Ωmega",
    "é",
    "没有",
)


def write_documents(path: Path, num_documents: int, num_words: int) -> Path:
    """A file of documents of about as many words each, the first one empty."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_documents):
            length = rng.randint(num_words // 2, num_words * 3 // 2) if number else 0
            text = " ".join(rng.choices(WORDS, k=length))
            file.write(json.dumps({"text": text}) + "\n")
    return path


def options_of(model: Path, text: Path, output: Path, **changes: Any) -> CacheTeacherOptions:
    options = CacheTeacherOptions(
        teacher=ModelConfig(name="teacher", source={"path": model}, device="cpu"),
        data=CorpusConfig(path=text),
        pack=PackConfig(length=64),
        output=output,
    )
    return replace(options, **changes)


def run(options: CacheTeacherOptions, **settings: Any) -> CachedTeacher:
    return cache_teacher(options, console=Console(file=StringIO()), **settings)


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are faster so, and the same in another process that does it, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("data") / "data.jsonl", 90, 20)


def test_a_token_takes_four_bytes_and_less_than_one_percent(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    data = write_documents(tmp_path / "data.jsonl", 130, 250)
    made = run(
        options_of(
            tiny_model_merges,
            data,
            tmp_path / "cache",
            pack=PackConfig(length=512),
            shard_tokens=65_536,
        )
    )
    cache = made.cache
    assert len(cache) >= 300
    assert cache.bytes_per_token == size_of(tmp_path / "cache") / cache.num_tokens
    assert 4 < cache.bytes_per_token < 4.04
    manifest = read_manifest(tmp_path / "cache")
    for shard in manifest.shards:
        # Two numbers a token, a length and a checksum a row, and a header.
        header = (
            (tmp_path / "cache" / shard.file).stat().st_size - 4 * shard.tokens - 6 * shard.rows
        )
        assert 0 < header < 600
    facts = dict(made.facts)
    assert facts["rows"] == str(len(cache))
    assert facts["tokens"] == f"{cache.num_tokens:,}"
    padding = 1 - cache.num_tokens / (len(cache) * 512)
    assert facts["padding in rows"] == f"{padding:.1%}"
    assert (facts["documents"], facts["  empty"]) == ("130", "1")


@pytest.mark.parametrize("packing", ["isolated", "concatenated", "none"])
def test_stored_numbers_are_the_live_ones_to_the_bit(
    tiny_model_bos: Path, documents: Path, tmp_path: Path, packing: Any
) -> None:
    pack = PackConfig(length=64, packing=packing)
    corpus = CorpusConfig(path=documents, limit=12)
    # A row a batch: then both sides compute the same shapes.
    options = options_of(
        tiny_model_bos, documents, tmp_path, data=corpus, pack=pack, batch_tokens=1
    )
    cache = run(options).cache
    inputs = CacheInputs(options)
    rows = list(inputs.rows(Place()))
    loaded = load_model(options.teacher, resolve(options.teacher), Placement("cpu", "float32"))
    live = live_teacher(loaded.model, inputs.teacher, name="live", packing=packing)
    assert len(rows) == len(cache)
    stored = cache.signal(collate(rows).teacher, range(len(rows))).log_probs
    for number, row in enumerate(rows):
        expected = live.signal(collate([row]).teacher, [number]).log_probs
        length = len(row.teacher.ids)
        assert torch.equal(stored.token[number, :length], expected.token[0])
        assert torch.equal(stored.boundary[number, :length], expected.boundary[0])


def test_a_kill_in_the_middle_changes_no_byte(
    tiny_model_merges: Path, documents: Path, tmp_path: Path
) -> None:
    sizes = {"batch_tokens": 128, "shard_tokens": 512}
    options = options_of(tiny_model_merges, documents, tmp_path / "killed", **sizes)
    command = [sys.executable, "-m", "suite", "cache-teacher"]
    command += ["--teacher", f"path:{tiny_model_merges}", "--data", str(documents)]
    command += ["--length", "64", "--output", str(options.output), "--device", "cpu"]
    command += ["--batch-tokens", "128", "--shard-tokens", "512"]
    second = options.output / "signal-00001.safetensors"
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not second.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    begun = read_manifest(options.output)
    assert not begun.complete
    with pytest.raises(CacheError, match="unfinished"):
        TeacherCache.open(options.output)

    whole = run(replace(options, output=tmp_path / "whole"))
    made = run(options)
    assert 0 < made.num_computed < whole.num_computed
    assert dict(made.facts)["documents read by this run"]
    assert shards_of(options.output) == shards_of(tmp_path / "whole")
    assert read_manifest(options.output) == read_manifest(tmp_path / "whole")
    assert len(read_manifest(options.output).shards) > len(begun.shards) + 2


class CrashError(Exception):
    """Stands for a kill."""


def test_a_crash_inside_a_shard_and_inside_a_document_changes_no_byte(
    tiny_model: Path, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(options_of(tiny_model, documents, tmp_path / "whole", batch_tokens=256))
    options = options_of(tiny_model, documents, tmp_path / "cut", batch_tokens=256)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_load", crashing_after(3))
        with pytest.raises(CrashError):
            run(options, seconds_between_saves=0)
    assert (options.output / "unfinished.safetensors").exists()
    made = run(options)
    assert shards_of(options.output) == shards_of(tmp_path / "whole")
    assert 0 < made.num_computed < whole.num_computed


def crashing_after(num_batches: int) -> Any:
    load = pipeline._load

    def crashing(*arguments: Any) -> Any:
        teacher = load(*arguments)
        left = num_batches

        class Crashing:
            def signal(self, side: Any, row_numbers: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise CrashError
                return teacher.signal(side, row_numbers)

        return Crashing()

    return crashing


def test_a_finished_folder_is_left_alone(
    tiny_model: Path, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of(tiny_model, documents, tmp_path / "cache")
    assert run(options).num_computed > 0
    before = {path: path.stat().st_mtime_ns for path in options.output.iterdir()}
    monkeypatch.setattr(pipeline, "_load", None)
    again = run(options)
    assert again.num_computed == 0
    assert "documents" not in dict(again.facts)
    after = {path: path.stat().st_mtime_ns for path in options.output.iterdir()}
    lock = options.output / ".lock"
    assert after | {lock: 0} == before | {lock: 0}


def test_a_folder_keeps_the_sizes_it_was_begun_with(
    tiny_model: Path, documents: Path, tmp_path: Path
) -> None:
    options = options_of(tiny_model, documents, tmp_path, batch_tokens=256, shard_tokens=1000)
    run(options)
    assert run(replace(options, batch_tokens=None, shard_tokens=None)).num_computed == 0
    for name, value in (("batch_tokens", 512), ("shard_tokens", 999)):
        stored = getattr(options, name)
        with pytest.raises(ConfigError) as error:
            run(replace(options, **{name: value}))
        assert str(error.value) == (
            f"--{name.replace('_', '-')} is {value}, but {tmp_path} was begun with {stored}; leave"
            " it out or give another --output"
        )


def test_a_cache_of_something_else_is_refused_and_left_alone(
    tiny_model: Path, documents: Path, tmp_path: Path
) -> None:
    options = options_of(tiny_model, documents, tmp_path)
    run(options)
    before = shards_of(tmp_path)
    with pytest.raises(CacheError) as error:
        run(replace(options, data=CorpusConfig(path=documents, seed=3)))
    assert str(error.value) == (
        f"{tmp_path}: the cache was made for another order of reading ('shuffled with seed 0, one"
        " epoch', here 'shuffled with seed 3, one epoch'); give what it was made with, or make"
        " another one"
    )
    assert shards_of(tmp_path) == before


def test_a_plan_writes_nothing_and_foresees_the_size(
    tiny_model: Path, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of(tiny_model, documents, tmp_path / "new" / "cache")
    plan = dict(plan_cache(options))
    assert list(tmp_path.iterdir()) == []
    assert plan["folder"] == f"{options.output} (new)"
    assert plan["documents"] == "90"
    assert plan["rows"] == "isolated, 64 tokens, 512 bytes"
    assert plan["tokens a batch, a shard"] == "4,096, 262,144"
    assert (plan["normal form"], plan["chat template"]) == ("none", "none")
    made = run(options)
    foreseen = int(plan["tokens, size"].split()[1].strip(",").replace(",", ""))
    assert foreseen == pytest.approx(made.cache.num_tokens, rel=0.1)

    before = {path: path.stat().st_mtime_ns for path in options.output.iterdir()}
    assert dict(plan_cache(options))["folder"] == f"{options.output} (complete)"
    assert {path: path.stat().st_mtime_ns for path in options.output.iterdir()} == before


def test_a_plan_says_how_far_a_folder_is(
    tiny_model: Path, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of(tiny_model, documents, tmp_path, batch_tokens=64, shard_tokens=200)
    monkeypatch.setattr(pipeline, "_load", crashing_after(6))
    with pytest.raises(CrashError):
        run(options)
    rows = read_manifest(tmp_path).num_rows
    plan = dict(plan_cache(options))
    assert plan["folder"] == f"{tmp_path} (goes on behind {rows} rows)"
    assert plan["tokens a batch, a shard"] == "64, 200"


def test_the_students_normal_form_is_read_and_recorded(tiny_model: Path, tmp_path: Path) -> None:
    student = Path(shutil.copytree(tiny_model, tmp_path / "student"))
    tokenizer = json.loads((student / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "NFC"}
    (student / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": "e\u0301" * 20}) + "\n", encoding="utf-8")
    options = options_of(tiny_model, data, tmp_path / "cache")
    alone = run(options).cache
    made = run(replace(options, output=tmp_path / "nfc", student=f"path:{student}"))
    assert alone.manifest.fingerprints["normal_form"] == "none"
    assert made.cache.manifest.fingerprints["normal_form"] == "NFC"
    # é takes two bytes, e and a combining accent three.
    assert (alone.num_tokens - 1) * 2 == (made.cache.num_tokens - 1) * 3
    assert dict(made.facts)["  changed by the normal form"] == "1"


def test_conversations_are_read_through_the_template(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "manifest.json").unlink()
    (model / "chat_template.jinja").write_text(
        "{% for message in messages %}<begin>{{ message['content'] }}<end>{% endfor %}",
        encoding="utf-8",
    )
    chats = [[{"role": "user", "content": text}] for text in ("Hello", "one <end> two", "Bye")]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"chat": chat}) + "\n" for chat in chats), encoding="utf-8")
    corpus = CorpusConfig(path=data, messages="chat", shuffle=False)
    made = run(options_of(model, data, tmp_path / "cache", data=corpus, student="bytes"))
    assert made.cache.num_tokens == len("Hello") + len("Bye") + 4
    assert dict(made.facts)["  left out: the teacher cannot read them"] == "1"
    assert made.notes == (
        "document 1: message 1 holds '<end>' as text, which a rendered chat cannot tell from the"
        f" special token of path:{model}; leave this conversation out",
    )
    assert len(made.cache.manifest.fingerprints["template"]) == 64


@pytest.mark.parametrize(
    "found",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 EB"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_too_little_memory_is_one_sentence(
    tiny_model: Path,
    documents: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: Exception,
) -> None:
    def fill(self: CacheWriter) -> int:
        raise found

    monkeypatch.setattr(CacheWriter, "fill", fill)
    with pytest.raises(ModelError) as error:
        run(options_of(tiny_model, documents, tmp_path / "cache"))
    assert str(error.value) == (
        "out of memory at 4,096 tokens a batch; give a smaller --batch-tokens, and another --output"
        " if this one was begun with it"
    )


def test_a_text_that_changes_while_it_is_read_is_found_at_the_end(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_documents(tmp_path / "data.jsonl", 12, 10)
    load = pipeline._load

    def edits(*arguments: Any) -> Any:
        # As long as before, so that every line is still where it was.
        text.write_text(text.read_text(encoding="utf-8").replace("the", "teh"), encoding="utf-8")
        return load(*arguments)

    monkeypatch.setattr(pipeline, "_load", edits)
    output = tmp_path / "cache"
    with pytest.raises(CacheError) as error:
        run(options_of(tiny_model, text, output))
    assert str(error.value) == (
        f"{output}: the text changed while it was read; delete this folder and give the same"
        " command again"
    )
    with pytest.raises(CacheError, match="unfinished"):
        TeacherCache.open(output)


def test_two_runs_never_fill_one_folder(tiny_model: Path, documents: Path, tmp_path: Path) -> None:
    with only_run_in(tmp_path), pytest.raises(SuiteError) as error:
        run(options_of(tiny_model, documents, tmp_path))
    assert str(error.value) == (
        f"another run is writing to {tmp_path}; wait for it or give another --output"
    )


def test_progress_away_from_a_terminal_is_plain_lines(
    tiny_model: Path, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.progress.SECONDS_BETWEEN_LINES", 0.0)
    lines = StringIO()
    cache_teacher(
        options_of(tiny_model, documents, tmp_path, batch_tokens=1024), console=Console(file=lines)
    )
    first, *_, last = lines.getvalue().splitlines()
    assert first.startswith("cache-teacher: ")
    assert " of 90 documents, " in first
    assert first.endswith(" tokens/s, about 0 min left")
    assert last.startswith("cache-teacher: 90 of 90 documents, ")
