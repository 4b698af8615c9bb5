"""MT-Bench's judge is shown what lm-sys/FastChat's judge_prompts.jsonl shows it, in all four forms."""

from pathlib import Path

import pytest

from harness import GenerationParams, Message, Prompt, Record, Response
from harness.judging.questions import QuestionMaker
from harness.judging.rubric import read_rubric
from harness.registry import load_plugins

FILE = Path(__file__).parents[2] / "tasks/generation/_mt_bench_rubric.yaml"
MAKER = QuestionMaker(read_rubric(FILE, tuple(load_plugins().template_folders())), True, GenerationParams(), 0)
RATE = (
    "you must rate the response on a scale of 1 to 10 by strictly following this format: "
    '"[[rating]]", for example: "Rating: [[5]]".'
)
SECOND = (
    "<|The Start of Assistant A's Conversation with User|>\n\n### User:\nQ1\n\n### Assistant A:\nA1\n\n"
    "### User:\nQ2\n\n### Assistant A:\nA2\n\n<|The End of Assistant A's Conversation with User|>"
)
REFERENCES = (
    "<|The Start of Reference Answer|>\n\n### User:\nQ1\n\n### Reference answer:\nR1\n\n### User:\nQ2\n\n"
    "### Reference answer:\nR2\n\n<|The End of Reference Answer|>\n\n\n"
)


def question(turn: int, reference: list[str]) -> tuple[Message, Message]:
    messages = [Message("user", "Q1"), Message("assistant", "A1"), Message("user", "Q2")][: 2 * turn - 1]
    record = Record(
        task="mt_bench_exact",
        subset=f"turn_{turn}",
        id=0,
        doc={"prompt": ["Q1", "Q2"], "reference": reference},
        prompt=Prompt(messages=tuple(messages)),
        target=None,
        choices=(),
        responses=(Response(text=f"A{turn}", finish_reason="stop"),),
        request_keys=("k",),
        scores={},
    )
    (asked,) = MAKER.judged_sample((record,)).questions
    system, user = asked.request.prompt.messages
    return system, user


def test_the_first_turn() -> None:
    system, user = question(1, [])
    assert system.text == "You are a helpful assistant."
    assert user.text.startswith(
        "[Instruction]\nPlease act as an impartial judge and evaluate the quality of the response "
    )
    assert user.text.endswith(
        f"{RATE}\n\n[Question]\nQ1\n\n[The Start of Assistant's Answer]\nA1\n[The End of Assistant's Answer]"
    )


def test_the_first_turn_with_a_reference() -> None:
    _, user = question(1, ["R1", "R2"])
    assert user.text.endswith(
        f"{RATE}\n\n[Question]\nQ1\n\n[The Start of Reference Answer]\nR1\n[The End of Reference Answer]\n\n"
        "[The Start of Assistant's Answer]\nA1\n[The End of Assistant's Answer]"
    )
    assert "evaluation should consider correctness and helpfulness" in user.text


@pytest.mark.parametrize(("reference", "shown"), [([], SECOND), (["R1", "R2"], REFERENCES + SECOND)])
def test_the_second_turn_with_the_models_own_first_answer(reference: list[str], shown: str) -> None:
    system, user = question(2, reference)
    assert user.text == shown
    assert system.text.rstrip().endswith(RATE)
    assert ("reference answer" in system.text) == bool(reference)
