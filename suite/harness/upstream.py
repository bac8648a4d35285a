"""Backends of lm-eval itself, by name: whatever it can serve, it can serve here."""

from __future__ import annotations

from typing import Any

from suite.errors import ConfigError, HarnessError, near_names


def check_upstream_backend(name: str) -> None:
    """Check that lm-eval has a backend of that name, without loading it.

    Raises:
        ConfigError: It has none; suggests near names.
    """
    import lm_eval.models  # noqa: F401 - fills the registry with names
    from lm_eval.api.registry import model_registry

    known = list(model_registry)
    if name not in known:
        raise ConfigError(f"lm_eval has no backend '{name}'; {near_names(name, known)}")


def open_upstream_backend(name: str, args: dict[str, Any], batch_size: int) -> Any:
    """A backend of lm-eval by name; arguments go in as a dictionary, never as its comma string.

    Raises:
        ConfigError: lm-eval has no such backend.
        HarnessError: It cannot be opened.
    """
    from lm_eval.api.registry import get_model

    check_upstream_backend(name)
    try:
        return get_model(name).create_from_arg_obj(args, {"batch_size": batch_size})
    except Exception as error:  # each backend fails in its own ways
        raise HarnessError(f"lm_eval backend '{name}' cannot be opened ({error})") from error
