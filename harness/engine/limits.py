"""The sizes by which the engine cuts its work. None of them changes an answer beyond float noise; tests cut finer."""

from __future__ import annotations

from dataclasses import field

from harness.quick import dataclass


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """How a prefix tree is cut into rows, in tokens.

    leaf: a subtree of at most this many tokens is one row, whatever its branches share. long_leaf: a leaf may grow to
    this many when most of it is one path (a long passage with its options). gain: what a shared prefix must save to be
    a row of its own, since that costs a separate step and its place in memory.
    """

    leaf: int = 256
    long_leaf: int = 1024
    gain: int = 64


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """When a decode step is captured as a CUDA graph, and kept.

    steps_before: plain steps below one shared prefix before it is tried; a capture costs as much as a few steps.
    most: a replayed step may take this share of a plain step's time, else it is dropped.
    """

    steps_before: int = 16
    most: float = 0.9


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """All of them. work_item: tokens that a piece of work for one of several workers is worth."""

    plan: PlanLimits = field(default_factory=PlanLimits)
    graphs: GraphLimits = field(default_factory=GraphLimits)
    work_item: int = 2048
