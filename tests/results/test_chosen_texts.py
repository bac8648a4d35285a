"""The texts of a few items are those that reading every item gives."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from result_trees import TREES, as_first_version, copy_tree, samples_file

from suite.errors import RecordError
from suite.records import Sample
from suite.results.chosen_texts import chosen_texts
from suite.results.importer import load_runs, scored
from suite.results.samples_file import iterate_texts
from suite.results.scored import Scored


def every_run(folder: Path) -> list[Scored]:
    """Each run of a folder under each of its scores."""
    found = (
        scored(record, f"{score.metric},{score.filter}")
        for record in load_runs([folder]).records
        for score in record.task.scores
    )
    return [one for one in found if one is not None and one.tables]


def check(runs: list[Scored]) -> None:
    assert runs
    for run in runs:
        texts: dict[bytes, Sample] = dict(iterate_texts(run.record, run.score.filter))
        some = set(sorted(texts)[::2])
        assert chosen_texts(run, some) == {key: texts[key] for key in some}
        assert chosen_texts(run, set()) == {}


@pytest.mark.parametrize("name", sorted(tree.name for tree in TREES.iterdir()))
def test_a_few_items_have_the_texts_that_reading_all_gives(name: str) -> None:
    check(every_run(TREES / name))


def test_lines_of_the_first_version_are_parsed_one_by_one(tmp_path: Path) -> None:
    as_first_version(copy_tree("gsm8k", tmp_path))
    check(every_run(tmp_path))


def test_lines_that_begin_otherwise_are_parsed_one_by_one(tmp_path: Path) -> None:
    path = samples_file(copy_tree("gsm8k", tmp_path), "gsm8k")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    turned = [json.dumps(dict(reversed(line.items()))) + "\n" for line in lines]
    path.write_text("".join(turned), encoding="utf-8")
    check(every_run(tmp_path))


def test_packed_files_are_read_too(tmp_path: Path) -> None:
    path = samples_file(copy_tree("gsm8k", tmp_path), "gsm8k")
    with gzip.open(path.with_name(path.name + ".gz"), "wb") as packed:
        packed.write(path.read_bytes())
    path.unlink()
    check(every_run(tmp_path))


def test_a_damaged_line_of_a_wanted_item_is_named(tmp_path: Path) -> None:
    path = samples_file(copy_tree("gsm8k", tmp_path), "gsm8k")
    run = every_run(tmp_path)[0]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0][:40] + "\n", *lines[1:]]), encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        chosen_texts(run, set(run.tables[0].keys.tolist()))
    assert str(caught.value) == f"{path}: line 1 is not a JSON object; evaluate the task again"
