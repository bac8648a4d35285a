"""Open the tokenizer of a model source, or the bytes of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suite.errors import ModelError
from suite.models.pretrained import load_tokenizer
from suite.models.resolve import resolve_tokenizer
from suite.models.sources import parse_source
from suite.text.bytelevel import byte_tokenizer
from suite.text.roles import parse_roles
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

_BYTES = "bytes:"


def open_source(spec: str, option: str, roles: Mapping[str, str] | None = None) -> OpenedTokenizer:
    """Open the tokenizer of `hub:org/name` or another source; of `bytes:SOURCE` its byte tokenizer.

    Args:
        spec: As on the command line; it is also the tokenizer's name in messages.
        option: Where it was written, for messages.
        roles: Names of roles by special token, where those found are wrong.

    Raises:
        ConfigError: No such kind of source, special token or role.
        ModelError: The tokenizer cannot be had or read.
        TextError: Its bytes cannot be told.
    """
    given = parse_roles(roles or {}, f"{option} {spec}")
    if spec.startswith(_BYTES):
        source = open_source(spec.removeprefix(_BYTES), option, roles)
        return open_tokenizer(byte_tokenizer(source), name=spec, roles=given)
    return open_tokenizer(_load(spec, option), name=spec, roles=given)


def _load(spec: str, option: str) -> Any:
    source = parse_source(spec, option)
    try:
        folder = resolve_tokenizer(source)
    except ModelError as error:
        raise ModelError(f"{option} {spec}: {error}") from error
    try:
        return load_tokenizer(folder)
    # The library raises what its parsers raise, plain Exceptions among them.
    except Exception as error:
        what = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(
            f"{option} {spec}: the tokenizer in {folder} is damaged or of an unknown kind"
            f" ({type(error).__name__}: {what}); save it again with save_pretrained"
        ) from error
