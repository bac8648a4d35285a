"""Low-rank adapters on a model (LoRA, arXiv 2106.09685): put on, written and read.

peft's own files; embedding and head are in one more where they were trained beside the adapters.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from suite.errors import ModelError
from suite.models.checkpoint_folder import ENDS_FILE
from suite.models.pretrained import load_complete

_ADAPTER_FILE = "adapter_model.safetensors"


def put_on(model: Any, settings: Any) -> Any:
    """Freeze a model and put fresh adapters on it, in place; they change nothing yet.

    Args:
        model: A causal language model of transformers.
        settings: peft's `LoraConfig`.

    Returns:
        The model wrapped by peft.

    Raises:
        ValueError: The model has none of the layers that are named.
    """
    import peft

    with warnings.catch_warnings():
        # peft asks transformers for an attribute that transformers renamed.
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")
        return peft.get_peft_model(model, settings)


def train_ends(adapted: Any) -> None:
    """Have embedding and head of an adapted model trained in full; tied ones stay tied.

    Raises:
        ModelError: Other weights are not in float32.
    """
    _check_float32(adapted.get_base_model())
    for weight in _ends(adapted).values():
        weight.requires_grad_(True)


def save_adapter(model: Any, folder: Path, *, gathered: Mapping[str, Tensor] | None = None) -> None:
    """Write adapters as peft does, and beside them embedding and head if these are trained.

    Args:
        model: From `put_on`, or from `load_adapter` to be trained on.
        folder: Created if it is missing.
        gathered: Weights by name as of `model.state_dict()`, where the model's own are in parts;
            None for the model's own.
    """
    import peft

    folder.mkdir(parents=True, exist_ok=True)
    state = dict(model.state_dict() if gathered is None else gathered)
    name = model.active_adapter
    # Embeddings are a matter of the other file; left to itself, peft asks the hub about them.
    tensors = peft.get_peft_model_state_dict(
        model, state_dict=state, adapter_name=name, save_embedding_layers=False
    )
    _save(tensors, folder / _ADAPTER_FILE)
    settings = copy.copy(model.peft_config[name])
    # A set, whose order is another in each process: the same run writes the same file.
    settings.target_modules = sorted(settings.target_modules)
    settings.save_pretrained(str(folder))
    ends = _ends(model)
    if ends["embedding.weight"].requires_grad:
        names = {id(weight): key for key, weight in model.named_parameters()}
        _save({key: state[names[id(ends[key])]] for key in ends}, folder / ENDS_FILE)


def load_adapter(base: Any, folder: Path, *, trainable: bool) -> Any:
    """Put saved adapters on the model they were trained on, in place.

    Embedding and head follow if they were saved, in the model's dtype.

    Args:
        base: The model as it was when `put_on` got it.
        folder: Written by `save_adapter`.
        trainable: Whether training goes on; otherwise everything is frozen.

    Returns:
        The model wrapped by peft, equal to the last bit to the one that was saved.

    Raises:
        ModelError: The adapters are another model's.
    """
    import peft

    tensors = load_file(folder / _ADAPTER_FILE)
    settings = peft.PeftConfig.from_pretrained(str(folder))
    settings.inference_mode = not trainable
    # Where the model was: peft would warn of one that was moved since.
    settings.base_model_name_or_path = None
    try:
        adapted = put_on(base, settings)
    except ValueError as error:  # None of the named layers is there.
        raise _misfit(folder, base) from error
    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    _check_fit(tensors, expected, folder, base)
    peft.set_peft_model_state_dict(adapted, tensors)
    if (folder / ENDS_FILE).is_file():
        saved, ends = load_file(folder / ENDS_FILE), _ends(adapted)
        _check_fit(saved, ends, folder, base)
        if trainable:
            train_ends(adapted)
        with torch.no_grad():
            for key, weight in ends.items():
                weight.copy_(saved[key])
    return adapted


def load_adapted(base: Path, adapter: Path) -> Any:
    """A saved model on the processor in float32, with its adapters beside the weights.

    Args:
        base: The model's folder.
        adapter: Written by `save_adapter`.

    Returns:
        It wrapped by peft, frozen and in evaluation mode.

    Raises:
        ModelError: One of the folders cannot be read, or the two do not fit.
    """
    try:
        model = load_complete(base, dtype=torch.float32)
        return load_adapter(model, adapter, trainable=False).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(
            f"adapter {adapter} cannot be put on {base} ({reason}); copy both folders again"
        ) from error


def _ends(model: Any) -> dict[str, nn.Parameter]:
    """Parameters of embedding and head, each once."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    ends = {"embedding.weight": embedding.weight}
    if head.weight is not embedding.weight:
        ends["head.weight"] = head.weight
    if getattr(head, "bias", None) is not None:
        ends["head.bias"] = head.bias
    return ends


def _check_float32(model: Any) -> None:
    """Ends in float32 give states in float32, which layers of another dtype do not take."""
    dtypes = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    others = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes - {torch.float32})
    if others:
        raise ModelError(
            f"{type(model).__name__} is in {others[0]}, but its new embedding and head are trained"
            " in float32 and need the layers between them in float32, too; load it with dtype:"
            " float32"
        )


def _check_fit(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path, base: Any
) -> None:
    if {key: value.shape for key, value in found.items()} != {
        key: value.shape for key, value in expected.items()
    }:
        raise _misfit(folder, base)


def _misfit(folder: Path, base: Any) -> ModelError:
    return ModelError(
        f"{folder}: these adapters were not trained on this {type(base).__name__}, whose layers or"
        " vocabulary are others; give the model they were trained on"
    )


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})
