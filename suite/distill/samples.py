"""Text that a teacher writes itself, so that a transfer needs no corpus.

Samples are drawn in pieces of consecutive numbers. What a piece holds follows from the settings and
its number alone: each sample has random numbers of its own, and the samples of a piece are computed
together, whatever an earlier run has done. So a killed run that goes on ends with the same file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from suite.config import Config, PositiveInt, content_hash
from suite.distill.sample_filters import same_last_number
from suite.distill.sample_prompts import Prompt, PromptReader, Unusable, check_prompts
from suite.distill.sampler import Sampler
from suite.engine.generation import Generated, GenerationSettings
from suite.errors import ConfigError
from suite.files import write_atomically
from suite.models.cache import cache_root, cached_folder
from suite.models.manifest import read_facts
from suite.text.corpus import Corpus, CorpusConfig, Position, open_corpus
from suite.text.tokenizers import OpenedTokenizer

_KIND = "teacher_samples"
_FILE_NAME = "samples.jsonl"
# Raised when the same settings give other samples than before.
_VERSION = 1
_BATCHES_PER_PIECE = 4


class SamplesConfig(Config):
    """Text that the teacher writes.

    Attributes:
        prompts: What it continues: the prompts of documents, conversations without their last
            answer, or whole texts. None for nothing: texts from their beginning.
        num: Samples drawn, before any are left out; prompts are read again where they are fewer.
        max_new_tokens: Of the longest sample.
        temperature: Of the distribution that is drawn from; 0 for the most probable text.
        top_p: Draw from the most probable tokens that together have this probability.
        top_k: Draw from so many of the most probable tokens; 0 for all.
        min_log_prob: Leave out samples whose mean log-probability a token is lower, in nats, under
            the teacher as it is, at temperature 1.
        verifier: `last_number` leaves out samples whose last number is not that of the prompt's own
            completion.
        seed: Of the draws.
        batch: Samples that are drawn together.
    """

    prompts: CorpusConfig | None = None
    num: PositiveInt = 1000
    max_new_tokens: PositiveInt = 256
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    min_log_prob: Annotated[float, Field(le=0, allow_inf_nan=False)] | None = None
    verifier: Literal["last_number"] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    batch: PositiveInt = 32

    @model_validator(mode="after")
    def _fits_together(self) -> SamplesConfig:
        if self.prompts is None and self.temperature == 0:
            raise ValueError(
                "temperature 0 without prompts writes one text num times; give prompts or a higher"
                " temperature"
            )
        has_answers = self.prompts is not None and not (
            self.prompts.prompt is None and self.prompts.messages is None
        )
        if self.verifier is not None and not has_answers:
            raise ValueError(
                f"verifier {self.verifier} compares with the completions of prompts; give prompts"
                " with prompt and completion, or with messages"
            )
        return self


@dataclass(frozen=True)
class SampleCounts:
    """What became of the samples.

    Attributes:
        num_drawn: All, those without a usable prompt included.
        num_kept: In the file.
        num_without_prompt: Their prompt cannot be read, is empty or too long.
        num_empty: Ended at once.
        num_broken: Their bytes are no UTF-8.
        num_improbable: Below `min_log_prob`.
        num_unverified: Refused by the verifier.
        num_cut: Of those kept, how many ended at `max_new_tokens`.
    """

    num_drawn: int = 0
    num_kept: int = 0
    num_without_prompt: int = 0
    num_empty: int = 0
    num_broken: int = 0
    num_improbable: int = 0
    num_unverified: int = 0
    num_cut: int = 0

    def __add__(self, other: SampleCounts) -> SampleCounts:
        return SampleCounts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True)
class TeacherSamples:
    """Finished samples.

    Attributes:
        corpus: Reads them.
        counts: What was left out.
    """

    corpus: CorpusConfig
    counts: SampleCounts


def teacher_samples(
    config: SamplesConfig,
    model: Callable[[], Any],
    tokenizer: OpenedTokenizer,
    *,
    fingerprint: str,
    on_progress: Callable[[int, int], None] = lambda num_done, num_tokens: None,
) -> TeacherSamples:
    """Let a model write text, or take what it has written before.

    The same settings, prompts and model give the same file, byte for byte on one machine.

    Args:
        config: How many, and how they are drawn.
        model: Gives the model, a causal language model of transformers; called only if something is
            to be written. It is put into evaluation mode.
        tokenizer: Its tokenizer, whose name stands in messages.
        fingerprint: Of what the model is: weights, tokenizer and dtype.
        on_progress: Told how many samples are done, and how many tokens were generated since it was
            told last; 0 for what was there before.

    Raises:
        ConfigError: The prompts cannot be read or do not fit the model, or no sample is left.
        ModelError: The engine cannot run the model, or the cache cannot be written.
        TextError: The tokenizer has neither begin nor end token.
    """
    corpus = None if config.prompts is None else open_corpus(config.prompts)
    check_prompts(corpus, tokenizer)
    key = _key(config, corpus, fingerprint)
    # Outside the folder that is made: what is in it survives a kill.
    pieces = cache_root() / _KIND / f"{key}.pieces"

    def build(folder: Path) -> dict[str, Any]:
        writer = _Writer(config, corpus, model, tokenizer)
        done = writer.fill(pieces, on_progress)
        counts = sum((piece.counts for piece in done), SampleCounts())
        if not counts.num_kept:
            raise _nothing_left(counts, next((p.reason for p in done if p.reason), ""))
        lines = (line for piece in done for line in piece.lines)
        (folder / _FILE_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return {"settings": config.model_dump(mode="json"), "counts": asdict(counts)}

    folder = cached_folder(_KIND, key, build)
    shutil.rmtree(pieces, ignore_errors=True)
    counts = SampleCounts(**read_facts(folder)["counts"])
    return TeacherSamples(_corpus_of(config, folder / _FILE_NAME), counts)


@dataclass(frozen=True)
class _Piece:
    """Finished samples of consecutive numbers.

    Attributes:
        lines: Of the file.
        counts: What became of them.
        position: Of the prompts, behind the last of them.
        reason: Why the first unusable prompt is that; empty if there is none.
    """

    lines: tuple[str, ...]
    counts: SampleCounts
    position: Position
    reason: str

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), ensure_ascii=False))

    @staticmethod
    def read(path: Path) -> _Piece:
        data = json.loads(path.read_text(encoding="utf-8"))
        counts, position = SampleCounts(**data["counts"]), Position(**data["position"])
        return _Piece(tuple(data["lines"]), counts, position, data["reason"])


class _Writer:
    """Draws the pieces that are not there."""

    def __init__(
        self,
        config: SamplesConfig,
        corpus: Corpus | None,
        model: Callable[[], Any],
        tokenizer: OpenedTokenizer,
    ) -> None:
        self._config = config
        self._sampler = Sampler(model(), tokenizer)
        max_length = self._sampler.max_length
        if config.max_new_tokens >= max_length:
            raise ConfigError(
                f"teacher_samples: max_new_tokens is {config.max_new_tokens:,}, which leaves no"
                f" room for a prompt in the {max_length:,} tokens that {tokenizer.name} reads;"
                " lower it"
            )
        self._reader = PromptReader(corpus, tokenizer, max_length - config.max_new_tokens)

    def fill(self, folder: Path, on_progress: Callable[[int, int], None]) -> list[_Piece]:
        """All pieces, in order.

        Args:
            folder: Where finished pieces are, and are written to.
            on_progress: As of `teacher_samples`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        size = self._config.batch * _BATCHES_PER_PIECE
        pieces: list[_Piece] = []
        position = Position()
        for number, first in enumerate(range(0, self._config.num, size)):
            path = folder / f"{number:06d}.json"
            stop = min(first + size, self._config.num)
            num_tokens = 0
            if path.is_file():
                piece = _Piece.read(path)
            else:
                piece, num_tokens = self._draw(range(first, stop), position)
                piece.write(path)
            pieces.append(piece)
            position = piece.position
            on_progress(stop, num_tokens)
        return pieces

    def _draw(self, numbers: range, position: Position) -> tuple[_Piece, int]:
        """The samples of some numbers, and how many tokens were generated."""
        asked: list[tuple[int, Prompt]] = []
        reason = ""
        for number, (behind, prompt) in zip(numbers, self._reader.read(position), strict=False):
            position = behind
            if isinstance(prompt, Unusable):
                reason = reason or prompt.reason
            else:
                asked.append((number, prompt))
        prompts = [prompt for _, prompt in asked]
        found: list[Generated] = []
        if asked:
            keys = [number for number, _ in asked]
            found = self._sampler.draw(prompts, keys, self._settings, batch=self._config.batch)
        lines, counts = self._kept(prompts, found)
        counts += SampleCounts(num_drawn=len(numbers), num_without_prompt=len(numbers) - len(asked))
        num_tokens = sum(len(one.outcomes) for one in found)
        return _Piece(tuple(lines), counts, position, reason), num_tokens

    @cached_property
    def _settings(self) -> GenerationSettings:
        config = self._config
        return GenerationSettings(
            stop=(),
            max_tokens=config.max_new_tokens,
            do_sample=True,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            seed=config.seed,
        )

    def _kept(
        self, prompts: Sequence[Prompt], found: Sequence[Generated]
    ) -> tuple[list[str], SampleCounts]:
        """The lines of the samples that pass, and how many do not."""
        config = self._config
        least, has_prompt = config.min_log_prob, config.prompts is not None
        means = (
            [0.0] * len(found) if least is None else self._sampler.mean_log_probs(prompts, found)
        )
        lines, counts = [], SampleCounts()
        for prompt, sample, mean in zip(prompts, found, means, strict=True):
            text = self._sampler.text_of(sample)
            if text is None:
                counts += SampleCounts(num_broken=1)
            elif not text:
                counts += SampleCounts(num_empty=1)
            elif least is not None and not mean >= least:
                counts += SampleCounts(num_improbable=1)
            elif config.verifier and not same_last_number(text, prompt.reference or ""):
                counts += SampleCounts(num_unverified=1)
            else:
                counts += SampleCounts(num_kept=1, num_cut=int(sample.reason == "length"))
                record = prompt.record(text, has_prompt=has_prompt)
                lines.append(json.dumps(record, ensure_ascii=False))
        return lines, counts


def _key(config: SamplesConfig, corpus: Corpus | None, fingerprint: str) -> str:
    """Equal where the samples are."""
    settings = config.model_dump(mode="json", exclude={"prompts"})
    prompts = None
    if config.prompts is not None and corpus is not None:
        order = config.prompts.model_dump(include={"shuffle", "shuffle_block", "seed", "streaming"})
        prompts = [corpus.fingerprint(), order]
    return content_hash([_VERSION, settings, prompts, fingerprint])


def _corpus_of(config: SamplesConfig, path: Path) -> CorpusConfig:
    if config.prompts is None:
        return CorpusConfig(path=path, text="text", seed=config.seed)
    if config.prompts.messages is not None:
        return CorpusConfig(path=path, messages="messages", seed=config.seed)
    return CorpusConfig(path=path, prompt="prompt", completion="completion", seed=config.seed)


def _nothing_left(counts: SampleCounts, reason: str) -> ConfigError:
    if counts.num_broken == counts.num_drawn:
        return ConfigError(
            f"teacher_samples: the model writes no text (none of {counts.num_drawn:,} samples is"
            " UTF-8); give another teacher or prompts"
        )
    found = {
        "with an unusable prompt": counts.num_without_prompt,
        "empty": counts.num_empty,
        "no UTF-8": counts.num_broken,
        "below min_log_prob": counts.num_improbable,
        "refused by the verifier": counts.num_unverified,
    }
    parts = [f"{number:,} {what}" for what, number in found.items() if number]
    first = f"; the first prompt: {reason}" if counts.num_without_prompt and reason else ""
    return ConfigError(
        f"teacher_samples: none of {counts.num_drawn:,} samples is left"
        f" ({', '.join(parts)}{first}); raise num, or loosen what they must pass"
    )
