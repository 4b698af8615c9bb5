"""Makes a dated benchmark of what was published lately: pages, questions on them, their check, review and publication.

The idea is that of LiveBench in LMMs-Eval (Zhang et al., 2024, arXiv:2407.12772): fresh pages, questions with criteria
that models write and check and people review, answers rated from 1 to 10 and reported from 0 to 100.

Each stage reads the file of the one before it and writes one of its own into the folder of the set, a line of JSON a
page or a question. What is left out stays in the file, with its reason.

    DIR/live.json         which models, prompts (by hash) and days the set is of, and how much each stage left out
    DIR/pages.jsonl       capture    DIR/images/
    DIR/questions.jsonl   write
    DIR/checks.jsonl      check
    DIR/reviews.jsonl     review
    DIR/task/             publish    a task file and its rows
    DIR/measures.jsonl    measure
    DIR/asked/            all that models were asked on the way: task files, rows and run folders
"""
