"""The openai model against a real server, `transformers serve`, with a small model and real HTTP.

Runs where the server's packages are installed: `pip install "transformers[serving]"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from served_model import needs_server, serving

from harness import GenerationParams, Message, ModelError, ModelOptions, Prompt, Request, Response
from harness_plugins.models.openai import OpenAIModel

pytestmark = needs_server
TURNS = (Message("user", "How many apples are left?"),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "model"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as address:
        yield address


def ask(url: str, folder: Path, requests: Sequence[Request], **args: Any) -> list[Response]:
    model = OpenAIModel.create({"model": str(folder), "base_url": url, **args}, ModelOptions(offline=True))
    model.prepare()
    model.load()
    given = dict(model.respond(requests))
    return [given[number] for number in range(len(requests))]


def greedy(folder: Path, text: str, tokens: int) -> str:
    """What transformers writes itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_completions_are_those_of_the_model(url: str, folder: Path) -> None:
    texts = [f"Question {number}: 题目：下列哪一项" for number in range(6)]
    params = GenerationParams(max_new_tokens=12)
    given = ask(url, folder, [Request("generate", Prompt(text), generation=params) for text in texts])
    assert [response.error for response in given] == [None] * 6
    assert [response.text for response in given] == [greedy(folder, text, 12) for text in texts]
    assert all(response.completion_tokens == 12 and response.finish_reason == "length" for response in given)


def test_chat_is_the_model_behind_its_template(url: str, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": turn.role, "content": turn.text} for turn in TURNS]
    shown = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    request = Request("generate", Prompt(messages=TURNS), generation=GenerationParams(max_new_tokens=12))
    (response,) = ask(url, folder, [request])
    assert response.text == greedy(folder, shown, 12)
    assert response.prompt_tokens == len(tokenizer(shown)["input_ids"])


def test_stop_sequences_end_the_answer(url: str, folder: Path) -> None:
    prompt = Prompt("Question: How many")
    (whole,) = ask(url, folder, [Request("generate", prompt, generation=GenerationParams(max_new_tokens=12))])
    assert whole.text
    stop = whole.text[3]
    params = GenerationParams(until=(stop,), max_new_tokens=12)
    (cut,) = ask(url, folder, [Request("generate", prompt, generation=params)])
    assert (cut.text, cut.finish_reason) == (whole.text.split(stop)[0], "stop")


def test_a_server_without_log_probabilities_is_refused_and_not_believed(url: str, folder: Path) -> None:
    request = Request("loglikelihood", Prompt("2 + 2 ="), (" 4", " 5"))
    with pytest.raises(ModelError, match="gives no log-probabilities"):
        ask(url, folder, [request])


def test_a_wrong_model_name_is_an_error_of_one_line(url: str, folder: Path) -> None:
    request = Request("generate", Prompt("?"), generation=GenerationParams(max_new_tokens=2))
    (response,) = ask(url, folder.parent / "other", [request])
    assert response.error is not None and "\n" not in response.error
