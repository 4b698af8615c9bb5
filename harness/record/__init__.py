"""What is kept: run folders, resume, reports."""
