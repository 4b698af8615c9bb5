"""Calls of functions are read in the forms in which families of models write them."""

import json

import pytest

from harness.scoring import CallError, ToolCall, calls_match, python_calls, read_calls
from harness.scoring.extraction.call_schemas import call_problem, calls_fit
from harness.scoring.official.bfcl_literals import Language, literal_value

WEATHER = ToolCall("weather", {"city": "北京", "days": 2})
ARGUMENTS = '{"city": "北京", "days": 2}'
FUNCTIONS = [
    {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}
]


@pytest.mark.parametrize(
    "reply",
    [
        f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
        f'I look.\n<tool_call>{{"name": "weather", "arguments": {ARGUMENTS}}}',
        "<tool_call>\n<function=weather>\n<parameter=city>\n北京\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">北京</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n</minimax:tool_call>',
        f"<function=weather>{ARGUMENTS}</function>",
        f'<|python_tag|>{{"name": "weather", "parameters": {ARGUMENTS}}}<|eom_id|>',
        f'{{"name": "weather", "parameters": {ARGUMENTS}}}',
        f'```json\n[{{"name": "weather", "arguments": {ARGUMENTS}}}]\n```',
        f'[{{"type": "function", "function": {{"name": "weather", "arguments": {json.dumps(ARGUMENTS)}}}}}]',
        f'[TOOL_CALLS] [{{"name": "weather", "arguments": {ARGUMENTS}}}]</s>',
        f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        f"```json\n{ARGUMENTS}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{ARGUMENTS}<｜tool▁call▁end｜>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>",
        f">>>weather\n{ARGUMENTS}",
        "[weather(city='北京', days=2)]",
        "```tool_code\nweather(city='北京', days=2)\n```",
        f'{{"name": "weather", "parameters": {ARGUMENTS}}}<|eot_id|>',
        f'<tool_calls>[{{"name": "weather", "arguments": {ARGUMENTS}}}]</tool_calls>',
        f"<tool_calls>\n<tool_call>weather\n```json\n{ARGUMENTS}\n```\n</tool_call>\n</tool_calls>",
        f'<|tool_call|>[{{"name": "weather", "arguments": {ARGUMENTS}}}]<|/tool_call|>',
        f'<|action_start|><|plugin|>\n{{"name": "weather", "parameters": {ARGUMENTS}}}<|action_end|>',
        f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">北京'
        '</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>',
        "<tool_call>{'name': 'weather', 'arguments': {'city': '北京', 'days': 2,},}</tool_call>",
        f'<tool_call>\n```json\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n```\n</tool_call>',
        '<|tool_call>call:weather{city:<|"|>北京<|"|>,days:2}<tool_call|>',
        "<start_function_call>call:weather{city:<escape>北京<escape>,days:2}<end_function_call>",
        f'<|START_ACTION|>[{{"tool_call_id": "0", "tool_name": "weather", "parameters": {ARGUMENTS}}}]<|END_ACTION|>',
        '<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="weather"><steptml:parameter name="city">北京'
        '</steptml:parameter><steptml:parameter name="days">2</steptml:parameter></steptml:invoke><｜tool_call_end｜>',
        "<longcat_tool_call>weather\n<longcat_arg_key>city</longcat_arg_key>\n<longcat_arg_value>北京"
        "</longcat_arg_value>\n<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>2</longcat_arg_value>\n"
        "</longcat_tool_call>",
        "I look. <|tool_call_start|>[weather(city='北京', days=2)]<|tool_call_end|>",
        "<|python_start|>[weather(city='北京', days=2)]<|python_end|>",
        "<function_calls>\nweather(city='北京', days=2)\n</function_calls>",
        f'<TOOLCALL>[{{"name": "weather", "arguments": {ARGUMENTS}}}]</TOOLCALL>',
        f"weather\n{ARGUMENTS}",
        '<|python_tag|>weather.call(city="北京", days=2)<|eom_id|>',
        'I look.<|python_tag|>weather(city="北京", days=2)<|eot_id|>',
        "<|python_tag|>[weather(city='北京', days=2)]",
        "weather.call(city='北京', days=2)",
        f"✿FUNCTION✿: weather\n✿ARGS✿: {ARGUMENTS}\n✿RESULT✿: it is warm",
        f'{{"tool_calls": [{{"function": {{"name": "weather", "arguments": {json.dumps(ARGUMENTS)}}}}}]}}',
    ],
)
def test_a_call_in_each_form(reply: str) -> None:
    assert read_calls(reply, FUNCTIONS) == (WEATHER,)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "It is warm.",
        "[]",
        "{not JSON",
        '{"city": "北京"}',
        "```\nprint(1)\n```",
        "[1, 2]",
        "[see](x)",
        "<|python_tag|>",
    ],
)
def test_a_text_calls_nothing(reply: str) -> None:
    assert read_calls(reply) == ()


@pytest.mark.parametrize(
    "reply",
    [
        "<tool_call>{oops</tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        "[TOOL_CALLS]f[ARGS]{",
        "<tool_call>\n<function=weather>\n<parameter=city>\nBei",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n<arg_key>days</arg_key>\n<arg_value>",
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">北京</parameter>',
        '{"name": "weather", "arguments": {"city": "北',
        '<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">北',
        "[weather(city='北",
        '<|tool_call>call:weather{city:<|"|>北',
        "<|tool_call_start|>[weather(city='北",
        '<TOOLCALL>[{"name": "weather", "arguments": {"city": "北',
        "<|python_tag|>import math\nprint(math.pi)",
        "<|python_tag|>weather.call(city='北",
        "[f(a=--5)]",
        "[f(a=lambda x: x)]",
        "[f(a=9**9**9)]",
        "[f(a='x' * 99999999999)]",
    ],
)
def test_a_call_that_cannot_be_read_is_said_to_be_one(reply: str) -> None:
    with pytest.raises(CallError):
        read_calls(reply)


def test_several_calls_keep_their_order_and_texts_their_type() -> None:
    first, second = read_calls(
        '<tool_call>{"name": "f", "arguments": {}}</tool_call>\n<tool_call>{"name": "g", "arguments": ""}</tool_call>'
    )
    assert (first.name, second.name, second.arguments) == ("f", "g", {})
    (call,) = read_calls(
        "<function=weather><parameter=city>7</parameter><parameter=x>7</parameter></function>", FUNCTIONS
    )
    assert call.arguments == {"city": "7", "x": 7}


@pytest.mark.parametrize(
    "reply",
    [
        "<|python_tag|>f.call(a=1); g(b='x;y')<|eom_id|>",
        "<|python_tag|>f(a=1)\ng.call(b='x;y')",
        "f(a=1)\ng(b='x;y')",
        '<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {"b": "x;y"}}',
        '<|python_tag|>{"name": "f", "parameters": {"a": 1}}<|python_tag|>{"name": "g", "parameters": {"b": "x;y"}}',
    ],
)
def test_llamas_several_calls(reply: str) -> None:
    assert read_calls(reply, [{"name": "f"}, {"name": "g"}]) == (ToolCall("f", {"a": 1}), ToolCall("g", {"b": "x;y"}))


def test_llamas_program_is_a_call_of_the_interpreter_where_one_is_offered() -> None:
    program = "import math\nprint(math.pi)"
    assert read_calls(f"<|python_tag|>{program}<|eom_id|>", [{"name": "code_interpreter"}]) == (
        ToolCall("code_interpreter", {"code": program}),
    )
    assert read_calls("<|python_tag|>a.call(x=1)", [{"name": "a.call"}, {"name": "python"}])[0].name == "a.call"


def test_pythons_values() -> None:
    (call,) = python_calls("a.b(5, x=-1, y=[1, (2,)], z={'k': None}, n=name, s=2 * 3, t='a' + 'b', c=f(q=1))")
    assert call == ToolCall(
        "a.b", {"x": -1, "y": [1, (2,)], "z": {"k": None}, "n": "name", "s": 6, "t": "ab", "c": {"f": {"q": 1}}}
    )


def test_a_call_with_values_that_json_has_none_of_is_a_call_as_for_bfcl() -> None:
    # Of irrelevance it only counts whether something was called.
    (call,) = python_calls("f(a=1j, b=b'x', c={(1, 2): 3}, d=1 << 3, e=5 | 2, g=...)")
    assert call.arguments == {"a": "1j", "b": "b'x'", "c": {"(1, 2)": 3}, "d": 8, "e": 7, "g": "..."}
    for unread in ("f(a={**b})", "f(a=1 << 1000)", "f(a=1 << -1)", "f(a=1 / 0)", "f(a={1, 2})", "f(a=lambda: 1)"):
        with pytest.raises(CallError):
            python_calls(unread)


ADD = {
    "name": "math.add",
    "parameters": {
        "type": "dict",
        "properties": {
            "a": {"type": "float"},
            "when": {"type": "string"},
            "of": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["a"],
    },
}
TRUTH = [{"math.add": {"a": [2.0], "when": ["April 1, 2024", ""], "of": [["x", "y"], ""]}}]


@pytest.mark.parametrize(
    ("name", "arguments", "right"),
    [
        ("math.add", {"a": 2}, True),
        ("math_add", {"a": 2.0, "when": "april 1 2024", "of": ["X", "y"]}, True),
        ("math.add", {"a": "2"}, False),
        ("math.add", {"a": 3}, False),
        ("math.add", {"when": "April 1, 2024"}, False),
        ("math.add", {"a": 2, "more": 1}, False),
        ("math.add", {"a": 2, "of": ["y", "x"]}, False),
        ("add", {"a": 2}, False),
    ],
)
def test_bfcls_comparison(name: str, arguments: dict[str, object], right: bool) -> None:
    assert calls_match([ADD], [ToolCall(name, arguments)], TRUTH, "simple") is right


def test_the_order_of_parallel_calls_does_not_matter_and_their_number_does() -> None:
    truths = [{"math.add": {"a": [1.0]}}, {"math.add": {"a": [2.0]}}]
    calls = [ToolCall("math.add", {"a": 2}), ToolCall("math.add", {"a": 1})]
    assert calls_match([ADD], calls, truths, "parallel")
    assert not calls_match([ADD], calls[:1], truths, "parallel")
    assert not calls_match([ADD], [calls[0], calls[0]], truths, "parallel")


OFFERED = {
    "name": "plan",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 2},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
            "unit": {"enum": ["C", "F"]},
            "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}, "maxItems": 2},
            "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"stop": {"type": "dict", "properties": {"at": {"type": "float"}}, "required": ["at"]}},
    },
}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"city": "Lima"}, None),
        ({"city": "Lima", "days": 2.0, "unit": "C", "stops": [{"at": 1}], "price": None}, None),
        ({}, "'city' is missing"),
        ({"city": 5}, "city: should be string, found number"),
        ({"city": "L"}, "city: should be at least 2 characters"),
        ({"city": "Lima", "days": True}, "days: should be integer, found boolean"),
        ({"city": "Lima", "days": 1.5}, "days: should be integer, found number"),
        ({"city": "Lima", "days": 8}, "days: should be at most 7"),
        ({"city": "Lima", "unit": "K"}, 'unit: should be one of ["C", "F"]'),
        ({"city": "Lima", "stops": [{"at": 1}, {"on": 2}]}, "stops: 1: 'at' is missing"),
        ({"city": "Lima", "stops": [{"at": "1"}]}, "stops: 0: at: should be number, found string"),
        ({"city": "Lima", "stops": [{"at": 1}] * 3}, "stops: should be at most 2 items"),
        ({"city": "Lima", "price": "1"}, "price: fits none of several schemas"),
        ({"city": "Lima", "when": 1}, "'when' is not among its arguments"),
    ],
)
def test_a_call_fits_its_schema_or_says_why_not(arguments: dict, problem: str | None) -> None:
    assert call_problem(ToolCall("plan", arguments), [OFFERED]) == (problem and f"plan: {problem}")


def test_replies_fit_only_with_all_their_calls() -> None:
    tools = [{"type": "function", "function": OFFERED}]
    good = '<tool_call>{"name": "plan", "arguments": {"city": "Lima"}}</tool_call>'
    replies = {
        good: True,
        f"<think>plan() or not?</think>{good}": True,
        good + good.replace("Lima", ""): False,
        good.replace("plan", "plane"): False,
        good.replace("}}", "}"): False,
        "I cannot say.": None,
    }
    assert {reply: calls_fit(reply, tools) for reply in replies} == replies


@pytest.mark.parametrize(
    ("language", "text", "kind", "items", "value"),
    [
        ("java", "-3", "integer", None, -3),
        ("java", "3", "long", None, "3"),
        ("java", "3L", "long", None, 3),
        ("java", "1.5f", "float", None, 1.5),
        ("java", "true", "boolean", None, True),
        ("java", 'new ArrayList<>(Arrays.asList("a", "b"))', "ArrayList", "String", ["a", "b"]),
        ("java", "new ArrayList<Integer>() {{ add(1); add(2); }}", "ArrayList", "integer", [1, 2]),
        ("java", "new int[]{1, 2}", "Array", "integer", [1, 2]),
        (
            "java",
            'new HashMap<String, Object>() {{ put("a", 1); put("b", "c"); }}',
            "HashMap",
            None,
            {"a": 1, "b": "c"},
        ),
        ("java", "names", "ArrayList", "String", "names"),
        ("javascript", "'a'", "String", None, "a"),
        ("javascript", "7n", "Bigint", None, 7),
        ("javascript", "[1, 'b', true]", "array", None, [1, "b", True]),
        ("javascript", "new Array([1, 2], [3])", "array", "array", [[1, 2], [3]]),
        ("javascript", "{a: 1, 'b': [x], c: 'd'}", "dict", None, {"a": 1, "b": ["x"], "c": "d"}),
        ("javascript", "yes", "Boolean", None, "yes"),
    ],
)
def test_values_of_java_and_javascript_are_read_from_texts(
    language: Language, text: str, kind: str, items: str | None, value: object
) -> None:
    assert literal_value(language, text, kind, items) == value


def test_a_call_in_java_takes_texts_alone() -> None:
    described = {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}, "required": ["n"]}}
    assert calls_match([described], [ToolCall("f", {"n": "2"})], [{"f": {"n": [2]}}], "java")
    assert not calls_match([described], [ToolCall("f", {"n": 2})], [{"f": {"n": [2]}}], "java")
    assert not calls_match([described], [ToolCall("f", {"n": "2n"})], [{"f": {"n": [2]}}], "javascript")


@pytest.mark.parametrize("text", ["a}{", '\\"quoted\\"', "</tool_call>", "<tool_call>", "a\nb", "it's", "北京🙂"])
def test_texts_may_hold_what_ends_calls(text: str) -> None:
    read = read_calls(f'I look.\n<tool_call>{{"name": "weather", "arguments": {{"city": "{text}"}}}}</tool_call>')
    assert read == (ToolCall("weather", {"city": text.replace("\\", "")}),)
