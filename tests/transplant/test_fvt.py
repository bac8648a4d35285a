from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import kept, kept_plan
from trained_tokenizers import FAMILIES, opened

from suite.errors import TextError
from suite.text.tokenizers import OpenedTokenizer
from suite.transplant.contract import Composition
from suite.transplant.fvt import fvt, split_tokens

PREFIXED = ("prefixed", "unigram")


def pieces(family: str, *tokens: bytes) -> list[list[bytes | None]]:
    """What tokens are split into, as bytes; None for a byte without a token."""
    old = opened(family)
    return [
        [old.vocabulary.token_bytes[n] if n >= 0 else None for n in found.tolist()]
        for found in split_tokens(old, tokens)
    ]


def plain_mean(old: OpenedTokenizer, rows: np.ndarray, token: bytes) -> np.ndarray:
    """The mean of the rows of a token's pieces, by the definition, in float64."""
    singles = [n for n, e in enumerate(old.vocabulary.token_bytes) if len(e) == 1]
    firsts = [n for n in singles if old.vocabulary.id_of_bytes[old.vocabulary.token_bytes[n]] == n]
    unknown = sum(rows[n].astype(np.float64) for n in firsts) / len(firsts)
    total, count, place = np.zeros(rows.shape[1]), 0, 0
    while place < len(token):
        # The longest run of UTF-8 from here, else one byte.
        ends = range(len(token), place, -1)
        end = next((e for e in ends if is_utf8(token[place:e])), None)
        if end is None:
            byte = token[place : place + 1]
            number = old.vocabulary.id_of_bytes.get(byte)
            total += unknown if number is None else rows[number]
            count, place = count + 1, place + 1
            continue
        for number in read_inside(old, token[place:end].decode()):
            total += rows[number]
            count += 1
        place = end
    return total / count


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_inside(old: OpenedTokenizer, text: str) -> list[int]:
    """The tokens of a text for a tokenizer that puts nothing before it."""
    return old.encode(text).ids.tolist()


@pytest.mark.parametrize("family", ["byte-level", "marked"])
@pytest.mark.parametrize("target", [*FAMILIES, "bytes"])
def test_rows_are_means_of_the_rows_of_their_pieces(family: str, target: str) -> None:
    old = opened(family)
    plan = kept_plan(old, kept(old, target))
    rows = torch.randn(len(old.vocabulary), 7, generator=torch.Generator().manual_seed(0))
    found = fvt(Composition(old=old, plan=plan))(rows, "input")
    for row, token in zip(found, plan.composed_bytes, strict=True):
        np.testing.assert_allclose(row, plain_mean(old, rows.numpy(), token), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40)
@given(token=st.binary(min_size=1, max_size=12))
def test_pieces_joined_are_the_token(family: str, token: bytes) -> None:
    (found,) = pieces(family, token)
    place = 0
    for piece in found:
        assert piece is None or token.startswith(piece, place)
        place += 1 if piece is None else len(piece)
    assert place == len(token)


@pytest.mark.parametrize("family", PREFIXED)
def test_no_dummy_space_stands_before_a_token(family: str) -> None:
    assert b"".join(pieces(family, b"the")[0]) == b"the"
    assert b"".join(pieces(family, b" the")[0]) == b" the"
    assert not pieces(family, b"the")[0][0].startswith(b" ")


def test_what_is_not_utf_8_splits_into_single_bytes() -> None:
    cafe = "é".encode()
    assert pieces("byte-level", b"\xe6\x97") == [[b"\xe6", b"\x97"]]
    # The text around it is read as text.
    fox, accent = pieces("byte-level", b" fox", cafe)
    assert fox == [b" fox"]
    found = pieces("byte-level", b" fox\xff" + cafe + cafe[:1] + b" fox")
    assert found == [[*fox, b"\xff", *accent, cafe[:1], *fox]]


def test_special_tokens_in_a_token_are_text() -> None:
    assert b"".join(pieces("marked", b"<|end|>")[0]) == b"<|end|>"


def test_a_byte_without_a_token_has_the_mean_of_the_single_bytes() -> None:
    old = opened("unigram")
    assert b"\xff" in old.vocabulary.id_of_bytes
    vocabulary = old.vocabulary
    without = type(vocabulary)(
        token_bytes=tuple(b"" if entry == b"\xff" else entry for entry in vocabulary.token_bytes),
        special=vocabulary.special,
        roles=vocabulary.roles,
        is_dead=vocabulary.is_dead,
        is_added=vocabulary.is_added,
        is_fallback=vocabulary.is_fallback,
    )
    lacking = OpenedTokenizer(
        **{name: getattr(old, name) for name in old.__dataclass_fields__} | {"vocabulary": without}
    )
    plan = kept_plan(lacking, kept(old, "bytes"))
    assert plan.composed_bytes == (b"\xff",)
    rows = torch.randn(len(without), 5, generator=torch.Generator().manual_seed(0))
    found = fvt(Composition(old=lacking, plan=plan))(rows, "input")
    expected = plain_mean(lacking, rows.numpy(), b"\xff")
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_text_that_the_old_tokenizer_cannot_read_splits_into_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: OpenedTokenizer, texts: list[str]) -> list[TextError]:
        return [TextError("no") for _ in texts]

    monkeypatch.setattr(OpenedTokenizer, "encode_each", lambda *given: iter(refuse(*given)))
    assert pieces("byte-level", b"the") == [[b"t", b"h", b"e"]]


def test_no_new_token_is_no_row() -> None:
    old = opened("byte-level")
    plan = kept_plan(old, kept(old, "byte-level"))
    rows = torch.zeros(len(old.vocabulary), 3)
    assert fvt(Composition(old=old, plan=plan))(rows, "input").shape == (0, 3)
