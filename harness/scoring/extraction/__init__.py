"""Reads answers from replies: letters, numbers, boxed results, code."""
