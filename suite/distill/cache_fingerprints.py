"""What a stored teacher is valid for: one short value, or a SHA-256 in hex, for each thing.

Rows are numbered in the order of reading, so seed and shuffling belong to it, and so does what the
student bears on: the normal form of the text and, for a teacher without a chat template, the
template.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from suite.align.boundaries import boundary_start_mask
from suite.align.cut import PackConfig
from suite.config import content_hash
from suite.models.entry import ModelConfig
from suite.models.fingerprint import code_fingerprint, tokenizer_fingerprint, weights_fingerprint
from suite.models.resolve import ResolvedModel
from suite.text.chat import pick_templates
from suite.text.corpus import Corpus, CorpusConfig
from suite.text.tokenizers import OpenedTokenizer


def teacher_fingerprints(
    corpus: Corpus,
    pack: PackConfig,
    teacher: OpenedTokenizer,
    student: OpenedTokenizer,
    *,
    entry: ModelConfig,
    resolved: ResolvedModel,
    dtype: str,
) -> dict[str, str]:
    """All that a teacher's two numbers depend on; reads the text's and the model's files whole.

    Args:
        corpus: The text.
        pack: How rows are cut.
        teacher: Its tokenizer, with the roles given by the user.
        student: The student's; the teacher's again if none is known.
        entry: The teacher's model.
        resolved: Where its files are.
        dtype: What it runs in.

    Raises:
        ConfigError: A file of the text cannot be read, or there are chats and no chat template.
    """
    found = text_fingerprints(
        corpus, pack, teacher, student, tokenizer_folder=resolved.tokenizer_folder
    )
    adapter = resolved.adapter_folder
    weights = [
        weights_fingerprint(resolved.folder),
        weights_fingerprint(adapter) if adapter else None,
        code_fingerprint(resolved.folder) if entry.trust_remote_code else None,
        entry.quantization,
    ]
    # In the order of comparison: of two teachers the weights are named first.
    return {"weights": content_hash(weights), "dtype": dtype, **found}


def text_fingerprints(
    corpus: Corpus,
    pack: PackConfig,
    teacher: OpenedTokenizer,
    student: OpenedTokenizer,
    *,
    tokenizer_folder: Path,
) -> dict[str, str]:
    """The part of `teacher_fingerprints` that no weights are needed for."""
    sides = (teacher, student)
    form = next((side.normal_form for side in sides if side.normal_form), None)
    # The roles say which entries are special; a user may have given them.
    tokenizer = [
        tokenizer_fingerprint(tokenizer_folder),
        teacher.begin_id,
        teacher.vocabulary.roles.tolist(),
    ]
    return {
        "text": corpus.fingerprint(),
        "order": _order(corpus.config),
        "rows": _rows(pack),
        "tokenizer": content_hash(tokenizer),
        "boundary": _boundary(teacher),
        "normal_form": form or "none",
        "template": _template(teacher, student) if corpus.config.has_chats else "none",
    }


def _order(config: CorpusConfig) -> str:
    order = f"shuffled with seed {config.seed}" if config.shuffle else "not shuffled"
    if config.shuffle and config.streaming:
        order += f" in blocks of {config.shuffle_block}"
    # A row never holds the end of one epoch and the beginning of the next.
    return f"{order}, one epoch"


def _rows(pack: PackConfig) -> str:
    whole = ", documents kept whole" if pack.keep_whole else ""
    return f"{pack.packing}, {pack.length} tokens, {pack.byte_limit} bytes{whole}"


def _boundary(teacher: OpenedTokenizer) -> str:
    return hashlib.sha256(boundary_start_mask(teacher.vocabulary).numpy().tobytes()).hexdigest()


def _template(teacher: OpenedTokenizer, student: OpenedTokenizer) -> str:
    owner = pick_templates(teacher, student)[0].hf
    # Templates write special tokens by these names.
    return content_hash([owner.chat_template, owner.special_tokens_map])
