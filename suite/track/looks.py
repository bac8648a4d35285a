"""How much of a series' error rate a look spends, and which look it is.

A look is a checkpoint compared with the pinned run. The same checkpoint again is the same look: the
same scores give the same verdicts and no further chance of a false alarm. Scored again with other
scores it is a new look, at whatever step it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.errors import ConfigError
from suite.stats.spending import look_alpha


@dataclass(frozen=True)
class Spending:
    """How the error rate of all looks is shared.

    Attributes:
        alpha: Probability of any false alarm in the whole series.
        planned_looks: Each of so many looks spends an equal part; without it look k spends
            alpha * 6 / (pi^2 k^2), and there may be any number of looks.
    """

    alpha: float = 0.05
    planned_looks: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(f"--alpha is {self.alpha:g}, expected between 0 and 1")
        if self.planned_looks is not None and self.planned_looks < 1:
            raise ConfigError(f"--planned-looks is {self.planned_looks}, expected at least 1")

    def of_look(self, look: int) -> float:
        """What a look may spend.

        Raises:
            ConfigError: There is no such look.
        """
        if look < 1:
            raise ConfigError(f"--look is {look}, expected at least 1")
        if self.planned_looks is not None and look > self.planned_looks:
            raise ConfigError(
                f"look {look} is beyond the {self.planned_looks} of --planned-looks, whose error"
                " rate is spent; pin another run to begin again"
            )
        return look_alpha(look, alpha=self.alpha, planned_looks=self.planned_looks)


def which_look(
    checks: Sequence[Mapping[str, Any]], checkpoint: str, spending: Spending, given: int | None
) -> int:
    """The number of a look in a store.

    Args:
        checks: What the checks against the same pinned run found.
        checkpoint: The checkpoint's fingerprint.
        spending: How the error rate is shared.
        given: What `--look` says.

    Returns:
        The look that the checkpoint was before, or the next one.

    Raises:
        ConfigError: The error rate was shared in another way so far, or the look that was given is
            over already.
    """
    for check in checks:
        _refuse_another_sharing(check, spending)
    own = [int(check["look"]) for check in checks if check["checkpoint"] == checkpoint]
    counted = own[0] if own else max((int(check["look"]) for check in checks), default=0) + 1
    if given is None or given == counted:
        return counted
    if own:
        raise ConfigError(
            f"--look is {given}, but this checkpoint was look {counted} of the series; leave --look"
            " out, the store counts"
        )
    if given < counted:
        raise ConfigError(
            f"--look is {given}, but {counted - 1} looks of the series are over already; leave"
            " --look out, the store counts"
        )
    return given


def _refuse_another_sharing(check: Mapping[str, Any], spending: Spending) -> None:
    before = (float(check["alpha"]), check["planned_looks"])
    if before != (spending.alpha, spending.planned_looks):
        raise ConfigError(
            f"look {check['look']} of the series was taken with {_said(*before)}, this one is with"
            f" {_said(spending.alpha, spending.planned_looks)}; a mixture keeps no error rate, give"
            " the same options, or pin another run to begin again"
        )


def _said(alpha: float, planned_looks: int | None) -> str:
    planned = "" if planned_looks is None else f" --planned-looks {planned_looks}"
    return f"--alpha {alpha:g}{planned}"
