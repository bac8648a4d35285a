from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from suite.errors import ConfigError
from suite.text.corpus_sources import Rows, RowStream
from suite.text.corpus_tables import HubData, _open_table, open_hub, open_parquet

COMMIT = "c" * 40
STORIES = {"text": ["eins", "zwei", "drei"], "id": [1, 2, 3]}
both_ways = pytest.mark.parametrize("streaming", [False, True])


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def read_all(source: Rows | RowStream) -> list[tuple[str, Any]]:
    if isinstance(source, RowStream):
        rows = list(source.read_from(0))
    else:
        rows = [source.read(number) for number in range(len(source))]
    return [(row.place, row.fields) for row in rows]


@pytest.fixture
def parquet(tmp_path: Path):
    """Opens files with the cache of `datasets` in a folder of the test."""

    def open_them(*files: Path, streaming: bool, columns: tuple[str, ...] = ("text",)):
        return open_parquet(
            "data", files, columns=columns, streaming=streaming, cache_dir=tmp_path / "cache"
        )

    return open_them


@pytest.fixture
def hub(tmp_path: Path):
    """Opens a data set of the hub that an earlier download has left in the cache."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.packaged_modules.parquet.parquet import Parquet

    cache = tmp_path / "cache"
    file = write_parquet(tmp_path / "stories.parquet", STORIES)
    disable_progress_bars()
    builder = Parquet(
        cache_dir=str(cache),
        dataset_name="stories",
        config_name="default",
        hash=COMMIT,
        data_files={"train": [str(file)]},
    )
    builder.download_and_prepare()
    enable_progress_bars()
    kept = cache / "org___stories" / "default" / "0.0.0"
    kept.mkdir(parents=True)
    shutil.move(builder.cache_dir, kept / COMMIT)

    def open_it(*, streaming: bool = False, columns: tuple[str, ...] = ("text",), **changes: Any):
        fields = {"name": "org/stories", "subset": None, "split": "train", "revision": None}
        data = HubData(**(fields | changes))
        return open_hub(data, columns=columns, streaming=streaming, cache_dir=cache)

    return open_it


@both_ways
def test_parquet_gives_the_wanted_fields_of_all_files_in_order(
    tmp_path: Path, parquet, streaming: bool
) -> None:
    files = [
        write_parquet(tmp_path / "b.parquet", STORIES),
        write_parquet(tmp_path / "a.parquet", {"id": [4], "text": ["vier"]}),
    ]
    assert read_all(parquet(*files, streaming=streaming)) == [
        (f"data document {number}", {"text": text})
        for number, text in enumerate(["eins", "zwei", "drei", "vier"])
    ]


@both_ways
def test_a_file_is_taken_by_its_name_and_not_as_a_pattern(
    tmp_path: Path, parquet, streaming: bool
) -> None:
    file = write_parquet(tmp_path / ".hidden[1]" / "a*.parquet", STORIES)
    write_parquet(tmp_path / ".hidden[1]" / "ab.parquet", STORIES)
    assert len(read_all(parquet(file, streaming=streaming))) == 3


def test_a_stream_can_be_entered_anywhere(tmp_path: Path, parquet) -> None:
    stream = parquet(write_parquet(tmp_path / "a.parquet", STORIES), streaming=True)
    everything = list(stream.read_from(0))
    for start in range(5):
        assert list(stream.read_from(start)) == everything[start:]


@both_ways
def test_chat_messages_come_as_lists_of_objects(tmp_path: Path, parquet, streaming: bool) -> None:
    turns = [[{"role": "user", "content": "a"}], []]
    file = write_parquet(tmp_path / "a.parquet", {"chat": turns})
    rows = read_all(parquet(file, streaming=streaming, columns=("chat",)))
    assert [fields["chat"] for _, fields in rows] == turns


@both_ways
def test_a_missing_column_names_those_there_are(tmp_path: Path, parquet, streaming: bool) -> None:
    file = write_parquet(tmp_path / "a.parquet", STORIES)
    with pytest.raises(ConfigError) as error:
        parquet(file, streaming=streaming, columns=("body",))
    assert str(error.value) == "data: no field 'body'; fields there are: text, id"


@both_ways
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, parquet, streaming: bool) -> None:
    (tmp_path / "a.parquet").write_text("plain text")
    with pytest.raises(ConfigError) as error:
        parquet(tmp_path / "a.parquet", streaming=streaming)
    assert str(error.value) == (
        "data: cannot be read (Parquet magic bytes not found in footer. Either the file is"
        " corrupted or this is not a parquet file)"
    )


def test_a_damaged_file_gives_the_reason_behind_the_librarys_error(tmp_path: Path, parquet) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"text": ["eins" * 999]})
    data = bytearray(file.read_bytes())
    data[8:60] = bytes(52)
    file.write_bytes(data)
    with pytest.raises(ConfigError) as error:
        parquet(file, streaming=False)
    assert "An error occurred" not in str(error.value)
    assert str(error.value).startswith("data: cannot be read (")
    assert "\n" not in str(error.value)


def test_parquet_is_known_by_its_bytes(tmp_path: Path, parquet) -> None:
    file = write_parquet(tmp_path / "a.parquet", STORIES)
    same = shutil.copy(file, tmp_path / "b.parquet")
    other = write_parquet(tmp_path / "c.parquet", {"text": ["fünf"]})
    identity = parquet(file, streaming=False).identity()
    assert identity == parquet(same, streaming=True).identity()
    assert identity != parquet(other, streaming=False).identity()


def test_columns_that_are_only_known_from_the_rows_are_all_given(tmp_path: Path) -> None:
    from datasets import load_dataset_builder

    file = tmp_path / "a.csv"
    file.write_text("text,more\neins,x\n")
    builder = load_dataset_builder("csv", data_files=str(file), cache_dir=str(tmp_path / "cache"))
    stream = _open_table(builder, "data", dict, columns=("body",), streaming=True)
    assert read_all(stream) == [("data document 0", {"text": "eins", "more": "x"})]


@pytest.mark.parametrize("hidden", [False, True])
def test_the_librarys_progress_bars_are_silenced_for_the_time_of_opening(
    tmp_path: Path, parquet, hidden: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    file = write_parquet(tmp_path / "a.parquet", STORIES)
    if hidden:
        datasets.disable_progress_bars()
    try:
        parquet(file, streaming=False)
        assert datasets.are_progress_bars_disabled() is hidden
    finally:
        datasets.enable_progress_bars()
    assert capfd.readouterr().err == ""


def test_progress_bars_that_the_environment_fixes_are_left_alone(
    tmp_path: Path, parquet, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_DISABLE_PROGRESS_BARS", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parquet(write_parquet(tmp_path / "a.parquet", STORIES), streaming=False)


@both_ways
def test_a_data_set_of_the_hub_is_read_from_the_local_cache(hub, streaming: bool) -> None:
    source = hub(streaming=streaming)
    assert read_all(source) == [
        (f"hub:org/stories document {number}", {"text": text})
        for number, text in enumerate(STORIES["text"])
    ]
    assert source.identity() == {
        "hub": "org/stories",
        "subset": None,
        "split": "train",
        "commit": COMMIT,
    }


def test_a_folder_with_the_name_of_a_data_set_is_not_taken_for_it(
    hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "org" / "stories" / "a.parquet", {"text": ["local"]})
    monkeypatch.chdir(tmp_path)
    assert len(hub()) == 3


def test_the_commit_in_the_cache_can_be_asked_for(hub) -> None:
    assert len(hub(revision=COMMIT)) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"revision": "v1"},
            "hub:org/stories: the hub cannot be reached and the local cache holds commit"
            f" {COMMIT}, not revision v1; go online, or give that commit as revision",
        ),
        (
            {"name": "org/other"},
            "hub:org/other is not in the local cache and the hub is switched off (HF_HUB_OFFLINE);"
            " go online, or give a path with files instead (--data PATH)",
        ),
        (
            {"split": "test"},
            "hub:org/stories: cannot be read (Unknown split \"test\". Should be one of ['train'])",
        ),
        (
            {"subset": "long"},
            "hub:org/stories: cannot be read (Couldn't find cache for org/stories for config"
            " 'long' Available configs in the cache: ['default'])",
        ),
        (
            {"columns": ("body",)},
            "hub:org/stories: no field 'body'; fields there are: text, id",
        ),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(
    hub, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        hub(**changes)
    assert str(error.value) == expected


def test_a_hub_out_of_reach_is_told_from_one_switched_off(
    hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(ConfigError) as error:
        hub(name="org/other")
    assert str(error.value) == (
        "hub:org/other is not in the local cache and the hub cannot be reached; go online, or"
        " give a path with files instead (--data PATH)"
    )
