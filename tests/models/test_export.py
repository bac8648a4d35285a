"""An exported checkpoint: what plain transformers opens is the model that was trained."""

from __future__ import annotations

import io
import json
import logging
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from trained_runs import full_run, lora_run, save_run
from transformers import AutoModelForCausalLM, AutoTokenizer

import suite
from suite.errors import ConfigError, ModelError
from suite.models.adapters import load_adapted
from suite.models.entry import ModelConfig
from suite.models.export import fold_checked, probe_logits, write_export
from suite.models.licence import GEMMA, model_types, terms_of
from suite.models.manifest import read_facts, verify_manifest
from suite.models.ngram_embeddings import NgramCausalLM, add_ngram_embeddings
from suite.models.ngram_folder import load_ngram_model
from suite.models.resolve import resolve
from suite.models.sources import Source, TransplantSource
from suite.pipelines.export import Exported, ExportOptions, export
from suite.pipelines.transplant import TransplantOptions, transplant
from suite.text.tokenizers import open_tokenizer

IDS = torch.tensor([[5, 80, 200, 7, 7, 131]])


def exported(checkpoint: Path, output: Path, **options: Any) -> Exported:
    api = options.pop("api", None)
    quiet = Console(file=io.StringIO())
    return export(ExportOptions(checkpoint, output, **options), console=quiet, api=api)


def refusal(checkpoint: Path, output: Path, **options: Any) -> str:
    with pytest.raises((ConfigError, ModelError)) as error:
        exported(checkpoint, output, **options)
    return str(error.value)


def opened(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def test_all_weights_come_out_as_they_were_trained(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = full_run(tmp_path / "run", tiny_model)
    output = tmp_path / "deep" / "out"
    made = exported(tmp_path / "run", output)
    assert made.folder == output
    assert made.notes == ()
    assert made.facts == (
        ("checkpoint", str(checkpoint)),
        ("steps", "20"),
        ("weights", "float32, trained"),
    )
    expected, found = opened(tiny_model).state_dict(), opened(output).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert AutoTokenizer.from_pretrained(output).chat_template == "{{ messages[0]['content'] }}"
    verify_manifest(output)
    assert sorted(path.name for path in output.parent.iterdir()) == ["out"]
    assert {oct(path.stat().st_mode & 0o777) for path in output.iterdir()} == {"0o644"}


def test_generation_settings_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = full_run(tmp_path / "run", tiny_model)
    settings = checkpoint / "model" / "generation_config.json"
    assert json.loads(settings.read_text())["eos_token_id"] == 257
    exported(checkpoint, tmp_path / "out")
    assert opened(tmp_path / "out").generation_config.eos_token_id == 257


def test_adapters_are_folded(tiny_model: Path, tmp_path: Path) -> None:
    recipe = {"train": "lora", "lora": {"rank": 4, "alpha": 8}}
    checkpoint = lora_run(tmp_path / "run", tiny_model, recipe=recipe)
    exported(checkpoint, tmp_path / "out")
    assert "| trained | lora (rank 4, alpha 8) |" in (tmp_path / "out/README.md").read_text()
    adapted = load_adapted(tmp_path / "run" / "start", checkpoint / "adapter")
    with torch.no_grad():
        found, expected = opened(tmp_path / "out")(IDS).logits, adapted(IDS).logits
        before = opened(tiny_model)(IDS).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-2)
    assert not list((tmp_path / "out").glob("adapter*"))


def test_bfloat16_halves_the_weights_and_says_so(tiny_model: Path, tmp_path: Path) -> None:
    full_run(tmp_path / "run", tiny_model)
    sizes = []
    for dtype in ("float32", "bfloat16"):
        exported(tmp_path / "run", tmp_path / dtype, dtype=dtype)
        sizes.append((tmp_path / dtype / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    assert opened(tmp_path / "bfloat16").dtype == torch.bfloat16
    assert read_facts(tmp_path / "bfloat16")["weights"] == "float32, trained, saved in bfloat16"
    assert "float32, trained, saved in bfloat16" in (tmp_path / "bfloat16/README.md").read_text()


def test_an_export_can_be_the_base_of_the_next_run(tiny_model: Path, tmp_path: Path) -> None:
    full_run(tmp_path / "run", tiny_model, model_types=["gemma3_text", "llama"])
    exported(tmp_path / "run", tmp_path / "out", accepts_licence=True)
    resolved = resolve(ModelConfig(name="next", source=Source(path=tmp_path / "out")))
    assert resolved.weights == "float32, trained"
    assert model_types(resolved.folder) == ("gemma3_text", "llama")
    assert read_facts(tmp_path / "out")["sources"] == {
        "model": "hub:org/tiny",
        "tokenizer": "own tokenizer (local)",
    }


def test_the_card_is_filled_from_the_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    full_run(tmp_path / "run", tiny_model)
    exported(tmp_path / "run", tmp_path / "out")
    _, front, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": ["org/tiny"],
        "tags": ["alm-suite", "cross-tokenizer", "transfer"],
    }
    for line in (
        "# Tiny to bytes",
        f"Trained with alm-suite {suite.__version__} by suite transfer.",
        "| model | hub:org/tiny |",
        "| tokenizer | own tokenizer (local) |",
        "| losses | alm (temperature 5.0), sft |",
        "| balance | fixed |",
        "| learning rate | 3e-05 |",
        "| seed | 3 |",
        "| steps | 20 |",
        "| bytes of text | 9,000 |",
        "| teacher tokens | 3,000 |",
        "| student tokens | 9 |",
        "| weights | float32, trained |",
        "| rank correlation (Spearman's, of s with t) | 0.91235 |",
        "| groups | 1,234 |",
        "model = AutoModelForCausalLM.from_pretrained('out')",
        "The terms of every model that this one was made from or taught by apply to it:"
        " hub:org/tiny, own tokenizer (local).",
    ):
        assert line in body.splitlines()
    assert "/home/me" not in body


@pytest.mark.parametrize("places", ["facts", "weights"])
def test_what_gemma_taught_carries_its_terms(tiny_model: Path, tmp_path: Path, places: str) -> None:
    types = ["gemma3_text", "llama"] if places == "facts" else []
    checkpoint = full_run(tmp_path / "run", tiny_model, model_types=types)
    config = checkpoint / "model" / "config.json"
    if places == "weights":
        facts = json.loads((checkpoint / "manifest.json").read_text())
        config.write_text(config.read_text().replace('"llama"', '"gemma2"'))
        (checkpoint / "manifest.json").write_text(json.dumps(facts))
    assert refusal(checkpoint, tmp_path / "out") == (
        f"{checkpoint} was made from or taught by a model under the Gemma Terms of Use"
        " (https://ai.google.dev/gemma/terms), which it carries on; read them and give"
        " --accept-licence"
    )
    assert not (tmp_path / "out").exists()
    if places == "weights":
        return
    made = exported(checkpoint, tmp_path / "out", accepts_licence=True)
    assert made.facts[-1] == ("terms", "Gemma Terms of Use, https://ai.google.dev/gemma/terms")
    card = (tmp_path / "out" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "gemma"
    assert "Gemma Terms of Use (https://ai.google.dev/gemma/terms)" in card
    assert (tmp_path / "out" / "NOTICE").read_text() == (
        "Gemma is provided under and subject to the Gemma Terms of Use found at"
        " ai.google.dev/gemma/terms\n"
    )


def test_terms_are_known_by_how_a_type_begins() -> None:
    assert terms_of(["llama", "gemma3_text"]) is terms_of(["gemma"]) is GEMMA
    assert terms_of(["llama", "qwen3"]) is terms_of([]) is None


def test_what_is_no_checkpoint_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    follows = "give the folder of a run, or one of its folders checkpoints/step-..."
    assert refusal(tiny_model, tmp_path / "out") == f"{tiny_model} has no checkpoint; {follows}"
    absent = tmp_path / "absent"
    assert refusal(absent, tmp_path / "out") == f"{absent} is no folder; {follows}"


def test_a_damaged_checkpoint_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = full_run(tmp_path / "run", tiny_model)
    (checkpoint / "model" / "config.json").write_text('{"model_type": "llama"}')
    assert refusal(checkpoint, tmp_path / "out") == (
        f"{checkpoint / 'model' / 'config.json'} differs from its checksum in manifest.json; give"
        " another checkpoint"
    )
    assert not (tmp_path / "out").exists()


def test_only_a_new_or_empty_folder_is_written(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = full_run(tmp_path / "run", tiny_model)
    (tmp_path / "out").mkdir()
    exported(checkpoint, tmp_path / "out")
    assert refusal(checkpoint, tmp_path / "out") == (
        f"{tmp_path / 'out'}: holds README.md; give a new or an empty DIR"
    )
    (tmp_path / "file").write_text("")
    assert refusal(checkpoint, tmp_path / "file") == (
        f"{tmp_path / 'file'}: is a file; give a new or an empty DIR"
    )
    assert refusal(checkpoint, tmp_path / "file" / "out") == (
        f"cannot write to {tmp_path / 'file' / 'out'} (File exists); give another DIR"
    )


def test_a_full_disk_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    full_run(tmp_path / "run", tiny_model)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        message = refusal(tmp_path / "run", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert message == f"cannot write to {tmp_path / 'out'} (File too large); give another DIR"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_tokenizer_that_opens_as_another_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_damaged(source: Path, folder: Path) -> None:
        text = (source / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(text.replace('"add_prefix_space":false', '"x":0'))
        config = (source / "tokenizer_config.json").read_text()
        (folder / "tokenizer_config.json").write_text(config)
        (folder / "chat_template.jinja").write_text("other")

    monkeypatch.setattr("suite.models.export.copy_settings", copy_damaged)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError) as error:
        write_export(tmp_path / "out", opened(tiny_model), tiny_model, "float32", is_plain=True)
    assert str(error.value).startswith("transformers opens the written tokenizer as another ")
    assert str(error.value).endswith(
        f" than that of {tiny_model}; save it again with save_pretrained"
    )


def test_weights_that_open_as_others_are_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(tiny_model)
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("suite.models.export._open", lambda folder, is_plain: opened(tiny_model))
    with pytest.raises(ModelError) as error:
        write_export(tmp_path / "out", model, tiny_model, "float32", is_plain=True)
    assert str(error.value) == (
        "the model is another one opened again (its logits differ by 50.0%); give another"
        " checkpoint"
    )


def test_folding_that_changes_the_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = lora_run(tmp_path / "run", tiny_model)
    model = load_adapted(tmp_path / "run" / "start", checkpoint / "adapter")
    plain = opened(tiny_model)
    assert not torch.allclose(probe_logits(plain), probe_logits(model), atol=1e-2)
    model.merge_and_unload = lambda: plain
    with pytest.raises(ModelError, match=r"^the model is another one with its adapters folded in"):
        fold_checked(model)


def test_a_model_with_ngram_embeddings_says_why_it_needs_the_suite(
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bytes_folder = tmp_path / "bytes"
    parts = TransplantSource(model=Source(path=tiny_model), tokenizer="bytes", method="fvt")
    quiet = Console(file=io.StringIO())
    (tmp_path / "text").write_text("in the other thing")
    transplant(TransplantOptions(parts, bytes_folder, tmp_path / "text"), console=quiet)
    made = _ngram_model(tiny_model, bytes_folder)

    def write(folder: Path) -> None:
        made.save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(bytes_folder).save_pretrained(folder / "model")

    checkpoint = save_run(tmp_path / "run", write)
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, caplog.handler])
    result = exported(checkpoint, tmp_path / "out")
    assert caplog.text == ""
    assert result.notes == (
        "plain transformers has no model that adds n-gram embeddings to its input, so only the"
        " suite opens this folder: as path:FOLDER in all its commands, or with load_ngram_model of"
        " suite.models.ngram_folder",
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert "model = load_ngram_model(Path('out'))" in card
    assert "plain transformers has no model that adds n-gram embeddings" in card
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "alm-suite"
    found = load_ngram_model(tmp_path / "out").eval()
    assert torch.equal(probe_logits(found), probe_logits(made.eval()))


def _ngram_model(folder: Path, bytes_folder: Path) -> NgramCausalLM:
    """A byte-level model with the embeddings of the model it was made from."""
    source, model = opened(folder), opened(bytes_folder)
    old, new = (
        open_tokenizer(AutoTokenizer.from_pretrained(place), name="tiny")
        for place in (folder, bytes_folder)
    )
    return add_ngram_embeddings(model, old, new, source.get_input_embeddings().weight.detach())


class Hub:
    """Stands in for huggingface_hub's HfApi, and notes what it is asked for."""

    def __init__(self, *, is_private: bool = False, fault: Exception | None = None) -> None:
        self.is_private, self.fault = is_private, fault
        self.calls: list[tuple[Any, ...]] = []

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.calls.append(("create", name, private))
        if self.fault is not None:
            raise self.fault
        return f"https://huggingface.co/{name}"

    def repo_info(self, name: str) -> Any:
        return type("Info", (), {"private": self.is_private})

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        files = sorted(path.name for path in folder_path.iterdir())
        self.calls.append(("upload", repo_id, files, commit_message))


def test_a_push_uploads_the_finished_folder(tiny_model: Path, tmp_path: Path) -> None:
    full_run(tmp_path / "run", tiny_model)
    hub = Hub(is_private=True)
    made = exported(tmp_path / "run", tmp_path / "out", push="me/tiny", private=True, api=hub)
    assert made.facts[-1] == ("pushed to", "https://huggingface.co/me/tiny")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert hub.calls == [
        ("create", "me/tiny", True),
        ("upload", "me/tiny", files, "Upload by alm-suite"),
    ]
    assert "from_pretrained('me/tiny')" in (tmp_path / "out" / "README.md").read_text()
