"""Multiple choice through the chat API, from the likeliest tokens of the first place."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from openai_asking import answer, answers, make
from scripted_server import Asked, Reply, ScriptedServer, chat, error

from harness import Message, ModelError, ModelOptions, Prompt, Request, UsageError
from harness.testing import run_harness, tiny_causal_lm
from harness_plugins.models.hf import HuggingFace
from harness_plugins.models.openai.labels import spelt

LABELS = ("A", "B", "C", "D")


def choice(text: str = "1 + 1 = ?", labels: tuple[str, ...] = LABELS) -> Request:
    return Request("loglikelihood", Prompt(messages=(Message("user", text),)), labels)


def tops(*pairs: tuple[str, float]) -> Reply:
    top = [{"token": token, "logprob": math.log(share)} for token, share in pairs]
    place = {"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}
    reply = {"message": {"content": pairs[0][0]}, "finish_reason": "length", "logprobs": {"content": [place]}}
    return Reply({"choices": [reply], "usage": {"prompt_tokens": 5, "completion_tokens": 1}})


def with_reasoning(reply: Reply) -> Reply:
    """As servers do that parse reasoning: the first token is of it, and there is no content."""
    reply.body["choices"][0]["message"] = {"content": None, "reasoning_content": "Okay"}
    return reply


def withheld(reply: Reply) -> Reply:
    reply.body["choices"][0]["finish_reason"] = "content_filter"
    return reply


def scoring(server: ScriptedServer, **args: Any) -> Any:
    return make(server, choices="top_logprobs", **args)


def test_labels_and_their_variants_are_summed_and_others_bounded(server: ScriptedServer) -> None:
    server.script(tops((" B", 0.5), ("B", 0.2), ("A", 0.1), ("（Ｃ", 0.05), ("The", 0.04)))
    model = scoring(server)
    response = answer(model, choice())

    body = server.asked[0].body
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"], body["temperature"]) == (True, 20, 1, 0)
    assert [math.exp(value) for value in response.logprobs] == pytest.approx([0.1, 0.7, 0.05, 0.04])
    assert response.is_greedy == (False, True, False, False)
    assert "1 of 4 labels were not among the likeliest 20 tokens" in model.incidents()[0]["text"]


def test_the_chosen_token_counts_where_a_server_leaves_it_out_of_the_likeliest(server: ScriptedServer) -> None:
    """As LMDeploy does; also in pieces of words as its tokenizer writes them."""
    reply = tops(("Ġ", 0.6), ("ĠB", 0.2), ("ĠC", 0.1), ("ĠD", 0.05), ("The", 0.01))
    place = reply.body["choices"][0]["logprobs"]["content"][0]
    place |= {"token": "ĠA", "top_logprobs": place["top_logprobs"][1:]}
    server.script(reply)
    response = answer(scoring(server), choice())
    assert [math.exp(value) for value in response.logprobs] == pytest.approx([0.6, 0.2, 0.1, 0.05])
    assert response.is_greedy == (True, False, False, False)


def test_a_prefilled_answer_is_gone_on_with_where_labels_are_scored(server: ScriptedServer) -> None:
    server.script(tops(("A", 0.6), ("B", 0.3)))
    prompt = Prompt(messages=(Message("user", "1 + 1 = ?"),), prefill="The answer is")
    assert answer(scoring(server), Request("loglikelihood", prompt, ("A", "B"))).logprobs
    body = server.asked[0].body
    assert body["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (tops(("The", 0.6), ("Answer", 0.2)), r"no label is certainly the likeliest .*first: 'The'"),
        (tops(("<think>", 0.9), ("A", 0.05)), "say --thinking off"),
        (with_reasoning(tops(("Okay", 0.9), ("A", 0.05), ("B", 0.01))), "begins with reasoning"),
        (withheld(tops(("A", 0.9), ("B", 0.05))), "content filter"),
    ],
)
def test_what_decides_nothing_has_no_score(server: ScriptedServer, reply: Reply, message: str) -> None:
    server.script(reply)
    response = answer(scoring(server), choice())
    assert response.logprobs == () and response.error is not None
    assert re.search(message, response.error)


def test_a_server_without_top_logprobs_ends_the_run_with_the_remedy(server: ScriptedServer) -> None:
    with pytest.raises(ModelError, match="a variant of the task that generates"):
        answer(scoring(server), choice())


def test_small_letters_spell_labels_where_they_are_not_labels_themselves(server: ScriptedServer) -> None:
    twice = [("A", 0.3), ("a", 0.2), ("**B", 0.15), ("Ｃ", 0.1), ("A", 0.3), ("D.", 0.01)]
    server.script(tops(*twice))
    response = answer(scoring(server), choice())
    assert [math.exp(value) for value in response.logprobs] == pytest.approx([0.5, 0.15, 0.1, 0.01])
    response = answer(scoring(server), choice(labels=("A", "a", "B")))
    assert [math.exp(value) for value in response.logprobs] == pytest.approx([0.3, 0.2, 0.15])


def test_a_reply_without_them_fails_alone_once_the_server_has_given_some(server: ScriptedServer) -> None:
    server.script(tops(("A", 0.6), ("B", 0.3), ("C", 0.05), ("D", 0.01)), chat("A"), tops(("B", 0.9), ("A", 0.05)))
    first, second, third = answers(scoring(server), [choice(f"{n} + 1 = ?") for n in range(3)])
    assert first.logprobs and third.logprobs and "no top_logprobs" in str(second.error)


def test_the_limit_has_another_name_at_newer_models(server: ScriptedServer) -> None:
    def reply(asked: Any) -> Reply:
        if "max_tokens" in asked.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return tops(("A", 0.6), ("B", 0.3))

    server.answer = reply
    assert answer(scoring(server), choice(labels=("A", "B"))).logprobs


def test_labels_may_be_fewer_or_other_letters_in_some_rows(server: ScriptedServer) -> None:
    server.script(tops(("对", 0.6), ("错", 0.3)))
    first, second = answers(scoring(server), [choice(labels=("对", "错")), choice(labels=("错", "可能", "对"))])
    assert first.logprobs and second.logprobs
    server.script(tops(("A", 0.6), ("B", 0.3)))
    assert all(each.logprobs for each in answers(scoring(server), [choice(labels=(*"AB",)), choice(labels=(*"AC",))]))


def test_options_that_are_texts_are_refused_before_anything_is_asked(server: ScriptedServer) -> None:
    with pytest.raises(UsageError, match="not texts"):
        answers(scoring(server), [choice(labels=("a red fox", "a blue whale"))])
    with pytest.raises(UsageError, match="not texts \\('虎', '象'\\): take a variant"):
        answers(scoring(server), [choice(labels=("象", "猫")), choice(labels=("虎", "象"))])
    with pytest.raises(UsageError, match="choices=top_logprobs"):
        answers(make(server), [choice()])
    assert server.asked == []
    with pytest.raises(UsageError, match="add api=chat"):
        make(server, api="completions", choices="top_logprobs")


@pytest.mark.slow
def test_it_agrees_with_true_log_likelihoods(server: ScriptedServer, tmp_path: Path) -> None:
    """A server that answers from a model's own logits: what it scores is what the model in process scores."""
    import torch

    folder = tiny_causal_lm(tmp_path / "model", texts=["A B C D"] * 3)
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}Answer:"
    args = {"pretrained": str(folder), "dtype": "float32", "chat_template": template}
    model: Any = HuggingFace.create(args, ModelOptions(device="cpu"))
    model.prepare()
    model.load()

    def served(asked: Asked) -> Reply:
        turns = tuple(Message(turn["role"], turn["content"]) for turn in asked.body["messages"])
        ids = model.tokenizer(model.render(Prompt(messages=turns)), return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            shares = torch.softmax(model.module(ids).logits[0, -1].float(), -1)
        values, tokens = shares.topk(asked.body["top_logprobs"])
        return tops(*((model.tokenizer.decode([t]), v) for t, v in zip(tokens.tolist(), values.tolist(), strict=True)))

    server.answer = served
    asked = [choice(f"Question {n}: {n} + {n} = ?") for n in range(40)]
    tokens = [model.tokenizer.decode([token]) for token in range(len(model.tokenizer))]
    spellings = {label: [text for text in tokens if spelt(text).upper() == label] for label in LABELS}
    variants = tuple(text for label in LABELS for text in spellings[label])
    through_chat = answers(scoring(server, top_logprobs=len(tokens)), asked)
    true = dict(model.respond([choice(request.prompt.messages[0].text, variants) for request in asked]))
    model.close()

    agree = 0
    for index, response in enumerate(through_chat):
        shares = dict(zip(variants, map(math.exp, true[index].logprobs), strict=True))
        exact = [math.log(sum(shares[text] for text in spellings[label])) for label in LABELS]
        # In process a text may be cut into other tokens than the one that the server saw: those sums can only be less.
        assert all(-0.02 < ours - theirs < 1 for ours, theirs in zip(response.logprobs, exact, strict=True))
        agree += response.logprobs.index(max(response.logprobs)) == exact.index(max(exact))
    assert agree == 40


def test_a_task_of_choices_is_scored_through_chat(server: ScriptedServer, tmp_path: Path) -> None:
    server.answer = lambda asked: tops(("A", 0.7), ("B", 0.2), ("C", 0.05), ("D", 0.03))
    task = tmp_path / "letters.yaml"
    task.write_text(
        "task: letters\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{ q }}"\ndoc_to_choice: [A, B, C, D]\ndoc_to_target: "{{ a }}"\nmetric_list: [{metric: acc}]\n'
    )
    (tmp_path / "rows.jsonl").write_text('{"q": "one", "a": 0}\n{"q": "two", "a": 1}\n')
    args = f"model=small,base_url={server.url},api=chat,choices=top_logprobs"
    done = run_harness("--tasks", task, "--model", "openai", "-a", args, "--output", tmp_path / "runs")
    assert "0.5000" in done.stdout and done.exit_code == 0, done.stdout + done.stderr
