from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from trained_tokenizers import byte_level_bpe, opened, unigram
from transformers import PreTrainedTokenizerFast

from suite.errors import ConfigError
from suite.text.encoding import Role
from suite.text.roles import find_roles

# Opens every message with the begin token, injects a system prompt.
CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Markers of turns are plain text; each exchange begins and ends like a document.
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token }}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
    "[/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
# One header token a role; a document's end behind the last turn.
PHI_3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)


def make(special: list[str], template: str | None = None, **names: str) -> Any:
    """A tokenizer of some letters, with special tokens from id 100 on."""
    letters = {letter: place for place, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    backend = Tokenizer(models.BPE(letters, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **names)


def roles_of(hf: Any, given: Mapping[str, Role] | None = None) -> dict[str, str]:
    """The role of each special token, by its string."""
    found = find_roles(hf, given or {}, "given")
    assert Role.REGULAR not in found.values()
    return {hf.convert_ids_to_tokens(number): role.name for number, role in found.items()}


TEMPLATES = [
    pytest.param(
        make(
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"],
            CHATML,
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
            pad_token="<|im_end|>",
            unk_token="<|endoftext|>",
        ),
        {
            "<|im_start|>": "HEADER",
            "<|im_end|>": "END_OF_TURN",
            "<|endoftext|>": "OTHER",
            "<repo_name>": "OTHER",
        },
        id="ChatML that begins with its header",
    ),
    pytest.param(
        make(["<|im_start|>", "<|im_end|>", "<eos>"], CHATML, eos_token="<eos>"),
        {"<|im_start|>": "HEADER", "<|im_end|>": "END_OF_TURN", "<eos>": "END"},
        id="ChatML without begin token",
    ),
    pytest.param(
        make(
            [
                "<|bot|>",
                "<|eos|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
                "<|0|>",
            ],
            LLAMA_3,
            bos_token="<|bot|>",
            eos_token="<|eot_id|>",
            pad_token="<|0|>",
        ),
        {
            "<|bot|>": "BEGIN",
            "<|start_header_id|>": "HEADER",
            "<|end_header_id|>": "HEADER",
            "<|eot_id|>": "END_OF_TURN",
            "<|eos|>": "OTHER",
            "<|0|>": "PAD",
        },
        id="headers of two tokens",
    ),
    pytest.param(
        make(
            ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<unused0>"],
            GEMMA,
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
            unk_token="<unk>",
        ),
        {
            "<bos>": "BEGIN",
            "<eos>": "END",
            "<pad>": "PAD",
            "<unk>": "OTHER",
            "<start_of_turn>": "HEADER",
            "<end_of_turn>": "END_OF_TURN",
            "<unused0>": "OTHER",
        },
        id="begin token in the template",
    ),
    pytest.param(
        make(["<s>", "</s>"], LLAMA_2, bos_token="<s>", eos_token="</s>"),
        {"<s>": "BEGIN", "</s>": "END_OF_TURN"},
        id="markers as plain text, begin token before each question",
    ),
    pytest.param(
        make(["<s>", "</s>", "[INST]", "[/INST]"], MISTRAL, bos_token="<s>", eos_token="</s>"),
        {"<s>": "BEGIN", "</s>": "END_OF_TURN", "[INST]": "HEADER", "[/INST]": "HEADER"},
        id="other headers before questions than before answers",
    ),
    pytest.param(
        make(
            ["<s>", "<|eot|>", "<|user|>", "<|assistant|>", "<|end|>"],
            PHI_3,
            bos_token="<s>",
            eos_token="<|eot|>",
        ),
        {
            "<s>": "BEGIN",
            "<|eot|>": "END",
            "<|user|>": "HEADER",
            "<|assistant|>": "HEADER",
            "<|end|>": "END_OF_TURN",
        },
        id="a header for each role, a document's end behind a turn's",
    ),
    pytest.param(
        make(
            ["<s>", "</s>"],
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
        ),
        {"<s>": "OTHER", "</s>": "OTHER"},
        id="a template without special tokens",
    ),
    pytest.param(
        make(
            ["<s>", "<h>", "<e>"],
            "{% for m in messages %}<h>{{ m['content'] | upper }}<e>{% endfor %}",
        ),
        {"<s>": "OTHER", "<h>": "OTHER", "<e>": "OTHER"},
        id="a template that changes contents tells nothing",
    ),
]


@pytest.mark.parametrize(("hf", "expected"), TEMPLATES)
def test_roles_are_read_from_the_template_first(hf: Any, expected: dict[str, str]) -> None:
    assert roles_of(hf) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, "OTHER"),
        ({"mask_token": "<x>"}, "OTHER"),
        ({"pad_token": "<x>"}, "PAD"),
        ({"unk_token": "<x>"}, "OTHER"),
        ({"pad_token": "<x>", "unk_token": "<x>"}, "PAD"),
        ({"pad_token": "<x>", "eos_token": "<x>"}, "END"),
        ({"unk_token": "<x>", "eos_token": "<x>"}, "END"),
        ({"bos_token": "<x>", "eos_token": "<x>", "unk_token": "<x>", "pad_token": "<x>"}, "END"),
    ],
)
def test_without_a_template_the_attributes_tell(names: dict[str, str], expected: str) -> None:
    assert roles_of(make(["<x>"], **names)) == {"<x>": expected}


def test_a_token_that_an_attribute_names_is_special_even_if_it_was_added_as_text() -> None:
    backend = Tokenizer(models.BPE({"a": 0}, []))
    backend.add_tokens(["</s>", "<think>"])
    hf = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    assert roles_of(hf) == {"</s>": "END"}


def test_the_models_own_unknown_token_is_found() -> None:
    bpe = Tokenizer(models.BPE({"<?>": 0, "a": 1}, [], unk_token="<?>"))
    assert roles_of(PreTrainedTokenizerFast(tokenizer_object=bpe)) == {"<?>": "UNKNOWN"}
    assert roles_of(PreTrainedTokenizerFast(tokenizer_object=unigram())) == {"<unk>": "UNKNOWN"}
    lacking = Tokenizer(models.BPE({"a": 0}, [], unk_token="<?>"))
    assert roles_of(PreTrainedTokenizerFast(tokenizer_object=lacking)) == {}
    ending = Tokenizer(models.BPE({"<?>": 0, "a": 1}, [], unk_token="<?>"))
    hf = PreTrainedTokenizerFast(tokenizer_object=ending, eos_token="<?>")
    assert roles_of(hf) == {"<?>": "UNKNOWN"}


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[3]['content'] }}",
        "{% for m in messages %}<h>{{ m['content'] }}<e>{% endfor %}"
        "{{ raise_exception('no') if messages | length > 2 }}",
        "{% if %}",
    ],
)
def test_where_the_template_refuses_the_attributes_tell(template: str) -> None:
    hf = make(["<s>", "<h>", "<e>"], template, bos_token="<s>", eos_token="<e>")
    assert roles_of(hf) == {"<s>": "BEGIN", "<h>": "OTHER", "<e>": "END"}


def test_given_roles_win() -> None:
    hf = make(["<s>", "<h>", "<e>"], "{% for m in messages %}<h>{{ m['content'] }}<e>{% endfor %}")
    assert roles_of(hf) == {"<s>": "OTHER", "<h>": "HEADER", "<e>": "END_OF_TURN"}
    given = {"<s>": Role.BEGIN, "<h>": Role.OTHER, "<e>": Role.REGULAR}
    assert roles_of(hf, given) == {"<s>": "BEGIN", "<h>": "OTHER"}


@pytest.mark.parametrize(
    ("token", "clause"),
    [
        ("<|im_strat|>", "did you mean '<|im_start|>' or '<|im_end|>'?"),
        ("?!", "known: <eos>, <|im_end|>, <|im_start|>"),
        ("", "known: <eos>, <|im_end|>, <|im_start|>"),
        ("a", "known: <eos>, <|im_end|>, <|im_start|>"),
    ],
)
def test_a_role_for_what_is_no_special_token_is_refused(token: str, clause: str) -> None:
    hf = make(["<|im_start|>", "<|im_end|>", "<eos>"], CHATML)
    with pytest.raises(ConfigError) as error:
        find_roles(hf, {token: Role.END}, "given")
    assert str(error.value) == f"given: no special token {token!r}; {clause}"


def test_the_trained_tokenizers_of_the_tests_have_all_roles_that_they_name() -> None:
    for family in ("byte-level", "bytes:byte-level"):
        assert roles_of(opened(family).hf) == {
            "<|begin|>": "BEGIN",
            "<|end|>": "END",
            "<|pad|>": "PAD",
            "<|turn|>": "HEADER",
            "<|stop|>": "END_OF_TURN",
        }


def test_a_plain_tokenizer_has_no_special_tokens() -> None:
    hf = PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe())
    assert roles_of(hf) == {}
