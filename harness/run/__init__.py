"""One run, from its specification to its report. Only this room knows the order of a run."""
