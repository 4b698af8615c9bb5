"""The scoring rules of benchmarks' authors, odd ones included, as pure functions.

They exist to reproduce published numbers exactly; `harness.scoring.extraction` reads replies better. Each module names
the official script that it follows. Where a script guesses at random what it cannot read, the function returns None,
and `guess.py` says what that is worth: the script's own draw, wrong, or what a guess is worth on average.
"""
