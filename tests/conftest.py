"""Set-up of all tests: no network, a cache of their own, and tiny models made in process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Libraries read these when they are imported, so they are set before anything else.
_CACHE = tempfile.mkdtemp(prefix="suite-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["SUITE_CACHE"] = _CACHE
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side, each with threads for all cores, slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Kernels read it when they are decorated; runs on a GPU set it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from suite.models.manifest import write_manifest  # noqa: E402
from suite.models.tiny import write_tiny_model  # noqa: E402

# The same examples each time, and no clock: a busy machine is no failure.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random model whose tokenizer adds no begin token. Copy to change it."""
    folder = tmp_path_factory.mktemp("tiny_model")
    write_manifest(folder, write_tiny_model(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model_bos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, but the tokenizer puts a begin token before every text."""
    folder = tmp_path_factory.mktemp("tiny_model_bos")
    write_manifest(folder, write_tiny_model(folder, adds_begin_token=True))
    return folder


@pytest.fixture(scope="session")
def tiny_model_merges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, but some tokens stand for several bytes and can span a border."""
    folder = tmp_path_factory.mktemp("tiny_model_merges")
    write_manifest(folder, write_tiny_model(folder, merges=True))
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with the public data files of upstream tasks."""
    given = os.environ.get("SUITE_TEST_DATA")
    if not given:
        pytest.skip("SUITE_TEST_DATA is not set to the folder with the data of upstream tasks")
    return Path(given)
