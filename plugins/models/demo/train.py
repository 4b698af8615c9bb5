"""Train the demo model from nothing, on two CPU cores, in a few minutes:

    python -m harness_plugins.models.demo.train --out DIR

The text is made by `world.py`, the recipe is in this file, and the seed is fixed: the same machine gives the same
weights. Another machine sums in another order, and the noise grows over the steps; the scores stay within a few points.
It takes fifteen minutes of one core of 2024, about eight on two.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from . import world
from .world import Language, WorldQuestion

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# Han characters one by one and digits one by one, so that an option is the same tokens wherever it stands; words with
# the space before them; everything else as a run of signs.
SPLIT = r"\p{Han}|\p{N}| ?[A-Za-z]+|\n+|\s|[^\s\p{Han}\p{N}A-Za-z]+"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """Every number that decides the result.

    rope_base: small, because the window is. spread: standard deviation of the first weights. look_back, likeness: see
    `_look_back` and `make_model`. stages: (steps, tokens a row, rows a batch); short rows are cheap.
    question_share: of the tokens that are no answer, the part that counts in the loss. mix: how often each method of
    `Writer` is called.
    """

    seed: int = 20240607
    vocabulary: int = 1400
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    window: int = 1024
    rope_base: float = 500.0
    spread: float = 0.08
    look_back: float = 5.0
    likeness: float = 1.5
    stages: tuple[tuple[int, int, int], ...] = ((1800, 128, 32), (150, 512, 8))
    warmup: int = 100
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    weight_decay: float = 0.01
    question_share: float = 0.05
    mix: Mapping[str, float] = field(default_factory=lambda: {"exam": 50, "sums": 32, "story": 8, "chat": 10})


Piece = tuple[str, bool]  # text, and whether it is worth learning by heart (an answer, a story)


class Writer:
    """Makes training documents, each a list of pieces."""

    def __init__(self, recipe: Recipe) -> None:
        self.rng = Random(recipe.seed)
        self.kinds = [getattr(self, name) for name in recipe.mix]
        self.weights = list(recipe.mix.values())

    def document(self, most: int) -> list[Piece]:
        """A document of at most `most` questions."""
        (kind,) = self.rng.choices(self.kinds, self.weights)
        document: list[Piece] = kind(self.rng.randint(1, most))
        return document

    def exam(self, count: int) -> list[Piece]:
        """Questions with their answers, under a heading or without one."""
        language = self._language()
        subject = self.rng.choice(list(world.SUBJECTS)) if self.rng.random() < 0.5 else None
        pieces: list[Piece] = [(heading(language, subject), False)] if self.rng.random() < 0.7 else []
        for _ in range(count):
            question = world.draw(self.rng, language, test=False, subject=subject)
            pieces += [(ask(question), False), (SPACE[language] + question.right, True), ("\n\n", True)]
        return pieces

    def sums(self, count: int) -> list[Piece]:
        pieces: list[Piece] = []
        for _ in range(3 * count):
            a, sign, b, result = world.draw_sum(self.rng, test=False)
            pieces += [(f"{a} {sign} {b} =", False), (f" {result}\n", True)]
        return pieces

    def story(self, count: int) -> list[Piece]:
        language = self._language()
        return [(world.draw_story(self.rng, language, test=False) + "\n", True) for _ in range(count)]

    def chat(self, count: int) -> list[Piece]:
        """Questions and sums as turns of a conversation."""
        pieces: list[Piece] = []
        for _ in range(count):
            if self.rng.random() < 0.7:
                question = world.draw(self.rng, self._language(), test=False)
                asked, answer = ask(question), question.right
            else:
                a, sign, b, result = world.draw_sum(self.rng, test=False)
                asked, answer = f"{a} {sign} {b} =", str(result)
            pieces.append((f"{TURN}user\n{asked}{TURN_END}\n{TURN}assistant\n", False))
            pieces.append((f"{answer}{TURN_END}\n", True))
        return pieces

    def _language(self) -> Language:
        return self.rng.choice(world.LANGUAGES)


SPACE = {"zh": "", "en": " "}  # what stands between a question and its answer


def heading(language: Language, subject: str | None) -> str:
    """The description above an exam, as the demo tasks have it."""
    if language == "zh":
        return f"请回答下面关于{world.SUBJECTS[subject][0] if subject else '常识'}的问题。\n\n"
    return f"Answer these questions about {world.SUBJECTS[subject][1] if subject else 'the world'}.\n\n"


def ask(question: WorldQuestion) -> str:
    """A question as the demo tasks print it."""
    return f"问题：{question.text}\n答案：" if question.language == "zh" else f"Question: {question.text}\nAnswer:"


def make_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text at all can be written, trained on a few thousand documents."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    writer = Writer(recipe)
    texts = ["".join(text for text, _ in writer.document(4) if TURN_END not in text) for _ in range(4000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.window,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe, vocabulary: int) -> Qwen2ForCausalLM:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.window,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_base},
        initializer_range=recipe.spread,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        _look_back(model, recipe)
        for index, layer in enumerate(model.model.layers):
            layer.mlp.down_proj.weight.zero_()
            if index:
                layer.self_attn.o_proj.weight.zero_()
                # Equal queries and keys: a token attends to what is like itself (mimetic initialisation).
                layer.self_attn.k_proj.weight.mul_(recipe.likeness)
                layer.self_attn.q_proj.weight.copy_(layer.self_attn.k_proj.weight)
    return model


def _look_back(model: Qwen2ForCausalLM, recipe: Recipe) -> None:
    """Head h of the first layer starts out looking h + 1 tokens back.

    Large models find such heads by themselves, after more steps than there is time for here. The biases of queries
    and keys make it so: with rotary positions their product depends on the distance alone, and is largest where the
    angles cancel.
    """
    import torch

    attention, size = model.model.layers[0].self_attn, recipe.hidden // recipe.heads
    half = size // 2
    speed = recipe.rope_base ** (-torch.arange(half) / half)
    # The six fastest angles tell neighbours apart; the slow ones hardly change from one token to the next.
    strength = recipe.look_back * (torch.arange(half) < 6)
    for head in range(recipe.heads):
        angle, start = (head + 1) * speed, head * size
        attention.k_proj.bias[start : start + half] = strength
        attention.q_proj.bias[start : start + size] = torch.cat([strength * angle.cos(), -strength * angle.sin()])


class TrainingBatches:
    """Fills rows of token ids with whole documents, and says which tokens count in the loss."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self.writer = Writer(recipe)
        self.rng = Random(recipe.seed)
        self.encode = tokenizer.backend_tokenizer
        self.question_share = recipe.question_share
        self.next_document: tuple[list[int], list[bool]] = ([], [])

    def next(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and marks, both [rows, length + 1]."""
        import torch

        ids, marks = [], []
        for _ in range(rows):
            row_ids, row_marks = self._row(length + 1)
            ids.append(row_ids)
            marks.append(row_marks)
        return torch.tensor(ids), torch.tensor(marks)

    def _row(self, length: int) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        marks: list[bool] = []
        while True:
            document = self.next_document
            if len(ids) + len(document[0]) > length:
                gap = length - len(ids)
                return ids + [0] * gap, marks + [False] * gap
            ids += document[0]
            marks += document[1]
            self.next_document = self._document(length)

    def _document(self, length: int) -> tuple[list[int], list[bool]]:
        """A document that fits into a row."""
        while True:
            ids: list[int] = []
            marks: list[bool] = []
            for text, is_answer in [*self.writer.document(max(1, length // 48)), (END, True)]:
                piece = self.encode.encode(text, add_special_tokens=False).ids
                ids += piece
                marks += [is_answer or self.rng.random() < self.question_share for _ in piece]
            if len(ids) <= length:
                return ids, marks


def train(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, log: Any = print) -> Qwen2ForCausalLM:
    """Muon for the matrices inside, AdamW for embeddings, norms and biases; a short warm-up, then a linear decay."""
    import torch

    model = make_model(recipe, len(tokenizer))
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    outer = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(inner, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, momentum=0.95),
        torch.optim.AdamW(outer, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    bases = [recipe.matrix_rate, recipe.other_rate]
    batches, step, start = TrainingBatches(recipe, tokenizer), 0, time.perf_counter()
    total = sum(steps for steps, _, _ in recipe.stages)
    for steps, length, rows in recipe.stages:
        for _ in range(steps):
            rate = min(1.0, (step + 1) / recipe.warmup) * (1 - step / total)
            for optimizer, base in zip(optimizers, bases, strict=True):
                optimizer.param_groups[0]["lr"] = base * rate
            loss = _loss(model, *batches.next(rows, length))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % 50 == 0 or step == total:
                log(f"step {step}/{total}  loss {loss.item():.4f}  {time.perf_counter() - start:.0f} s")
    return model


def _loss(model: Qwen2ForCausalLM, ids: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the marked tokens."""
    import torch

    wanted = marks[:, 1:]
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[wanted]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][wanted])


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a folder that `--model hf --model_args pretrained=DIR` reads too. Weights are kept in half precision."""
    import torch

    model.generation_config.eos_token_id = [0, 2]
    half: Any = model
    half.to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    # transformers 4 knows these two under older names.
    _add(out / "config.json", rope_theta=half.config.rope_parameters["rope_theta"])
    _add(out / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def _add(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) | values
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the tokenizer")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe()
    tokenizer = make_tokenizer(recipe)
    save(train(recipe, tokenizer, lambda line: print(line, flush=True)), tokenizer, arguments.out)


if __name__ == "__main__":
    main()
