"""Open the tokenizer of a model source, or the bytes of one."""

from __future__ import annotations

from suite.errors import ConfigError, ModelError, SuiteError
from suite.models.resolve import resolve_tokenizer
from suite.models.sources import parse_source
from suite.text.bytelevel import byte_tokenizer
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

_BYTES = "bytes:"


def open_source(spec: str, option: str) -> OpenedTokenizer:
    """Open the tokenizer of `hub:org/name` or another source; of `bytes:SOURCE` its byte tokenizer.

    Args:
        spec: As on the command line; it is also the tokenizer's name in messages.
        option: Where it was written, for messages.

    Raises:
        ConfigError: No such kind of source.
        ModelError: The tokenizer cannot be had or read.
        TextError: Its bytes cannot be told.
    """
    from transformers import AutoTokenizer

    if spec.startswith(_BYTES):
        return open_tokenizer(byte_tokenizer(open_source(spec[len(_BYTES) :], option)), name=spec)
    try:
        folder = resolve_tokenizer(parse_source(spec, option))
    except ConfigError:
        raise
    except SuiteError as error:
        raise type(error)(f"{option} {spec}: {error}") from error
    try:
        hf = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(
            f"{option} {spec}: the tokenizer in {folder} cannot be opened ({first_line})"
        ) from error
    return open_tokenizer(hf, name=spec)
