"""One model of a recipe: where it comes from and how it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from suite.config import Config
from suite.models.sources import Source

PositiveInt = Annotated[int, Field(ge=1)]


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


class ModelConfig(Config):
    """A named model. `None` leaves the choice to the model's own files.

    `dtype: auto` is the dtype the weights are stored in, but float32 on a processor that is slow
    at bfloat16. `weights` replaces the description of the weights in tables.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    source: Source
    revision: str | None = None
    tokenizer: Path | str | None = None
    adapter: Path | str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    device_map: str | None = None
    quantization: Literal["bitsandbytes-8bit", "bitsandbytes-4bit"] | None = None
    attn_implementation: str | None = None
    max_length: PositiveInt | None = None
    batch_size: PositiveInt = 16
    chat: ChatConfig = ChatConfig()
    trust_remote_code: bool = False
    weights: str | None = None
