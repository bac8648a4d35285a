from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite.config import parse_config
from suite.errors import ConfigError
from suite.models.entry import ModelConfig
from suite.models.sources import Source, TransplantSource, parse_source

GIVEN = {"model": "path:a", "tokenizer": "hub:org/b", "method": "omp"}


def problem(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(Source, {"transplant": GIVEN | changes}, "models[0].source")
    return str(error.value)


def test_a_transplant_is_a_source_of_two_sources() -> None:
    entry = parse_config(ModelConfig, {"name": "m", "source": {"transplant": GIVEN}}, "models[0]")
    source = entry.source.transplant
    assert source == TransplantSource(
        model=Source(path=Path("a")), tokenizer=Source(hub="org/b"), method="omp"
    )
    assert (source.special_tokens, source.k, source.seed) == ("keep", 64, 0)
    assert entry.source.kind == "transplant"


def test_it_is_shown_by_its_parts() -> None:
    source = parse_config(Source, {"transplant": GIVEN}, "source")
    assert str(source) == "transplant:omp of path:a to hub:org/b"


def test_the_tokens_may_be_the_bytes() -> None:
    given = GIVEN | {"tokenizer": "bytes", "method": "fvt"}
    source = parse_config(Source, {"transplant": given}, "source").transplant
    assert source is not None
    assert source.tokenizer == "bytes"


def test_it_cannot_be_written_in_one_word() -> None:
    with pytest.raises(ConfigError) as error:
        parse_source("transplant:a")
    assert str(error.value) == (
        "--model transplant:a: expected one of hub:..., path:..., gguf:..., package:..., random:..."
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"tokenizer": "bytes"},
            "transplant: omp needs a model that owns the tokenizer, and bytes has none; use fvt",
        ),
        (
            {"tokenizer": "bytes", "method": "fvt", "special_tokens": "replace"},
            "transplant: bytes has no special tokens of its own; use special_tokens: keep",
        ),
        ({"method": "fvt", "k": 64}, "transplant: k has no effect with fvt; leave it out"),
        ({"seed": 0}, "transplant: seed has no effect with omp; leave it out"),
        ({"k": 0}, "transplant.k is 0, should be greater than or equal to 1"),
        (
            {"method": "wechsel"},
            "transplant.method is 'wechsel', should be 'fvt', 'omp', 'mean', 'zeros' or 'random'",
        ),
        (
            {"model": {"lm_eval": {"model": "vllm"}}},
            "transplant.model: expected one of hub, path, gguf, package, random, found lm_eval",
        ),
        (
            {"tokenizer": {"transplant": GIVEN}},
            "transplant.tokenizer: expected one of hub, path, gguf, package, random, found"
            " transplant",
        ),
        (
            {"tokenizer": "byte"},
            "transplant.tokenizer is 'byte', should be keys and values or should be 'bytes'",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, Any], expected: str) -> None:
    assert problem(**changes) == f"models[0].source: {expected}"
