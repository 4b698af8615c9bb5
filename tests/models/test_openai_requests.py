"""What is sent to a server of OpenAI's API, and what cannot be asked of one."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from openai_asking import answer, answers, ask, make
from PIL import Image
from scripted_server import Asked, Reply, ScriptedServer, chat, completion, error

from harness import (
    Media,
    Message,
    Prompt,
    Request,
    UsageError,
)
from harness.engine import open_picture


def test_a_string_prompt_is_one_turn_by_chat_and_as_it_is_by_completions(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("c") if "chat" in asked.path else completion("t")
    assert answer(make(server), ask("你好")).text == "c"
    assert answer(make(server, api="completions"), ask("你好")).text == "t"
    first, second = server.asked
    assert (first.path, first.body["messages"]) == ("/v1/chat/completions", [{"role": "user", "content": "你好"}])
    assert (second.path, second.body["prompt"]) == ("/v1/completions", "你好")


def test_auto_takes_chat_for_chat_prompts_and_completions_for_strings(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("c") if "chat" in asked.path else completion("t")
    turns = Request("generate", Prompt(messages=(Message("system", "Be brief."), Message("user", "Hi"))))
    assert [r.text for r in answers(make(server, api="auto"), [turns, ask()])] == ["c", "t"]
    assert server.asked[0].body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_full_address_says_which_api(server: ScriptedServer) -> None:
    server.script(completion("t"))
    assert answer(make(None, base_url=f"{server.url}/completions/", api="auto"), ask()).text == "t"
    assert server.asked[0].path == "/v1/completions"


def test_greedy_is_temperature_0_and_sampling_has_its_seed(server: ScriptedServer) -> None:
    answers(
        make(server, extra_body='{"user": "me"}'),
        [ask(max_new_tokens=9), ask(do_sample=True, temperature=0.7, top_p=0.9, seed=5, extra=(("min_p", 0.1),))],
    )
    greedy, sampled = (asked.body for asked in server.asked)
    assert (greedy["temperature"], greedy["max_tokens"], greedy["model"], greedy["user"]) == (0, 9, "small", "me")
    assert "seed" not in greedy and "top_p" not in greedy
    assert (sampled["temperature"], sampled["top_p"], sampled["seed"], sampled["min_p"]) == (0.7, 0.9, 5, 0.1)
    assert "max_tokens" not in sampled


def test_completions_ask_for_256_tokens_unless_told(server: ScriptedServer) -> None:
    server.script(completion("t"))
    answer(make(server, api="completions"), ask())
    answer(make(server, api="completions", max_gen_toks=32), ask())
    assert [asked.body["max_tokens"] for asked in server.asked] == [256, 32]


def test_fields_that_a_server_refuses_can_be_omitted(server: ScriptedServer) -> None:
    answer(make(server, omit="temperature+stop"), ask(until=("\n",)))
    assert {"temperature", "stop"}.isdisjoint(server.asked[0].body)


def drawn(width: int, height: int, kind: str = "JPEG", mode: str = "RGB") -> Media:
    stream = io.BytesIO()
    Image.effect_noise((width, height), 90).convert(mode).save(stream, kind)
    data = stream.getvalue()
    return Media("image", hashlib.sha256(data).hexdigest(), data)


def sent(server: ScriptedServer, at: int = -1) -> tuple[str, bytes]:
    """The media type and the bytes of the image in a request."""
    url = server.asked[at].body["messages"][0]["content"][1]["image_url"]["url"]
    head, data = url.split(",")
    return head, base64.b64decode(data)


def shows(picture: Media) -> Request:
    return Request("generate", Prompt(messages=(Message("user", ("Look: ", picture, " What is it?")),)))


def test_images_go_as_data_urls_between_the_texts(server: ScriptedServer) -> None:
    picture = drawn(40, 30)
    answer(make(server, api="auto"), shows(picture))
    before, _, after = server.asked[0].body["messages"][0]["content"]
    assert (before["text"], after["text"]) == ("Look: ", " What is it?")
    assert sent(server) == ("data:image/jpeg;base64", picture.data)


def test_an_image_beyond_the_limits_is_made_to_fit_by_a_rule_that_is_recorded(server: ScriptedServer) -> None:
    model = make(server, max_image_pixels=64, max_image_bytes=6000)
    for picture, size in ((drawn(200, 100), (64, 32)), (drawn(50, 60, "TIFF"), (50, 60)), (drawn(63, 64, "PNG"), None)):
        answer(model, shows(picture))
        data = sent(server)[1]
        with Image.open(io.BytesIO(data)) as image:
            assert size is None or image.size == size
        assert len(data) <= 6000
    assert model.identity["images"] == {
        "most_pixels": 64,
        "most_bytes": 6000,
        "as_it_is": "rgb or grey, upright, opaque, 8 bits: 1",
    }
    with pytest.raises(UsageError, match="max_image_pixels=3 is no whole number"):
        make(server, max_image_pixels=3)


def odd(mode: str, form: str, **options: Any) -> Media:
    """A picture of a mode and a format that readers differ about; red at the left, blue at the right."""
    picture = Image.new("RGB", (12, 8), "red")
    picture.paste("blue", (6, 0, 12, 8))
    if mode == "I;16":
        values = numpy.tile(numpy.linspace(0, 65535, 12).astype(numpy.uint16), (8, 1))
        picture = Image.fromarray(values)
    elif mode == "PA":
        picture = picture.convert("P")
        picture.info["transparency"] = picture.getpixel((0, 0))
        options = {**options, "transparency": picture.getpixel((0, 0))}
    elif mode == "RGBA":
        picture.putalpha(128)
    else:
        picture = picture.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    data = stream.getvalue()
    return Media("image", hashlib.sha256(data).hexdigest(), data)


TURNED = Image.Exif()
TURNED[274] = 6


@pytest.mark.parametrize(
    ("picture", "is_changed"),
    [
        (odd("RGB", "PNG"), False),
        (odd("L", "JPEG"), False),
        (odd("RGB", "WEBP", lossless=True), False),
        (odd("RGB", "JPEG", exif=TURNED), True),
        (odd("CMYK", "JPEG"), True),
        (odd("I;16", "PNG"), True),
        (odd("PA", "PNG"), True),
        (odd("P", "GIF"), True),
        (odd("RGBA", "PNG"), True),
        (odd("RGBA", "WEBP"), True),
        (odd("1", "PNG"), True),
        (odd("RGB", "BMP"), True),
        (odd("CMYK", "TIFF"), True),
    ],
    ids=lambda value: "",
)
def test_a_server_sees_the_pixels_that_a_local_model_sees(
    server: ScriptedServer, picture: Media, is_changed: bool
) -> None:
    answer(make(server), shows(picture))
    head, data = sent(server)
    assert (data != picture.data) == is_changed
    assert head.removeprefix("data:image/").removesuffix(";base64") in ("png", "jpeg", "gif", "webp")
    with Image.open(io.BytesIO(data)) as read:
        assert read.mode in ("RGB", "L") and read.getexif().get(274, 1) == 1
        assert numpy.array_equal(numpy.asarray(read.convert("RGB")), numpy.asarray(open_picture(picture)))


def test_an_image_that_cannot_be_shown_is_an_error_of_its_request(server: ScriptedServer) -> None:
    broken = Media("image", "abc", drawn(40, 30, "PNG").data[:60])
    clip = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), shade) for shade in ("red", "blue")]
    frames[0].save(clip, "GIF", save_all=True, append_images=frames[1:])
    moving = Media("image", "def", clip.getvalue())
    cut = Media("image", "123", drawn(40, 30).data[:-40])
    found = answers(make(server, max_image_pixels=64), [shows(broken), shows(moving), shows(cut), shows(drawn(9, 9))])
    assert "cannot be shown" in str(found[0].error) and "animated (2 frames)" in str(found[1].error)
    assert "image file is truncated" in str(found[2].error)
    assert found[3].text == "yes" and len(server.asked) == 1


def test_a_sound_of_nothing_and_one_that_was_cut_are_errors_of_their_requests(server: ScriptedServer) -> None:
    empty = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\0\0\0\0"
    cut = empty[:-4] + b"\x00\x10\0\0" + bytes(90)
    one = empty[:-4] + b"\x02\0\0\0" + bytes(2)
    sounds = [Media("audio", hashlib.sha256(data).hexdigest(), data) for data in (empty, cut, one)]
    found = answers(make(server), [shows(sound) for sound in sounds])
    assert "holds no sound" in str(found[0].error) and "is cut off: 90 of 4096 bytes" in str(found[1].error)
    assert found[2].text == "yes" and len(server.asked) == 1


def test_a_prefill_is_the_last_turn_of_the_assistant(server: ScriptedServer) -> None:
    request = Request("generate", Prompt(messages=(Message("user", "2+2?"),), prefill="The answer is"))
    answer(make(server), request)
    answer(make(server, continue_final_message=False), request)
    with_flags, without = (asked.body for asked in server.asked)
    assert with_flags["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    assert with_flags["continue_final_message"] is True and with_flags["add_generation_prompt"] is False
    assert "continue_final_message" not in without


def test_the_limit_goes_by_the_name_that_the_server_knows(server: ScriptedServer) -> None:
    def reply(asked: Asked) -> Reply:
        if "max_tokens" in asked.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return chat("yes")

    server.answer = reply
    given = answers(make(server), [ask(max_new_tokens=5), ask(max_new_tokens=6)])
    assert [response.text for response in given] == ["yes", "yes"]
    assert [asked.body.get("max_completion_tokens") for asked in server.asked] == [None, 5, 6]


def test_log_likelihoods_by_chat_are_refused_before_anything_runs(server: ScriptedServer) -> None:
    request = Request("loglikelihood", Prompt("?"), ("A", "B"))
    model = make(server)
    assert model.supports == {"generate"}
    with pytest.raises(UsageError, match="task 'task' needs log-likelihoods"):
        answer(model, request)
    assert server.asked == []


def test_chat_prompts_by_completions_need_a_tokenizer(server: ScriptedServer) -> None:
    request = Request("generate", Prompt(messages=(Message("user", "?"),)))
    with pytest.raises(UsageError, match="tokenizer="):
        answer(make(server, api="completions"), request)


def test_images_by_completions_are_refused(server: ScriptedServer) -> None:
    request = Request("generate", Prompt("?", media=(Media("image", "abc", b"x"),)))
    with pytest.raises(UsageError, match="images"):
        answer(make(server, api="completions"), request)


def test_openai_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        make(None, api_key=None).load()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"api": "grpc"}, "auto, chat, completions"),
        ({"num_concurrent": 0}, "num_concurrent"),
        ({"num_concurrent": 1.5}, "num_concurrent"),
        ({"timeout": "soon"}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"extra_body": "{"}, "extra_body"),
        ({"headers": "[1]"}, "headers"),
        ({"max_length": 100}, "tokenizer"),
        ({"modle": "x"}, "modle"),
        ({"logprobs": "yes"}, "logprobs"),
    ],
)
def test_wrong_arguments_are_refused(args: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make(None, **args)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer=.*cannot be read"):
        make(None, tokenizer=str(tmp_path)).prepare()
