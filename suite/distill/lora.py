"""What is trained of a model whose own weights stay as they are: adapters (LoRA, arXiv 2106.09685).

After a transplant the embedding and the head are new and are trained in full beside the adapters.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import nn

from suite.config import Config, PositiveInt
from suite.errors import ModelError
from suite.models.adapters import put_on, train_ends
from suite.models.trunk import trunk_of


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
    adapted = put_on(model, settings)
    if trains_ends:
        train_ends(adapted)
    return adapted


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
