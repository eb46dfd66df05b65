"""The picture of a run: each contender's ratio to the reference of its case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from tests.bench.results import Row

OURS, OTHERS = "#2563eb", "#94a3b8"
#: Inches of a bar.
BAR = 0.28


def draw(rows: Sequence[Row], path: Path) -> None:
    """Bars by case, longer is better; the line at 1 is the reference."""
    shown = [row for row in rows if row.ratio is not None]
    cases = list(dict.fromkeys(row.case for row in shown))
    heights = [sum(row.case == case for row in shown) for case in cases]
    figure, panels = pyplot.subplots(
        len(cases),
        figsize=(8, BAR * sum(heights) + 0.9 * len(cases)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, case in zip(panels[:, 0], cases, strict=True):
        bars = [row for row in shown if row.case == case][::-1]
        drawn = panel.barh(
            [row.contender for row in bars],
            [row.ratio for row in bars],
            color=[OURS if row.contender == "Sluice" else OTHERS for row in bars],
        )
        panel.bar_label(drawn, [f"{row.ratio:.2f}" for row in bars], padding=3, fontsize=8)
        panel.axvline(1, color="#475569", linewidth=0.8)
        panel.set_title(case, loc="left", fontsize=10)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
