"""GGUF files made into ordinary safetensors folders, once, in the cache.

transformers can read GGUF itself but needs half a minute or more each time, and keeps the weights
packed where a kernel for that exists; here they are dequantised and stored as bfloat16.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.config import content_hash
from suite.errors import ModelError
from suite.models.cache import cached_folder
from suite.models.manifest import file_sha256

# Raised when this file changes what a conversion writes, so that old folders are not taken for new.
CONVERTER_VERSION = 1

# Capitals, runs of spaces, line ends, accents, scripts without spaces, emoji, digits, code.
PROBE_TEXT = "Hello  World\n\n\tdef f(x):\n    return 'naïve café' 日本語 Ελλάδα 🎉 12345 "


def check_reader(what: Path | str) -> None:
    """Check that the package that reads GGUF files is there.

    Raises:
        ModelError: It is not; says what to install.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{what}: reading GGUF needs the package gguf; run: pip install gguf")


def converted_folder(file: Path, name: str) -> Path:
    """The cached folder with the dequantised weights and the tokenizer of a GGUF file.

    Raises:
        ModelError: The file is not GGUF that transformers can read, the package `gguf` is missing,
            or the converted tokenizer does not treat text as the file says.
    """
    check_reader(file)
    return converted(name, file_sha256(file), lambda: contextlib.nullcontext(file))


def converted(
    name: str, sha256: str, open_file: Callable[[], contextlib.AbstractContextManager[Path]]
) -> Path:
    """As `converted_folder`, for a file that is only made (by `open_file`) when it is needed.

    `sha256` is the file's checksum, known beforehand.
    """
    facts = {
        "sha256": sha256,
        "converter": CONVERTER_VERSION,
        "transformers": importlib.metadata.version("transformers"),
    }

    def build(folder: Path) -> dict[str, Any]:
        with open_file() as file:
            return _convert(file, folder) | facts

    return cached_folder("converted", f"{name}-{content_hash(facts)[:16]}", build)


def _convert(file: Path, folder: Path) -> dict[str, Any]:
    """Write model and tokenizer of `file` into `folder`; returns facts for the manifest."""
    import torch
    import transformers

    quantization, adds_begin_token = _header(file)
    # Releases that can keep GGUF weights packed have this class; older ones always dequantise.
    packed_config = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packed_config(dequantize=True)} if packed_config else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, **options
        )
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{file}: transformers cannot read this GGUF file ({error})") from error
    model = model.to(torch.bfloat16)
    # save_pretrained refuses a model that still says it is quantised; after dequantising it isn't.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    _check_tokenizer(file, folder, tokenizer, adds_begin_token)
    return {"weights": f"{quantization}, dequantised to bfloat16", "source": file.name}


def _header(file: Path) -> tuple[str, bool | None]:
    """The file's quantisation, such as `Q4_1`, and whether its tokenizer adds a begin token."""
    from gguf import GGUFReader, LlamaFileType

    try:
        fields = GGUFReader(file).fields
    except (ValueError, OSError, IndexError) as error:
        raise ModelError(f"{file}: not a readable GGUF file ({error})") from error
    file_type = fields.get("general.file_type")
    adds = fields.get("tokenizer.ggml.add_bos_token")
    name = LlamaFileType(file_type.contents()).name if file_type else "GGUF of unknown type"
    return name.removeprefix("MOSTLY_").removeprefix("ALL_"), bool(
        adds.contents()
    ) if adds else None


def _check_tokenizer(
    file: Path, folder: Path, original: Any, adds_begin_token: bool | None
) -> None:
    """Compare the saved tokenizer with the one read from the file, on a text that shows faults."""
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(folder)
    ids = saved(PROBE_TEXT).input_ids
    if ids != original(PROBE_TEXT).input_ids:
        raise ModelError(f"{file}: the tokenizer changes when saved and opened again")
    begins = bool(ids) and ids[0] == saved.bos_token_id
    if adds_begin_token is not None and begins != adds_begin_token:
        found, wanted = ("adds", "should not") if begins else ("does not add", "should")
        raise ModelError(
            f"{file}: the converted tokenizer {found} a begin token, though the file says it"
            f" {wanted}; give a safetensors folder of this model"
        )
    text = saved.decode(saved(PROBE_TEXT, add_special_tokens=False).input_ids)
    if text != PROBE_TEXT:
        raise ModelError(f"{file}: the converted tokenizer turns {PROBE_TEXT!r} into {text!r}")
