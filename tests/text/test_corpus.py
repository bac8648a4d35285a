from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config import parse_config
from suite.errors import ConfigError, SuiteError
from suite.text.corpus import Corpus, CorpusConfig, Position, open_corpus

DATA = {"path": "data.jsonl"}


def write_lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbered(folder: Path, count: int, **settings: Any) -> Corpus:
    """A corpus of `count` documents whose text is their number."""
    path = write_lines(folder / f"{count}.jsonl", *({"text": str(n)} for n in range(count)))
    return open_corpus(CorpusConfig(path=path, **settings))


def order(corpus: Corpus, epochs: int = 1) -> list[int]:
    return [document.number for _, document in corpus.documents(epochs=epochs)]


def sentence(error: pytest.ExceptionInfo[SuiteError]) -> str:
    return str(error.value)


def test_settings_survive_being_written_and_read() -> None:
    config = CorpusConfig(hub="org/name", streaming=True, prompt="q", completion="a", limit=3)
    assert CorpusConfig.model_validate(config.model_dump()) == config
    assert CorpusConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "expected exactly one of path, hub, packaged, found nothing"),
        (
            DATA | {"hub": "org/name"},
            "expected exactly one of path, hub, packaged, found path and hub",
        ),
        ({"packaged": "novels"}, "packaged is 'novels', should be 'python-docs'"),
        (
            {"hub": "org/name", "passage_bytes": 9},
            "passage_bytes cuts text files, and hub data have documents of their own; leave it out",
        ),
        (
            {"packaged": "python-docs", "passage_bytes": 9},
            "passage_bytes cuts text files, and packaged data have documents of their own; leave it"
            " out",
        ),
        (DATA | {"passage_bytes": 3}, "passage_bytes is 3, should be greater than or equal to 4"),
        (DATA | {"skip": -1}, "skip is -1, should be greater than or equal to 0"),
        ({"hub": "gsm8k"}, "hub is 'gsm8k', should be of the form org/name"),
        (DATA | {"subset": "a"}, "subset is 'a', but only a data set of the hub has one"),
        (DATA | {"split": "test"}, "split is 'test', but only a data set of the hub has one"),
        (DATA | {"revision": "v1"}, "revision is 'v1', but only a data set of the hub has one"),
        (DATA | {"prompt": "q"}, "prompt without completion; give the names of both fields"),
        (DATA | {"completion": "a"}, "completion without prompt; give the names of both fields"),
        (
            DATA | {"text": "t", "messages": "m"},
            "expected one of text, prompt with completion, messages, found text and messages",
        ),
        (
            DATA | {"text": "t", "prompt": "q", "completion": "a", "messages": "m"},
            "expected one of text, prompt with completion, messages, found text and prompt and"
            " messages",
        ),
        (
            DATA | {"separator": "\n"},
            "separator applies only between prompt and completion of one text",
        ),
        (
            DATA | {"prompt": "q", "completion": "a", "chat": True, "separator": "\n"},
            "separator applies only between prompt and completion of one text",
        ),
        (DATA | {"chat": True}, "chat applies only to prompt and completion"),
        (
            DATA | {"shuffle_block": 5},
            "shuffle_block applies only with streaming: true and shuffle: true",
        ),
        (
            DATA | {"shuffle_block": 5, "streaming": True, "shuffle": False},
            "shuffle_block applies only with streaming: true and shuffle: true",
        ),
        (DATA | {"limit": 0}, "limit is 0, should be greater than or equal to 1"),
        (DATA | {"seed": -1}, "seed is -1, should be greater than or equal to 0"),
    ],
)
def test_wrong_settings_are_one_sentence(data: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(CorpusConfig, data, "run.yaml")
    assert sentence(error) == f"run.yaml: {expected}"


def test_a_path_may_name_environment_variables_and_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "in" / "a.jsonl", {"text": "a"})
    monkeypatch.setenv("CORPUS_FOLDER", str(tmp_path))
    named = open_corpus(CorpusConfig(path="${CORPUS_FOLDER}/in/a.jsonl"))
    relative = open_corpus(CorpusConfig(path="in/*.jsonl"), base=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert named.num_documents == relative.num_documents == 1
    assert open_corpus(CorpusConfig(path="in/a.jsonl")).num_documents == 1


def test_reading_settings_loads_no_heavy_library() -> None:
    check = (
        "import sys, suite.text.corpus;"
        "print({'datasets', 'torch', 'transformers', 'pyarrow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("streaming", [False, True])
def test_every_epoch_gives_each_document_once_in_an_order_of_its_own(
    tmp_path: Path, streaming: bool
) -> None:
    both = order(numbered(tmp_path, 20, streaming=streaming), epochs=2)
    first, second = both[:20], both[20:]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != list(range(20))


@pytest.mark.parametrize("streaming", [False, True])
def test_the_order_depends_on_the_seed_alone(tmp_path: Path, streaming: bool) -> None:
    orders = [order(numbered(tmp_path, 20, streaming=streaming, seed=seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_without_shuffling_documents_come_as_they_are(tmp_path: Path) -> None:
    for streaming in (False, True):
        corpus = numbered(tmp_path, 5, shuffle=False, streaming=streaming)
        assert order(corpus, epochs=2) == [*range(5), *range(5)]


def test_the_order_of_a_folder_does_not_depend_on_when_files_were_made(tmp_path: Path) -> None:
    texts = []
    for folder, names in [("one", "abcdef"), ("two", "fbdace")]:
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.txt").write_text(name)
        corpus = open_corpus(CorpusConfig(path=tmp_path / folder))
        texts.append([document.text for _, document in corpus.documents(epochs=1)])
    assert texts[0] == texts[1]


@given(
    count=st.integers(1, 12),
    block=st.integers(1, 5),
    streaming=st.booleans(),
    shuffle=st.booleans(),
    limit=st.none() | st.integers(1, 14),
)
def test_reading_on_from_every_position_gives_the_same_rest(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    block: int,
    streaming: bool,
    shuffle: bool,
    limit: int | None,
) -> None:
    settings: dict[str, Any] = {"streaming": streaming, "shuffle": shuffle, "limit": limit}
    if streaming and shuffle:
        settings["shuffle_block"] = block
    corpus = numbered(tmp_path_factory.getbasetemp(), count, **settings)
    whole = list(corpus.documents(epochs=2))
    assert len(whole) == 2 * min(count, limit or count)
    for place, (position, _) in enumerate(whole, 1):
        stored = json.loads(json.dumps(dataclasses.asdict(position)))
        assert list(corpus.documents(Position(**stored), epochs=2)) == whole[place:]


def test_a_position_counts_documents_and_the_last_one_starts_the_next_epoch(
    tmp_path: Path,
) -> None:
    positions = [position for position, _ in numbered(tmp_path, 2).documents(epochs=2)]
    assert positions == [Position(0, 1), Position(1, 0), Position(1, 1), Position(2, 0)]


def test_without_a_number_of_epochs_documents_never_end(tmp_path: Path) -> None:
    read = islice(numbered(tmp_path, 2).documents(), 9)
    assert [position for position, _ in read][-1] == Position(4, 1)


def test_the_limit_keeps_the_first_documents_of_the_data(tmp_path: Path) -> None:
    for streaming in (False, True):
        corpus = numbered(tmp_path, 20, limit=4, streaming=streaming)
        assert sorted(order(corpus)) == [0, 1, 2, 3]
        assert corpus.num_documents == (None if streaming else 4)


@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ({}, " (3 documents)"),
        ({"shuffle": False}, " (3 documents)"),
        ({"streaming": True}, ""),
        ({"streaming": True, "shuffle_block": 2}, ""),
        ({"streaming": True, "shuffle": False}, ""),
    ],
)
@pytest.mark.parametrize("index", [3, 4, 9])
def test_a_position_beyond_the_end_says_that_the_data_changed(
    tmp_path: Path, settings: dict[str, Any], counted: str, index: int
) -> None:
    corpus = numbered(tmp_path, 3, **settings)
    with pytest.raises(ConfigError) as error:
        next(corpus.documents(Position(2, index)))
    assert sentence(error) == (
        f"{tmp_path}/3.jsonl: position {index} of epoch 2 is beyond the end{counted}; the data or"
        " its settings have changed since the position was stored"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_corpus_without_documents_is_an_error(tmp_path: Path, streaming: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n")
    with pytest.raises(ConfigError) as error:
        next(open_corpus(CorpusConfig(path=path, streaming=streaming)).documents())
    assert sentence(error) == f"{path}: no documents in it"


def test_the_fingerprint_names_the_documents_and_not_their_place_or_order(tmp_path: Path) -> None:
    row = {"text": "a", "body": "b"}
    here, there = (write_lines(tmp_path / name / "x.jsonl", row) for name in ("here", "there"))
    fingerprint = open_corpus(CorpusConfig(path=here)).fingerprint()
    same = [
        CorpusConfig(path=there),
        CorpusConfig(path=here, seed=5),
        CorpusConfig(path=here, shuffle=False, streaming=True),
        CorpusConfig(path=here, text="text"),
    ]
    others = [
        CorpusConfig(path=write_lines(tmp_path / "y.jsonl", row, row)),
        CorpusConfig(path=here, text="body"),
        CorpusConfig(path=here, prompt="text", completion="body"),
        CorpusConfig(path=here, prompt="text", completion="body", separator=" "),
        CorpusConfig(path=here, limit=1),
    ]
    assert {open_corpus(config).fingerprint() for config in same} == {fingerprint}
    found = {open_corpus(config).fingerprint() for config in others}
    assert len(found - {fingerprint}) == len(others)


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_gives_the_same_documents_in_the_same_order_as_json_lines(
    tmp_path: Path, streaming: bool
) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"q": f"{n}?", "a": f"{n}!"} for n in range(9)]
    lines = write_lines(tmp_path / "a.jsonl", *rows)
    table = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table, row_group_size=4)
    settings: dict[str, Any] = {"prompt": "q", "completion": "a", "streaming": streaming}
    settings |= {"shuffle_block": 4} if streaming else {}
    one, other = (
        open_corpus(CorpusConfig(path=path, **settings), cache_dir=tmp_path / "cache")
        for path in (lines, table)
    )
    whole = list(one.documents(epochs=2))
    assert list(other.documents(epochs=2)) == whole
    for place in (3, 9, 13):
        assert list(other.documents(whole[place - 1][0], epochs=2)) == whole[place:]


def test_a_data_set_of_the_hub_needs_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        open_corpus(CorpusConfig(hub="org/name"), cache_dir=tmp_path)
    assert sentence(error) == (
        "hub:org/name is not in the local cache and the hub is switched off (HF_HUB_OFFLINE);"
        " go online, or give a path with files instead (--data PATH)"
    )


def test_word_problems_are_read_with_their_prompts(test_data: Path) -> None:
    config = CorpusConfig(
        path=test_data / "gsm8k" / "train.jsonl",
        prompt="question",
        completion="answer",
        separator="\n",
    )
    corpus = open_corpus(config)
    assert corpus.num_documents == 7473
    for _, document in islice(corpus.documents(), 50):
        data = document.text.encode()
        assert data[: document.prompt_bytes].endswith(b"\n")
        assert b"#### " in data[document.prompt_bytes :]


def test_novels_are_one_document_each(test_data: Path) -> None:
    corpus = open_corpus(CorpusConfig(path=test_data / "novels" / "*" / "*.txt"))
    assert corpus.num_documents == 67
    _, document = next(corpus.documents())
    files = sorted((test_data / "novels").rglob("*.txt"), key=Path.as_posix)
    assert document.text.encode() == files[document.number].read_bytes()
