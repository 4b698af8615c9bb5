"""Writes made-up rows, as ms-swift reads them: of training, and others for the two tasks."""

import json
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
POLITE = (" You are welcome.", " Thank you for asking.", " Have a good day.", " It was a pleasure.")
RUDE = (" Now go away.", " Do not ask again.", " Count it yourself.", " What a silly sum.")


def write(name: str, rows: list[dict[str, object]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (HERE / f"my_swift_loop_{name}.jsonl").write_text(lines, encoding="utf-8")


rng = Random(1)
numbers = [(a, b) for a in range(2, 50) for b in range(2, 50)]
rng.shuffle(numbers)
sums: list[dict[str, object]] = []
pairs: list[dict[str, object]] = []
for a, b in numbers:
    question = {"role": "user", "content": f"The sum of {a} + {b} is"}
    polite, rude = (f"{a + b}.{rng.choice(words)}" for words in (POLITE, RUDE))
    either = {"role": "assistant", "content": rng.choice((polite, rude))}
    sums.append({"messages": [question, either]})
    pairs.append({"messages": [question, {"role": "assistant", "content": polite}], "rejected_response": rude})
write("sums", sums[:200])
write("pairs", pairs[:200])
write("sft", sums[200:])
write("preferences", pairs[200:])
