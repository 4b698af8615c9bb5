"""What is asked: task files, templates, prompts, few-shot examples."""
