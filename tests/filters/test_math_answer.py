"""Where in a reply the answer to a mathematical question stands."""

from __future__ import annotations

import pytest

from harness import Sample
from harness_plugins.filters.answers import MathAnswer

SAMPLE = Sample("t", "", 0, {}, (), "1")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"由 $2x=3$ 得 \boxed{\frac{3}{2}}。答案是 7", r"\frac{3}{2}"),
        (r"先得 \boxed{1}，更正：\boxed{2}", "2"),
        (r"移项得 $2x=3$，所以 $x=\frac{3}{2}$。", r"x=\frac{3}{2}"),
        (r"$2x=3$。所以答案是 $\frac{3}{2}$。", r"\frac{3}{2}"),
        ("所以答案为：$5$;$10$。", "$5$;$10$"),
        ("3*4=12\n#### 12", "12"),
        ("The answer is 4*sqrt(15)-14.", "4*sqrt(15)-14"),
        (r"x^2/3-y^2/6=1", "x^2/3-y^2/6=1"),
        (r"\pi -\arccos \frac{1}{8}", r"\pi -\arccos \frac{1}{8}"),
        ("$5$;$10$", "$5$;$10$"),
        ("((2)/(3))", "((2)/(3))"),
        ("There are 12 pens, so $12$", "12"),
        ("一共有 12 支铅笔。", "12"),
        (r"<think>\boxed{9}</think>还剩 3 个", "3"),
        ("Final Answer: **5**", "5"),
        ("**Answer:** 2**10", "2**10"),
        ("The answer is 5, because 3+2=5.", "5"),
        ("答案是5，因为3+2=5", "5"),
        ("The answers are $1$ and $2$.", "$1$ and $2$"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        ("\\boxed{1}\n\\boxed{2}", "2"),
        (r"$\boxed{5}$%", r"5\%"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"It follows that 2x=3. <answer>$\frac{3}{2}$</answer>", r"$\frac{3}{2}$"),
        (r"<answer>\boxed{3}</answer> 7", "3"),
        ("<answer>p - q</answer>", "p - q"),
        ("The answer is $3$, not $99$.", "3"),
        ("答案是 $x+1$，而不是 $99$。", "x+1"),
        (r"答：$2\sqrt{3}$ 米", r"2\sqrt{3}"),
        (r"\boxed{3} \boxed{}", None),
        (r"so \boxed{\frac{1}{2", None),
        ("I don't know", None),
        ("不知道", None),
        ("", None),
        (None, None),
    ],
)
def test_the_answer_is_found_where_the_reply_gives_it(reply, answer):
    assert MathAnswer().apply([reply], SAMPLE) == [answer]


def test_an_answer_may_be_a_line_of_words_where_the_task_says_so():
    replies = ["线段F1F2或椭圆", "三组对边", "甲\n乙", "", "答案是圆", "还剩 3 个"]
    assert MathAnswer(words=True).apply(replies, SAMPLE) == ["线段F1F2或椭圆", "三组对边", None, None, "圆", "3"]
