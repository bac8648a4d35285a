"""What a training recipe says about its teacher, as options of `suite cache-teacher`."""

from __future__ import annotations

from pathlib import Path

from suite.errors import ConfigError
from suite.models.entry import ModelConfig
from suite.models.sources import TransplantSource
from suite.pipelines.cache_inputs import CacheTeacherOptions
from suite.pipelines.training_inputs import AnyRecipe
from suite.pipelines.training_recipe import TransferRecipe


def recipe_options(recipe: AnyRecipe, name: str, output: Path | None) -> CacheTeacherOptions:
    """Store this recipe's teacher, so that its training can read it in place of a live one.

    Args:
        recipe: The recipe.
        name: As on the command line, for messages.
        output: The folder; None for the recipe's `teacher_cache`.

    Raises:
        ConfigError: The recipe has no one teacher, text or folder to store, or its losses need more
            than is stored.
    """
    for number, loss in enumerate(recipe.losses):
        if not loss.needs.stored_teacher_suffices:
            raise ConfigError(
                f"{name}: losses[{number}]: {loss.name} needs a live teacher, so a stored one would"
                " not be read; leave the loss out"
            )
    folder = output or recipe.teacher_cache
    if folder is None:
        raise ConfigError(
            f"{name}: no folder to fill; give --output, or teacher_cache in the recipe"
        )
    if recipe.data is None:
        raise ConfigError(
            f"{name}: its teacher writes the text (teacher_samples) when it trains; only the"
            " teacher of a text that is there can be stored"
        )
    teacher = _teacher(recipe, name)
    if teacher.tokenizer is not None:
        raise ConfigError(
            f"{name}: a teacher is stored with its own tokenizer; leave the key tokenizer out"
        )
    return CacheTeacherOptions(
        teacher=teacher,
        data=recipe.data,
        pack=recipe.pack,
        output=folder,
        student=_student(recipe, teacher),
    )


def _teacher(recipe: AnyRecipe, name: str) -> ModelConfig:
    if recipe.first_stage is not None:
        raise ConfigError(
            f"{name}: its first stage makes the teacher when it trains; only a teacher that is"
            " there can be stored"
        )
    if isinstance(recipe, TransferRecipe):
        assert recipe.model is not None  # a transfer without first stage has one
        return recipe.model
    if len(recipe.teachers) != 1:
        raise ConfigError(
            f"{name}: has {len(recipe.teachers)} teachers, and a folder holds one; give a recipe"
            " with one"
        )
    return recipe.teachers[0]


def _student(recipe: AnyRecipe, teacher: ModelConfig) -> str | TransplantSource:
    """The student's tokenizer; a transfer's is not there yet."""
    if isinstance(recipe, TransferRecipe):
        return recipe.transplant_source(teacher.source)
    owner = recipe.student.tokenizer
    if owner is None:
        return str(recipe.student.source)
    return f"{'path' if Path(owner).is_dir() else 'hub'}:{owner}"
