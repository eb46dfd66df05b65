"""How long a delivery waits for its next try: longer each time, spread by chance, and as long as the receiver asks."""

from __future__ import annotations

#: Seconds after the first failed try, the second, and so on: two days in all, as Standard Webhooks advises.
WAITS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0)
#: By how much of itself a wait may be longer, so that what failed together does not come back together.
SPREAD = 0.2


def after(failures: int, *, chance: float, asked_seconds: float | None = None) -> float:
    """Seconds to wait after so many failures in a row. `chance` lies in [0, 1)."""
    wait = WAITS[min(failures, len(WAITS)) - 1]
    return max(wait, min(asked_seconds or 0, WAITS[-1])) * (1 + SPREAD * chance)
