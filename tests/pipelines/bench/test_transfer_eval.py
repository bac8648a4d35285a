"""`suite bench transfer`: bits per byte, the mixture, and a stopped measurement that goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.errors import ConfigError, TextError
from suite.models.tiny import tiny_folder
from suite.pipelines.bench import transfer_eval
from suite.pipelines.bench.transfer_eval import TransferBench, record_transfer
from suite.pipelines.bench.transfer_eval_scores import (
    DocumentScore,
    HeldOutDocument,
    ScoreFile,
    check_same_tokens,
    mixed,
    read_documents,
)
from suite.pipelines.bench.transfer_eval_table import MIXTURE, DocumentRow, summarise
from suite.text.passages import cut_passages
from suite.text.tokenizers import open_tokenizer
from suite.transplant.bits_per_byte import bits_per_byte

TEXTS = {"a.txt": "The quick brown fox\njumps over naïve dogs.\n" * 6, "b.txt": "Short.\n" * 9}


def score_of(values: list[float], model: str = "m", document: str = "d") -> DocumentScore:
    return DocumentScore(model, document, np.array(values, np.float32))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_documents_are_the_first_bytes_of_each_file_in_whole_characters(data):
    (data / "notes.md").write_text("not read", encoding="utf-8")
    # The limit falls into the two bytes of the letter with the diaeresis.
    limit = len(b"The quick brown fox\njumps over na") + 1
    first, second = read_documents(data, limit, 16)
    assert (first.name, second.name) == ("a.txt", "b.txt")
    assert "".join(first.passages) == "The quick brown fox\njumps over na"
    assert first.num_bytes == limit - 1
    assert max(len(passage.encode()) for passage in first.passages) <= 16
    assert "".join(second.passages) == TEXTS["b.txt"][:limit]


def test_a_folder_without_text_and_text_that_is_none_are_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_documents(tmp_path, 100, 16)
    assert str(error.value) == (
        f"--data {tmp_path}: has no .txt file; give a folder with documents"
    )
    file = tmp_path / "x.txt"
    file.write_bytes(b"")
    with pytest.raises(ConfigError) as error:
        read_documents(tmp_path, 100, 16)
    assert str(error.value) == f"--data {file}: is empty; remove it"
    file.write_bytes(b"ab\xffcd")
    with pytest.raises(TextError) as wrong:
        read_documents(tmp_path, 100, 16)
    assert str(wrong.value) == f"{file}: not UTF-8 at byte 2 (0xff); convert it to UTF-8 first"


def test_scores_survive_in_their_file_and_an_unfinished_line_costs_one(tmp_path):
    path = tmp_path / "scores.jsonl"
    file = ScoreFile(path)
    first, second = score_of([-1.25, -0.1]), score_of([-3.0], document="e")
    file.add(first, label="m, d")
    file.add(second, label="m, e")
    path.write_bytes(path.read_bytes()[:-20])
    again = ScoreFile(path)
    assert again.find("m", "e") is None
    assert again.find("other", "d") is None
    found = again.find("m", "d")
    assert found is not None
    assert found.log_probs.tolist() == first.log_probs.tolist()
    again.add(second, label="m, e")
    last = ScoreFile(path).find("m", "e")
    assert last is not None
    assert last.nats == 3


def test_the_mixture_is_the_log_of_the_mean_probability():
    first, second = [-0.5, -4.0, -1e-3], [-2.0, -0.1, -30.0]
    found = mixed([score_of(first), score_of(second)])
    expected = [
        math.log((math.exp(a) + math.exp(b)) / 2) for a, b in zip(first, second, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_members_that_cut_text_differently_cannot_be_mixed(data, tmp_path):
    names = ("tiny-bpe", "tiny-words")
    first, second = (
        open_tokenizer(AutoTokenizer.from_pretrained(tiny_folder(name)), name=name)
        for name in names
    )
    documents = read_documents(data, 200, 64)
    check_same_tokens((first, first), documents)
    with pytest.raises(ConfigError) as error:
        check_same_tokens((first, second), documents)
    assert str(error.value).startswith("tiny-bpe and tiny-words: their vocabularies differ (")


def test_the_gap_is_that_between_start_and_original():
    bits = {"original": 1.0, "start": 3.0, "trained": 1.8, "member": 1.5, MIXTURE: 1.4}
    rows = [
        DocumentRow(model, document, size, 10, value * size * math.log(2) * change)
        for model, value in bits.items()
        for document, size, change in (("a", 100, 1), ("b", 300, 2 if model == MIXTURE else 1))
    ]
    found = summarise(rows)
    assert found.gap_closed == pytest.approx(0.6)
    assert found.bits_per_byte["trained"] == pytest.approx(1.8)
    assert found.bits_per_byte[MIXTURE] == pytest.approx(1.4 * (100 + 600) / 400)
    assert found.num_better == {"original": 2, "trained": 2, "member": 2, MIXTURE: 1}
    assert rows[0].bits_per_byte == pytest.approx(1.0)


def test_without_a_gap_no_share_of_it_is_closed():
    rows = [DocumentRow(model, "a", 10, 1, 5.0) for model in ("original", "start", "trained")]
    assert summarise(rows).gap_closed is None


@pytest.mark.parametrize(
    ("name", "option"), [("kib", "--kib"), ("passage_bytes", "--passage-bytes")]
)
def test_a_size_that_is_too_small_is_refused(name, option):
    least = 1 if name == "kib" else 4
    with pytest.raises(ConfigError) as error:
        TransferBench(data=Path(), original="", start="", trained="", **{name: 0})
    assert str(error.value) == f"{option} is 0, expected at least {least}"


def bench_of(data: Path, **changes: object) -> TransferBench:
    sources = {"original": "random:tiny-bpe", "start": "random:tiny-words"}
    chosen = sources | {"trained": "random:tiny-words", "member": "random:tiny-words"} | changes
    return TransferBench(data=data, kib=1, passage_bytes=64, device="cpu", **chosen)


def test_each_model_has_its_bits_per_byte_and_is_read_once(data, tmp_path, monkeypatch):
    record = record_transfer(bench_of(data), tmp_path / "out", lambda line: None)
    rows = json.loads(record.files[0].read_text(encoding="utf-8"))["rows"]
    passages = [piece for text in TEXTS.values() for piece in cut_passages(text, 64)]
    for role, name in (("original", "tiny-bpe"), ("trained", "tiny-words")):
        folder = tiny_folder(name)
        tokenizer = open_tokenizer(AutoTokenizer.from_pretrained(folder), name=name)
        model = AutoModelForCausalLM.from_pretrained(folder)
        expected = bits_per_byte(model, tokenizer, passages)
        assert rows[0]["bits_per_byte"][role] == pytest.approx(expected, rel=1e-5)
    assert rows[0]["bits_per_byte"][MIXTURE] == pytest.approx(
        rows[0]["bits_per_byte"]["trained"], rel=1e-6
    )
    assert {(row["model"], row["document"]) for row in rows[1:]} == {
        (model, name) for model in rows[0]["bits_per_byte"] for name in TEXTS
    }
    assert "Repeat with: suite bench transfer" in record.markdown

    def refuse(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(transfer_eval, "load_model", refuse)
    again = record_transfer(bench_of(data), tmp_path / "out", lambda line: None)
    assert again.markdown == record.markdown
    # In other passages it is another measurement.
    with pytest.raises(AssertionError):
        record_transfer(replace(bench_of(data), passage_bytes=32), tmp_path / "out", print)


def test_a_passage_that_a_model_cannot_read_is_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("0123456789" * 60, encoding="utf-8")
    sources = dict.fromkeys(("original", "start", "trained"), "random:tiny")
    bench = TransferBench(data=folder, passage_bytes=600, device="cpu", **sources)
    with pytest.raises(ConfigError) as error:
        record_transfer(bench, tmp_path / "out", lambda line: None)
    assert str(error.value) == (
        "--passage-bytes: random:tiny reads 512 tokens, and a passage has more; give a smaller"
        " --passage-bytes"
    )


def test_a_document_is_known_by_its_passages():
    first = HeldOutDocument("a", ("x", "y"))
    assert first.key == HeldOutDocument("b", ("x", "y")).key
    assert first.key != HeldOutDocument("a", ("xy",)).key
