"""What sharing images saves: `python tests/bench/images.py [QUESTIONS] [IMAGES] [--peer-python PYTHON]`.

The demo model that sees scores the options of so many questions on so many pictures, twice in one process: planned as a
whole, and one request after another. Printed are seconds, how often an image went through the vision tower, the ratio,
and by how much the two differ.

With --peer-python, a Python that can import lmms_eval, it answers the questions in text instead, by whole commands:
lmms-eval's (its model class `llava_hf`, which takes one request at a time) and this harness's, with the same weights in
float32, the same rows and one thread each, from the start of the command to its end. --size 20m has a random LLaVA of
about 20 million parameters in the place of the demo model. Exits 1 when texts differ.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from engine import Side, first, timed

from harness import Media, Message, ModelOptions, Prompt, Request, Response
from harness_plugins.models.demo_vision import WEIGHTS, DemoVisionModel, drawings

TASK = """\
task: bench_images
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_target: red
generation_kwargs: {{until: [], do_sample: false, {length}: {tokens}}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
OURS = 'doc_to_image: image\ndoc_to_text: "<image 1>{{question}}"\n'
THEIRS = "doc_to_visual: !function shown.visual\ndoc_to_text: question\n"
SHOWN = """\
import base64
import io

from PIL import Image


def visual(doc):
    return [Image.open(io.BytesIO(base64.b64decode(doc["image"]))).convert("RGB")]
"""
PICTURE = 224
"""Pixels a side of what the random model sees; the demo model sees 32."""


def pictures(images: int) -> list[bytes]:
    rng = Random("bench")
    shown = []
    for _ in range(images):
        stream = io.BytesIO()
        drawings.draw(rng, drawings.draw_things(rng, 2)).save(stream, "PNG")
        shown.append(stream.getvalue())
    return shown


def texts(count: int, images: int) -> list[str]:
    """Questions that differ in their text, ten on each of 200 pictures by default."""
    asks = "which of these colours is there? Say red, green, blue or yellow."
    return [f"Question {number // images}: {asks}" for number in range(count)]


def questions(count: int, images: int) -> list[Request]:
    shown = [Media("image", hashlib.sha256(data).hexdigest(), data, "image/png") for data in pictures(images)]
    asked = []
    for number, text in enumerate(texts(count, images)):
        prompt = Prompt(messages=(Message("user", (shown[number % images], text)),))
        asked.append(Request("loglikelihood", prompt, tuple(drawings.COLOURS)))
    return asked


def load() -> DemoVisionModel:
    model = DemoVisionModel.create({}, ModelOptions(device="cpu"))
    model.prepare()
    model.load()
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=int, nargs="?", default=2000)
    parser.add_argument("images", type=int, nargs="?", default=200)
    parser.add_argument("--peer-python", help="a Python that can import lmms_eval")
    parser.add_argument("--size", choices=("demo", "20m"), default="demo")
    parser.add_argument("--tokens", type=int, default=8, help="of each generated answer")
    arguments = parser.parse_args()
    if not arguments.peer_python:
        compare_alone(arguments.questions, arguments.images)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        return compare_peer(Path(folder), arguments)


def compare_alone(count: int, images: int) -> None:
    asked = questions(count, images)
    model = load()
    list(model.respond(asked[:1]))
    began = time.perf_counter()
    together: dict[int, Response] = dict(model.respond(asked))
    shared, encoded = time.perf_counter() - began, model.describe()["images_encoded"]
    model = load()
    list(model.respond(asked[:1]))
    began, alone = time.perf_counter(), {}
    for number, request in enumerate(asked):
        model.executor.decoder.forget()  # type: ignore[union-attr]
        alone[number] = next(iter(model.respond([request])))[1]
    single, once = time.perf_counter() - began, model.describe()["images_encoded"]
    apart = max(
        abs(a - b)
        for number in together
        for a, b in zip(together[number].logprobs, alone[number].logprobs, strict=True)
    )
    print(f"{count} questions on {images} images")
    print(f"planned as a whole  {shared:7.1f} s  {encoded} images encoded")
    print(f"one at a time       {single:7.1f} s  {once} images encoded")
    print(f"ratio               {single / shared:7.1f}    largest difference {apart:.1e}")


def compare_peer(folder: Path, arguments: argparse.Namespace) -> int:
    """Print both sides' seconds; the exit status."""
    theirs, ours = measure(folder, arguments)
    said, heard = own_texts(ours), peer_texts(folder / "out")
    count, images = arguments.questions, arguments.images
    unlike = sum(row not in said or said[row] != heard.get(row) for row in range(count))
    print(f"{count} questions on {images} images, {arguments.tokens} new tokens, {arguments.size} model")
    for name, side in (("lmms-eval", theirs), ("harness", ours)):
        print(f"{name:10}{side.seconds:8.1f} s  {side.busy:8.1f} s of processor  {side.peak:6.0f} MB")
    print(f"ratio     {theirs.seconds / ours.seconds:8.1f}    {theirs.busy / ours.busy:8.1f}")
    print(f"{unlike} of {count} texts differ, {len(set(said.values()))} distinct ones")
    return int(unlike > 0)


def measure(folder: Path, arguments: argparse.Namespace) -> tuple[Side, Side]:
    write_tasks(folder, arguments)
    weights = f"pretrained={checkpoint(folder / 'model', arguments.size)},dtype=float32"
    asked = ["--device", "cpu", "--log_samples"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    command = [arguments.peer_python, "-m", "lmms_eval", "--model", "llava_hf", *asked, "--batch_size", "1"]
    command += ["--model_args", f"{weights},device_map=cpu", "--include_path", str(folder / "theirs")]
    command += ["--tasks", "bench_images", "--output_path", str(folder / "out")]
    theirs = timed(command, folder / "out", environment)
    command = [sys.executable, "-m", "harness", "--model", "hf_vlm", "--model_args", weights, *asked]
    command += ["--tasks", str(folder / "ours" / "task.yaml"), "--output", str(folder / "runs")]
    return theirs, timed([*command, "--output_path", str(folder / "log")], folder / "log", environment)


def write_tasks(folder: Path, arguments: argparse.Namespace) -> None:
    """The rows, and a task file for each side: they name pictures and the length of an answer each in its way."""
    shown = [base64.b64encode(data).decode() for data in pictures(arguments.images)]
    asked = texts(arguments.questions, arguments.images)
    rows = [{"question": text, "image": shown[number % len(shown)]} for number, text in enumerate(asked)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for side, text, length in (("ours", OURS, "max_gen_toks"), ("theirs", THEIRS, "max_new_tokens")):
        (folder / side).mkdir()
        task = TASK.format(rows=folder / "rows.jsonl", length=length, tokens=arguments.tokens) + text
        (folder / side / "task.yaml").write_text(task, encoding="utf-8")
    (folder / "theirs" / "shown.py").write_text(SHOWN, encoding="utf-8")


def own_texts(side: Side) -> dict[int, str]:
    """Row -> text without space at its ends, which lmms-eval takes off what it logs."""
    return {row: first(sample).strip() for (_, row), sample in side.samples.items()}


def peer_texts(out: Path) -> dict[int, str]:
    """Row -> text; lmms-eval ends with status 0 after an error, too, and then there are none."""
    logs = list(out.rglob("*_samples_bench_images.jsonl"))
    if not logs:
        raise SystemExit("lmms-eval wrote no samples: its own command, run by hand, says why")
    samples = map(json.loads, logs[0].read_text(encoding="utf-8").splitlines())
    return {sample["doc_id"]: sample["filtered_resps"] for sample in samples}


def checkpoint(path: Path, size: str) -> Path:
    """The demo model, or a random LLaVA of about 20 million parameters, with one token that ends an answer.

    lmms-eval stops at the tokenizer's end of text alone, whatever else the model's own settings name.
    """
    shutil.copytree(WEIGHTS, path)
    if size != "demo":
        random_llava(path)
    settings = json.loads((WEIGHTS / "generation_config.json").read_text(encoding="utf-8"))
    (path / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": 0}), encoding="utf-8")
    return path


def random_llava(path: Path) -> None:
    """Put random weights, and a processor of larger pictures, in the place of the demo model's."""
    import torch
    import transformers

    config = transformers.LlavaConfig.from_pretrained(path)
    larger = {"hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6, "num_hidden_layers": 6}
    config.text_config.update({**larger, "head_dim": 64, "num_key_value_heads": 6})
    config.vision_config.update({**larger, "image_size": PICTURE})
    torch.manual_seed(0)
    model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():  # as they are drawn, they are too small to tell images apart
            if parameter.dim() > 1:
                parameter.normal_(0, 0.06)
    model.save_pretrained(path)
    settings = json.loads((path / "processor_config.json").read_text(encoding="utf-8"))
    sides = {"height": PICTURE, "width": PICTURE}
    settings["image_processor"].update({"size": sides, "crop_size": sides})
    (path / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
