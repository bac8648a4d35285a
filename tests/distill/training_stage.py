"""Tiny models, rows and a `Stepper` over them; shared by tests of training steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook
from trained_tokenizers import opened
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from suite.align.cut import PackConfig
from suite.align.documents import DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row
from suite.distill.balance import fixed_weights
from suite.distill.losses.contract import LossConfig, LossContext
from suite.distill.optimiser import make_optimiser
from suite.distill.passes import Pass, make_passes
from suite.distill.settings import OptimiserConfig
from suite.distill.state import DataPlace
from suite.distill.step import Stepper
from suite.distill.student import Student, open_student
from suite.distill.teacher import LiveTeacher, live_teacher
from suite.distill.training_rows import StepRows
from suite.text.corpus import Document, Position

# Each with the characters of its prompt; the second one's cut a word.
TEXTS = (
    ("The quick brown fox jumps over it.", 0),
    ("She said: no, it was the best of times.", 12),
    ("dogs", 0),
    ("l'été à Noël, 日本?\n\n\tx * 2", 0),
)
LENGTH = 16


@cache
def rows_between(teacher: str, student: str, *, all_prompt: bool = False) -> tuple[Row, ...]:
    """Isolated rows of the texts; with `all_prompt` nothing of them is a completion."""
    sides = opened(teacher), opened(student)
    documents = [
        Document(
            number, text=text, prompt_bytes=len((text if all_prompt else text[:size]).encode())
        )
        for number, (text, size) in enumerate(TEXTS)
    ]
    stream = [(Position(0, number + 1), item) for number, item in enumerate(documents)]
    aligned = list(DocumentReader(*sides).read(stream))
    return tuple(pack_rows(aligned, *sides, PackConfig(length=LENGTH)))


def tiny(kind: str, family: str, *, seed: int, width: int = 32, is_tied: bool = False) -> Any:
    """Two layers over a tokenizer, with a few more rows than it has entries."""
    settings: dict[str, Any] = {
        "vocab_size": len(opened(family).vocabulary) + 5,
        "hidden_size": width,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": is_tied,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**settings)).eval()
        layers = ["sliding_attention", "full_attention"]
        extra = {"sliding_window": 8, "layer_types": layers, "final_logit_softcapping": 6.0}
        return Gemma3ForCausalLM(Gemma3TextConfig(**settings, **extra)).eval()


@dataclass(frozen=True, eq=False)
class Pair:
    """Teacher and student models with the tokenizers they read with, and rows between them."""

    teacher_model: Any
    student_model: Any
    families: tuple[str, str]
    rows: tuple[Row, ...]

    def teacher(self) -> LiveTeacher:
        return live_teacher(
            self.teacher_model,
            opened(self.families[0]),
            name="teacher",
            packing="isolated",
            wants_hidden=True,
        )


def byte_pair(*, teacher_width: int = 32, **settings: Any) -> Pair:
    """A Llama that teaches one of bytes."""
    families = "byte-level", "bytes:byte-level"
    teacher = tiny("llama", families[0], seed=1, width=teacher_width)
    student = tiny("llama", families[1], seed=2)
    return Pair(teacher, student, families, rows_between(*families, **settings))


def subword_pair() -> Pair:
    """A Gemma 3, with tied ends and a soft-cap, that learns from a Llama of other subwords."""
    families = "byte-level", "marked"
    teacher = tiny("llama", families[0], seed=3)
    student = tiny("gemma3", families[1], seed=4, is_tied=True)
    return Pair(teacher, student, families, rows_between(*families))


def gemma_teacher_pair() -> Pair:
    """A Gemma 3 that teaches a Llama of bytes."""
    families = "marked", "bytes:marked"
    teacher = tiny("gemma3", families[0], seed=5, is_tied=True)
    student = tiny("llama", families[1], seed=6, is_tied=True)
    return Pair(teacher, student, families, rows_between(*families))


def same_pair() -> Pair:
    """One model on both sides; each has its own copy of the weights."""
    families = "byte-level", "byte-level"
    teacher, student = (tiny("llama", families[0], seed=7) for _ in range(2))
    return Pair(teacher, student, families, rows_between(*families))


def context_of(pair: Pair, mean_square: Sequence[float] | None) -> LossContext:
    if mean_square is None:
        return LossContext(student_size=pair.student_model.config.hidden_size)
    return LossContext(
        student_size=pair.student_model.config.hidden_size,
        teacher_size=pair.teacher_model.config.hidden_size,
        teacher_mean_square=torch.tensor(mean_square),
    )


def student_of(
    pair: Pair,
    losses: Sequence[LossConfig],
    *,
    mean_square: Sequence[float] | None = None,
    autocast: torch.dtype | None = None,
) -> Student:
    return open_student(
        pair.student_model,
        opened(pair.families[1]),
        losses,
        context_of(pair, mean_square),
        name="student",
        packing="isolated",
        autocast=autocast,
    )


def stepper_of(
    pair: Pair,
    losses: Sequence[LossConfig],
    *,
    balance: str = "fixed",
    clipping: float | None = None,
    **settings: Any,
) -> Stepper:
    """A stepper of one process, with AdamW."""
    student = student_of(pair, losses, **settings)
    weights = fixed_weights(losses, scale_by_temperature=True) if balance == "fixed" else None
    needs_teacher = any(loss.needs.teacher for loss in losses)
    return Stepper(
        student=student,
        wrapped=student,
        teachers=(pair.teacher(),) if needs_teacher else (),
        optimiser=make_optimiser(student.parameters(), OptimiserConfig(clipping=clipping)),
        fixed=weights,
        clipping=clipping,
    )


def passes_of(
    rows: Sequence[Row], rows_per_pass: int, *, rank: int = 0, num_processes: int = 1
) -> list[Pass]:
    step = StepRows(tuple(rows), tuple(range(len(rows))), DataPlace())
    place = torch.device("cpu")
    return make_passes(step, rows_per_pass, place, rank=rank, num_processes=num_processes)


@contextmanager
def gradients_of(stepper: Stepper) -> Iterator[dict[str, Tensor]]:
    """The gradients that the optimiser is given, by the name of the model's parameters."""
    found: dict[str, Tensor] = {}
    names = {
        id(parameter): name.removeprefix("model.").removeprefix("losses.hidden_state.")
        for name, parameter in stepper.student.named_parameters()
    }

    def note(optimiser: Any, *_: Any) -> None:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    found[names[id(parameter)]] = parameter.grad.detach().clone()

    hook = register_optimizer_step_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()
