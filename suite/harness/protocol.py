"""The choices that decide how text becomes requests; free of lm_eval, so configs load fast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from suite.config import Config

# "lm-eval": prompt and continuation are encoded together, then cut. "paper": encoded apart, a
# begin token before every prompt, 2,048 tokens (arXiv 2503.20083).
Protocol = Literal["lm-eval", "paper"]

PAPER_MAX_LENGTH = 2048

BACKEND_VERSION = "hf/1"

Seed = Annotated[int, Field(ge=0)]


class Seeds(Config):
    """lm-eval's four seeds, with its defaults."""

    random: Seed = 0
    numpy: Seed = 1234
    torch: Seed = 1234
    fewshot: Seed = 1234
