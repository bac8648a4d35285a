"""Model folders into models and tokenizers of transformers, nothing missing."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any


def load_complete(folder: Path, **options: Any) -> Any:
    """As `AutoModelForCausalLM.from_pretrained`, from safetensors alone.

    Args:
        folder: With weights, and a `config.json` unless `options` hold a `config`.
        options: Of `from_pretrained`.

    Raises:
        ValueError: Weights are missing.
    """
    from transformers import AutoModelForCausalLM

    _hide_bars()
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, **options
    )
    _check_complete(report["missing_keys"])
    return model


def _hide_bars() -> None:
    """Switch off transformers' own bars, of loading and of saving later; downloads keep theirs."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    are_off = are_progress_bars_disabled()
    logging.disable_progress_bar()
    if not are_off:
        enable_progress_bars()


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """As `AutoTokenizer.from_pretrained`, also beside a model that transformers does not know.

    Args:
        folder: With a tokenizer.
        trust_remote_code: Whether code of the folder may run.

    Raises:
        ValueError: Its class is not known.
        OSError: Files are missing.
    """
    from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedConfig

    kind = read_config(folder).get("model_type")
    is_known = kind is None or kind in CONFIG_MAPPING or trust_remote_code
    # transformers takes settings of an unknown model for its own, and may fail over them.
    options = {} if is_known else {"config": PreTrainedConfig()}
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **options)


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`; empty where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _check_complete(missing: Collection[str]) -> None:
    """Refuse weights with holes: transformers fills them with random numbers and a warning."""
    if missing:
        first = min(missing)
        raise ValueError(f"{len(missing)} of its weights are missing, the first is {first}")
