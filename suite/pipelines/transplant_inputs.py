"""What a transplant reads: two tokenizers, the plan made of them, and the models' weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import ConfigError, ModelError
from suite.likelihood.heads import num_entries
from suite.models.entry import ModelConfig
from suite.models.loading import Placement, load_model
from suite.models.resolve import ResolvedModel, resolve, resolve_tokenizer
from suite.models.sources import Source, TransplantSource
from suite.models.tokenizers import open_source
from suite.text.bytelevel import byte_tokenizer
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.transplant.assembly import assemble
from suite.transplant.contract import DonorRows
from suite.transplant.vocabulary import (
    VocabularyPlan,
    plan_vocabulary,
    special_by_role,
    special_by_string,
)

_MAX_PASSAGE_BYTES = 2048


@dataclass(frozen=True, eq=False)
class TransplantInputs:
    """Everything but weights, opened and checked.

    Attributes:
        source: What was asked for.
        resolved: The model's folders.
        config: Its configuration, of transformers.
        old: Its tokenizer.
        new: The tokenizer it is to have.
        tokenizer_folder: Where the new regular tokens come from; None for bytes.
        donor: The model that owns them, for methods that need it.
        plan: What becomes of every id.
    """

    source: TransplantSource
    resolved: ResolvedModel
    config: Any
    old: OpenedTokenizer
    new: OpenedTokenizer
    tokenizer_folder: Path | None
    donor: ResolvedModel | None
    plan: VocabularyPlan

    @property
    def is_byte_student(self) -> bool:
        """Whether the new tokens are the bytes."""
        return self.tokenizer_folder is None


def open_inputs(source: TransplantSource) -> TransplantInputs:
    """Fetch what is needed and plan the new vocabulary; no weights are loaded.

    Raises:
        SuiteError: Something is missing or wrong; one sentence.
    """
    from transformers import AutoConfig

    resolved = resolve(_entry(source.model))
    old = open_source(str(source.model), "--model")
    config = AutoConfig.from_pretrained(resolved.folder)
    keep = _used_special(resolved.folder, config, old)
    donor, folder = None, None
    if isinstance(source.tokenizer, Source):
        folder = resolve_tokenizer(source.tokenizer)
        donor = _resolve_donor(source.tokenizer) if source.method == "omp" else None
        target = open_source(str(source.tokenizer), "--tokenizer")
        made = assemble(old, target, keep=keep) if source.special_tokens == "keep" else target.hf
    else:
        made = byte_tokenizer(old, keep=keep)
    new = open_tokenizer(made, name=str(source.tokenizer))
    keeps = source.special_tokens == "keep"
    num_old_rows = config.get_text_config().vocab_size
    plan = plan_vocabulary(
        old,
        new,
        special_by_string(old, new) if keeps else special_by_role(old, new),
        num_old_rows=num_old_rows,
    )
    if source.method == "omp" and len(plan.shared) < source.k:
        raise ConfigError(
            f"--k is {source.k}, but {source.model} and {source.tokenizer} share only"
            f" {len(plan.shared)} tokens; give a smaller --k, or --method fvt"
        )
    return TransplantInputs(source, resolved, config, old, new, folder, donor, plan)


def load_stored(inputs: TransplantInputs) -> Any:
    """The model on the processor, in the dtype its weights are stored in, at most float32.

    Raises:
        ModelError: It cannot be loaded, or has no rows for its regular tokens.
    """
    model = _load(inputs.source.model, inputs.resolved)
    num_entries(inputs.old.vocabulary, model, name=str(inputs.source.model))
    return model


def load_donor(inputs: TransplantInputs) -> DonorRows | None:
    """The embeddings of the model that owns the new tokens.

    Raises:
        ModelError: It cannot be loaded.
    """
    if inputs.donor is None or not isinstance(inputs.source.tokenizer, Source):
        return None
    model = _load(inputs.source.tokenizer, inputs.donor)
    given = model.get_input_embeddings().weight.detach()
    output = model.get_output_embeddings().weight.detach()
    return DonorRows(given, given if output.data_ptr() == given.data_ptr() else output)


def max_passage_bytes(inputs: TransplantInputs) -> int:
    """The longest passage that both models can read, whatever its tokens.

    A passage has at most one token a byte, a begin token and a dummy space.
    """
    num_positions = getattr(inputs.config.get_text_config(), "max_position_embeddings", None)
    return min(_MAX_PASSAGE_BYTES, (num_positions or _MAX_PASSAGE_BYTES) - 2)


def saved_dtype(resolved: ResolvedModel) -> str:
    """The dtype that a model is transplanted in: the stored one, at most float32."""
    stored = resolved.stored_dtype
    return stored if stored in ("bfloat16", "float16") else "float32"


def _entry(source: Source) -> ModelConfig:
    return ModelConfig(name=str(source)[:80], source=source)


def _resolve_donor(source: Source) -> ResolvedModel:
    try:
        return resolve(_entry(source))
    except ModelError as error:
        raise ModelError(
            f"omp needs the weights of the model that owns the tokenizer ({error}); give that"
            " model, or --method fvt"
        ) from error


def _load(source: Source, resolved: ResolvedModel) -> Any:
    placement = Placement("cpu", saved_dtype(resolved))
    return load_model(_entry(source), resolved, placement).model


def _used_special(folder: Path, config: Any, old: OpenedTokenizer) -> list[str]:
    """The special tokens that a model's settings name."""
    from transformers import GenerationConfig

    settings = [config, config.get_text_config()]
    if (folder / "generation_config.json").is_file():
        settings.append(GenerationConfig.from_pretrained(folder))
    values = [
        value for one in settings for key, value in vars(one).items() if key.endswith("_token_id")
    ]
    numbers = {n for value in values for n in (value if isinstance(value, list) else [value])}
    return [string for number, string in old.vocabulary.special.items() if number in numbers]
