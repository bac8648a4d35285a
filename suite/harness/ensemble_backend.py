"""Several models as one: lm-eval's backend `suite-ensemble`.

Every member keeps its own begin token, end tokens, special tokens and chat template, its device and
its dtype; what is combined are their distributions over what they share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from suite.engine.generation import Generated, GenerationSettings
from suite.ensemble.weights import WeightFit, check_weights
from suite.errors import ConfigError
from suite.harness.chat import encode_chat
from suite.harness.contract import EngineBackend, EngineOptions
from suite.harness.ensemble_opening import OpenedEnsemble, make_scorer, open_ensemble_arguments
from suite.harness.ensemble_scores import KeptStore
from suite.harness.generation_kwargs import limit_facts

__all__ = ["KeptStore", "SuiteEnsembleLM"]


class SuiteEnsembleLM(EngineBackend):
    """An ensemble. Open it from arguments, `SuiteEnsembleLM(path="ensemble.yaml")`, or give it.

    Attributes:
        opened: Members, rule and weights.
    """

    source_name: ClassVar[str] = "suite-ensemble"

    def __init__(
        self,
        opened: OpenedEnsemble | None = None,
        options: EngineOptions | None = None,
        store: KeptStore | None = None,
        **arguments: Any,
    ) -> None:
        """Take an opened ensemble, or open one.

        Args:
            opened: The ensemble; None to open what `arguments` name.
            options: With `opened`: how requests are read and batched.
            store: What the same members have said of the same requests before.
            arguments: As `EnsembleArguments`.

        Raises:
            SuiteError: An argument is unknown or wrong, a member cannot be had, or the members
                cannot be combined so.
        """
        if opened is None:
            opened, options = open_ensemble_arguments(arguments)
        options = options or EngineOptions()
        if isinstance(options.strip_reasoning, int):
            raise ConfigError(
                f"ensemble '{opened.name}': strip_reasoning is the token id"
                f" {options.strip_reasoning}, but members have ids of their own; give the string"
            )
        self.opened = opened
        self._scorer = make_scorer(opened, options, store)
        self._weights = opened.weights
        self.start(options, opened.members[0].member.device)
        self.facts = {"name": opened.name} | limit_facts(self._counts_bytes)

    @property
    def tokenizer(self) -> Any:
        """The first member's Hugging Face tokenizer."""
        return self.opened.members[0].text.hf

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's request cache knows the members' tokenizers and templates by."""
        return "suite-ensemble-" + hashlib.sha256(self._templates().encode()).hexdigest()[:16]

    @property
    def max_length(self) -> int:
        """Tokens of one text that every member reads."""
        return min(own.member.max_length for own in self.opened.members)

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each member, as they are now."""
        return self._weights

    def set_weights(self, weights: Sequence[float]) -> None:
        """Score what follows with these weights.

        Raises:
            ConfigError: They are not one for each member, at least 0, summing to 1.
        """
        check_weights(weights, len(self.opened.members), self.opened.name)
        self._weights = tuple(weights)
        self._scorer.set_weights(self._weights)

    def fit_weights(self, pairs: Sequence[tuple[str, str]]) -> WeightFit:
        """The weights that make development texts most likely; they are not set.

        Args:
            pairs: Prompts and their right continuations.
        """
        requests = [DevelopmentItem(pair, number) for number, pair in enumerate(pairs)]
        self._on_start(len(requests))
        return self._scorer.fit(requests, self._tick)

    def reset_counts(self) -> None:
        """Count anew, for another task."""
        super().reset_counts()
        self._scorer.reset()

    def barrier(self) -> None:
        """Wait for all ranks; after it, each knows what was dropped on any of them.

        lm-eval calls it behind the requests of each kind, before it asks for `get_model_info`.
        """
        super().barrier()
        self._scorer.share(self.all_gather)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The members' templates; lm-eval writes them into the results."""
        return None if chat_template is False else self._templates()

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text that each member renders with its own template."""
        return encode_chat(chat_history, add_generation_prompt=add_generation_prompt)

    def get_model_info(self) -> dict[str, Any]:
        """Members, rule, weights and dropped mass, for the results file."""
        members = [dict(own.facts) | {"name": own.member.name} for own in self.opened.members]
        info = {
            "members": members,
            "combine": self.opened.combine,
            "weights": list(self._weights),
            "posterior_from": self.opened.posterior_from,
            "renormalise": self.opened.renormalise,
        }
        return self.facts | {"ensemble": info | self._scorer.facts()}

    def _score_pairs(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        found = self._scorer.pairs(requests, self._tick)
        self._count(requests, found.is_cut, found.is_moved)
        return found.answers

    def _score_texts(self, requests: Sequence[Any]) -> list[float]:
        return self._scorer.texts(requests, self._tick)

    def _generate(
        self,
        requests: Sequence[Any],
        settings: GenerationSettings,
        on_answer: Callable[[int, Generated], None],
    ) -> None:
        is_cut = self._scorer.generate(requests, settings, self.batch_size, on_answer)
        self._count(requests, is_cut)

    @property
    def _end_strings(self) -> tuple[str, ...]:
        texts = [own.text for own in self.opened.members]
        return tuple(dict.fromkeys(str(t.hf.decode([t.end_ids[0]])) for t in texts if t.end_ids))

    @property
    def _counts_bytes(self) -> bool:
        return all(own.counts_bytes for own in self.opened.members)

    def _decode(self, outcomes: Sequence[int]) -> str:
        return self._scorer.decode(outcomes)

    def _bytes_of(self, outcomes: Sequence[int]) -> bytes:
        return self._scorer.bytes_of(outcomes)

    def _templates(self) -> str:
        return "\n".join(
            f"{own.member.name} ({own.text.hf.name_or_path}): {own.text.hf.chat_template}"
            for own in self.opened.members
        )


@dataclass(frozen=True)
class DevelopmentItem:
    """Prompt and right continuation, in the form of lm-eval's requests."""

    args: tuple[str, str]
    idx: int
    task_name: None = None
    doc_id: None = None
