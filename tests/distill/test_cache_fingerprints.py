"""What a stored teacher is valid for: each thing bears on its own fingerprint and no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from suite.align.cut import PackConfig
from suite.distill.cache_fingerprints import teacher_fingerprints
from suite.models.entry import ModelConfig
from suite.models.resolve import resolve
from suite.models.tokenizers import open_source
from suite.text.corpus import CorpusConfig, open_corpus

TEMPLATE = "{% for message in messages %}<begin>{{ message['content'] }}<end>{% endfor %}"


@dataclass(frozen=True)
class Setting:
    """What a cache may be made of, with the default of each."""

    folder: Path
    data: Path
    student: Path | None = None
    roles: tuple[tuple[str, str], ...] = ()
    corpus: tuple[tuple[str, Any], ...] = ()
    pack: PackConfig = field(default_factory=PackConfig)
    dtype: str = "float32"
    quantization: str | None = None


def fingerprints_of(setting: Setting) -> dict[str, str]:
    teacher = open_source(f"path:{setting.folder}", "--teacher", dict(setting.roles))
    student = open_source(f"path:{setting.student}", "--student") if setting.student else teacher
    entry = ModelConfig(name="teacher", source={"path": setting.folder})
    return teacher_fingerprints(
        open_corpus(CorpusConfig(path=setting.data, **dict(setting.corpus))),
        setting.pack,
        teacher,
        student,
        entry=entry.model_copy(update={"quantization": setting.quantization}),
        resolved=resolve(entry),
        dtype=setting.dtype,
    )


@pytest.fixture
def setting(tiny_model: Path, tmp_path: Path) -> Setting:
    """A copy of the tiny model whose template reads messages, and a text of both kinds."""
    folder = copy_of(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    data = tmp_path / "data.jsonl"
    chat = [{"role": "user", "content": "Hi"}]
    data.write_text(json.dumps({"text": "One", "chat": chat}) + "\n", encoding="utf-8")
    return Setting(folder, data)


def copy_of(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place)
    (place / "manifest.json").unlink()
    return place


def with_normal_form(tiny_model: Path, place: Path) -> Path:
    folder = copy_of(tiny_model, place)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "NFC"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_plain_settings_are_readable_and_the_rest_are_hashes(setting: Setting) -> None:
    found = fingerprints_of(setting)
    assert found["order"] == "shuffled with seed 0, one epoch"
    assert found["rows"] == "isolated, 512 tokens, 4096 bytes"
    assert (found["normal_form"], found["template"], found["dtype"]) == ("none", "none", "float32")
    hashes = {name for name, value in found.items() if len(value) == 64}
    assert hashes == {"text", "boundary", "tokenizer", "weights"}
    assert fingerprints_of(setting) == found


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"corpus": (("seed", 1),)}, {"order"}),
        ({"corpus": (("shuffle", False),)}, {"order"}),
        ({"corpus": (("streaming", True),)}, {"order"}),
        ({"corpus": (("limit", 1),)}, {"text"}),
        ({"corpus": (("messages", "chat"),)}, {"text", "template"}),
        ({"pack": PackConfig(length=64)}, {"rows"}),
        ({"pack": PackConfig(max_bytes=100)}, {"rows"}),
        ({"pack": PackConfig(packing="none")}, {"rows"}),
        ({"pack": PackConfig(keep_whole=True)}, {"rows"}),
        ({"pack": PackConfig(max_bytes=4096)}, set()),
        ({"roles": (("<pad>", "regular"),)}, {"tokenizer", "boundary"}),
        ({"roles": (("<pad>", "header"),)}, {"tokenizer"}),
        ({"dtype": "bfloat16"}, {"dtype"}),
        ({"quantization": "bitsandbytes-4bit"}, {"weights"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_a_setting_bears_on_its_own_fingerprint(
    setting: Setting, change: dict[str, Any], names: set[str]
) -> None:
    other = fingerprints_of(replace(setting, **change))
    assert changed(fingerprints_of(setting), other) == names


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def move_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda setting: rewrite(setting.data, "One", "Two"), {"text"}),
        (lambda setting: move_a_weight(setting.folder), {"weights"}),
        (
            lambda setting: rewrite(setting.folder / "config.json", "10000.0", "20000.0"),
            {"weights"},
        ),
        (
            lambda setting: rewrite(setting.folder / "tokenizer.json", "true", "false"),
            {"tokenizer"},
        ),
        (lambda setting: setting.data.rename(setting.data.with_name("moved.jsonl")), set()),
    ],
    ids=["a word", "a weight", "the configuration", "the tokenizer", "the file's name"],
)
def test_a_changed_file_bears_on_its_own_fingerprint(
    setting: Setting, change: Callable[[Setting], object], names: set[str]
) -> None:
    before = fingerprints_of(setting)
    change(setting)
    found = next(setting.data.parent.glob("*.jsonl"))
    assert changed(before, fingerprints_of(replace(setting, data=found))) == names


def test_a_student_bears_on_the_normal_form_alone(
    setting: Setting, tiny_model: Path, tiny_model_merges: Path, tmp_path: Path
) -> None:
    before = fingerprints_of(setting)
    assert fingerprints_of(replace(setting, student=tiny_model_merges)) == before
    student = with_normal_form(tiny_model, tmp_path / "student")
    found = fingerprints_of(replace(setting, student=student))
    assert changed(before, found) == {"normal_form"}
    assert found["normal_form"] == "NFC"


def test_a_chat_template_counts_only_for_conversations(
    setting: Setting, tiny_model: Path, tmp_path: Path
) -> None:
    chats = replace(setting, corpus=(("messages", "chat"),))
    texts_before, chats_before = fingerprints_of(setting), fingerprints_of(chats)
    rewrite(setting.folder / "chat_template.jinja", "<end>", "<end>\\n")
    # The template is one of the tokenizer's files.
    assert changed(texts_before, fingerprints_of(setting)) == {"tokenizer"}
    assert changed(chats_before, fingerprints_of(chats)) == {"tokenizer", "template"}


def test_a_teacher_without_a_template_depends_on_the_students(
    setting: Setting, tiny_model: Path, tmp_path: Path
) -> None:
    without = copy_of(tiny_model, tmp_path / "without")
    chats = replace(setting, folder=without, student=setting.folder, corpus=(("messages", "chat"),))
    before = fingerprints_of(chats)
    rewrite(setting.folder / "chat_template.jinja", "<end>", "<end>\\n")
    assert changed(before, fingerprints_of(chats)) == {"template"}
