"""What `hf` refuses before any weight is read, each in one line that says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import Message, ModelError, ModelOptions, Prompt, Request, Sample, UsageError
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("models") / "base")


def prepared(folder: Path, device: str = "cpu", **args: Any) -> HuggingFace:
    model = HuggingFace.create({"pretrained": str(folder), **args}, ModelOptions(device=device, offline=True))
    model.prepare()
    return model


def refusal(folder: Path, device: str = "cpu", **args: Any) -> str:
    with pytest.raises(UsageError) as error:
        prepared(folder, device, **args)
    assert "\n" not in str(error.value)
    return str(error.value)


def without(folder: Path, target: Path, *patterns: str) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*patterns))
    return target


def test_a_missing_folder(tmp_path: Path) -> None:
    assert f"pretrained={tmp_path / 'nowhere'}: there is no such folder" in refusal(tmp_path / "nowhere")


def test_a_folder_without_tokenizer(folder: Path, tmp_path: Path) -> None:
    bare = without(folder, tmp_path / "bare", "tokenizer*")

    assert f"{bare} has no tokenizer" in refusal(bare)
    assert prepared(bare, tokenizer=str(folder)).count_tokens("42") == prepared(folder).count_tokens("42")


def test_a_folder_without_weights(folder: Path, tmp_path: Path) -> None:
    bare = without(folder, tmp_path / "bare", "*.safetensors")

    assert f"{bare} has no weights" in refusal(bare)


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)


def test_values_that_are_not_known(folder: Path) -> None:
    assert "unknown dtype 'float23'; did you mean 'float32'?" in refusal(folder, dtype="float23")
    assert "unknown on_overflow 'skp'; did you mean 'skip'?" in refusal(folder, on_overflow="skp")
    assert "chat_template=missing.jinja is neither Jinja text nor a file" in refusal(
        folder, chat_template="missing.jinja"
    )
    assert "--device: unknown device 'gpu'" in refusal(folder, device="gpu")
    assert "takes no argument 'dtyp'; did you mean 'dtype'?" in refusal(folder, dtyp="float32")
    assert "how answers are generated: write --gen_kwargs num_beams=4" in refusal(folder, num_beams=4)


def test_a_device_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert "asks for a GPU but torch finds none; use --device cpu" in refusal(folder, device="cuda:1")


def test_quantised_loading_without_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.models.hf.find_spec", lambda _: None)

    assert "bitsandbytes: pip install 'harness-eval[bitsandbytes]'" in refusal(folder, load_in_4bit=True)


def adapter(base: Path, target: Path) -> Path:
    import peft
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(target)
    return target


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_an_adapter_of_another_base_or_shape(folder: Path, tmp_path: Path) -> None:
    wide = tiny_causal_lm(tmp_path / "wide" / "base", hidden=64)
    other = tiny_causal_lm(tmp_path / "other")

    assert f"was trained on '{other}', not on '{folder}'" in refusal(folder, peft=str(adapter(other, tmp_path / "a")))
    assert "does not fit" in refusal(folder, peft=str(adapter(wide, tmp_path / "b")))
    assert "there is no such folder" in refusal(folder, peft=str(tmp_path / "none"))
    weights = tmp_path / "a" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert f"{weights} is damaged, or was not copied to its end" in refusal(folder, peft=str(tmp_path / "a"))
    weights.rename(tmp_path / "a" / "other.safetensors")
    assert "has no weights (none of adapter_model" in refusal(folder, peft=str(tmp_path / "a"))


def test_identity_follows_content_and_not_place(folder: Path, tmp_path: Path) -> None:
    moved = without(folder, tmp_path / "base")
    changed = tiny_causal_lm(tmp_path / "changed" / "base", seed=1)

    known = prepared(folder).identity
    assert prepared(moved).identity == known
    assert json.loads(json.dumps(known)) == known
    assert prepared(changed).identity["weights"] != known["weights"]
    assert prepared(folder, dtype="bfloat16").identity != known
    assert prepared(folder, max_length=64).identity != known


def test_the_chat_template_writes_the_prompt(folder: Path, tmp_path: Path) -> None:
    prompt = Prompt(messages=(Message("system", "Be brief."), Message("user", "1+1?")))

    assert prepared(folder).render(prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )
    template = tmp_path / "chat.jinja"
    template.write_text("{{ raise_exception('no system') if messages[0].role == 'system' }}{{ messages[0].content }}:")
    assert prepared(folder, chat_template=str(template)).render(prompt) == "Be brief.\n\n1+1?:"
    assert "the chat template refuses" in _render_error(folder, "{{ raise_exception('never') }}", prompt)


def test_a_prefill_begins_the_answer(folder: Path) -> None:
    prompt = Prompt(messages=(Message("user", "1+1?"),), prefill="The answer is")

    assert prepared(folder).render(prompt).endswith("<|im_start|>assistant\nThe answer is")


def _render_error(folder: Path, template: str, prompt: Prompt) -> str:
    with pytest.raises(UsageError) as error:
        prepared(folder, chat_template=template).render(prompt)
    return str(error.value)


def test_a_tokenizer_that_knows_more_than_the_model(folder: Path, tmp_path: Path) -> None:
    target = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "vocab_size": 260}), encoding="utf-8")
    model = prepared(target)

    # Spare tokens that no prompt has do no harm.
    model.inspect_samples([sample("zqx")])
    with pytest.raises(
        UsageError, match=r"have the token \d+ \('.+'\), but the model knows 260: give the tokenizer that"
    ):
        model.inspect_samples([sample("The quick brown fox")])


def sample(text: str) -> Sample:
    return Sample("task", "", 0, {}, (Request("loglikelihood", Prompt(text), ("z",)),), 0)


HEADER = b"\x02\0\0\0\0\0\0\0"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", b"", "is empty"),
        ("model.safetensors", b"12345", "not copied to its end: its header is not whole"),
        ("model.safetensors", b"<!DOCTYPE html><html></html>", "its header is not whole"),
        ("model.safetensors", HEADER + b"[]", "its header is not that of a safetensors file"),
        ("model.safetensors", HEADER + b"{x", "its header is not that of a safetensors file"),
        ("model.safetensors", HEADER + b"{}9", "it has 11 bytes where its header announces 10"),
        ("model.safetensors", POINTER, "is a pointer of Git LFS"),
        ("pytorch_model.bin", b"", "is empty"),
        ("pytorch_model.bin", b"PK\x03\x04 and no end", "it is no archive of torch"),
        ("model.safetensors.index.json", b"", "it has no JSON with a 'weight_map'"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "it has no JSON with a 'weight_map'"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 1}}', "it has no JSON with a 'weight_map'"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "b.safetensors"}}', "lacks b.safetensors, which"),
        ("config.json", b'{"model_', "config.json is damaged: it holds no JSON object"),
        ("generation_config.json", b"[]", "generation_config.json is damaged: it holds no JSON object"),
        ("tokenizer.json", b"[]", "tokenizer.json is damaged: it holds no JSON object"),
    ],
)
def test_a_checkpoint_with_a_damaged_file(folder: Path, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    target = shutil.copytree(folder, tmp_path / "model")
    if "model" in name:
        (target / "model.safetensors").rename(target / "other.safetensors")
    (target / name).write_bytes(content)

    assert said in refusal(target)


def test_weights_that_were_not_copied_to_their_end(folder: Path, tmp_path: Path) -> None:
    target = shutil.copytree(folder, tmp_path / "model")
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    assert "is damaged, or was not copied to its end" in refusal(target)


def test_a_header_that_only_its_reader_refuses(folder: Path, tmp_path: Path) -> None:
    target = shutil.copytree(folder, tmp_path / "model")
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F99"', 1))

    with pytest.raises(ModelError, match="a file of weights is damaged, or was not copied to its end"):
        prepared(target).load()


@pytest.mark.parametrize("args", [{}, {"max_length": 9, "on_overflow": "error"}, {"add_bos_token": True}])
def test_what_is_shown_is_what_is_asked(folder: Path, args: dict[str, Any]) -> None:
    asked = prepared(folder, **args)
    shown = HuggingFace.create({"pretrained": str(folder), **args}, ModelOptions(offline=True))
    shown.prepare_to_show(chats=True)
    text, chat = Prompt(suffix="汉字 and 42 😀 <|im_end|>"), Prompt(messages=(Message("user", "hello"),))
    for prompt in (text, chat):
        rendered = asked.render(prompt)
        assert shown.render(prompt) == rendered
        assert shown.count_tokens(rendered) == asked.count_tokens(rendered)
    assert shown.prompts.rules == asked.prompts.rules
    assert not hasattr(shown, "torch_dtype")


def test_showing_refuses_what_asking_refuses(folder: Path, tmp_path: Path) -> None:
    bare = without(folder, tmp_path / "bare", "tokenizer*")
    unknown = without(folder, tmp_path / "unknown")
    (unknown / "config.json").write_text('{"model_type": "no_such_model", "vocab_size": 7}', encoding="utf-8")
    for kept, args in ((bare, {}), (unknown, {}), (folder, {"dtype": "float32", "device": "cuda:99"})):
        options = ModelOptions(device=args.pop("device", "cpu"), offline=True)
        asked = HuggingFace.create({"pretrained": str(kept), **args}, options)
        shown = HuggingFace.create({"pretrained": str(kept), **args}, options)
        with pytest.raises(UsageError) as said:
            asked.prepare()
        with pytest.raises(UsageError) as also:
            shown.prepare_to_show(chats=False)
        assert str(said.value) == str(also.value)


@pytest.mark.slow
def test_a_prompt_is_shown_without_torch(folder: Path) -> None:
    program = """\
import sys
from harness.cli.main import main
arguments = ["show", "demo_choice_zh", "--apply_chat_template", "--model", "hf", "--model_args"]
try:
    main.main([*arguments, f"pretrained={sys.argv[1]}"])
except SystemExit as ended:
    print(ended.code, "torch._C" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("0 False\n"), done.stderr  # the prompt itself stands before it
