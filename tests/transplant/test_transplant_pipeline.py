from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_models import TEXTS, write_llama
from trained_tokenizers import opened
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.errors import ConfigError, ModelError
from suite.models.entry import ModelConfig
from suite.models.fingerprint import weights_fingerprint
from suite.models.manifest import file_sha256, read_facts, verify_manifest
from suite.models.sources import Source, TransplantSource
from suite.pipelines.plan import plan_model
from suite.pipelines.stage_progress import StageProgress
from suite.pipelines.transplant import (
    TransplantOptions,
    plan_transplant,
    transplant,
    transplanted_folder,
)
from suite.progress import SECONDS_BETWEEN_LINES


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models over two tokenizers; the second is untied."""
    folder = tmp_path_factory.mktemp("models")
    write_llama(folder / "marked", "marked")
    write_llama(folder / "byte-level", "byte-level", is_tied=False, seed=1)
    opened("byte-level").hf.save_pretrained(folder / "tokenizer")
    (folder / "text.txt").write_text("".join(TEXTS), encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


def source(folders: dict[str, Path], **changes: object) -> TransplantSource:
    given = {
        "model": Source(path=folders["marked"]),
        "tokenizer": Source(path=folders["byte-level"]),
        "method": "fvt",
    }
    return TransplantSource.model_validate(given | changes)


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "fvt"},
        {"method": "omp", "k": 8},
        {"method": "random", "seed": 3},
        {"method": "omp", "k": 8, "special_tokens": "replace"},
        {"method": "fvt", "tokenizer": "bytes"},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_plain_transformers_opens_the_folder(
    folders: dict[str, Path], tmp_path: Path, settings: dict[str, object]
) -> None:
    output = tmp_path / "new"
    options = TransplantOptions(source(folders, **settings), output, folders["text.txt"])
    planned = plan_transplant(options)
    assert not output.exists()
    shown = io.StringIO()
    made = transplant(options, console=Console(file=shown))
    assert made.facts[: len(planned.facts)] == planned.facts
    composed = dict(made.facts)["  composed"]
    line = f"{settings['method']}: composing {composed} embeddings\n"
    assert (line in shown.getvalue()) == (composed != "0")
    assert ("composing" in shown.getvalue()) == (composed != "0")
    verify_manifest(output)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    model = AutoModelForCausalLM.from_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert model.config.vocab_size == max(tokenizer.get_vocab().values()) + 1
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(ids).logits.isfinite().all()
    facts = read_facts(output)
    made_of = facts["transplant"]
    # Every byte has a token of its own here.
    assert (made_of["composed"] == 0) == (made_of["tokenizer"] == "bytes")
    measured = facts["bits_per_byte"]
    assert dict(made.facts)["bits per byte after"] == f"{measured['after']:.3f}"
    assert measured["before"] > 0


def test_its_own_tokenizer_changes_no_bit(folders: dict[str, Path], tmp_path: Path) -> None:
    same = source(folders, tokenizer=Source(path=folders["marked"]))
    output = tmp_path / "same"
    transplant(TransplantOptions(same, output, folders["text.txt"]), console=quiet())
    # The rows of padding and unused entries are gone, which had a little probability.
    before = AutoModelForCausalLM.from_pretrained(folders["marked"])
    after = AutoModelForCausalLM.from_pretrained(output)
    regular = torch.from_numpy(opened("marked").vocabulary.byte_lengths).nonzero()[:, 0]
    with torch.no_grad():
        expected = before(regular[None, :64]).logits[..., regular]
        assert torch.equal(after(regular[None, :64]).logits[..., regular], expected)
    # The prompt's measure masks padding, so both models agree.
    measured = read_facts(output)["bits_per_byte"]
    assert measured["after"] == pytest.approx(measured["before"], rel=1e-3)


def test_the_manifest_says_what_it_was_made_of(folders: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "omp"
    wanted = source(folders, method="omp", k=8)
    transplant(TransplantOptions(wanted, output, folders["text.txt"]), console=quiet())
    facts = read_facts(output)
    assert facts["weights"] == f"float32; tokens of path:{folders['byte-level']} by omp"
    made = facts["transplant"]
    assert (made["method"], made["k"], made["special_tokens"]) == ("omp", 8, "keep")
    names = ("model_fingerprint", "donor_fingerprint", "tokenizer_fingerprint")
    assert all(len(made[name]) == 64 for name in names)
    assert made["copied"] == made["shared"] + 6


def test_packaged_passages_are_the_default_text(folders: dict[str, Path], tmp_path: Path) -> None:
    options = TransplantOptions(source(folders), tmp_path / "new")
    text = dict(transplant(options, console=quiet()).facts)["text"]
    assert text.startswith("passages of Python's documentation, 12,")


def test_a_cached_transplant_is_made_once(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = transplanted_folder(source(folders), quiet())
    verify_manifest(first)
    with monkeypatch.context() as patched:
        patched.setattr("suite.pipelines.transplant._build", None)
        assert transplanted_folder(source(folders), quiet()) == first
    others = [
        transplanted_folder(source(folders, method="mean"), quiet()),
        transplanted_folder(source(folders, special_tokens="replace"), quiet()),
        transplanted_folder(source(folders, tokenizer="bytes"), quiet()),
    ]
    assert len({first, *others}) == 4


def test_each_start_reads_the_files_of_a_cached_transplant_once(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transplanted_folder(source(folders), quiet())
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr("suite.models.manifest.file_sha256", counted)
    monkeypatch.setattr("suite.models.fingerprint.file_sha256", counted)
    entry = ModelConfig(name="m", source=Source(transplant=source(folders)))
    identity = plan_model(entry, quiet()).identity
    assert read.count(made / "model.safetensors") == 1
    assert identity["weights"] == weights_fingerprint(made)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_no_precision_is_lost_but_beyond_float32(
    folders: dict[str, Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    stored = tmp_path / "stored"
    shutil.copytree(folders["marked"], stored)
    AutoModelForCausalLM.from_pretrained(stored, dtype=dtype).save_pretrained(stored)
    made = transplanted_folder(source(folders, model=Source(path=stored)), quiet())
    saved = torch.float32 if dtype == torch.float64 else dtype
    assert AutoModelForCausalLM.from_pretrained(made, dtype="auto").dtype == saved
    names = {torch.float64: "float64, saved in float32", torch.bfloat16: "bfloat16"}
    assert str(read_facts(made)["weights"]).startswith(f"{names[dtype]}; tokens of ")


def test_a_folder_that_holds_something_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "full"
    output.mkdir()
    (output / "b").touch()
    (output / "a").touch()
    with pytest.raises(ConfigError) as error:
        transplant(TransplantOptions(source(folders), output))
    assert str(error.value) == f"{output}: holds a; give a new or an empty --output"
    with pytest.raises(ConfigError) as error:
        plan_transplant(TransplantOptions(source(folders), output / "a"))
    assert str(error.value) == f"{output / 'a'}: is a file; give a new or an empty --output"


def test_an_empty_folder_is_filled(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    options = TransplantOptions(source(folders), tmp_path / "new", folders["text.txt"])
    transplant(options, console=quiet())
    verify_manifest(tmp_path / "new")


def test_nothing_is_left_of_a_failure(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise ModelError("no")

    monkeypatch.setattr("suite.pipelines.transplant.save_folder", fail)
    options = TransplantOptions(source(folders), tmp_path / "new", folders["text.txt"])
    with pytest.raises(ModelError, match="no"):
        transplant(options, console=quiet())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_sentence(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "new"
    with pytest.raises(ConfigError) as error:
        transplant(TransplantOptions(source(folders), output, folders["text.txt"]))
    assert str(error.value) == (f"cannot write to {output} (File exists); give another --output")


def test_omp_without_the_weights_of_the_owner_is_refused(folders: dict[str, Path]) -> None:
    alone = Source(path=folders["tokenizer"])
    with pytest.raises(ModelError) as error:
        transplanted_folder(source(folders, method="omp", k=8, tokenizer=alone))
    assert str(error.value).startswith("omp needs the weights of the model that owns the tokenizer")
    assert str(error.value).endswith("; give that model, or --method fvt")
    assert transplanted_folder(source(folders, tokenizer=alone), quiet()).is_dir()


def test_more_picks_than_shared_tokens_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError) as error:
        plan_transplant(TransplantOptions(source(folders, method="omp", k=9999), Path("new")))
    shared = len(
        set(opened("marked").vocabulary.id_of_bytes)
        & set(opened("byte-level").vocabulary.id_of_bytes)
    )
    assert str(error.value) == (
        f"--k is 9999, but path:{folders['marked']} and path:{folders['byte-level']} share only"
        f" {shared} tokens; give a smaller --k, or --method fvt"
    )


def test_a_begin_token_that_is_lost_is_noted(
    tiny_model_bos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    wanted = TransplantSource(
        model=Source(path=tiny_model_bos),
        tokenizer=Source(path=tiny_model),
        method="mean",
        special_tokens="replace",
    )
    planned = plan_transplant(TransplantOptions(wanted, tmp_path / "new"))
    assert planned.notes == (
        f"the new tokenizer puts no begin token before a text, as that of path:{tiny_model_bos}"
        " does; without it models fail, so use --special-tokens keep",
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff", "cannot be read (not UTF-8 text)"),
        (b"", "is empty; give a file with text"),
    ],
)
def test_a_text_that_cannot_be_measured_is_refused(
    folders: dict[str, Path], tmp_path: Path, content: bytes | None, reason: str
) -> None:
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        plan_transplant(TransplantOptions(source(folders), tmp_path / "new", text))
    assert str(error.value) == f"--text {text}: {reason}"


def test_special_tokens_that_only_settings_name_are_kept(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(folders["marked"], model)
    hf = AutoTokenizer.from_pretrained(model)
    hf.add_special_tokens({"additional_special_tokens": ["<unused3>"]})
    hf.save_pretrained(model)
    number = hf.convert_tokens_to_ids("<unused3>")
    settings = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    settings["eos_token_id"] = [settings["eos_token_id"], number]
    (model / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    made = transplanted_folder(source(folders, model=Source(path=model)), quiet())
    found = json.loads((made / "generation_config.json").read_text(encoding="utf-8"))
    number = AutoTokenizer.from_pretrained(made).convert_tokens_to_ids("<unused3>")
    assert number in found["eos_token_id"]


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 1.0, SECONDS_BETWEEN_LINES + 1, SECONDS_BETWEEN_LINES + 2])
    monkeypatch.setattr("suite.pipelines.stage_progress.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), width=80)
    with StageProgress(console) as bar:
        bar.begin("omp")
        for done in (1, 2, 3):
            bar.reach(done, 4)
    assert console.file.getvalue() == "omp\nomp: 50%\n"


def test_a_stage_of_unknown_length_shows_no_share_of_the_one_before() -> None:
    screen = io.StringIO()
    with StageProgress(Console(file=screen, force_terminal=True, width=80)) as bar:
        bar.begin("omp")
        bar.reach(2, 4)
        bar.begin("writing")
    last = screen.getvalue().rpartition("writing")[2]
    assert last
    assert "%" not in last
