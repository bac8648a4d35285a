"""A folder the user asked for: made beside its place, and put there when all went well."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from suite.errors import ConfigError
from suite.models.disk_errors import disk_reason


def check_output(output: Path, option: str) -> None:
    """Check that a folder is new or empty.

    Args:
        output: The folder.
        option: What the user calls it, for messages.

    Raises:
        ConfigError: It is a file, or holds something.
    """
    if output.is_dir():
        names = sorted(path.name for path in output.iterdir())
        if names:
            raise ConfigError(f"{output}: holds {names[0]}; give a new or an empty {option}")
    elif output.exists():
        raise ConfigError(f"{output}: is a file; give a new or an empty {option}")


class UnfinishedFolder:
    """A folder beside the wanted one, which takes its place when all went well."""

    def __init__(self, output: Path, option: str) -> None:
        self.output = output.absolute()
        self._option = option

    def __enter__(self) -> Path:
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            name = tempfile.mkdtemp(prefix=f".{self.output.name}.", dir=self.output.parent)
        except OSError as error:
            raise self._unwritable(error) from error
        self.folder = Path(name)
        return self.folder

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self.folder.chmod(0o755)
                self.folder.replace(self.output)
            elif isinstance(error, Exception) and disk_reason(error):
                raise self._unwritable(error) from error
        except OSError as problem:
            raise self._unwritable(problem) from problem
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _unwritable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"cannot write to {self.output} ({disk_reason(error)}); give another {self._option}"
        )
