"""What can be told of a training recipe before its first stage is trained."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from suite.distill.distribute import check_trackers
from suite.errors import ConfigError, ModelError
from suite.models.entry import ModelConfig
from suite.models.ngram_folder import is_ngram_folder
from suite.models.pretrained import read_config
from suite.models.resolve import check_entry, resolve_tokenizer
from suite.pipelines.training_benchmark import check_short_benchmark
from suite.pipelines.training_inputs import AnyRecipe
from suite.pipelines.training_recipe import DistillRecipe, TransferRecipe


def check_before_training(recipe: AnyRecipe) -> None:
    """Check what needs no text and no weights, of the first stage too.

    Raises:
        SuiteError: Something is missing or wrong; one sentence.
    """
    check_names(recipe)
    for stage in (recipe.first_stage, recipe):
        if stage is not None:
            check_lengths(stage)


def check_names(recipe: AnyRecipe) -> None:
    """Check that trackers and tasks are there, of the first stage too.

    Raises:
        ConfigError: One is not.
    """
    for stage in (recipe.first_stage, recipe):
        if stage is not None:
            check_trackers(stage.training.trackers)
            check_short_benchmark(stage)


def expected_teachers(recipe: AnyRecipe) -> tuple[ModelConfig, ...]:
    """Who teaches; what the first stage makes is read as its student, whose tokenizer it has."""
    if recipe.first_stage is not None:
        return (recipe.first_stage.student,)
    if isinstance(recipe, DistillRecipe):
        return recipe.teachers
    assert recipe.model is not None  # a transfer has one of the two
    return (recipe.model,)


def students(recipe: AnyRecipe) -> tuple[ModelConfig, ...]:
    """The student of a distillation; that of a transfer is its teacher."""
    return (recipe.student,) if isinstance(recipe, DistillRecipe) else ()


def check_lengths(recipe: AnyRecipe) -> None:
    """Check that no row is longer than the models can read.

    Raises:
        ConfigError: One is.
    """
    for entry in (*expected_teachers(recipe), *students(recipe)):
        limit = getattr(model_config(entry).get_text_config(), "max_position_embeddings", None)
        if limit is None:
            continue
        if recipe.pack.length > limit:
            raise ConfigError(
                f"pack.length is {recipe.pack.length}, but {entry.source} has {limit} positions;"
                " give a smaller one"
            )
        is_bytes = isinstance(recipe, TransferRecipe) and recipe.is_byte_student
        if is_bytes and recipe.pack.byte_limit > limit:
            raise ConfigError(
                f"a row has up to {recipe.pack.byte_limit} bytes, but {entry.source} has {limit}"
                " positions; set pack.max_bytes to fewer"
            )


def model_config(entry: ModelConfig) -> Any:
    """A model's configuration, of transformers; from the hub, weights are not fetched.

    Raises:
        ModelError: There is none that transformers knows.
    """
    check_entry(entry)
    return _config_in(str(resolve_tokenizer(entry.source)), entry.trust_remote_code)


@lru_cache(maxsize=16)
def _config_in(folder: str, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    if is_ngram_folder(Path(folder)):
        return AutoConfig.for_model(**read_config(Path(folder))["model"])
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        what = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(f"{folder} cannot be loaded ({what})") from error
