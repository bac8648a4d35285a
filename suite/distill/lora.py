"""Low-rank adapters on a model whose own weights stay as they are (LoRA, arXiv 2106.09685).

After a transplant the embedding and the head are new and are trained in full beside the adapters.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from suite.config import Config, PositiveInt
from suite.errors import ModelError
from suite.models.trunk import trunk_of

_ADAPTER_FILE = "adapter_model.safetensors"
_ENDS_FILE = "ends.safetensors"


class LoraConfig(Config):
    """Adapters on the linear layers of all transformer blocks.

    Attributes:
        rank: Of each pair of matrices.
        alpha: What the pair adds is multiplied by `alpha / rank`.
        dropout: Share of an adapter's inputs that is dropped in training.
    """

    rank: PositiveInt = 64
    alpha: PositiveInt = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


def add_adapters(model: Any, config: LoraConfig, *, trains_ends: bool) -> Any:
    """Freeze a model and put adapters on it, in place.

    Every linear layer of the transformer blocks gets one: in Llama, Gemma, Qwen and their like q,
    k, v, o, gate, up and down. They change nothing until they are trained; their first matrices are
    drawn from PyTorch's random numbers. What is trained is held in float32.

    Args:
        model: A causal language model of transformers.
        config: Rank and scale.
        trains_ends: Train embedding and head in full; tied ones stay tied.

    Returns:
        The model wrapped by peft; `trunk_of` and `head_of` read it as any other.

    Raises:
        ModelError: It has no such layers, or layers in another dtype than its trained ends.
    """
    import peft

    layers = _linear_layers(model)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=sorted(layers),
        fan_in_fan_out=not any(isinstance(layer, nn.Linear) for layer in layers.values()),
        task_type=peft.TaskType.CAUSAL_LM,
    )
    if trains_ends:
        _check_float32(model)
    adapted = _wrapped(model, settings)
    if trains_ends:
        _train_ends(adapted)
    return adapted


def save_adapter(model: Any, folder: Path, *, gathered: Mapping[str, Tensor] | None = None) -> None:
    """Write adapters as peft does, and beside them embedding and head if these are trained.

    Args:
        model: From `add_adapters`, or from `load_adapter` to be trained on.
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
        _save({key: state[names[id(ends[key])]] for key in ends}, folder / _ENDS_FILE)


def load_adapter(base: Any, folder: Path, *, trainable: bool) -> Any:
    """Put saved adapters on the model they were trained on, in place.

    Embedding and head follow if they were saved, in the model's dtype.

    Args:
        base: The model as it was when `add_adapters` got it.
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
    try:
        adapted = _wrapped(base, settings)
    except ValueError as error:  # None of the named layers is there.
        raise _misfit(folder, base) from error
    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    _check_fit(tensors, expected, folder, base)
    peft.set_peft_model_state_dict(adapted, tensors)
    if (folder / _ENDS_FILE).is_file():
        saved, ends = load_file(folder / _ENDS_FILE), _ends(adapted)
        _check_fit(saved, ends, folder, base)
        if trainable:
            _check_float32(base)
            _train_ends(adapted)
        with torch.no_grad():
            for key, weight in ends.items():
                weight.copy_(saved[key])
    return adapted


def fold(model: Any) -> Any:
    """Add what the adapters do to the weights, in place.

    Args:
        model: From `add_adapters` or `load_adapter`.

    Returns:
        The plain transformers model.
    """
    return model.merge_and_unload()


def _linear_layers(model: Any) -> dict[str, nn.Module]:
    """The linear layers of a model's transformer blocks, by name."""
    from transformers.pytorch_utils import Conv1D

    stacks = [child for child in trunk_of(model).children() if isinstance(child, nn.ModuleList)]
    inside = {id(module) for stack in stacks for module in stack.modules()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    }
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no transformer blocks with linear layers that adapters"
            " could be put on; set train to full"
        )
    return layers


def _wrapped(model: Any, settings: Any) -> Any:
    import peft

    with warnings.catch_warnings():
        # peft asks transformers for an attribute that transformers renamed.
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")
        return peft.get_peft_model(model, settings)


def _ends(model: Any) -> dict[str, nn.Parameter]:
    """Parameters of embedding and head, each once."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    ends = {"embedding.weight": embedding.weight}
    if head.weight is not embedding.weight:
        ends["head.weight"] = head.weight
    if getattr(head, "bias", None) is not None:
        ends["head.bias"] = head.bias
    return ends


def _train_ends(model: Any) -> None:
    for weight in _ends(model).values():
        weight.requires_grad_(True)


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
