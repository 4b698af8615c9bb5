"""What it is worth: answers, scores, aggregates, statistics."""
