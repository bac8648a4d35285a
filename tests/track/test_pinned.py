"""A pinned run as a file: everything the gate needs comes back, and no text stands in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gated_items import items_of, scored_of

from suite.errors import ConfigError, RecordError
from suite.results.comparability import check_comparable
from suite.track.columns import pack, unpack
from suite.track.pinned import Pinned, export_pinned, hashed_like_a_file, read_pinned, without_text

SAID = "You are a careful assistant who never lies."
CONDITIONS = {
    "shots": 5,
    "chat template": "{% for message in messages %}{{ message }}{% endfor %}",
    "system instruction": SAID,
    "generation settings": {"until": ["Q:"], "max_gen_toks": 256},
    "few-shot seed": None,
}
MEND = "export it again with suite track pin --export"


def pinned_of(**changes: Any) -> Pinned:
    rng = np.random.default_rng(0)
    values = changes.pop("values", list(rng.integers(0, 2, 300)))
    items = items_of(values, **changes)
    task = scored_of(items, conditions=CONDITIONS)
    return Pinned("s", "m", "f" * 64, {"t": task}, {"u": "there are no scores of single items"})


def test_items_come_back_to_the_last_bit(tmp_path: Path) -> None:
    changes = {
        "values": np.random.default_rng(1).normal(size=300),
        "weights": np.arange(1.0, 301.0),
        "aggregation": "perplexity",
        "clusters": np.arange(300) // 3,
    }
    pinned = pinned_of(**changes)
    export_pinned(pinned, tmp_path / "ref.json")
    back = read_pinned(tmp_path / "ref.json")
    ours, theirs = pinned.tasks["t"].items, back.tasks["t"].items
    assert ours is not None
    assert theirs is not None
    for name in ("keys", "values", "weights", "strata", "stratum_weights", "clusters"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert theirs.aggregation == "perplexity"
    assert (back.series, back.model, back.fingerprint) == ("s", "m", "f" * 64)
    assert back.not_judged == pinned.not_judged
    [table], [whole] = back.tasks["t"].tables, pinned.tasks["t"].tables
    np.testing.assert_array_equal(table.keys, whole.keys)
    np.testing.assert_array_equal(table.doc_ids, whole.doc_ids)
    assert [prompt.decode() for prompt in table.prompts.tolist()] == [
        prompt.decode()[:16] for prompt in whole.prompts.tolist()
    ]


def test_the_file_is_small_and_holds_no_text(tmp_path: Path) -> None:
    size = export_pinned(pinned_of(), tmp_path / "ref.json")
    text = (tmp_path / "ref.json").read_text(encoding="utf-8")
    assert size == len(text.encode()) < 300 * 80
    assert "careful" not in text
    assert "message" not in text


def test_instructions_are_compared_by_their_hashes() -> None:
    hashed = without_text(CONDITIONS)
    assert hashed["shots"] == 5
    assert hashed["few-shot seed"] is None
    assert hashed["generation settings"] == CONDITIONS["generation settings"]
    assert hashed["system instruction"].startswith("sha256:")
    assert hashed == without_text(dict(CONDITIONS))
    assert hashed != without_text(CONDITIONS | {"system instruction": SAID + "!"})
    assert without_text({"chat template": "none"}) == {"chat template": "none"}


def test_a_file_is_comparable_with_the_run_it_was_made_of(tmp_path: Path) -> None:
    pinned = pinned_of()
    export_pinned(pinned, tmp_path / "ref.json")
    back = read_pinned(tmp_path / "ref.json").tasks["t"]
    new = hashed_like_a_file(scored_of(pinned.tasks["t"].items, conditions=CONDITIONS))
    ours, theirs, notes = check_comparable(new, back)
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert notes == ()


def changed(path: Path, change: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def cut_values(data: dict[str, Any]) -> None:
    data["tasks"][0]["items"]["values"]["length"] = 299


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda data: data.update(schema_version=2),
            "schema_version is 2, this version of the suite reads 1",
        ),
        (lambda data: data.update(kind="other"), "not the file of a pinned run"),
        (
            lambda data: data.pop("model"),
            "a damaged file of a pinned run (KeyError: 'model')",
        ),
        (
            lambda data: data.update(tasks=[]),
            "a damaged file of a pinned run (ValueError: no task)",
        ),
        (
            cut_values,
            "a damaged file of a pinned run (ValueError: a column of 299 rows has 2393 bytes"
            " instead of 2392)",
        ),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "ref.json"
    export_pinned(pinned_of(), path)
    changed(path, change)
    with pytest.raises(RecordError) as error:
        read_pinned(path)
    assert str(error.value) == f"{path}: {said}; {MEND}"


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as error:
        export_pinned(pinned_of(), tmp_path / "file" / "ref.json")
    assert str(error.value) == (
        f"cannot write {tmp_path}/file/ref.json (File exists); give another --export"
    )


@pytest.mark.parametrize(
    "column",
    [
        np.array([], dtype=np.float64),
        np.array([1.5, np.nan, -0.0, np.inf]),
        np.array([-1, 2**62], dtype=np.int64),
        np.array([b"a", b"", b"xyz"], dtype="S36"),
        np.array([b"00ff", b"12ab"], dtype="S36"),
        np.array([b"00FF", b"12ab"], dtype="S36"),
        np.array([b"00ff", b"12ab#2"], dtype="S36"),
        np.array([b"0 ff", b"12ab"], dtype="S36"),
        np.array([b"", b""], dtype="S32"),
        np.array([], dtype="S32"),
        np.array([0.1], dtype=np.float32),
    ],
)
def test_a_column_comes_back_as_it_was(column: np.ndarray) -> None:
    back = unpack(json.loads(json.dumps(pack(column))))
    assert back.dtype == column.dtype
    assert back.tobytes() == column.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"kind": "|O8", "length": 1, "zlib": ""},
        {"kind": "<f8", "length": -1, "zlib": ""},
        {"kind": "<f8", "length": 1, "zlib": "!"},
        {"kind": "<f8", "length": 1, "zlib": "AAAA"},
        pack(np.zeros(3)) | {"length": 2},
        pack(np.zeros(3)) | {"digits": 2},
        pack(np.array([b"00ff"], dtype="S4")) | {"digits": 3},
        pack(np.array([b"00ff"], dtype="S4")) | {"digits": 8},
    ],
)
def test_what_is_no_column_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"column|base64|padding|byte"):
        unpack(data)
