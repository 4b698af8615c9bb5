"""Whether the intervals of `--precision` hold: `python tests/bench/sequences.py [REPETITIONS]` (10,000).

Each repetition makes scores whose subsets differ in difficulty, draws rows as a run does, looks after every
round, and stops at the precision. Printed are the share of repetitions whose interval held the mean of all rows where
they stopped, the share that held it at every look, and the mean share of rows that were not asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from harness.scoring.statistics.sequences import MeanSequence, drawing_rounds

Draw = Callable[[np.random.Generator, int], np.ndarray]


def right(share: float) -> Draw:
    """Scores of 0 and 1, a share of them 1."""

    def draw(generator: np.random.Generator, size: int) -> np.ndarray:
        subsets = np.arange(size) * 6 // size
        return (generator.random(size) < np.clip(share + 0.04 * (subsets - 2.5), 0, 1)).astype(float)

    return draw


def graded(generator: np.random.Generator, size: int) -> np.ndarray:
    """Mostly zeros, and tenths between."""
    return (generator.random(size) < 0.2) * np.round(generator.random(size), 1)


SCENES: dict[str, tuple[int, float, Draw]] = {
    "0/1, half right": (400, 0.05, right(0.5)),
    "0/1, 10 % right": (400, 0.04, right(0.1)),
    "0/1, 97 % right": (400, 0.03, right(0.97)),
    "graded, mostly 0": (400, 0.03, graded),
}


def main(repetitions: int) -> None:
    for name, (size, precision, draw) in SCENES.items():
        held = always = 0
        saved = 0.0
        for seed in range(repetitions):
            values = draw(np.random.default_rng([seed, 1]), size)
            truth, known, stopped, inside = float(values.mean()), MeanSequence(size), False, True
            for rows in drawing_rounds(np.arange(size) * 6 // size, seed):
                known.add(values[rows], values[rows])
                low, high = known.interval
                inside = inside and low - 1e-9 <= truth <= high + 1e-9
                if not stopped and known.half_width <= precision:
                    stopped, saved = True, saved + 1 - known.n / size
                    held += low - 1e-9 <= truth <= high + 1e-9
            always += inside
        shares = (f"{count / repetitions:.4f}" for count in (held, always))
        print(f"{name}: {size} rows, to {precision}: held {', at every look '.join(shares)}; ", end="")
        print(f"{saved / repetitions:.0%} not asked", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repetitions", nargs="?", type=int, default=10_000)
    main(parser.parse_args().repetitions)
