"""What a user reads when a folder cannot be pushed: exact sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import errors as hub_errors

from suite.errors import ConfigError, ModelError
from suite.models.hub_upload import check_repository, push_folder


class Hub:
    """Stands in for huggingface_hub's HfApi."""

    def __init__(self, fault: Exception | None = None, *, is_private: bool = False) -> None:
        self.fault, self.is_private = fault, is_private
        self.uploads = 0

    def create_repo(self, name: str, **options: Any) -> str:
        return f"https://huggingface.co/{name}"

    def repo_info(self, name: str) -> Any:
        return type("Info", (), {"private": self.is_private})

    def upload_folder(self, **options: Any) -> None:
        self.uploads += 1
        if self.fault is not None:
            raise self.fault


def http_error(status: int) -> Exception:
    response = type("Response", (), {"status_code": status, "headers": {}, "request": None})()
    error = hub_errors.HfHubHTTPError.__new__(hub_errors.HfHubHTTPError)
    error.response = response
    return error


LATER = "(out is finished; upload it later with hf upload me/tiny out)"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (hub_errors.LocalTokenNotFoundError(), f"not logged in; run hf auth login {LATER}"),
        (http_error(401), f"not logged in; run hf auth login {LATER}"),
        (
            http_error(403),
            f"your login may not write there; give another ORG, or a token that may write {LATER}",
        ),
        (http_error(500), f"the hub refuses (HTTP status 500); try again later {LATER}"),
        (
            hub_errors.OfflineModeIsEnabled("off"),
            f"the hub cannot be reached; go online {LATER}",
        ),
        (
            hub_errors.HTTPError("no route"),  # type: ignore[attr-defined]
            f"the hub cannot be reached; go online {LATER}",
        ),
        (OSError("no network"), f"the hub cannot be reached; go online {LATER}"),
    ],
)
def test_a_push_that_fails(fault: Exception, message: str) -> None:
    with pytest.raises(ModelError) as error:
        push_folder(Path("out"), "me/tiny", private=False, api=Hub(fault))
    assert str(error.value) == f"--push me/tiny: {message}"


def test_the_hub_is_off_in_tests() -> None:
    with pytest.raises(ModelError) as error:
        push_folder(Path("out"), "me/tiny", private=False)
    assert str(error.value) == f"--push me/tiny: the hub cannot be reached; go online {LATER}"


def test_nothing_private_goes_to_a_public_repository() -> None:
    hub = Hub(is_private=False)
    with pytest.raises(ModelError) as error:
        push_folder(Path("out"), "me/tiny", private=True, api=hub)
    assert str(error.value) == (
        "--push me/tiny: this repository exists and is public; give another name, or leave"
        " --private out (out is finished)"
    )
    assert hub.uploads == 0


@pytest.mark.parametrize("name", ["me/tiny", "My-Org/model.v1_b", "a/b"])
def test_names_of_repositories(name: str) -> None:
    check_repository(name)


@pytest.mark.parametrize(
    "name", ["tiny", "a/b/c", "/b", "a/", "a b/c", "a/-b", "a/b--c", "a/b..c", "a/" + "b" * 95]
)
def test_what_is_no_name_of_a_repository(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_repository(name)
    assert str(error.value) == (
        f"--push {name}: expected ORG/NAME of letters, digits, '-', '_' and '.', at most 96"
        " characters"
    )
