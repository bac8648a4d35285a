"""A transplanted model as a folder that plain transformers opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suite.errors import ModelError
from suite.models.gguf import PROBE_TEXT
from suite.text.tokenizers import OpenedTokenizer


def save_folder(folder: Path, model: Any, new: OpenedTokenizer) -> None:
    """Write model and tokenizer, and check that the tokenizer is the same when opened again.

    Args:
        folder: Empty.
        model: After its surgery.
        new: Its new tokenizer.

    Raises:
        ModelError: transformers opens another tokenizer beside this kind of model.
    """
    model.save_pretrained(folder)
    new.hf.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    _check_tokenizer(folder, model, new)


def _check_tokenizer(folder: Path, model: Any, new: OpenedTokenizer) -> None:
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder)
    found, wanted = _parts(opened), _parts(new.hf)
    # How a text is split is of no concern where every byte is a token.
    parts_differ = found != wanted and not new.is_byte_level
    if parts_differ or opened(PROBE_TEXT).input_ids != new.hf(PROBE_TEXT).input_ids:
        kind = model.config.model_type
        raise ModelError(
            f"transformers opens every tokenizer beside a {kind} model as {type(opened).__name__},"
            f" which splits text in its own way and not as {new.name}; choose another model, or a"
            f" tokenizer of {kind} models"
        )


def _parts(hf: Any) -> list[Any]:
    state = json.loads(hf.backend_tokenizer.to_str())
    return [state[key] for key in ("normalizer", "pre_tokenizer", "post_processor")]
