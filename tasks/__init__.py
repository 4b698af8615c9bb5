"""Benchmarks, one YAML file each."""
