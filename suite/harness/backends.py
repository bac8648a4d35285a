"""lm-eval's Hugging Face backend, shielded from its known traps.

Scores equal `lm-eval run --model hf` (given the same dtype and a float32 softmax) except where
upstream is wrong or stops: rolling text is encoded without special tokens (upstream makes a
tokenizer with a begin token pay for predicting it); where one token spans the border between prompt
and continuation so that upstream's cut leaves nothing to score and it stops, that token is scored;
and logits that are not numbers end a generation with an error instead of an empty answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from suite.errors import HarnessError
from suite.harness.protocol import PAPER_MAX_LENGTH, Protocol
from suite.harness.reporting import ReportingBackend


class HfBackend(ReportingBackend, HFLM):
    """One transformers model as an lm-eval backend."""

    source_name: ClassVar[str] = "hf"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int,
        max_length: int | None = None,
        protocol: Protocol = "lm-eval",
        enable_thinking: bool | None = None,
        strip_reasoning: str | int | None = None,
    ) -> None:
        if protocol == "paper":
            max_length = min(max_length or PAPER_MAX_LENGTH, PAPER_MAX_LENGTH)
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=max_length,
            softmax_dtype="float32",
            enable_thinking=enable_thinking,
            think_end_token=strip_reasoning,
        )
        self.protocol = protocol
        self._rolling = False
        self.start_reporting(self.device)

    def report_to(self, on_start: Callable[[int], None], on_answer: Callable[[], None]) -> None:
        """Have `on_start` told how many requests come, and `on_answer` called for each answer."""
        super().report_to(on_start, on_answer)
        self.set_cache_hook(_AnswerHook(on_answer))

    def set_batch_size(self, batch_size: int) -> None:
        """Score what follows with this batch size."""
        self.batch_size_per_gpu = batch_size

    def get_model_info(self) -> dict[str, Any]:
        """Facts for the results file; unlike upstream's, asks no hub."""
        return {"model_num_parameters": self.model.num_parameters(), **self.facts}

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **options: Any
    ) -> list[int]:
        """Encode; rolling text and the paper's protocol never add special tokens."""
        if self._rolling or self.protocol == "paper":
            add_special_tokens = False
        ids: list[int] = super().tok_encode(string, add_special_tokens, **options)
        return ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.protocol == "paper":
            return self._with_begin_token(self.tok_encode(context)), self.tok_encode(continuation)
        context_ids, continuation_ids = super()._encode_pair(context, continuation)
        if continuation_ids:
            return context_ids, continuation_ids
        # One token spans the border, so upstream's cut leaves nothing to score: cut before it.
        self.num_boundary_moves += 1
        whole = self.tok_encode(context + continuation)
        cut = _common_prefix_length(context_ids, whole)
        return whole[:cut] or [self.prefix_token_id], whole[cut:]

    def _with_begin_token(self, ids: list[int]) -> list[int]:
        return ids if ids[:1] == [self.prefix_token_id] else [self.prefix_token_id, *ids]

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Any, Any]:
        """Encode prompts for generation and count those that are cut on the left."""
        ids, mask = super().tok_batch_encode(strings, padding_side, None, truncation)
        if left_truncate_len:
            self.num_truncated += int((mask.sum(dim=1) > left_truncate_len).sum())
            ids, mask = ids[:, -left_truncate_len:], mask[:, -left_truncate_len:]
        return ids, mask

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood in nats of whole texts, each after one begin (or end) token."""
        self._on_start(len(requests))
        self._rolling = True
        try:
            totals: list[float] = super().loglikelihood_rolling(requests, disable_tqdm)
        finally:
            self._rolling = False
        return totals

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        longest = self.max_length + 1
        self.num_truncated += sum(
            text is not None and len(context) + len(continuation) > longest
            for text, context, continuation in requests
        )
        answers: list[tuple[float, bool]] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=override_bs
        )
        return answers

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Log-likelihood in nats of continuations, and whether greedy decoding gives them."""
        self._on_start(len(requests))
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
        return answers

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Texts generated after the prompts, cut before the first stop string."""
        self._on_start(len(requests))
        head = self.model.get_output_embeddings()
        hook = head.register_forward_hook(_refuse_nan) if head is not None else None
        try:
            texts: list[str] = super().generate_until(requests, disable_tqdm)
        finally:
            if hook is not None:
                hook.remove()
        return texts


class _AnswerHook(CacheHook):
    """lm-eval tells its cache hook of every answer; nothing is cached here, only counted."""

    def __init__(self, on_answer: Callable[[], None]) -> None:
        super().__init__(None)
        self.on_answer = on_answer

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self.on_answer()


def _refuse_nan(head: Any, inputs: Any, logits: Any) -> None:
    """A forward hook on the output layer: greedy decoding would take NaN for an answer."""
    if bool(logits.isnan().any()):
        raise HarnessError("logits are not numbers (NaN) while generating; try dtype: float32")


def _common_prefix_length(first: list[int], second: list[int]) -> int:
    for position, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return position
    return min(len(first), len(second))
