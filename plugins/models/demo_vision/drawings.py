"""The pictures of the demo, and what can be asked of them in Chinese and English.

A picture has up to four shapes, one in each corner. All is drawn by chance, so that no two pictures are alike, and an
answer is nowhere to be had but in the picture: each is as frequent as the others.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
SIZE = 32
"""Pixels on a side."""
CELL = SIZE // 2
COLOURS = {
    "red": ("红色", (220, 40, 40)),
    "green": ("绿色", (40, 170, 60)),
    "blue": ("蓝色", (50, 80, 220)),
    "yellow": ("黄色", (235, 205, 40)),
}
SHAPES = {"circle": "圆形", "square": "正方形", "triangle": "三角形"}
NUMBERS = {"one": "一个", "two": "两个", "three": "三个", "four": "四个"}
PLACES = {"left": "左边", "right": "右边"}
ORDER = {"first": "第一张", "second": "第二张"}
YES = {"yes": "是", "no": "否"}
SUBJECTS = {"colour": "颜色", "shape": "形状", "count": "数量", "place": "位置"}


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape in one of the corners: 0 and 1 above, 2 and 3 below, from the left."""

    shape: str
    colour: str
    corner: int


@dataclass(frozen=True, slots=True)
class PictureQuestion:
    """A question on one picture or two, the possible answers in their order, and which of them is right.

    things: what each picture shows.
    """

    subject: str
    pictures: tuple[Image, ...]
    text: str
    choices: tuple[str, ...]
    answer: int
    things: tuple[list[Thing], ...]

    @property
    def right(self) -> str:
        return self.choices[self.answer]


def draw_things(rng: Random, count: int) -> list[Thing]:
    """So many shapes, in different corners."""
    return [
        Thing(rng.choice(list(SHAPES)), rng.choice(list(COLOURS)), corner) for corner in rng.sample(range(4), count)
    ]


def draw(rng: Random, things: list[Thing]) -> Image:
    """The picture of these shapes, each somewhere in its corner, larger or smaller, on paper that is nearly white."""
    from PIL import Image, ImageDraw

    paper = rng.randint(235, 255)
    image = Image.new("RGB", (SIZE, SIZE), (paper, paper, paper))
    pen = ImageDraw.Draw(image)
    for thing in things:
        side = rng.randint(10, 13)
        left = (thing.corner % 2) * CELL + rng.randint(1, CELL - side - 1)
        top = (thing.corner // 2) * CELL + rng.randint(1, CELL - side - 1)
        right, bottom = left + side, top + side
        colour = tuple(max(0, min(255, value + rng.randint(-15, 15))) for value in COLOURS[thing.colour][1])
        if thing.shape == "circle":
            pen.ellipse((left, top, right, bottom), fill=colour)
        elif thing.shape == "square":
            pen.rectangle((left, top, right, bottom), fill=colour)
        else:
            pen.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=colour)
    return image


def ask(rng: Random, language: Language, subject: str) -> PictureQuestion:
    """A question on one picture: a subject of `SUBJECTS`."""
    things = draw_things(rng, 1)
    if subject == "colour":
        choices, right = tuple(COLOURS), things[0].colour
        text = {"en": "What colour is the shape?", "zh": "图中的图形是什么颜色？"}
    elif subject == "shape":
        choices, right = tuple(SHAPES), things[0].shape
        text = {"en": "What shape is it?", "zh": "图中的图形是什么形状？"}
    elif subject == "count":
        right = rng.choice(list(NUMBERS))
        things, choices = draw_things(rng, list(NUMBERS).index(right) + 1), tuple(NUMBERS)
        text = {"en": "How many shapes are there?", "zh": "图中有几个图形？"}
    else:
        right, choices = rng.choice(list(PLACES)), tuple(PLACES)
        corner = 2 * rng.randint(0, 1) + (right == "right")
        things = [Thing(things[0].shape, things[0].colour, corner)]
        text = {"en": "On which side is the shape?", "zh": "图形在哪一边？"}
    return PictureQuestion(
        subject, (draw(rng, things),), text[language], words(choices, language), choices.index(right), (things,)
    )


def ask_twice(rng: Random, language: Language) -> tuple[PictureQuestion, PictureQuestion]:
    """Two questions on one picture, of which the answer to the first is yes and to the second no, as MME has them."""
    (thing,) = draw_things(rng, 1)
    subject, table, shown, text = rng.choice(
        [
            ("colour", list(COLOURS), thing.colour, {"en": "Is the shape {}?", "zh": "图形是{}吗？"}),
            ("shape", list(SHAPES), thing.shape, {"en": "Is it a {}?", "zh": "图形是{}吗？"}),
            ("place", list(PLACES), list(PLACES)[thing.corner % 2], {"en": "Is it on the {}?", "zh": "图形在{}吗？"}),
        ]
    )
    picture, answers = draw(rng, [thing]), words(tuple(YES), language)
    end = {"en": " Please answer yes or no.", "zh": "请回答是或否。"}[language]
    other = rng.choice([name for name in table if name != shown])
    first, second = (
        PictureQuestion(
            subject,
            (picture,),
            text[language].format(words((name,), language)[0]) + end,
            answers,
            number,
            ([thing],),
        )
        for number, name in enumerate((shown, other))
    )
    return first, second


def compare(rng: Random, language: Language) -> PictureQuestion:
    """What the first of two pictures shows, or the second: the answer changes with their order."""
    number = rng.randint(0, 1)
    first, second = draw_things(rng, 1), draw_things(rng, 1)
    by_shape = rng.random() < 0.5
    if by_shape:
        name = rng.choice([name for name in SHAPES if name != first[0].shape])
        second = [Thing(name, second[0].colour, second[0].corner)]
    else:
        name = rng.choice([name for name in COLOURS if name != first[0].colour])
        second = [Thing(second[0].shape, name, second[0].corner)]
    things = (first, second)
    choices = tuple(SHAPES if by_shape else COLOURS)
    right = things[number][0].shape if by_shape else things[number][0].colour
    picture = words((list(ORDER)[number],), language)[0]
    if language == "zh":
        text = f"{picture}图中的图形是什么{'形状' if by_shape else '颜色'}？"
    else:
        text = f"What {'shape' if by_shape else 'colour'} is in the {picture} picture?"
    pictures = tuple(draw(rng, each) for each in things)
    return PictureQuestion("order", pictures, text, words(choices, language), choices.index(right), things)


def words(names: tuple[str, ...], language: Language) -> tuple[str, ...]:
    """Answers in a language."""
    if language == "en":
        return names
    tables = (NUMBERS, PLACES, ORDER, YES, SHAPES)
    found = {name: colour[0] for name, colour in COLOURS.items()}
    for table in tables:
        found.update(table)
    return tuple(found[name] for name in names)


def data_uri(picture: Image) -> str:
    """The picture as a row of JSON holds it."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
