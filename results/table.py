"""Makes the README's table of a family from the raw returns beside this file.

    python results/table.py point_robot

Each file is what `metaslac evaluate --json` wrote: results/<family>/<inference>-s<seed>.json
"""

import json
import sys
from pathlib import Path

import numpy as np

from metaslac.evaluation import summarise

RESULTS = Path(__file__).parent


def table(family: str) -> str:
    """Mean, IQM and its 95 % interval of each episode index, over all seeds, and each seed's last mean."""
    lines = [
        "| m | seeds | episode | mean | IQM | 95 % interval | last episode of each seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for inference in ("infer", "oracle", "blind"):
        files = sorted((RESULTS / family).glob(f"{inference}-s*.json"))
        if not files:
            continue
        returns = np.array([json.loads(file.read_text())["returns"] for file in files])
        seeds = ", ".join(f"{mean:.1f}" for mean in returns[..., -1].mean((1, 2)))
        for row in summarise(returns):
            cells = [inference, str(len(files)), str(row.episode), f"{row.mean:.1f}", f"{row.iqm:.1f}"]
            cells += [f"{row.low:.1f} to {row.high:.1f}", seeds if row.episode == returns.shape[-1] else ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[1]))
