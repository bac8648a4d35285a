"""A training recipe: which models, which text, which losses, and how long.

The settings of the parts are beside the parts; here they are joined, and what does not go together
is refused before anything is loaded.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from suite.align.cut import PackConfig
from suite.config import Config, ConfigT, PositiveInt, parse_config, read_yaml
from suite.distill.lora import LoraConfig
from suite.distill.losses.contract import LossConfig
from suite.distill.losses.registry import LOSSES, parse_losses
from suite.distill.samples import SamplesConfig
from suite.distill.settings import CheckpointConfig, TrainConfig
from suite.errors import ConfigError, near_names
from suite.models.entry import ModelConfig
from suite.models.sources import FOLDER_KINDS, Source, TransplantSource
from suite.pipelines.packaged_recipes import packaged_names, packaged_recipe, refuse_other_command
from suite.pipelines.training_overrides import NO_OVERRIDES, Overrides, absolute_paths, overridden
from suite.pipelines.training_recipe_parts import EvaluationConfig, TransplantConfig
from suite.text.corpus import CorpusConfig

Kind = Literal["transfer", "distill"]
_KINDS: tuple[Kind, ...] = ("transfer", "distill")

# Stands for a model that the first stage makes, where only the rest of a transplant is checked.
_LATER = Source(random="tiny")

_LossEntry = Annotated[
    SerializeAsAny[LossConfig],
    WithJsonSchema({"anyOf": [kind.model_json_schema() for kind in LOSSES.values()]}),
]


# What changes a model beside its source; a student is made of the source alone.
_NOT_THE_STUDENTS = ("tokenizer", "adapter", "quantization", "device_map", "trust_remote_code")

NO_TEXT = "no text to train on; give data with a hub name or a path, or --data PATH"
_UNUSED_CACHE = "teacher_cache: no loss needs a teacher; leave it out or add a loss such as alm"


class TrainingRecipe(Config):
    """What both kinds of training have. Relative paths in a recipe file start at its folder.

    In a recipe file, `passage_bytes` beside the `hub` of `data` holds for text files that are given
    in its place (`--data`).

    Attributes:
        title: For reports and the model card.
        data: The text; either this or `teacher_samples`.
        teacher_samples: Text that the teacher writes itself.
        pack: How documents fill rows.
        teacher_cache: A stored teacher, by `suite cache-teacher`.
        losses: What is minimised.
        train: All weights, or low-rank adapters beside them.
        lora: The adapters.
        training: Steps, optimiser, precision.
        checkpoints: When the run is saved.
        evaluation: What is measured on the way.
        first_stage: A distillation that makes the model (of a transfer) or the teacher (of a
            distillation).
        notes: Go into the model card as they are.
    """

    title: str
    data: CorpusConfig | None = None
    teacher_samples: SamplesConfig | None = None
    pack: PackConfig = PackConfig()
    teacher_cache: Path | None = None
    losses: Annotated[tuple[_LossEntry, ...], Field(min_length=1)]
    train: Literal["full", "lora"] = "full"
    lora: LoraConfig | None = Field(default=None, validate_default=True)
    training: TrainConfig
    checkpoints: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    first_stage: DistillRecipe | None = None
    notes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _text_has_a_place(cls, data: Any) -> Any:
        text = data.get("data") if isinstance(data, dict) else None
        if isinstance(text, dict) and not {"path", "hub", "packaged"} & set(text):
            raise ValueError(NO_TEXT)
        return data

    @model_validator(mode="before")
    @classmethod
    def _losses_by_name(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "losses" not in data:
            return data
        losses = data["losses"]
        if isinstance(losses, tuple | list) and any(isinstance(x, LossConfig) for x in losses):
            return data
        is_stored = data.get("teacher_cache") is not None
        try:
            return data | {"losses": parse_losses(losses, "here", teacher_is_stored=is_stored)}
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("here: ")) from error

    @field_validator("lora")
    @classmethod
    def _filled_in(cls, given: LoraConfig | None, info: ValidationInfo) -> LoraConfig | None:
        if info.data.get("train") == "lora":
            return given or LoraConfig()
        if given is not None:
            raise ValueError("no effect with train: full; leave it out or set train: lora")
        return None

    @model_validator(mode="after")
    def _text_fits(self) -> TrainingRecipe:
        if self.data is not None and self.teacher_samples is not None:
            raise ValueError("expected exactly one of data, teacher_samples, found both")
        if self.data is None and self.teacher_samples is None:
            raise ValueError(NO_TEXT)
        if self.data is not None and self.data.streaming and self.training.epochs is not None:
            raise ValueError(
                "training.epochs needs data that can be counted, and data.streaming is true; give"
                " training.steps instead"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_used(self) -> TrainingRecipe:
        for number, loss in enumerate(self.losses):
            if self.training.balance == "gradmag" and loss.weight is not None:
                raise ValueError(
                    f"losses[{number}].weight has no effect with balance: gradmag, which weighs"
                    " losses by their gradients; leave it out or set balance: fixed"
                )
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether a loss reads a teacher."""
        return any(loss.needs.teacher for loss in self.losses)


class TransferRecipe(TrainingRecipe):
    """Another tokenizer for a model: it teaches itself.

    Attributes:
        kind: `transfer`.
        model: The model; None where `first_stage` makes it.
        target_tokenizer: The model that owns the new tokenizer, or `bytes`.
        transplant: How the new embeddings begin.
        untie_embeddings: Give input and output embeddings weights of their own; by default for
            bytes only.
        ngram_embeddings: Add to each byte the old embedding of the longest old token that ends
            there.
        sliding_window: A byte student's window in bytes, where its model counts one in tokens.
    """

    kind: Literal["transfer"]
    model: ModelConfig | None = None
    target_tokenizer: Source | Literal["bytes"]
    transplant: TransplantConfig = TransplantConfig()
    untie_embeddings: bool | None = Field(default=None, validate_default=True)
    ngram_embeddings: bool = False
    sliding_window: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _tokenizer_is_a_source(cls, data: Any) -> Any:
        given = data.get("target_tokenizer") if isinstance(data, dict) else None
        kind, _, value = given.partition(":") if isinstance(given, str) else ("", "", "")
        if isinstance(given, str) and given != "bytes" and not (kind in FOLDER_KINDS and value):
            raise ValueError(
                f"target_tokenizer is {given!r}; give bytes, or a source such as {{hub: org/name}}"
                " or package:NAME"
            )
        return data

    @field_validator("untie_embeddings")
    @classmethod
    def _untied_for_bytes(cls, given: bool | None, info: ValidationInfo) -> bool:
        return info.data.get("target_tokenizer") == "bytes" if given is None else given

    @model_validator(mode="after")
    def _fits_together(self) -> TransferRecipe:
        _exactly_one("model", self.model, self.first_stage)
        _refuse_served("model", self.model)
        _refuse_unused("model", self.model, ("revision", *_NOT_THE_STUDENTS))
        if self.teacher_cache is not None and not self.needs_teacher:
            raise ValueError(_UNUSED_CACHE)
        if self.is_byte_student and self.train != "full":
            raise ValueError(
                "train is lora, but a byte model trains all its weights; set train: full"
            )
        if self.train == "lora" and self.training.sharding == "fully_shard":
            raise ValueError(
                "train is lora, whose teacher shares the student's trunk, which fully_shard cuts;"
                " set training.sharding to ddp"
            )
        for name in ("ngram_embeddings", "sliding_window"):
            if getattr(self, name) and not self.is_byte_student:
                raise ValueError(f"{name} has an effect with target_tokenizer: bytes only")
        try:
            self.transplant_source(self.model.source if self.model else _LATER)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def is_byte_student(self) -> bool:
        """Whether the student reads bytes."""
        return self.target_tokenizer == "bytes"

    def transplant_source(self, model: Source) -> TransplantSource:
        """The student before training, as a transplant of a model.

        Raises:
            ConfigError: The settings do not go together.
        """
        given = self.transplant.model_dump(exclude_unset=True)
        parts = {"method": "fvt", "model": model, "tokenizer": self.target_tokenizer}
        return parse_config(TransplantSource, parts | given, "transplant")


class DistillRecipe(TrainingRecipe):
    """A student taught by other models.

    Attributes:
        kind: `distill`.
        student: The model that is trained.
        teachers: Who teaches; none where `first_stage` makes the teacher or no loss needs one.
        added_special_tokens: Special tokens of the first teacher that the student's tokenizer
            lacks; with them it takes the teacher's chat template.
    """

    kind: Literal["distill"]
    student: ModelConfig
    teachers: tuple[ModelConfig, ...] = ()
    added_special_tokens: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> DistillRecipe:
        _refuse_served("student", self.student)
        _refuse_unused("student", self.student, _NOT_THE_STUDENTS)
        for number, teacher in enumerate(self.teachers):
            _refuse_served(f"teachers[{number}]", teacher)
        if self.needs_teacher:
            _exactly_one("teachers", self.teachers or None, self.first_stage)
        has_teacher = bool(self.teachers) or self.first_stage is not None
        is_used = self.needs_teacher or self.teacher_samples is not None
        if has_teacher and not is_used and self.evaluation.data is None:
            key = "teachers" if self.teachers else "first_stage"
            raise ValueError(
                f"{key}: no loss needs a teacher; leave it out or add a loss such as alm"
            )
        if self.added_special_tokens and not has_teacher:
            raise ValueError("added_special_tokens are those of a teacher; give teachers")
        if self.teacher_samples is not None and not has_teacher:
            raise ValueError("teacher_samples needs a teacher to write; give teachers")
        if self.teacher_cache is not None and not self.needs_teacher:
            raise ValueError(_UNUSED_CACHE)
        if self.teacher_cache is not None and len(self.teachers) > 1:
            raise ValueError(
                f"teacher_cache holds one teacher, and {len(self.teachers)} teachers are given;"
                " leave it out or give one"
            )
        return self


TrainingRecipe.model_rebuild()
TransferRecipe.model_rebuild()
DistillRecipe.model_rebuild()

_KEYS = {*TransferRecipe.model_fields, *DistillRecipe.model_fields}


def _exactly_one(key: str, given: Any, first_stage: DistillRecipe | None) -> None:
    if (given is None) == (first_stage is None):
        found = "nothing" if given is None else "both"
        raise ValueError(f"expected exactly one of {key}, first_stage, found {found}")


def _refuse_served(key: str, model: ModelConfig | None) -> None:
    if model is not None and model.source.lm_eval is not None:
        raise ValueError(
            f"{key}: an lm_eval source cannot be trained with; give a hub, path, gguf or package"
            " source"
        )


def _refuse_unused(key: str, model: ModelConfig | None, names: tuple[str, ...]) -> None:
    """Refuse settings of a model that its student would not get."""
    for name in names:
        if model is not None and getattr(model, name):
            raise ValueError(
                f"{key}.{name}: the student begins with weights and tokenizer of {key}.source"
                " alone; save the model as you want it and give path:FOLDER"
            )


def packaged_training_recipes(kind: Kind) -> tuple[str, ...]:
    """Names of the recipes of one kind that come with the package."""
    return packaged_names(kind)


def load_training_recipe(
    name: str, kind: Kind | None, overrides: Overrides = NO_OVERRIDES
) -> tuple[TransferRecipe | DistillRecipe, str]:
    """Read a recipe file, or a packaged recipe by name; returns it and its short name.

    Args:
        name: A file, or the name of a packaged recipe.
        kind: What the command does; None for one that takes both kinds.
        overrides: From the command line.

    Raises:
        ConfigError: There is no such recipe, it is of the other kind, or something in it or in the
            overrides is wrong.
    """
    kinds = _KINDS if kind is None else (kind,)
    for folder in kinds:
        if name in packaged_training_recipes(folder):
            with resources.as_file(packaged_recipe(folder, name)) as path:
                return _read(path, kind, overrides), name
    path = Path(name)
    if not path.is_file():
        refuse_other_command(name, kinds)
        known = [recipe for folder in kinds for recipe in packaged_training_recipes(folder)]
        raise ConfigError(
            f"no recipe '{name}': neither a file nor a packaged training recipe;"
            f" {near_names(name, known)}"
        )
    return _read(path, kind, overrides), path.stem


def _read(path: Path, kind: Kind | None, overrides: Overrides) -> TransferRecipe | DistillRecipe:
    data = read_yaml(path)
    if isinstance(data, dict):
        found = data.get("kind")
        # With a key that no recipe has, that is what to say.
        if found is None and set(data) <= _KEYS:
            raise ConfigError(f"{path}: kind is missing; give transfer or distill")
        if found in _KINDS and kind not in (None, found):
            raise ConfigError(f"{path}: kind is {found}; give this recipe to suite {found}")
        kind = kind or ("distill" if found == "distill" else "transfer")
        data = overridden(data, overrides)
    if kind == "distill":
        return _placed(parse_config(DistillRecipe, data, str(path)), path)
    return _placed(parse_config(TransferRecipe, data, str(path)), path)


def _placed(recipe: ConfigT, path: Path) -> ConfigT:
    try:
        return absolute_paths(recipe, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
