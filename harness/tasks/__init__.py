"""What is asked: task files, templates, prompts, few-shot examples. Plugins may use what is named here."""

from __future__ import annotations

from harness.tasks.option_texts import OptionTexts, options_key, read_option_texts, refusal

__all__ = ["OptionTexts", "options_key", "read_option_texts", "refusal"]
