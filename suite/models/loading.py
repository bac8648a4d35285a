"""From resolved folders to a model in memory, ready to score."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

from suite.errors import ModelError
from suite.models.entry import ModelConfig
from suite.models.pretrained import load_complete, load_tokenizer
from suite.models.resolve import ResolvedModel


@dataclass(frozen=True)
class LoadedModel:
    """A transformers model and tokenizer, on their device."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class Placement:
    """Where and in which dtype a model runs."""

    device: str
    dtype: str


def place(entry: ModelConfig, resolved: ResolvedModel) -> Placement:
    """The device and dtype an entry will run with on this machine.

    Raises:
        ModelError: The wanted device is not available.
    """
    device = pick_device(entry.device)
    return Placement(device, pick_dtype(entry.dtype, resolved.stored_dtype, device))


def pick_device(wanted: str) -> str:
    """The device type for `auto`, or the wanted device after a check that it is there.

    Raises:
        ModelError: The wanted device is not available.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(device for device, there in available.items() if there)
    kind, _, number = wanted.partition(":")
    num_devices = torch.cuda.device_count() if number else 0
    if not available[kind] or (number and int(number) >= num_devices):
        gpus = [f"cuda:{n}" for n in range(num_devices)] if available["cuda"] else []
        *others, last = [*gpus, *(device for device, there in available.items() if there)]
        here = f"{', '.join(others)} or {last}" if others else last
        raise ModelError(
            f"device {wanted} is not available on this machine; give --device or device: {here}"
        )
    return wanted


def pick_dtype(wanted: str, stored: str, device: str) -> str:
    """The dtype to run in: for `auto` the stored one, but float32 where bfloat16 would be slow."""
    if wanted != "auto":
        return wanted
    known = stored if stored in ("float32", "bfloat16", "float16") else "bfloat16"
    if device == "cpu" and known != "float32" and not cpu_is_fast_at_bfloat16():
        return "float32"
    return "bfloat16" if device == "cpu" and known == "float16" else known


def cpu_is_fast_at_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX, or ARM bf16)."""
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def load_model(entry: ModelConfig, resolved: ResolvedModel, placement: Placement) -> LoadedModel:
    """Load model and tokenizer of an entry.

    Raises:
        ModelError: transformers cannot load them, or an optional package is missing.
    """
    import torch

    options = _options(entry) | {"dtype": getattr(torch, placement.dtype)}
    where = f"model '{entry.name}'"
    try:
        model, tokenizer = _open_folder(entry, resolved, options)
        if resolved.adapter_folder is not None:
            model = _with_adapter(model, resolved)
        if entry.device_map is None and not getattr(model, "is_quantized", False):
            model = model.to(placement.device)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"{where}: {resolved.folder} cannot be loaded ({first_line})") from error
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    return LoadedModel(model.eval(), tokenizer)


def _open_folder(
    entry: ModelConfig, resolved: ResolvedModel, options: dict[str, Any]
) -> tuple[Any, Any]:
    """Model and tokenizer, by the format that the model's folder is in."""
    # They load torch, and plans are made without it.
    from suite.models.authors_checkpoint import is_authors_folder, load_authors_model
    from suite.models.ngram_folder import is_ngram_folder, load_ngram_model

    folder, trust = resolved.folder, entry.trust_remote_code
    tokenizer = load_tokenizer(resolved.tokenizer_folder, trust_remote_code=trust)
    if is_ngram_folder(folder):
        return load_ngram_model(folder, **options), tokenizer
    if is_authors_folder(folder):
        return load_authors_model(folder, tokenizer, **options)
    return load_complete(folder, trust_remote_code=trust, **options), tokenizer


def _options(entry: ModelConfig) -> dict[str, Any]:
    """The keyword arguments of from_pretrained that an entry asks for."""
    options: dict[str, Any] = {}
    if entry.device_map is not None:
        options["device_map"] = entry.device_map
    if entry.attn_implementation is not None:
        options["attn_implementation"] = entry.attn_implementation
    if entry.quantization is not None:
        from transformers import BitsAndBytesConfig

        bits = entry.quantization.removeprefix("bitsandbytes-")
        options["quantization_config"] = BitsAndBytesConfig(**{f"load_in_{bits}": True})
    return options


def _with_adapter(model: Any, resolved: ResolvedModel) -> Any:
    """The model with a peft adapter on it, not folded into the weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(resolved.adapter_folder))


def release_memory() -> None:
    """Give back what a dropped model held, before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
