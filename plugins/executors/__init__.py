"""Executors: where the work of a run is done, when that is not this process."""
