"""A finished folder as a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from suite.errors import ConfigError, ModelError

# The hub's own rule, known before minutes of work.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?!.*(?:--|\.\.))(?=.{{1,96}}$){_PART}/{_PART}")


def check_repository(name: str) -> None:
    """Check the form of a repository's name.

    Raises:
        ConfigError: It is not `ORG/NAME`.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--push {name}: expected ORG/NAME of letters, digits, '-', '_' and '.', at most 96"
            " characters"
        )


def push_folder(folder: Path, name: str, *, private: bool, api: Any = None) -> str:
    """Upload a folder as one commit; the repository is made if there is none.

    Args:
        folder: What is uploaded.
        name: `ORG/NAME`.
        private: Only its owner sees it.
        api: huggingface_hub's `HfApi`; None for one of the user's own login.

    Returns:
        The repository's address.

    Raises:
        ModelError: The hub refuses or cannot be reached, or the repository is public where it was
            to be private; the folder stays.
    """
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub_errors

    # Of the library beneath, which was another one in each major version.
    unreachable = hub_errors.HTTPError  # type: ignore[attr-defined]
    api = HfApi() if api is None else api
    again = f"{folder} is finished; upload it later with hf upload {name} {folder}"
    try:
        address = str(api.create_repo(name, private=private, exist_ok=True))
        if private and not api.repo_info(name).private:
            raise ModelError(
                f"--push {name}: this repository exists and is public; give another name, or leave"
                f" --private out ({folder} is finished)"
            )
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by alm-suite")
    except hub_errors.LocalTokenNotFoundError as error:
        raise ModelError(f"--push {name}: not logged in; run hf auth login ({again})") from error
    except hub_errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise ModelError(f"--push {name}: {_refusal(status)} ({again})") from error
    except (unreachable, OSError) as error:
        raise ModelError(
            f"--push {name}: the hub cannot be reached; go online ({again})"
        ) from error
    return address


def _refusal(status: int | None) -> str:
    if status == 401:
        return "not logged in; run hf auth login"
    if status == 403:
        return "your login may not write there; give another ORG, or a token that may write"
    return f"the hub refuses (HTTP status {status}); try again later"
