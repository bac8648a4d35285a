"""Options of the form `TOKEN=ROLE`."""

from __future__ import annotations

from collections.abc import Iterable

from suite.errors import ConfigError


def read_roles(option: str, given: Iterable[str]) -> dict[str, str]:
    """`TOKEN=ROLE` as pairs; the token itself may hold an equals sign.

    Raises:
        ConfigError: One of them is no such pair.
    """
    roles = {}
    for item in given:
        token, equals, role = item.rpartition("=")
        if not equals or not token:
            raise ConfigError(f"{option} {item}: expected TOKEN=ROLE")
        roles[token] = role
    return roles
