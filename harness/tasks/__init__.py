"""What is asked: task files, rows, prompts, few-shot examples."""
