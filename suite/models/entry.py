"""One model of a recipe: where it comes from and how it is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from suite.config import Config, PositiveInt, expand_path
from suite.models.sources import Source


class ChatConfig(Config):
    """How prompts are wrapped in the model's chat template (not at all by default).

    `template` is True for the tokenizer's own, or the name of one of its named templates.
    `strip_reasoning` is the string or token id that ends the model's reasoning; only what follows
    it is scored.
    """

    template: bool | str = False
    system_prompt: str | None = None
    fewshot_as_multiturn: bool = False
    enable_thinking: bool | None = None
    strip_reasoning: str | int | None = None

    @model_validator(mode="after")
    def _needs_a_template(self) -> ChatConfig:
        names = ("system_prompt", "fewshot_as_multiturn", "enable_thinking")
        unused = [name for name in names if getattr(self, name)]
        if unused and not self.template:
            raise ValueError(f"{unused[0]} has no effect without template; set template: true")
        return self


def _check_device(device: str) -> str:
    if not _DEVICE.fullmatch(device):
        raise ValueError(f"{device!r} is no device; give auto, cpu, cuda, cuda:N or mps")
    return device


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
# Where a model runs: `cuda` is the first GPU, or this process's own.
Device = Annotated[str, AfterValidator(_check_device)]

# Which tasks of a recipe a row is scored on: all, those without generation, or those named.
TaskFilter = Literal["all", "likelihood"] | tuple[str, ...]


# Settings that a backend of lm-eval takes through its own arguments, if at all.
_OURS = frozenset(
    {
        "revision",
        "tokenizer",
        "adapter",
        "dtype",
        "device",
        "device_map",
        "quantization",
        "attn_implementation",
        "max_length",
        "token_budget",
        "trust_remote_code",
    }
)


class ModelConfig(Config):
    """A named model. `None` leaves the choice to the model's own files.

    `dtype: auto` is the dtype the weights are stored in, but float32 on a processor that is slow
    at bfloat16. `batch_size` is the number of texts generated at once (of all requests at once with
    `backend: hf`), `token_budget` the positions that a forward pass of the engine may hold, by
    default what the device suggests. `tasks` are those the model is scored on. `weights` replaces
    the description of the weights in tables.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    source: Source
    revision: str | None = None
    tokenizer: Path | str | None = None
    adapter: Path | str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Device = "auto"
    device_map: str | None = None
    quantization: Literal["bitsandbytes-8bit", "bitsandbytes-4bit"] | None = None
    attn_implementation: str | None = None
    max_length: PositiveInt | None = None
    batch_size: PositiveInt = 16
    token_budget: PositiveInt | None = None
    tasks: TaskFilter = "all"
    chat: ChatConfig = ChatConfig()
    trust_remote_code: bool = False
    weights: str | None = None

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> ModelConfig:
        unused = sorted(self.model_fields_set & _OURS)
        if self.source.lm_eval is not None and unused:
            raise ValueError(
                f"{', '.join(unused)}: no effect on an lm_eval source; put it into its args"
            )
        if self.revision is not None and self.source.hub is None:
            raise ValueError(f"revision: no effect on a {self.source.kind} source; leave it out")
        return self


def absolute_model(model: ModelConfig, base: Path) -> ModelConfig:
    """The entry with every path absolute, relative ones taken from `base`."""
    changes: dict[str, Any] = {"source": _absolute_source(model.source, base)}
    # An adapter or tokenizer may also be a hub name, so only an existing folder becomes a path.
    for key in ("tokenizer", "adapter"):
        place = getattr(model, key)
        if place is not None and expand_path(Path(place), base).is_dir():
            changes[key] = expand_path(Path(place), base)
    return model.model_copy(update=changes)


def _absolute_source(source: Source, base: Path) -> Source:
    changes: dict[str, Any] = {}
    for kind in ("path", "gguf"):
        place = getattr(source, kind)
        if place is not None:
            changes[kind] = expand_path(place, base)
    parts = source.transplant
    if parts is not None:
        owner = parts.tokenizer
        absolute = {
            "model": _absolute_source(parts.model, base),
            "tokenizer": owner if isinstance(owner, str) else _absolute_source(owner, base),
        }
        changes["transplant"] = parts.model_copy(update=absolute)
    return source.model_copy(update=changes)
