"""Item features: what tokenisation does to prompts and answers."""

from __future__ import annotations

from typing import Any

from suite.harness.features import item_features


def sample(doc_id: int, *requests: tuple[Any, ...], filter_name: str = "none") -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "doc_hash": f"hash-{doc_id}",
        "filter": filter_name,
        "arguments": list(requests),
    }


def pairs_of_characters(text: str) -> list[int]:
    """A toy tokenizer: every two characters are one token."""
    return [hash(text[i : i + 2]) for i in range(0, len(text), 2)]


def test_counts_are_over_the_prompt_and_first_answer() -> None:
    [features] = item_features([sample(3, ("né 12", " a"), ("né 12", " b"))], pairs_of_characters)
    assert features["doc_id"] == 3
    assert features["num_bytes"] == len("né 12 a".encode())
    assert features["num_tokens"] == 4
    assert features["num_digits"] == 2
    assert features["num_non_ascii"] == 1


def test_requests_with_a_token_across_the_border_are_counted() -> None:
    requests = (("abc", "d"), ("abcd", "e"), ("abc", "ef"))
    [features] = item_features([sample(0, *requests)], pairs_of_characters)
    assert features["num_boundary_splits"] == 2


def test_white_space_at_the_end_of_a_prompt_belongs_to_the_answer() -> None:
    [features] = item_features([sample(0, ("ab ", "c"))], pairs_of_characters)
    assert features["num_boundary_splits"] == 0


def test_generation_and_rolling_have_no_border() -> None:
    requests = [sample(0, ("abc", {"until": []})), sample(1, ("abc",))]
    features = item_features(requests, pairs_of_characters)
    assert [item["num_boundary_splits"] for item in features] == [0, 0]


def test_an_item_logged_once_a_filter_counts_once() -> None:
    samples = [sample(0, ("a", "b"), filter_name=name) for name in ("strict", "flexible")]
    assert len(item_features(samples, pairs_of_characters)) == 1
