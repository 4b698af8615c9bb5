"""A chat template shows every turn, or the run is refused; none runs for ever; reasoning that it opens is known."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, Message, ModelOptions, Prompt, Request, Sample, UsageError, evaluate
from harness.engine import ChatTemplate
from harness.testing import tiny_causal_lm, tiny_tokenizer
from harness.time_limit import TooSlowError, time_limit
from harness_plugins.models.hf import HuggingFace

TURN = "<{{ m['role'] }}>{{ m['content'] }}</>"
PARTS = (
    "<{{ m['role'] }}>{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}</>"
)
END = "{% if add_generation_prompt %}<assistant>{% endif %}"
PLAIN = "{% for m in messages %}" + TURN + "{% endfor %}" + END
LIST = "{% for m in messages %}" + PARTS + "{% endfor %}" + END
CHAT = Prompt(messages=(Message("system", "Be brief."), Message("user", " What is 6 * 7? ")))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("chat") / "model")


def render(tokenizer: Any, template: str, prompt: Prompt = CHAT, seconds: float = 10.0, **extra: Any) -> str:
    return ChatTemplate(tokenizer, template, extra, "the model", seconds).render(prompt)


@pytest.mark.parametrize(
    "template",
    [
        PLAIN,
        LIST,
        PLAIN.replace("m['content']", "m['content'] | trim"),
        PLAIN.replace("m['content']", "m['content'].split() | join(' ')"),
        # A part's text is asked for without a look at what it is: a string has none, and this template raises.
        PLAIN.replace("{{ m['content'] }}", "{{ m['content'][0]['text'] }}"),
        PLAIN.replace("{{ m['content'] }}", "{{ m['content'][0].text }}"),
    ],
)
def test_each_turn_is_shown_whatever_form_of_content_a_template_takes(tokenizer: Any, template: str) -> None:
    shown = render(tokenizer, template)

    assert "<system>Be brief.</>" in shown and "What is 6 * 7?" in shown and shown.endswith("<assistant>")


def test_a_prompt_is_shown_alike_whichever_prompts_came_before_it(tokenizer: Any) -> None:
    both = (
        "{% if m['content'] is string %}text: {{ m['content'] }}{% else %}parts: {{ m['content'][0].text }}{% endif %}"
    )
    picky = "{% if m['content'] is string and 'picture' in m['content'] %}{{ raise_exception('parts') }}{% endif %}"
    template = "{% for m in messages %}" + picky + both + "{% endfor %}"
    plain, odd = Prompt(messages=(Message("user", "6 * 7?"),)), Prompt(messages=(Message("user", "a picture"),))
    chat = ChatTemplate(tokenizer, template, {}, "the model")

    assert [chat.render(prompt) for prompt in (plain, odd, plain)] == [
        "text: 6 * 7?",
        "parts: a picture",
        "text: 6 * 7?",
    ]


@pytest.mark.parametrize(("template", "parts"), [(PLAIN, False), (LIST, True), (None, False)])
def test_the_form_of_content_that_a_template_wants_is_part_of_the_models_identity(
    folder: Path, template: str | None, parts: bool
) -> None:
    model = HuggingFace(str(folder), **({"chat_template": template} if template else {}))
    model.prepare()

    assert model.identity.get("chat_content") == ("parts" if parts else None)


@pytest.mark.parametrize("form", [TURN, PARTS])
@pytest.mark.parametrize(
    "unless_system",
    [
        "{% if m['role'] != 'system' %}FORM{% endif %}",
        "{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}FORM",
    ],
    ids=["drops it", "raises"],
)
def test_a_system_turn_that_is_not_taken_goes_before_the_first_user_turn(
    tokenizer: Any, form: str, unless_system: str, caplog: pytest.LogCaptureFixture
) -> None:
    template = "{% for m in messages %}" + unless_system.replace("FORM", form) + "{% endfor %}" + END
    with caplog.at_level(logging.WARNING, logger="harness"):
        shown = render(tokenizer, template)

    assert "<user>Be brief.\n\n What is 6 * 7? </>" in shown
    assert "takes no system turn" in caplog.text


@pytest.mark.parametrize(
    "template",
    [
        "<user></><assistant>",
        PLAIN.replace("m['content']", "m['content'][:5]"),
        "{% for m in messages[-1:] %}" + TURN + "{% endfor %}",
        LIST.replace("p['text']", "p['txt']"),
    ],
    ids=["nothing", "the beginning", "the last turn", "another key"],
)
def test_a_turn_that_is_not_shown_is_refused(tokenizer: Any, template: str) -> None:
    messages = (Message("user", "What is 6 * 7?"), Message("assistant", "42"), Message("user", "And 7 * 8?"))
    with pytest.raises(UsageError, match=r"drops the text of a turn \(user: 'What is 6 \* 7\?'\).*chat_template=FILE"):
        render(tokenizer, template, Prompt(messages=messages))


def test_thoughts_of_earlier_answers_may_be_left_out(tokenizer: Any) -> None:
    template = PLAIN.replace("m['content']", "m['content'].split('</think>') | last")
    turns = (Message("user", "6 * 7?"), Message("assistant", "<think>six sevens</think>42"), Message("user", "7 * 8?"))

    assert "<assistant>42</>" in render(tokenizer, template, Prompt(messages=turns))


def test_a_template_that_never_ends_is_refused(tokenizer: Any) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + PLAIN
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"the chat template refuses the prompt: it came to no end within 0\.2 s"):
        render(tokenizer, endless, seconds=0.2)
    assert time.monotonic() - began < 5


def test_a_limit_that_was_kept_is_over() -> None:
    with time_limit(0.05, "nothing"):
        pass
    time.sleep(0.1)
    with pytest.raises(TooSlowError, match=r"this came to no end within 0\.05 s"), time_limit(0.05, "this"):
        while True:
            pass


def prepared(folder: Path, template: str, **args: Any) -> HuggingFace:
    options = ModelOptions(device="cpu", offline=True)
    model = HuggingFace.create(
        {"pretrained": str(folder), "dtype": "float32", "chat_template": template, **args}, options
    )
    model.prepare()
    return model


def inspect(model: HuggingFace, request: Request) -> None:
    model.inspect_samples([Sample("task", "", 0, {}, (request,), 0)])


USER = Prompt(messages=(Message("user", "Is <think> a mark?"),))
SCORED = Request("loglikelihood", USER, (" yes", " no"))
GENERATED = Request("generate", USER, generation=GenerationParams(until=("\n",), max_new_tokens=12))
OPENS = PLAIN.replace("<assistant>", "<assistant><think>\n")
SWITCH = PLAIN.replace(
    "<assistant>",
    "<assistant>{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}",
)


def test_options_behind_open_reasoning_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"opens reasoning \(<think>\).*--thinking off"):
        inspect(prepared(folder, OPENS), SCORED)
    inspect(prepared(folder, OPENS), GENERATED)
    inspect(prepared(folder, PLAIN), SCORED)  # what the user says opens nothing


@pytest.mark.parametrize(
    ("args", "remarked"), [({}, True), ({"enable_thinking": True}, True), ({"enable_thinking": False}, False)]
)
def test_options_where_a_model_would_begin_to_reason_are_remarked(
    folder: Path, args: dict[str, bool], remarked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="harness"):
        inspect(prepared(folder, SWITCH, **args), SCORED)

    assert ("--thinking off" in caplog.text) is remarked


def test_an_answer_that_was_cut_within_reasoning_is_empty_and_its_reasoning_is_kept(folder: Path) -> None:
    model = prepared(folder, OPENS)
    model.load()
    ((_, response),) = model.respond([GENERATED])

    assert (response.text, response.finish_reason, response.completion_tokens) == ("", "length", 12)
    assert response.reasoning


def test_a_prompt_that_the_template_refuses_fails_alone(folder: Path) -> None:
    refusal = "{% if 'secret' in m['content'] %}{{ raise_exception('no secrets') }}{% endif %}"
    picky = PLAIN.replace(TURN, refusal + TURN)
    model = prepared(folder, picky)
    model.load()
    secret = Prompt(messages=(Message("user", "a secret"),))
    requests = [GENERATED, Request("generate", secret, generation=GENERATED.generation), SCORED]
    found = dict(model.respond([*requests, Request("loglikelihood", secret, (" a", " b"))]))

    assert [found[index].error is None for index in range(4)] == [True, False, True, False]
    assert "no secrets" in str(found[1].error)


def test_answers_cut_at_the_limit_are_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1 ="}\n{"q": "2 + 2 ="}\n', encoding="utf-8")
    (tmp_path / "sums.yaml").write_text(
        "task: sums\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: '{{ q }}'\ndoc_to_target: '2'\ngeneration_kwargs: {until: [never], max_gen_toks: 3}\n"
        "metric_list: [{metric: exact_match}]\n",
        encoding="utf-8",
    )
    found = evaluate("hf", {"pretrained": str(folder)}, [str(tmp_path / "sums.yaml")], output=str(tmp_path / "runs"))

    assert found.report["tasks"][0]["counts"]["cut"] == 2
    assert "cut" in found.summary()
