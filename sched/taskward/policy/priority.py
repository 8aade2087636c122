"""Which priority the next free slots serve: smooth weighted shares, or strictly the highest first."""

from collections.abc import Sequence


class Shares:
    """Splits each claim of n slots over the priorities by weight, exactly in the long run.

    Smooth weighted round robin (as in nginx's upstream balancer): every priority earns its weight a
    turn, the richest serves and pays the sum. No dice, no starvation: a priority of weight w out of W is
    served exactly w times in any W consecutive turns. A share nobody needs goes to the others, highest first (`step`).
    """

    def __init__(self, weights: Sequence[int], *, strict: bool) -> None:
        self._weights = list(weights)
        self._strict = strict
        self._credit = [0] * len(self._weights)

    def take(self, n: int) -> list[int]:
        """How many of `n` slots each priority may fill first, in the order of the weights."""
        if self._strict:
            return [n] + [0] * (len(self._weights) - 1)
        total = sum(self._weights)
        whole, rest = divmod(n, total)
        shares = [weight * whole for weight in self._weights]
        for _ in range(rest):
            self._credit = [c + w for c, w in zip(self._credit, self._weights, strict=True)]
            richest = self._credit.index(max(self._credit))
            self._credit[richest] -= total
            shares[richest] += 1
        return shares
