"""From a model in memory, or the arguments lm-eval passes on, to a member of the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from suite.config import Config, parse_config
from suite.engine.members import Member
from suite.engine.ngram_member import open_member
from suite.engine.texts import MemberText, open_text
from suite.errors import ConfigError, TextError
from suite.harness.contract import EngineOptions
from suite.harness.generation_kwargs import in_bytes, is_nearly_bytes
from suite.harness.protocol import PAPER_MAX_LENGTH, Protocol
from suite.likelihood.heads import num_entries
from suite.models.entry import ModelConfig
from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from suite.models.loading import LoadedModel, Placement, load_model, place
from suite.models.resolve import resolve
from suite.models.sources import FOLDER_KINDS
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.text.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model ready to be scored.

    Attributes:
        member: The model in the engine.
        text: Its tokenizer.
        tokenizer: The bytes of its entries, and how it reads a text; None if they cannot be told.
        chat_options: What its chat template is given beside the messages.
        facts: What goes into the results file: fingerprints, dtype, where it came from.
    """

    member: Member
    text: MemberText
    tokenizer: OpenedTokenizer | None
    chat_options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The bytes of its entries; None if they cannot be told."""
        return None if self.tokenizer is None else self.tokenizer.vocabulary

    @property
    def counts_bytes(self) -> bool:
        """Whether its tokens are bytes, but for a few."""
        return self.vocabulary is not None and is_nearly_bytes(self.vocabulary)

    def bytes_of(self, ids: Sequence[int]) -> bytes:
        """What tokens stand for; nothing if it cannot be told."""
        vocabulary = self.vocabulary
        return b"" if vocabulary is None else b"".join(vocabulary.token_bytes[i] for i in ids)


def open_model(
    loaded: LoadedModel,
    *,
    name: str,
    max_length: int | None = None,
    protocol: Protocol = "lm-eval",
    enable_thinking: bool | None = None,
    facts: Mapping[str, Any] | None = None,
) -> OpenedModel:
    """Put a loaded model into the engine.

    Args:
        loaded: Model and tokenizer.
        name: What messages and results call it.
        max_length: Tokens of one text that it reads; None for what its configuration says.
        protocol: The paper's reads 2,048 subword tokens at most, or as many bytes as they have.
        enable_thinking: Given to its chat template, if not None.
        facts: For the results file.

    Raises:
        ModelError: The engine cannot run it.
        TextError: Its tokenizer has neither begin nor end token.
    """
    model, hf = loaded.model, loaded.tokenizer
    tokenizer = _tokenizer(hf, name)
    counts_bytes = tokenizer is not None and is_nearly_bytes(tokenizer.vocabulary)
    if protocol == "paper" and not counts_bytes:
        max_length = min(max_length or PAPER_MAX_LENGTH, PAPER_MAX_LENGTH)
    size, dead = None, None
    if tokenizer is not None:
        vocabulary = tokenizer.vocabulary
        size = num_entries(vocabulary, model, name=name)
        dead = torch.from_numpy(vocabulary.is_dead[:size])
    member = open_member(model, name=name, num_entries=size, dead=dead, max_length=max_length)
    if protocol == "paper" and counts_bytes:
        # So many bytes may be more than the model reads.
        member.max_length = min(member.max_length, in_bytes(PAPER_MAX_LENGTH))
    chat_options = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    return OpenedModel(
        member, open_text(hf, model, name=name), tokenizer, chat_options, facts or {}
    )


def open_entry(entry: ModelConfig, protocol: Protocol) -> OpenedModel:
    """Find, load and open a model as a recipe or an ensemble's YAML names it.

    Raises:
        SuiteError: It cannot be had or run.
    """
    resolved = resolve(entry)
    placement = own_placement(place(entry, resolved))
    facts = {
        "name": entry.name,
        "source": str(entry.source),
        "weights": weights_fingerprint(resolved.folder),
        "tokenizer": tokenizer_fingerprint(resolved.tokenizer_folder),
        "dtype": placement.dtype,
        "device": placement.device,
    }
    return open_model(
        load_model(entry, resolved, placement),
        name=entry.name,
        max_length=entry.max_length,
        protocol=protocol,
        enable_thinking=entry.chat.enable_thinking,
        facts=facts,
    )


def own_device(given: str) -> str:
    """The device that lm-eval's `--device` names, but of several processes each has its own GPU.

    `cuda:0` is what lm-eval's command gives where nobody asked for a device.
    """
    if given == "cuda:0" and not torch.cuda.is_available():
        return "auto"
    return given.partition(":")[0] if "LOCAL_RANK" in os.environ else given


def own_placement(placement: Placement) -> Placement:
    """The placement on this process's own GPU, where several processes share an evaluation."""
    if placement.device != "cuda" or "LOCAL_RANK" not in os.environ:
        return placement
    own = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(own)
    return Placement(own, placement.dtype)


class Arguments(Config):
    """What every backend of ours takes through lm-eval's `--model_args` and its other options.

    lm-eval gives `batch_size`, `max_batch_size` and `device` as well: `auto` batch sizes are the
    default, because memory is a matter of `token_budget`.
    """

    batch_size: int | str = "auto"
    max_batch_size: int | str | None = None
    device: str | None = None
    protocol: Protocol = "lm-eval"
    token_budget: int | None = None
    enable_thinking: bool | None = None
    strip_reasoning: str | int | None = None

    def options(self) -> EngineOptions:
        """The part that does not say which model it is.

        Raises:
            ConfigError: `batch_size` is no number.
        """
        return EngineOptions(
            batch_size=_batch_size(self.batch_size),
            token_budget=self.token_budget,
            protocol=self.protocol,
            enable_thinking=self.enable_thinking,
            strip_reasoning=self.strip_reasoning,
        )


class ModelArguments(Arguments):
    """One model: a folder or a name of the hub (`path` or `pretrained`), or both parts in memory.

    `pretrained` may also be `package:NAME` or another source, as in a recipe.
    """

    path: str | None = None
    pretrained: Any = None
    tokenizer: Any = None
    name: str | None = None
    revision: str | None = None
    adapter: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_length: int | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False


def open_arguments(arguments: Mapping[str, Any]) -> tuple[OpenedModel, EngineOptions]:
    """Open the model that lm-eval's arguments name.

    Raises:
        SuiteError: An argument is unknown or wrong, or the model cannot be had.
    """
    given = parse_config(ModelArguments, dict(arguments), "model_args")
    options = given.options()
    if (given.path is None) == (given.pretrained is None):
        raise ConfigError("model_args: give either path or pretrained, a folder or a hub name")
    source = given.pretrained if given.path is None else given.path
    if not isinstance(source, str | Path):
        loaded = LoadedModel(source, given.tokenizer)
        name = given.name or str(source.name_or_path or type(source).__name__)
        thinking = given.enable_thinking
        opened = open_model(
            loaded,
            name=name,
            max_length=given.max_length,
            protocol=given.protocol,
            enable_thinking=thinking,
        )
        return opened, options
    return open_entry(_entry(str(source), given), given.protocol), options


def _entry(source: str, given: ModelArguments) -> ModelConfig:
    """The arguments as a recipe would write them."""
    keys = ("revision", "adapter", "tokenizer", "max_length", "attn_implementation")
    data: dict[str, Any] = {key: getattr(given, key) for key in keys if getattr(given, key)}
    data |= {"dtype": given.dtype, "trust_remote_code": given.trust_remote_code}
    data["name"] = given.name or Path(source).name
    data["source"] = _source(source)
    if given.device is not None:
        data["device"] = own_device(given.device)
    if given.enable_thinking is not None:
        data["chat"] = {"template": True, "enable_thinking": given.enable_thinking}
    return parse_config(ModelConfig, data, "model_args")


def _source(text: str) -> dict[str, str] | str:
    """A folder, a source as in a recipe, or a name of the hub."""
    if text.partition(":")[0] in FOLDER_KINDS and ":" in text:
        return text
    return {"path": str(Path(text).absolute())} if Path(text).is_dir() else {"hub": text}


def _batch_size(given: int | str) -> int:
    text = str(given)
    if text.partition(":")[0] == "auto":
        return EngineOptions.batch_size
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"model_args: batch_size is {text!r}, expected auto or a number above 0")
    return int(text)


def _tokenizer(hf: Any, name: str) -> OpenedTokenizer | None:
    """A tokenizer with the bytes of its entries, unless it loses text; then all rows count."""
    try:
        return open_tokenizer(hf, name=name)
    except TextError:
        return None
