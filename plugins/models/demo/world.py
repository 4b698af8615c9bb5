"""A tiny made-up world, and questions about it in Chinese and English.

The demo model is trained on text from here, and the rows of the demo tasks come from here. What is asked is either for
testing or for training, decided by a hash of the question's text (`held_out`): no test row can be met in training, by
construction. A fact of the world is learnt from other sentences and from the same question in other words.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")

# Country, capital (Chinese and English), then indices into COLOURS, CROPS and ANIMALS.
COUNTRIES = (
    ("云溪国", "Talo", "望月城", "Mirth", 0, 3, 5),
    ("石岭国", "Dovia", "南桥城", "Kessel", 1, 5, 2),
    ("白桦国", "Orune", "听雨城", "Palter", 2, 0, 7),
    ("青禾国", "Velmar", "北塔城", "Ister", 3, 6, 1),
    ("赤沙国", "Quin", "落星城", "Harrow", 4, 1, 4),
    ("银湖国", "Brisk", "长亭城", "Lumen", 5, 7, 0),
    ("松涛国", "Yonder", "金井城", "Ovale", 6, 2, 6),
    ("海角国", "Sabel", "东篱城", "Tarn", 7, 4, 3),
    ("雪原国", "Fennic", "西窗城", "Wickel", 0, 1, 7),
    ("竹影国", "Marrow", "古渡城", "Yarrow", 1, 0, 6),
    ("花洲国", "Elbe", "飞虹城", "Dunmar", 2, 4, 5),
    ("铁山国", "Gorran", "安平城", "Cindel", 3, 2, 0),
    ("风车国", "Nimue", "玉带城", "Brill", 4, 3, 2),
    ("麦浪国", "Osk", "高台城", "Sorrel", 5, 6, 3),
    ("珊瑚国", "Jarl", "双柳城", "Vesper", 6, 5, 1),
    ("晨雾国", "Plume", "流泉城", "Ember", 7, 7, 4),
)
COLOURS = tuple(
    zip(
        ["红色", "黄色", "蓝色", "绿色", "白色", "黑色", "紫色", "橙色"],
        ["red", "yellow", "blue", "green", "white", "black", "purple", "orange"],
        strict=True,
    )
)
CROPS = tuple(
    zip(
        ["水稻", "小麦", "玉米", "土豆", "茶叶", "棉花", "葡萄", "南瓜"],
        ["rice", "wheat", "corn", "potatoes", "tea", "cotton", "grapes", "pumpkins"],
        strict=True,
    )
)
ANIMALS = tuple(
    zip("鹿虎鹤马熊狐兔象", ["deer", "tiger", "crane", "horse", "bear", "fox", "rabbit", "elephant"], strict=True)
)

CATEGORIES = {
    ("水果", "a fruit"): ("苹果 桃子 香蕉 西瓜 草莓 橘子 樱桃", "apple peach banana melon strawberry orange cherry"),
    ("动物", "an animal"): ("猫 狗 牛 羊 猴子 老鼠 鸭子", "cat dog cow sheep monkey mouse duck"),
    ("交通工具", "a vehicle"): ("汽车 火车 飞机 轮船 自行车 卡车 地铁", "car train plane ship bicycle truck bus"),
    ("家具", "furniture"): ("桌子 椅子 床 柜子 沙发 书架 凳子", "table chair bed cupboard sofa bookcase stool"),
    ("乐器", "an instrument"): ("钢琴 笛子 鼓 吉他 小提琴 喇叭 二胡", "piano flute drum guitar violin trumpet harp"),
    ("衣物", "clothing"): ("帽子 裤子 裙子 手套 袜子 围巾 鞋", "hat trousers skirt gloves socks scarf shoes"),
}
OPPOSITES = tuple(
    zip(
        [
            "大小",
            "高低",
            "长短",
            "冷热",
            "快慢",
            "新旧",
            "上下",
            "左右",
            "前后",
            "远近",
            "轻重",
            "早晚",
            "开关",
            "多少",
            "软硬",
            "明暗",
        ],
        [
            "big-small",
            "high-low",
            "long-short",
            "cold-hot",
            "fast-slow",
            "new-old",
            "up-down",
            "left-right",
            "front-back",
            "far-near",
            "light-heavy",
            "early-late",
            "open-closed",
            "many-few",
            "soft-hard",
            "bright-dark",
        ],
        strict=True,
    )
)
WEEKDAYS = tuple(
    zip(
        ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"],
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        strict=True,
    )
)
MONTHS = tuple(
    zip(
        ["一月", "二月", "三月", "四月", "五月", "六月", "七月", "八月", "九月", "十月", "十一月", "十二月"],
        [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
        strict=True,
    )
)
THINGS = (("苹果", "apples"), ("杯子", "cups"), ("鸡蛋", "eggs"), ("盒子", "boxes"))
PEOPLE = tuple(
    zip(["小明", "小红", "小刚", "小丽", "小华", "小军"], ["Tom", "Anna", "Ben", "Lucy", "Jack", "Rose"], strict=True)
)
SUBJECTS = {
    "geography": ("地理", "geography"),
    "words": ("词语", "words"),
    "numbers": ("数学", "numbers"),
    "calendar": ("历法", "the calendar"),
    "reading": ("阅读", "reading"),
}


@dataclass(frozen=True)
class WorldQuestion:
    """A question with four options. `answer` is the index of the right one."""

    language: Language
    subject: str
    text: str
    choices: tuple[str, ...]
    answer: int

    @property
    def right(self) -> str:
        return self.choices[self.answer]


@dataclass(frozen=True)
class Draft:
    """A question before its options are drawn: some of `wrong`, which may hold the right answer too."""

    text: str
    right: str
    wrong: Sequence[str]


def held_out(*parts: object) -> bool:
    """Whether what is asked belongs to the tests (one in eight) and not to training."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % 8 == 0


def sum_held_out(a: int, sign: str, b: int) -> bool:
    """`12 + 35` and `35 + 12` are one row."""
    return held_out(*(sorted((a, b)) if sign == "+" else (a, b)), sign)


def draw(rng: Random, language: Language, *, test: bool, subject: str | None = None) -> WorldQuestion:
    """Draw a question from the test rows, or from those that training may use."""
    subject = subject or rng.choice(list(SUBJECTS))
    while True:
        draft = rng.choice(_MAKERS[subject])(rng, LANGUAGES.index(language))
        if held_out(draft.text) == test:
            break
    choices = [draft.right, *rng.sample(sorted(set(draft.wrong) - {draft.right}), 3)]
    rng.shuffle(choices)
    return WorldQuestion(language, subject, draft.text, tuple(choices), choices.index(draft.right))


def draw_sum(rng: Random, *, test: bool) -> tuple[int, str, int, int]:
    """Draw `a, sign, b, result` with 0 <= a, b <= 99 and no negative result."""
    while True:
        a, b, sign = rng.randrange(100), rng.randrange(100), rng.choice("+-")
        if sign == "-" and a < b:
            a, b = b, a
        if sum_held_out(a, sign, b) == test:
            return a, sign, b, a + b if sign == "+" else a - b


def draw_story(rng: Random, language: Language, *, test: bool) -> str:
    """Draw a short text: a country, described in an order of its own, or somebody who counts."""
    while True:
        story = rng.choice((_country_story, _counting_story))(rng, LANGUAGES.index(language))
        if held_out(story) == test:
            return story


def _facts(country: tuple[Any, ...], lang: int) -> tuple[str, str, str, str, str]:
    """Name, capital, colour of the flag, crop and animal of a country."""
    colour, crop, animal = (
        table[index][lang] for table, index in zip((COLOURS, CROPS, ANIMALS), country[4:], strict=True)
    )
    return country[lang], country[2 + lang], colour, crop, animal


def _fact(rng: Random, lang: int) -> Draft:
    name, capital, colour, crop, animal = _facts(rng.choice(COUNTRIES), lang)
    kinds = (
        (capital, [row[2 + lang] for row in COUNTRIES], _PHRASES["capital"]),
        (colour, [entry[lang] for entry in COLOURS], _PHRASES["flag"]),
        (crop, [entry[lang] for entry in CROPS], _PHRASES["crop"]),
        (animal, [entry[lang] for entry in ANIMALS], _PHRASES["animal"]),
    )
    right, wrong, phrases = rng.choice(kinds)
    return Draft(rng.choice(phrases[lang]).format(name), right, [str(each) for each in wrong])


def _capital_of(rng: Random, lang: int) -> Draft:
    country = rng.choice(COUNTRIES)
    text = rng.choice(_PHRASES["capital of"][lang]).format(country[2 + lang])
    return Draft(text, str(country[lang]), [str(row[lang]) for row in COUNTRIES])


def _category(rng: Random, lang: int) -> Draft:
    kind = rng.choice(list(CATEGORIES))
    word = rng.choice(CATEGORIES[kind][lang].split())
    return Draft(rng.choice(_PHRASES["kind"][lang]).format(word), kind[lang], [other[lang] for other in CATEGORIES])


def _opposite(rng: Random, lang: int) -> Draft:
    pairs = [tuple(pair[0]) if lang == 0 else tuple(pair[1].split("-")) for pair in OPPOSITES]
    pair = rng.choice(pairs)
    word, right = pair if rng.random() < 0.5 else pair[::-1]
    wrong = [other for each in pairs for other in each if other != word]
    return Draft(rng.choice(_PHRASES["opposite"][lang]).format(word), right, wrong)


def _extreme(rng: Random, lang: int) -> Draft:
    values = rng.sample(range(10, 100), 4)
    pick, phrases = rng.choice(((max, _PHRASES["largest"]), (min, _PHRASES["smallest"])))
    shown = [str(value) for value in values]
    return Draft(rng.choice(phrases[lang]).format(_JOIN[lang].join(shown)), str(pick(values)), shown)


def _small_sum(rng: Random, lang: int) -> Draft:
    a, b = rng.randrange(1, 10), rng.randrange(1, 10)
    near = [str(a + b + step) for step in (-3, -2, -1, 1, 2, 3) if a + b + step >= 0]
    return Draft(rng.choice(_PHRASES["sum"][lang]).format(a, b), str(a + b), near)


def _calendar(rng: Random, lang: int) -> Draft:
    table, key = rng.choice(((WEEKDAYS, "day"), (MONTHS, "month")))
    place, step = rng.randrange(len(table)), rng.choice((-1, 1))
    names = [entry[lang] for entry in table]
    phrases = _PHRASES[f"{key} after" if step == 1 else f"{key} before"]
    return Draft(rng.choice(phrases[lang]).format(names[place]), names[(place + step) % len(names)], names)


def _owner(rng: Random, lang: int) -> Draft:
    """Two people have something; two others, or two other things, are among the options."""
    people = rng.sample([entry[lang] for entry in PEOPLE], 4)
    things = rng.sample([word for words in CATEGORIES.values() for word in words[lang].split()], 4)
    said = ("{}有{}，{}有{}。", "{} has the {}, {} has the {}. ")[lang].format(
        people[0], things[0], people[1], things[1]
    )
    k = rng.randrange(2)
    if rng.random() < 0.5:
        return Draft(said + ("谁有{}？", "Who has the {}?")[lang].format(things[k]), people[k], people)
    return Draft(said + ("{}有什么？", "What does {} have?")[lang].format(people[k]), things[k], things)


_JOIN = ("、", ", ")
_PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "capital": (
        ("{}的首都是哪里？", "哪座城是{}的首都？", "{}以哪里为首都？", "{}把首都定在哪里？"),
        (
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "{} has which capital?",
            "Where is the capital of {}?",
        ),
    ),
    "capital of": (
        ("{}是哪个国家的首都？", "哪个国家的首都是{}？", "{}属于哪个国家？"),
        ("{} is the capital of which country?", "Which country has {} as its capital?", "In which country is {}?"),
    ),
    "flag": (
        ("{}的国旗是什么颜色？", "{}的旗子是哪种颜色？", "什么颜色是{}国旗的颜色？", "{}的国旗用什么颜色？"),
        (
            "What colour is the flag of {}?",
            "Which colour has the flag of {}?",
            "The flag of {} has which colour?",
            "What colour flies over {}?",
        ),
    ),
    "crop": (
        ("{}的人们种什么？", "人们在{}种什么？", "{}出产什么？", "{}的田里长着什么？"),
        (
            "What do the people of {} grow?",
            "What is grown in {}?",
            "Which crop grows in {}?",
            "What fills the fields of {}?",
        ),
    ),
    "animal": (
        ("{}有什么动物？", "什么动物生活在{}？", "在{}能看到什么动物？", "{}的森林里有什么？"),
        (
            "Which animal lives in {}?",
            "What animal is found in {}?",
            "In {} lives which animal?",
            "What lives in the woods of {}?",
        ),
    ),
    "kind": (
        ("{}是什么？", "{}是哪一类东西？", "人们把{}叫作什么？", "{}属于哪一种东西？"),
        ("What is {}?", "What kind of thing is {}?", "What do people call {}?", "{} belongs to which kind?"),
    ),
    "opposite": (
        ("“{}”的反义词是什么？", "什么词和“{}”相反？", "“{}”的反面是什么？", "不是“{}”，那是什么？"),
        (
            "What is the opposite of {}?",
            "Which word means the opposite of {}?",
            "What is not {} but the opposite?",
            "If not {}, then what?",
        ),
    ),
    "largest": (("{}，哪个数最大？",), ("{}: which is the largest?",)),
    "smallest": (("{}，哪个数最小？",), ("{}: which is the smallest?",)),
    "sum": (
        ("{}加{}等于几？", "{}加{}是多少？", "{}和{}的和是几？"),
        ("What is {} plus {}?", "How much is {} plus {}?", "What do {} and {} make?"),
    ),
    "day after": (
        (
            "{}的后一天是星期几？",
            "{}之后是哪一天？",
            "过了{}是星期几？",
            "星期几紧跟着{}？",
            "{}过完是哪一天？",
            "哪一天在{}之后？",
        ),
        (
            "Which day comes after {}?",
            "What day follows {}?",
            "{} is followed by which day?",
            "After {} comes which day?",
            "Which day is next after {}?",
            "When {} is over, what day is it?",
        ),
    ),
    "day before": (
        (
            "{}的前一天是星期几？",
            "{}之前是哪一天？",
            "哪一天过完是{}？",
            "星期几在{}前面？",
            "{}前面是哪一天？",
            "哪一天紧挨在{}之前？",
        ),
        (
            "Which day comes before {}?",
            "What day precedes {}?",
            "{} comes after which day?",
            "Before {} comes which day?",
            "Which day is last before {}?",
            "On the eve of {}, what day is it?",
        ),
    ),
    "month after": (
        (
            "{}的下一个月是几月？",
            "{}之后是哪个月？",
            "过了{}是几月？",
            "几月紧跟着{}？",
            "{}过完是哪个月？",
            "哪个月在{}之后？",
        ),
        (
            "Which month comes after {}?",
            "What month follows {}?",
            "{} is followed by which month?",
            "After {} comes which month?",
            "Which month is next after {}?",
            "When {} is over, what month is it?",
        ),
    ),
    "month before": (
        (
            "{}的上一个月是几月？",
            "{}之前是哪个月？",
            "哪个月过完是{}？",
            "几月在{}前面？",
            "{}前面是哪个月？",
            "哪个月紧挨在{}之前？",
        ),
        (
            "Which month comes before {}?",
            "What month precedes {}?",
            "{} comes after which month?",
            "Before {} comes which month?",
            "Which month is last before {}?",
            "At the end of which month does {} begin?",
        ),
    ),
}
Maker = Callable[[Random, int], Draft]
_MAKERS: dict[str, tuple[Maker, ...]] = {
    "geography": (_fact, _fact, _capital_of),
    "words": (_category, _opposite),
    "numbers": (_extreme, _small_sum),
    "calendar": (_calendar,),
    "reading": (_owner,),
}


def _country_story(rng: Random, lang: int) -> str:
    name, capital, colour, crop, animal = _facts(rng.choice(COUNTRIES), lang)
    if lang == 0:
        lines = [
            f"{name}的首都是{capital}。",
            f"{name}的国旗是{colour}的。",
            f"{name}的人们种{crop}。",
            f"{name}有{animal}。",
        ]
    else:
        lines = [
            f"The capital of {name} is {capital}.",
            f"The flag of {name} is {colour}.",
            f"The people of {name} grow {crop}.",
            f"The {animal} lives in {name}.",
        ]
    rng.shuffle(lines)
    return ("", " ")[lang].join(lines)


def _counting_story(rng: Random, lang: int) -> str:
    person, day, thing = (rng.choice(table)[lang] for table in (PEOPLE, WEEKDAYS, THINGS))
    a, b = rng.randrange(2, 10), rng.randrange(1, 10)
    if lang == 0:
        return f"{day}，{person}有{a}个{thing}，又买了{b}个{thing}。现在{person}有{a + b}个{thing}。"
    return f"On {day} {person} had {a} {thing} and bought {b} more. Now {person} has {a + b} {thing}."
