from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import kept, kept_plan, replaced_plan, tiny_llama
from torch import Tensor
from trained_tokenizers import FAMILIES, opened
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from suite.errors import ModelError
from suite.text.tokenizers import OpenedTokenizer
from suite.transplant.contract import Composition, mean_row
from suite.transplant.folder import save_folder
from suite.transplant.fvt import fvt
from suite.transplant.surgery import renumber_settings, replace_embeddings
from suite.transplant.vocabulary import VocabularyPlan, plan_vocabulary, special_by_string


def operate(
    model: Any,
    old: OpenedTokenizer,
    new: OpenedTokenizer,
    *,
    keeps: bool = True,
    untie: bool = False,
) -> VocabularyPlan:
    plan = kept_plan(old, new) if keeps else replaced_plan(old, new)
    compose = fvt(Composition(old=old, plan=plan))
    replace_embeddings(model, plan, compose, old, untie=untie)
    renumber_settings(model, plan, new, keeps_special=keeps)
    return plan


def embeddings(model: Any) -> tuple[Tensor, Tensor]:
    return (
        model.get_input_embeddings().weight.detach().clone(),
        model.get_output_embeddings().weight.detach().clone(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize(
    ("source", "target"), [("marked", "byte-level"), ("byte-level", "unigram")]
)
def test_rows_are_copied_to_the_last_bit_and_composed(
    source: str, target: str, is_tied: bool, dtype: torch.dtype
) -> None:
    old, new = opened(source), kept(opened(source), target)
    model = tiny_llama(old, is_tied=is_tied).to(dtype)
    before = embeddings(model)
    plan = operate(model, old, new)
    compose = fvt(Composition(old=old, plan=plan))
    for part, rows, after in zip(("input", "output"), before, embeddings(model), strict=True):
        assert after.shape == (len(new.vocabulary), 32)
        assert after.dtype == dtype
        copied = plan.copied_from >= 0
        assert torch.equal(after[copied], rows[plan.copied_from[copied]])
        expected = compose(rows.float(), part).to(dtype)
        assert torch.equal(after[plan.composed], expected)
        unused = ~copied
        unused[plan.composed] = False
        mean = mean_row(rows.float(), old).to(dtype)
        assert torch.equal(after[unused], mean.expand(int(unused.sum()), -1))
    weights = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (weights[0] is weights[1]) == is_tied


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_its_own_tokenizer_the_model_is_the_same(family: str, is_tied: bool) -> None:
    old, new = opened(family), kept(opened(family), family)
    model = tiny_llama(old, is_tied=is_tied)
    regular = [n for n, entry in enumerate(old.vocabulary.token_bytes) if entry]
    ids = torch.tensor([regular[::9]])
    with torch.no_grad():
        before = model(ids).logits[..., regular]
        operate(model, old, new)
        after = model(ids).logits[..., regular]
    assert torch.equal(before, after)


def test_a_byte_student_gets_two_matrices_that_are_saved(tmp_path: Path) -> None:
    old, new = opened("marked"), kept(opened("marked"), "bytes")
    model = tiny_llama(old)
    operate(model, old, new, untie=True)
    given, output = embeddings(model)
    assert torch.equal(given, output)
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(1)
    save_folder(tmp_path, model, new)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not again.config.tie_word_embeddings
    assert torch.equal(again.get_input_embeddings().weight, given)
    assert torch.equal(again.get_output_embeddings().weight, given + 1)


def test_a_bias_of_the_output_goes_with_its_rows() -> None:
    old, new = opened("marked"), kept(opened("marked"), "byte-level")
    config = PhiConfig(
        vocab_size=len(old.vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = PhiForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.bias.copy_(torch.arange(len(old.vocabulary)).float())
    before = model.lm_head.bias.detach().clone()
    plan = operate(model, old, new)
    copied = plan.copied_from >= 0
    assert torch.equal(model.lm_head.bias[copied], before[plan.copied_from[copied]])
    expected = fvt(Composition(old=old, plan=plan))(before[:, None], "output")[:, 0]
    torch.testing.assert_close(model.lm_head.bias[plan.composed].detach(), expected)


def test_the_scale_of_an_embedding_stays() -> None:
    old, new = opened("marked"), kept(opened("marked"), "byte-level")
    config = Gemma3TextConfig(
        vocab_size=len(old.vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        bos_token_id=old.hf.bos_token_id,
        eos_token_id=old.hf.eos_token_id,
        pad_token_id=old.hf.pad_token_id,
    )
    model = Gemma3ForCausalLM(config).eval()
    number = old.vocabulary.id_of_bytes[b"a"]
    before = model.get_input_embeddings()(torch.tensor([number]))
    operate(model, old, new)
    after = model.get_input_embeddings()(torch.tensor([new.vocabulary.id_of_bytes[b"a"]]))
    assert torch.equal(before, after)


def test_settings_name_the_new_ids(tmp_path: Path) -> None:
    old, new = opened("marked"), kept(opened("marked"), "byte-level")
    model = tiny_llama(old)
    number_of = old.hf.convert_tokens_to_ids
    model.generation_config.eos_token_id = number_of(["<|end|>", "<|stop|>"])
    model.config.image_token_id = number_of("<|turn|>")
    operate(model, old, new)
    save_folder(tmp_path, model, new)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    number_of = AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids
    assert again.config.vocab_size == len(new.vocabulary)
    assert again.config.bos_token_id == number_of("<|begin|>")
    assert again.config.eos_token_id == number_of("<|end|>")
    assert again.config.pad_token_id == number_of("<|pad|>")
    assert again.config.image_token_id == number_of("<|turn|>")
    assert again.generation_config.eos_token_id == number_of(["<|end|>", "<|stop|>"])
    assert again.generation_config.bos_token_id == number_of("<|begin|>")


def test_replaced_special_tokens_bring_their_ids() -> None:
    old, new = opened("marked"), opened("byte-level")
    model = tiny_llama(old)
    number_of = old.hf.convert_tokens_to_ids
    model.generation_config.eos_token_id = number_of(["<|end|>"])
    before = embeddings(model)[0]
    operate(model, old, new, keeps=False)
    new_number_of = new.hf.convert_tokens_to_ids
    assert model.config.bos_token_id == new_number_of("<|begin|>")
    assert model.config.pad_token_id == new_number_of("<|pad|>")
    # Of generation, those of turns too.
    assert model.generation_config.eos_token_id == new_number_of(["<|end|>", "<|stop|>"])
    for name in ("<|begin|>", "<|end|>", "<|stop|>", "<|turn|>"):
        row = model.get_input_embeddings().weight[new_number_of(name)]
        assert torch.equal(row, before[number_of(name)])


def test_an_id_that_no_special_token_has_is_dropped() -> None:
    old, new = opened("marked"), kept(opened("marked"), "byte-level")
    model = tiny_llama(old)
    model.config.pad_token_id = old.vocabulary.id_of_bytes[b"a"]
    operate(model, old, new)
    assert model.config.pad_token_id is None


def test_a_setting_that_says_none_does_not_become_a_token_without_row() -> None:
    old, new = opened("marked"), kept(opened("marked"), "byte-level")
    model = tiny_llama(old)
    model.config.pad_token_id = -1
    # The model has no rows for its last special tokens.
    special = sorted(old.vocabulary.special)
    plan = plan_vocabulary(old, new, special_by_string(old, new), num_old_rows=special[-1])
    assert -1 in plan.copied_from[list(new.vocabulary.special)]
    renumber_settings(model, plan, new, keeps_special=True)
    assert model.config.pad_token_id is None


def test_further_embeddings_by_token_are_refused() -> None:
    old, new = opened("marked"), kept(opened("marked"), "byte-level")
    model = tiny_llama(old)
    model.config.vocab_size_per_layer_input = 100
    with pytest.raises(ModelError) as error:
        operate(model, old, new)
    assert str(error.value) == (
        "LlamaForCausalLM has further embeddings by token in its layers, which cannot be"
        " transplanted; choose another model"
    )


def qwen(tokenizer: OpenedTokenizer) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer.vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def test_a_model_whose_tokenizer_transformers_rebuilds_is_refused(tmp_path: Path) -> None:
    new = kept(opened("marked"), "byte-level")
    with pytest.raises(ModelError) as error:
        save_folder(tmp_path, qwen(new), new)
    assert str(error.value) == (
        "transformers opens every tokenizer beside a qwen2 model as Qwen2Tokenizer, which splits"
        f" text in its own way and not as {new.name}; choose another model, or a tokenizer of qwen2"
        " models"
    )


def test_a_byte_student_of_such_a_model_is_saved(tmp_path: Path) -> None:
    new = kept(opened("marked"), "bytes")
    save_folder(tmp_path, qwen(new), new)
    assert AutoTokenizer.from_pretrained(tmp_path)("ab").input_ids == [97, 98]
