"""Shared Jinja prompts, and the scaffolds that `harness new` copies."""
