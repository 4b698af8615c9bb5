"""Reads what is written after a flag. Pure functions from text to typed values; a bad text is a `ValueError`.

Values that are typed already, from a configuration file, pass through the same functions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError, one_line
from harness.secret import Secret, is_secret_name, sealed, shown_argument

_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None}
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")
_ADDRESS = re.compile(r"\s*https?://")
_CLOSING = {"[": "]", "{": "}", "(": ")"}


def parse_value(text: str) -> Any:
    """Read one value: true, false, null, a number, JSON in brackets, or text. Quotes keep a number text."""
    text = text.strip()
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if text[:1] in ("[", "{"):
        return _bracketed(text)
    return _unquoted(text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _bracketed(text: str) -> Any:
    """JSON, or YAML's looser form of it: `[a, 'b']`. What is neither stays text (a chat template may start so)."""
    import yaml

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def parse_pairs(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Read `k=v,k=v` or a JSON object. Commas inside quotes or brackets belong to the value."""
    if isinstance(given, Mapping):
        return {str(key): sealed(value, str(key)) for key, value in given.items()}
    text = given.strip()
    if text.startswith("{"):
        return _json_object(text)
    pairs: dict[str, Any] = {}
    for number, part in enumerate(split_outside(text, ","), start=1):
        if not part.strip():
            continue
        if (more := _further_address(pairs, part)) is not None:
            pairs[next(reversed(pairs))] = more
            continue
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key:
            # Behind a key it may be the rest of that key, which holds a comma.
            after_key = any(map(is_secret_name, pairs))
            what = f"part {number}, which is not shown," if after_key else f"'{shown_argument(part.strip())}'"
            raise ValueError(f"{what} is not of the form key=value (as in pretrained=DIR,dtype=float32)")
        if key in pairs:
            raise ValueError(f"'{key}' is given twice")
        pairs[key] = Secret(_unquoted(value.strip())) if is_secret_name(key) else sealed(parse_value(value), key)
    return pairs


def _further_address(pairs: dict[str, Any], part: str) -> list[str] | None:
    """The addresses of the last key, where that holds some and `part` is another: base_url=http://A/v1,http://B/v1."""
    before = pairs[next(reversed(pairs))] if pairs else None
    known = before if isinstance(before, list) else [before]
    are_addresses = all(isinstance(each, str) and _ADDRESS.match(each) for each in [*known, part])
    return [*known, part.strip()] if are_addresses else None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON object: {error.msg} at character {error.pos + 1}") from None
    return {key: sealed(item, key) for key, item in dict(value).items()}


def split_outside(text: str, separator: str) -> Iterator[str]:
    """Split at a character, but not inside quotes or brackets."""
    start, quote, open_brackets = 0, "", []
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and text[index - 1 : index] in ("", "=", ",", "[", "{", "(", ":", " "):
            quote = character
        elif character in _CLOSING:
            open_brackets.append(_CLOSING[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        elif character == separator and not open_brackets:
            yield text[start:index]
            start = index + 1
    if quote or open_brackets:
        raise ValueError(f"{quote or open_brackets[-1]} is missing at the end of '{shown_argument(text[start:])}'")
    yield text[start:]


def parse_token_prices(given: Any) -> dict[str, Any]:
    """Read `in=0.5,out=2,cached=0.1`, prices of a million tokens, or a YAML or JSON file that holds these."""
    import yaml

    if isinstance(given, str) and "=" not in given and not given.lstrip().startswith("{"):
        try:
            given = yaml.safe_load(Path(given).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"'{given}' is no file of prices that can be read: {one_line(error)}") from None
        if not isinstance(given, Mapping):
            raise ValueError("a file of prices holds keys and values: in: 0.5, out: 2")
    return parse_pairs(given)


def parse_sweep(given: str) -> tuple[str, list[Any]]:
    """Read `temperature=0,0.6,1` into the name and its values."""
    name, equals, values = str(given).partition("=")
    if not equals or not name.strip() or not values.strip():
        raise ValueError(f"'{given}' is not of the form NAME=VALUE,VALUE, as in temperature=0,0.6,1")
    return name.strip(), [parse_value(value.strip()) for value in split_outside(values, ",") if value.strip()]


def parse_names(given: str) -> list[str]:
    """Split task names at commas and spaces."""
    return [name for name in re.split(r"[,\s]+", str(given)) if name]


def parse_metrics(given: str | Mapping[str, Any]) -> list[str | dict[str, Any]]:
    """Read `ece,pass_hat_k(k=[2,8])`: names, and entries as `metric_list` has them where there are options."""
    if isinstance(given, Mapping):  # an entry of a configuration file
        if not isinstance(given.get("metric"), str):
            raise ValueError("an entry needs the key 'metric', as in {metric: ece, bins: 10}")
        return [dict(given)]
    entries: list[str | dict[str, Any]] = []
    for part in split_outside(str(given), ","):
        if call := re.fullmatch(r"\s*([^\s()]+)\((.*)\)\s*", part, re.DOTALL):
            entries.append({"metric": call[1], **parse_pairs(call[2])})
        elif "(" in part or ")" in part:
            raise ValueError(f"'{part.strip()}' is not of the form NAME or NAME(option=value)")
        else:
            entries += part.split()
    return entries


def parse_date(text: Any) -> str:
    """A year, a month or a day: `2025`, `2025-06`, `2025-06-30`."""
    date = str(text)
    if not re.fullmatch(r"\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?", date, re.ASCII):
        raise ValueError(f"'{date}' is no date such as 2025, 2025-06 or 2025-06-30")
    return date


def parse_limit(given: str | float) -> int | float:
    """Read `--limit`: a count of rows, or a fraction of each subset between 0 and 1."""
    problem = f"'{given}' is neither a count of rows (such as 100) nor a fraction of them (such as 0.1)"
    value = _above_zero(given, problem)
    if value < 1:
        return value
    if value != int(value):
        raise ValueError(problem)
    return int(value)


def parse_shard(given: Any) -> tuple[int, int]:
    """Read `--shard 3/16`: which part, from 1, of how many; typed, a pair of numbers."""
    text = "/".join(map(str, given)) if isinstance(given, tuple | list) else str(given)
    read = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
    if read is None:
        raise ValueError(f"'{text}' is not of the form PART/PARTS, as in 3/16")
    part, of = int(read[1]), int(read[2])
    if not 1 <= part <= of:
        raise ValueError(f"'{text}': the first part is 1/{of} and the last {of}/{of}")
    return part, of


def parse_precision(given: str | float) -> float:
    """Read `--precision`: half of the width that an interval may have, above 0."""
    return _above_zero(given, f"'{given}' is no width above 0, such as 0.01")


def _above_zero(given: str | float, problem: str) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise ValueError(problem) from None
    if isinstance(given, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(problem)
    return value


def parse_batch_size(given: str | int) -> int | str:
    """Read `--batch_size`: a number, or `auto` (lm-eval's `auto:N` means the same here)."""
    text = str(given).strip().lower()
    if re.fullmatch(r"auto(:[0-9]+)?", text):
        return "auto"
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return int(text)
    raise ValueError(f"'{given}' is neither 'auto' nor a number of rows of at least 1")


def parse_seed(given: str | int) -> int:
    """Read `--seed`: a number. Of lm-eval's four seeds the last one is used, which draws few-shot examples."""
    parts = [part.strip() for part in str(given).split(",")]
    lm_eval_form = len(parts) in (3, 4) and all(re.fullmatch(r"[0-9]+|None", part) for part in parts)
    if lm_eval_form and len(parts) == 3:
        return 1234
    if (lm_eval_form or len(parts) == 1) and re.fullmatch(r"[0-9]+", parts[-1]):
        return int(parts[-1])
    raise ValueError(f"'{given}' is not a whole number of at least 0")


def parse_override(given: str) -> tuple[str, str, Any]:
    """Read `--set TASK.KEY=VALUE` into (task, key, value).

    The key may reach into a mapping: `gsm8k.generation_kwargs.temperature=0.6`.
    """
    name, equals, value = given.partition("=")
    task, point, key = name.strip().partition(".")
    if not (equals and point and task and key):
        raise ValueError(f"'{given}' is not of the form TASK.KEY=VALUE (as in cmmlu.num_fewshot=3)")
    return task, key, parse_value(value)


def parse_modifier(given: str) -> str:
    """Read `--modify NAME` or `--modify NAME=VALUE`."""
    name, equals, value = (part.strip() for part in str(given).partition("="))
    if not name or (equals and not value) or "," in name:
        raise ValueError(f"'{given}' is not of the form NAME or NAME=VALUE (give the flag again for another modifier)")
    return f"{name}{equals}{value}"


def parse_judge(given: str) -> tuple[str, dict[str, Any]]:
    """Read `--judge MODEL,K=V,...` into the model's name and its arguments."""
    return _named_pairs(given, "the name of a model (as in openai,model=NAME,base_url=URL)")


def recipe_judge(recipe: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The judge that a recipe names, if it names one. Raises `UsageError`."""
    if not (judge := recipe.get("judge")):
        return None
    try:
        return parse_judge(str(judge))
    except ValueError as error:
        raise UsageError(f"recipe '{recipe.get('recipe')}': judge: {error}") from None


def parse_log_target(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Read `--log_to LOGGER,K=V,...` into the logger's name and its options; in a file also `{wandb: {project: X}}`."""
    if isinstance(given, Mapping):
        ((name, options), *more) = given.items() or [("", None)]
        if more or not name or not isinstance(options, Mapping | None):
            raise ValueError("an entry names one logger, as in {wandb: {project: NAME}}")
        return str(name), parse_pairs(options or {})
    return _named_pairs(str(given), "the name of a logger (as in wandb,project=NAME)")


def parse_executor(given: Any) -> tuple[str, dict[str, Any]]:
    """Read `--executor NAME,K=V,...` into the executor's name and its options; typed, a pair of these."""
    if isinstance(given, tuple | list):
        return str(given[0]), parse_pairs(given[1])
    return _named_pairs(str(given), "the name of an executor (as in ray,workers=8)")


def _named_pairs(given: str, what: str) -> tuple[str, dict[str, Any]]:
    name, _, pairs = given.partition(",")
    if not name.strip() or "=" in name:
        raise ValueError(f"'{shown_argument(given)}' does not begin with {what}")
    return name.strip(), parse_pairs(pairs)


def parse_prices(given: str) -> tuple[float, float]:
    """Read `--prices IN,OUT`: two prices of at least 0."""
    parts = given.split(",")
    try:
        prices = [float(part) for part in parts]
    except ValueError:
        prices = []
    if len(prices) != 2 or not all(math.isfinite(price) and price >= 0 for price in prices):
        raise ValueError(f"'{given}' is not two prices (of a million prompt and completion tokens, as in 0.15,0.6)")
    return prices[0], prices[1]


def parse_ladder(given: Any) -> list[float]:
    """Read `1,2,4`: numbers above 0, each once, in their order."""
    parts = [part.strip() for part in str(given).split(",") if part.strip()]
    try:
        numbers = list(dict.fromkeys(float(part) for part in parts))
    except ValueError:
        numbers = []
    if not numbers or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(f"'{given}' is not of the form N,N,N with numbers above 0, as in 1,2,4,8")
    return numbers


def parse_limits(given: Any, names: Collection[str]) -> dict[str, float]:
    """Read `ttft=0.5,tpot=0.05`: seconds above 0, by some of `names`."""
    limits = parse_pairs(given)
    for name, value in limits.items():
        if name not in names:
            raise ValueError(f"'{name}' is none of {', '.join(names)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"{name}={value}: not a number of seconds above 0")
    if not limits:
        raise ValueError("names no limit: as in ttft=0.5,tpot=0.05 (seconds)")
    return {name: float(value) for name, value in limits.items()}


def parse_switch(given: str | bool) -> bool:
    """Read a flag that may be followed by true or false."""
    if isinstance(given, bool):
        return given
    text = given.strip().lower()
    if text in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        return text in ("true", "1", "yes", "on")
    raise ValueError(f"'{given}' is neither true nor false")


def parse_template(given: str | bool) -> str | bool:
    """Read `--apply_chat_template`: on, off, or the name of one of the model's templates."""
    if isinstance(given, bool):
        return given
    text = given.strip()
    return text.lower() == "true" if text.lower() in ("true", "false") else text
