"""Numbers for clusters of samples (the rows of one passage), by which they are put together and resampled."""

from __future__ import annotations

import hashlib


def cluster_number(cluster: str | None, subset: str, number: int) -> int:
    """A number for the cluster of a sample, by its subset and id where it has none: the same in every process.

    Resamples are drawn in the order of these numbers; those of `hash` would give another p-value each time.
    """
    text = (f"{subset}\0{number}" if cluster is None else cluster).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)
