"""Special tokens of a teacher in a student: ids behind its own, mean rows, the teacher's chats."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import tiny_llama
from tokenizers import AddedToken
from trained_tokenizers import CHAT_TEMPLATE, opened

from suite.errors import ConfigError
from suite.text.chat import encode_chat, shares_template
from suite.text.corpus import Message
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.transplant.added_tokens import add_embeddings, with_special_tokens
from suite.transplant.contract import regular_ids

ADDED = ["<|head|>", "<|eot_id|>"]


@pytest.fixture(scope="module")
def teacher() -> OpenedTokenizer:
    """A tokenizer with two more special tokens, which its template writes."""
    made = copy.deepcopy(opened("byte-level").hf)
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in ADDED])
    made.chat_template = CHAT_TEMPLATE.replace("<|turn|>", "<|head|>").replace(
        "<|stop|>", "<|eot_id|>"
    )
    return open_tokenizer(made, name="teacher")


def test_the_student_reads_the_teachers_chats(teacher: OpenedTokenizer) -> None:
    student = opened("marked")
    assert not shares_template(teacher, student)
    made = with_special_tokens(student, teacher, ADDED)
    assert shares_template(teacher, made)
    chat = [Message("user", "Hello"), Message("assistant", "Yes.")]
    sides = [encode_chat(side, chat).encoding for side in (teacher, made)]
    assert sides[0].text == sides[1].text
    names = [
        [side.vocabulary.special[n] for n in found.ids.tolist() if n in side.vocabulary.special]
        for side, found in zip((teacher, made), sides, strict=True)
    ]
    assert names[0] == names[1] == ["<|head|>", "<|eot_id|>"] * 2


def test_ids_and_text_of_the_student_stay(teacher: OpenedTokenizer) -> None:
    student = opened("marked")
    made = with_special_tokens(student, teacher, ADDED)
    assert {n: made.vocabulary.special[n] for n in student.vocabulary.special} == dict(
        student.vocabulary.special
    )
    assert made.encode("One two.").ids.tolist() == student.encode("One two.").ids.tolist()
    assert len(student.hf.get_vocab()) + 2 == len(made.hf.get_vocab())
    assert student.hf.chat_template == CHAT_TEMPLATE


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_new_rows_are_mean_rows_and_old_ones_stay(
    teacher: OpenedTokenizer, is_tied: bool, padding: int
) -> None:
    student = opened("marked")
    made = with_special_tokens(student, teacher, ADDED)
    model = tiny_llama(student, is_tied=is_tied, padding=padding)
    old_size = len(student.vocabulary)
    before = [
        part.weight.detach().clone()
        for part in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    add_embeddings(model, student, made)
    after = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (after[0] is after[1]) == is_tied
    for old, new in zip(before, after, strict=True):
        assert len(new) == max(old_size + 2, old_size + padding)
        assert torch.equal(new[:old_size], old[:old_size])
        mean = old[torch.from_numpy(regular_ids(student))].double().mean(dim=0)
        assert torch.allclose(new[old_size : old_size + 2].double(), mean, atol=1e-6)


def test_an_added_end_of_a_turn_ends_a_generation(teacher: OpenedTokenizer) -> None:
    student = opened("marked")
    made = with_special_tokens(student, teacher, ADDED)
    model = tiny_llama(student)
    before = model.generation_config.eos_token_id
    add_embeddings(model, student, made)
    added = made.hf.convert_tokens_to_ids("<|eot_id|>")
    assert model.generation_config.eos_token_id == sorted([before, added])


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("<|absent|>", "<|absent|> is no special token of teacher; leave it out"),
        ("<|turn|>", "marked has <|turn|> already; leave it out"),
    ],
)
def test_a_token_that_cannot_be_added_is_named(
    teacher: OpenedTokenizer, token: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        with_special_tokens(opened("marked"), teacher, [token])
    assert str(error.value) == f"added_special_tokens: {expected}"
