"""Who is let in while room grows short: the lower a priority, the earlier it is refused."""

from collections.abc import Sequence

# The lowest priority may fill this share of a limit, the highest all of it, those between them in even steps.
LOWEST_SHARE = 0.8


def shares(count: int) -> list[float]:
    """The part of a limit that each of `count` priorities may fill, highest first."""
    return [1.0 - (1.0 - LOWEST_SHARE) * rank / max(1, count - 1) for rank in range(count)]


def depth_limits(most: int, count: int) -> list[int]:
    """How many tasks may wait before each of `count` priorities is refused, highest first; 0, as `most`: no limit."""
    if most == 0:
        return [0] * count
    return [max(1, int(most * share + 1e-9)) for share in shares(count)]


def closed(priorities: Sequence[str], *, used: float, most: float) -> frozenset[str]:
    """The priorities, given highest first, to refuse while `used` of the memory is taken; both are shares of it, and
    `most` 0 refuses nobody.
    """
    if most == 0:
        return frozenset()
    limits = zip(priorities, shares(len(priorities)), strict=True)
    return frozenset(name for name, share in limits if used >= most * share)
