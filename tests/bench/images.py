"""What sharing images saves: `python tests/bench/images.py [QUESTIONS] [IMAGES]`.

The demo model that sees scores the options of so many questions on so many pictures, twice in one process: planned as a
whole, and one request after another. Printed are seconds, how often an image went through the vision tower, the ratio,
and by how much the two differ.
"""

from __future__ import annotations

import hashlib
import io
import sys
import time
from random import Random

from harness import Media, Message, ModelOptions, Prompt, Request, Response
from harness_plugins.models.demo_vision import DemoVisionModel, drawings


def questions(count: int, images: int) -> list[Request]:
    """Questions that differ in their text, ten on each of 200 pictures by default."""
    rng = Random("bench")
    shown = []
    for _ in range(images):
        stream = io.BytesIO()
        drawings.draw(rng, drawings.draw_things(rng, 2)).save(stream, "PNG")
        data = stream.getvalue()
        shown.append(Media("image", hashlib.sha256(data).hexdigest(), data, "image/png"))
    asked = []
    for number in range(count):
        text = f"Question {number // images}: which of these colours is there? Say red, green, blue or yellow."
        prompt = Prompt(messages=(Message("user", (shown[number % images], text)),))
        asked.append(Request("loglikelihood", prompt, tuple(drawings.COLOURS)))
    return asked


def load() -> DemoVisionModel:
    model = DemoVisionModel.create({}, ModelOptions(device="cpu"))
    model.prepare()
    model.load()
    return model


def main() -> None:
    count, images = (int(sys.argv[at]) if len(sys.argv) > at else default for at, default in ((1, 2000), (2, 200)))
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


if __name__ == "__main__":
    main()
