from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import ModelError
from suite.models.manifest import has_manifest, read_facts, verify_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_manifest(tmp_path, {"weights": "Q4_1, dequantised to bfloat16"})
    return tmp_path


def test_an_untouched_folder_passes(folder: Path) -> None:
    verify_manifest(folder)


def test_facts_come_back_as_written(folder: Path) -> None:
    assert read_facts(folder) == {"weights": "Q4_1, dequantised to bfloat16"}


def test_a_changed_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(ModelError) as error:
        verify_manifest(folder)
    assert str(error.value) == (
        f"{folder / 'model.safetensors'} differs from its checksum in manifest.json; copy the"
        " folder again, or delete its manifest.json if the change is meant"
    )


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError) as error:
        verify_manifest(folder)
    assert str(error.value) == (
        f"{folder / 'config.json'} is missing but listed in manifest.json; copy the"
        " folder again, or delete its manifest.json if the change is meant"
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": null}', '{"files": [1]}'])
def test_a_broken_manifest_is_named(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ModelError) as error:
        verify_manifest(folder)
    assert str(error.value).startswith(f"{folder / 'manifest.json'}: no readable manifest (")


def test_a_written_manifest_is_recognised(folder: Path) -> None:
    assert has_manifest(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": []}'])
def test_a_manifest_of_another_program_is_not_taken_for_ours(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert not has_manifest(folder)
