from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from suite.config import Config, content_hash, expand_path, parse_config, read_yaml
from suite.errors import ConfigError


class Loss(Config):
    weight: Annotated[float, Field(gt=0)] = 1.0
    kind: Literal["plain", "fused"] = "plain"
    window: bool | int = False


class Run(Config):
    title: str
    steps: Annotated[int, Field(ge=1)] = 1
    losses: tuple[Loss, ...] = ()
    files: dict[str, Path] = Field(default={})


def problem_with(data: Any) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(Run, data, "run.yaml")
    return str(error.value)


def test_an_unknown_key_is_named_with_the_accepted_ones() -> None:
    assert problem_with({"title": "t", "step": 3}) == (
        "run.yaml: unknown key 'step'; accepted keys: files, losses, steps, title"
    )


def test_an_unknown_key_deep_inside_is_named_with_its_place() -> None:
    assert problem_with({"title": "t", "losses": [{}, {"wieght": 2}]}) == (
        "run.yaml: unknown key 'wieght' in losses[1]; accepted keys: kind, weight, window"
    )


def test_a_misspelt_required_key_is_reported_as_unknown_first() -> None:
    assert problem_with({"titel": "t"}) == (
        "run.yaml: unknown key 'titel'; accepted keys: files, losses, steps, title"
        " (and 1 more problem)"
    )


def test_a_missing_key_is_named() -> None:
    assert problem_with({"steps": 3}) == "run.yaml: title is missing"


def test_further_problems_are_counted() -> None:
    assert problem_with({"steps": 0, "losses": [{"weight": 0}]}) == (
        "run.yaml: title is missing (and 2 more problems)"
    )


def test_a_wrong_type_shows_the_value_and_what_is_expected() -> None:
    assert problem_with({"title": "t", "steps": "many"}) == (
        "run.yaml: steps is 'many', should be a valid integer, unable to parse string as an integer"
    )


def test_a_value_out_of_range_shows_the_range() -> None:
    assert problem_with({"title": "t", "losses": [{"weight": -0.5}]}) == (
        "run.yaml: losses[0].weight is -0.5, should be greater than 0"
    )


def test_a_value_that_is_no_choice_shows_the_choices() -> None:
    assert problem_with({"title": "t", "losses": [{"kind": "fast"}]}) == (
        "run.yaml: losses[0].kind is 'fast', should be 'plain' or 'fused'"
    )


def test_a_wrong_value_in_a_dict_is_named_by_its_key() -> None:
    assert problem_with({"title": "t", "files": {"test": 3}}) == (
        "run.yaml: files.test is 3, should be a path"
    )


def test_a_key_of_several_types_is_named_as_it_stands_in_the_file() -> None:
    assert problem_with({"title": "t", "losses": [{"window": "wide"}]}) == (
        "run.yaml: losses[0].window is 'wide', should be a valid boolean, unable to interpret input"
        " or should be a valid integer, unable to parse string as an integer"
    )


def test_text_where_keys_belong_is_refused() -> None:
    assert problem_with({"title": "t", "losses": ["plain"]}) == (
        "run.yaml: losses[0] is 'plain', should be keys and values"
    )


@pytest.mark.parametrize(("data", "found"), [(None, "nothing"), ([1], "list"), ("a recipe", "str")])
def test_a_file_without_keys_is_refused(data: Any, found: str) -> None:
    assert problem_with(data) == f"run.yaml: expected keys and values, found {found}"


def test_a_small_number_that_yaml_reads_as_text_becomes_a_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("title: t\nlosses: [{weight: 1e-5}]\n")
    data = read_yaml(path)

    assert data["losses"] == [{"weight": "1e-5"}]
    assert parse_config(Run, data, str(path)).losses[0].weight == 1e-5


def test_settings_do_not_change_after_construction() -> None:
    run = Run(title="t")
    with pytest.raises(ValidationError, match="frozen"):
        run.steps = 5  # type: ignore[misc]


def test_broken_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("title: t\nlosses: [1, 2\nsteps: 3\n")
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value) == (
        f"{path}: not valid YAML in line 3: expected ',' or ']', but got ':'"
    )


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("title: t\nsteps: 3\nsteps: 4\n")
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path}: not valid YAML in line 3: key 'steps' is given twice"


def test_a_key_may_replace_a_merged_one(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("base: &base {steps: 3}\nrun: {<<: *base, steps: 4}\n")
    assert read_yaml(path)["run"] == {"steps": 4}


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path}: cannot be read (No such file or directory)"


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"title: \xff\xfe\n")
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path}: cannot be read (not UTF-8 text)"


def test_a_tag_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("title: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="could not determine a constructor for the tag"):
        read_yaml(path)


def test_a_variable_in_a_path_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA_HERE", str(tmp_path))
    assert expand_path(Path("${DATA_HERE}/a.jsonl"), Path("/elsewhere")) == tmp_path / "a.jsonl"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_HERE", raising=False)
    with pytest.raises(ConfigError) as error:
        expand_path(Path("${DATA_HERE}/a.jsonl"), Path("/elsewhere"))
    assert str(error.value) == (
        "${DATA_HERE}/a.jsonl: the environment variable DATA_HERE is not set; set it first"
    )


def test_a_relative_path_starts_at_the_given_folder(tmp_path: Path) -> None:
    assert expand_path(Path("data/a.jsonl"), tmp_path) == tmp_path / "data" / "a.jsonl"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_path(Path("~/a.jsonl"), Path("/elsewhere")) == tmp_path / "a.jsonl"


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def reversed_keys(data: Any) -> Any:
    """The same data with the keys of every dict in the opposite order."""
    if isinstance(data, dict):
        return {key: reversed_keys(data[key]) for key in reversed(list(data))}
    return [reversed_keys(item) for item in data] if isinstance(data, list) else data


@given(st.dictionaries(st.text(), plain_values))
def test_the_order_of_keys_does_not_change_a_hash(data: dict[str, Any]) -> None:
    assert content_hash(reversed_keys(data)) == content_hash(data)


@given(st.lists(st.integers(), unique=True, min_size=2))
def test_the_order_of_a_list_does_change_a_hash(items: list[int]) -> None:
    assert content_hash(items[::-1]) != content_hash(items)
