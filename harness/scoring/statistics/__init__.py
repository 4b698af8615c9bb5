"""Estimates with their errors, paired comparisons, agreement."""
