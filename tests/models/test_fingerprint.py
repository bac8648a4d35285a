from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint


def write_model(folder: Path, *, weights: bytes = b"weights", tokenizer: bytes = b"tok") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    return folder


def test_two_copies_of_a_model_have_the_same_fingerprints(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    assert weights_fingerprint(first) == weights_fingerprint(second)
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(second)


def test_one_changed_bit_changes_the_weights_fingerprint(tmp_path: Path) -> None:
    first = write_model(tmp_path / "a", weights=b"weights")
    second = write_model(tmp_path / "b", weights=b"weightr")
    assert weights_fingerprint(first) != weights_fingerprint(second)


def test_the_weights_fingerprint_ignores_the_tokenizer(tmp_path: Path) -> None:
    first = write_model(tmp_path / "a", tokenizer=b"tok")
    second = write_model(tmp_path / "b", tokenizer=b"kot")
    assert weights_fingerprint(first) == weights_fingerprint(second)
    assert tokenizer_fingerprint(first) != tokenizer_fingerprint(second)


def test_the_tokenizer_fingerprint_ignores_the_weights(tmp_path: Path) -> None:
    first = write_model(tmp_path / "a", weights=b"weights")
    second = write_model(tmp_path / "b", weights=b"others!")
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(second)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "adapter_config.json"])
def test_settings_of_a_model_count_as_its_weights(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "a")
    before = weights_fingerprint(folder)
    (folder / name).write_text('{"rope_theta": 1}')
    assert weights_fingerprint(folder) != before


def test_a_chat_template_counts_as_the_tokenizer(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "a")
    before = tokenizer_fingerprint(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_fingerprint(folder) != before


@pytest.mark.parametrize("name", ["README.md", "training.log", "optimizer.pt"])
def test_a_file_that_decides_nothing_counts_for_nothing(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "a")
    before = weights_fingerprint(folder), tokenizer_fingerprint(folder)
    (folder / name).write_text("text")
    assert (weights_fingerprint(folder), tokenizer_fingerprint(folder)) == before


def test_swapped_contents_of_two_files_change_the_fingerprint(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    for folder, order in ((first, b"12"), (second, b"21")):
        for number, content in enumerate(order):
            (folder / f"model-{number}.safetensors").write_bytes(bytes([content]))
    assert weights_fingerprint(first) != weights_fingerprint(second)


def hub_snapshot(cache: Path, blob: str, content: bytes) -> Path:
    """A snapshot as the hub's cache lays it out: links into `blobs/`, named after content."""
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / blob).write_bytes(content)
    snapshot = cache / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs") / blob)
    return snapshot


def test_a_blob_named_after_its_sha256_is_not_read_again(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.safetensors").write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    # Other bytes under that name: equal fingerprints show that the name alone was taken.
    snapshot = hub_snapshot(tmp_path / "cache", sha256, b"not read")
    assert weights_fingerprint(snapshot) == weights_fingerprint(plain)


def test_a_blob_with_a_git_name_is_read(tmp_path: Path) -> None:
    git_name = "a" * 40
    first = hub_snapshot(tmp_path / "a", git_name, b"weights")
    second = hub_snapshot(tmp_path / "b", git_name, b"others!")
    assert weights_fingerprint(first) != weights_fingerprint(second)
