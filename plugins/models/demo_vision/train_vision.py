"""Train the demo model that sees from nothing:

    python -m harness_plugins.models.demo_vision.train_vision --out DIR

The pictures are drawn by `drawings.py`, and the recipe is in this file: the weights that come with the package are what
it makes, in some ten minutes of one core. A run that was stopped goes on from its last checkpoint, in DIR.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from . import drawings
from .drawings import PictureQuestion

if TYPE_CHECKING:
    import torch

END, TURN, TURN_END, IMAGE = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"
# Han characters one by one; words with the space before them; everything else as a run of signs.
SPLIT = r"\p{Han}|\p{N}| ?[A-Za-z]+|\n+|\s|[^\s\p{Han}\p{N}A-Za-z]+"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


KINDS = ("one", "one", "pairs", "pairs", "pairs", "order", "order")
"""The kinds of question, each as often as it stands here: on one picture, yes or no, on two pictures."""
CHECKPOINT, KEPT_EVERY = "checkpoint.pt", 250


@dataclass(frozen=True)
class VisionRecipe:
    """Every number that decides the result.

    steps: of which the first `naming` teach the tower alone to name what each of its patches shows; in the others all
    of the model learns to answer, `rows` questions each. naming_share: of the loss, while it does. horizon: the step
    that the learning rates fall to 0 towards; all is learned before. likeness: see `make_model`.
    """

    seed: int = 20261128
    vocabulary: int = 512
    patch: int = 16
    seen: int = 96
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    window: int = 1024
    steps: int = 4000
    horizon: int = 6000
    naming: int = 300
    rows: int = 48
    naming_share: float = 0.2
    likeness: float = 1.5
    warmup: int = 100
    matrix_rate: float = 0.008
    other_rate: float = 2e-3


class Questions:
    """Draws questions for training, without end."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(f"train {seed}")

    def next(self, count: int) -> list[PictureQuestion]:
        """So many questions, of all kinds."""
        return [self._draw() for _ in range(count)]

    def _draw(self) -> PictureQuestion:
        kind, language = self.rng.choice(KINDS), self.rng.choice(drawings.LANGUAGES)
        if kind == "pairs":
            return self.rng.choice(drawings.ask_twice(self.rng, language))
        if kind == "order":
            return drawings.compare(self.rng, language)
        return drawings.ask(self.rng, language, self.rng.choice(list(drawings.SUBJECTS)))


def prompt(question: PictureQuestion) -> str:
    """A question as the demo tasks show it, up to its answer."""
    return f"{TURN}user\n{IMAGE * len(question.pictures)}{question.text}{TURN_END}\n{TURN}assistant\n"


def make_processor(recipe: VisionRecipe) -> Any:
    """A processor of LLaVA, with a byte-level BPE that can write any text."""
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    questions = Questions(recipe.seed)
    asked = questions.next(2000)
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
        special_tokens=[END, TURN, TURN_END, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"user\n{q.text}\nassistant\n{q.right}\n {q.right}" for q in asked], trainer)
    fast: Any = transformers.PreTrainedTokenizerFast
    auto: Any = transformers
    side = {"height": drawings.SIZE, "width": drawings.SIZE}
    return auto.LlavaProcessor(
        auto.CLIPImageProcessorPil(size=side, do_center_crop=False, crop_size=side),
        fast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=recipe.window),
        patch_size=recipe.patch,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def make_model(recipe: VisionRecipe, processor: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(recipe.seed)
    vision = transformers.CLIPVisionConfig(
        hidden_size=recipe.seen,
        intermediate_size=2 * recipe.seen,
        projection_dim=recipe.seen,
        num_hidden_layers=2,
        num_attention_heads=recipe.heads,
        image_size=drawings.SIZE,
        patch_size=recipe.patch,
    )
    text = transformers.LlamaConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=2 * recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.window,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    kind: Any = transformers.LlavaConfig
    config = kind(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    auto: Any = transformers.LlavaForConditionalGeneration
    model = auto(config)
    with torch.no_grad():
        for index, layer in enumerate(model.model.language_model.layers):
            layer.mlp.down_proj.weight.zero_()
            if index:  # a token starts out by looking for what is like itself (mimetic initialisation)
                layer.self_attn.o_proj.weight.zero_()
                layer.self_attn.k_proj.weight.mul_(recipe.likeness)
                layer.self_attn.q_proj.weight.copy_(layer.self_attn.k_proj.weight)
    return model


def train(recipe: VisionRecipe, processor: Any, checkpoint: Path, log: Any = print) -> Any:
    """Muon for the matrices inside, AdamW for the rest; a short warm-up, then a linear decay.

    checkpoint: a file that holds where training stood; it is gone on with.
    """
    import torch

    model = make_model(recipe, processor)
    optimizers = _optimizers(recipe, model)
    questions, names = Questions(recipe.seed + 1), Names(processor.tokenizer)
    first = _restore(checkpoint, recipe, model, optimizers, questions)
    start = time.process_time()
    for step in range(first, recipe.steps):
        rate = min(1.0, (step + 1) / recipe.warmup) * (1 - step / recipe.horizon)
        for optimizer, base in zip(optimizers, (recipe.matrix_rate, recipe.other_rate), strict=True):
            optimizer.param_groups[0]["lr"] = base * rate
        asked = questions.next(recipe.rows)
        features, loss = _naming_loss(model, processor, names, asked)
        if step >= recipe.naming:
            loss = recipe.naming_share * loss + _answer_loss(model, processor, asked, features)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0:
            log(f"{step + 1}/{recipe.steps}  loss {loss.item():.4f}  {time.process_time() - start:.0f} s of processor")
        if (step + 1) % KEPT_EVERY == 0:
            _keep(checkpoint, recipe, model, optimizers, questions, step + 1)
    return model


def _optimizers(recipe: VisionRecipe, model: Any) -> list[Any]:
    import torch

    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    chosen = {id(parameter) for parameter in inner}
    outer = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(inner, lr=recipe.matrix_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(outer, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _keep(
    file: Path, recipe: VisionRecipe, model: Any, optimizers: list[Any], questions: Questions, steps: int
) -> None:
    import torch

    partial = file.with_suffix(".partial")
    states = [optimizer.state_dict() for optimizer in optimizers]
    numbers = {"recipe": asdict(recipe), "steps": steps, "rng": questions.rng.getstate()}
    torch.save({**numbers, "model": model.state_dict(), "optimizers": states}, partial)
    partial.replace(file)


def _restore(file: Path, recipe: VisionRecipe, model: Any, optimizers: list[Any], questions: Questions) -> int:
    """Go on from a checkpoint, if there is one of this recipe. Returns how many steps are done."""
    import torch

    kept = torch.load(file, weights_only=True) if file.is_file() else {}
    if kept.get("recipe") != asdict(recipe):
        return 0
    model.load_state_dict(kept["model"])
    for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    questions.rng.setstate(kept["rng"])
    return int(kept["steps"])


class Names:
    """Tokens that name what a patch shows: colour, shape and side of the thing there, in both languages."""

    def __init__(self, tokenizer: Any) -> None:
        def first(word: str) -> int:
            return int(tokenizer.encode(word, add_special_tokens=False)[0])

        self.nothing = [tokenizer.convert_tokens_to_ids(END)]
        named = {name: colour[0] for name, colour in drawings.COLOURS.items()} | drawings.SHAPES | drawings.PLACES
        self.tokens = {en: sorted({first(en), first(f" {en}"), first(zh)}) for en, zh in named.items()}

    def of(self, things: list[drawings.Thing], patches: int) -> list[list[int]]:
        """The tokens of each patch, row by row; `patches` on a side."""
        by_corner = {thing.corner: thing for thing in things}
        found = []
        for row in range(patches):
            for column in range(patches):
                thing = by_corner.get(2 * (2 * row // patches) + 2 * column // patches)
                side = "left" if 2 * column < patches else "right"
                words = () if thing is None else (thing.colour, thing.shape, side)
                found.append([token for word in words for token in self.tokens[word]] or self.nothing)
        return found


def _naming_loss(model: Any, processor: Any, names: Names, asked: list[PictureQuestion]) -> tuple[Any, torch.Tensor]:
    """What the tower makes of the pictures, and how badly it names their patches in the decoder's own words.

    So the tokens of a picture come to lie where the words for what they show lie, and can be looked for by them.
    """
    import torch

    features = model.model.get_image_features(pixel_values=_pixels(processor, asked), return_dict=True)
    said = torch.log_softmax(model.lm_head(torch.cat(features.pooler_output)), dim=-1)
    wanted = torch.zeros_like(said)
    side = drawings.SIZE // processor.patch_size
    patches = [tokens for question in asked for things in question.things for tokens in names.of(things, side)]
    for patch, tokens in enumerate(patches):
        wanted[patch, tokens] = 1 / len(tokens)
    return features, -(wanted * said).sum(-1).mean()


def _answer_loss(model: Any, processor: Any, asked: list[PictureQuestion], features: Any) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens, their end included."""
    import torch

    tokenizer, patches = processor.tokenizer, (drawings.SIZE // processor.patch_size) ** 2
    rows, marks = [], []
    for question in asked:
        before = tokenizer.encode(prompt(question).replace(IMAGE, IMAGE * patches), add_special_tokens=False)
        answer = [
            *tokenizer.encode(question.right, add_special_tokens=False),
            tokenizer.convert_tokens_to_ids(TURN_END),
        ]
        rows.append(before + answer)
        marks.append([False] * len(before) + [True] * len(answer))
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    wanted = torch.tensor([mark + [False] * (width - len(mark)) for mark in marks])[:, 1:]
    hidden = model.model(input_ids=ids[:, :-1], mm_encoder_outputs={"image": features}, use_cache=False)[0][wanted]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][wanted])


def _pixels(processor: Any, asked: list[PictureQuestion]) -> Any:
    """What the image processor makes of the pictures, which have the right size already, all at once."""
    import numpy
    import torch

    images = processor.image_processor
    drawn = numpy.stack([numpy.asarray(picture) for question in asked for picture in question.pictures])
    values = torch.from_numpy(drawn).float().permute(0, 3, 1, 2) * images.rescale_factor
    mean, std = (torch.tensor(each)[:, None, None] for each in (images.image_mean, images.image_std))
    return (values - mean) / std


def save(model: Any, processor: Any, out: Path) -> None:
    """Write a folder that `--model hf_vlm --model_args pretrained=DIR` reads too. Weights are in half precision."""
    import torch

    model.generation_config.eos_token_id = [0, processor.tokenizer.convert_tokens_to_ids(TURN_END)]
    model.generation_config.pad_token_id = 0
    model.to(torch.float16).save_pretrained(out)
    processor.save_pretrained(out)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the processor")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    recipe, checkpoint = VisionRecipe(), arguments.out / CHECKPOINT
    processor = make_processor(recipe)
    model = train(recipe, processor, checkpoint, lambda line: print(line, flush=True))
    save(model, processor, arguments.out)
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
