"""Images in prompts: where rows hold them, where a prompt shows them, and what is left when they are taken away."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import Media, UsageError, evaluate
from harness.errors import HarnessError
from harness.testing import run_harness
from harness_plugins.models.openai.wire import chat_messages

TASK = """\
task: see
dataset_path: rows.jsonl
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
doc_to_image: %s
generation_kwargs: {max_gen_toks: 4}
metric_list: [{metric: exact_match}]
"""
CHOICES = """\
options: {columns: [A, B], answer: a}
"""


def png(shade: int) -> bytes:
    """A picture of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes([0, shade]))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def uri(shade: int) -> str:
    return "data:image/png;base64," + base64.b64encode(png(shade)).decode()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ask(rows: list[dict[str, Any]], columns: str = "image", more: str = "", **options: Any) -> list[Any]:
    """The records of a run over `rows`, by a model that gives the gold."""
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("see.yaml").write_text(TASK % columns + more, encoding="utf-8")
    result = evaluate("dummy", {"mode": "gold"}, ["see.yaml"], **options)
    return sorted(result.samples(), key=lambda record: record.id)


def shown(record: Any) -> list[Any]:
    """What the last turn shows: texts, and hashes of images."""
    content = record.prompt.messages[-1].content
    return [part.sha256 if isinstance(part, Media) else part for part in content]


def sha(shade: int) -> str:
    return hashlib.sha256(png(shade)).hexdigest()


def test_an_image_stands_where_the_prompt_speaks_of_it() -> None:
    row = {"q": "In <image 2> or <image 1>?", "a": "x", "first": uri(1), "second": uri(2), "third": None}
    (record,) = ask([row], "[first, second, third]")
    assert shown(record) == ["In ", sha(2), " or ", sha(1), "?"]


def test_an_image_that_is_not_spoken_of_comes_first() -> None:
    (record,) = ask([{"q": "颜色？", "a": "x", "image": [uri(3), uri(4)]}])
    assert shown(record) == [sha(3), sha(4), "颜色？"]


def test_marks_without_a_number_are_taken_in_order() -> None:
    (record,) = ask([{"q": "<image>then<image>", "a": "x", "image": [uri(3), uri(4)]}])
    assert shown(record) == [sha(3), "then", sha(4)]


def test_a_row_without_an_image_is_a_plain_prompt() -> None:
    _, second = ask([{"q": "q", "a": "x", "image": uri(1)}, {"q": "q", "a": "x", "image": None}])
    assert second.prompt.text == "q"
    assert not second.prompt.messages


@pytest.mark.parametrize(
    "value",
    [
        "pictures/1.png",
        {"bytes": None, "path": "pictures/1.png"},
        uri(9),
        uri(9).replace("data:", "DATA:").replace(";base64", ";charset=utf-8;base64"),
    ],
)
def test_rows_hold_images_in_several_ways(value: Any) -> None:
    Path("pictures").mkdir()
    Path("pictures/1.png").write_bytes(png(9))
    (record,) = ask([{"q": "q", "a": "x", "image": value}])
    assert shown(record) == [sha(9), "q"]


def test_a_log_holds_hashes_and_no_picture() -> None:
    (record,) = ask([{"q": "q", "a": "x", "image": uri(7)}])
    assert record.doc["image"] == {"sha256": sha(7)}
    (log,) = Path("runs").glob("*/see.jsonl")
    assert base64.b64encode(png(7)).decode() not in log.read_text(encoding="utf-8")


def test_a_file_elsewhere_on_the_machine_is_not_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    secret.write_bytes(png(1))
    for path in (str(secret), f"../{secret.parent.name}/secret.png"):
        with pytest.raises(HarnessError, match=r"see\.yaml:6: doc_to_image: column 'image' names .* is not below"):
            ask([{"q": "q", "a": "x", "image": path}])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": 5}, "should hold an image, found int"),
        ({"image": "data:image/png;base64,AAAA"}, "holds no PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF image"),
        ({"image": uri(1), "q": "<image 2>"}, "the prompt says <image 2>, and the row has no image 2"),
        ({"picture": uri(1)}, "no row has a column 'image'"),
        ({"image": {"url": "x"}}, "has neither 'bytes' nor a 'path'"),
    ],
)
def test_what_is_no_image_is_one_line(row: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError, match=r"see\.yaml:6: doc_to_image: ") as error:
        ask([{"q": "q", "a": "x", **row}])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_examples_are_shown_with_their_own_images() -> None:
    more = "num_fewshot: 1\nfewshot_split: test\nfewshot_config: {sampler: first_n}\n"
    rows = [{"q": f"Is <image 2> left of <image 1>? {n}", "a": "x", "image": [uri(n), uri(10 + n)]} for n in range(3)]
    records = ask(rows, more=more)
    ask_of = lambda n: ["Is ", sha(10 + n), " left of ", sha(n), f"? {n}"]  # noqa: E731
    *first, joint = ask_of(0)
    assert shown(records[2]) == [*first, f"{joint} x\n\nIs ", *ask_of(2)[1:]]
    by_turns = ask(rows, more=more, apply_chat_template=True)[2].prompt.messages
    assert [part.sha256 if isinstance(part, Media) else part for part in by_turns[0].content] == ask_of(0)
    assert by_turns[1].content == "x"
    assert shown(ask(rows, more=more, apply_chat_template=True)[2]) == ask_of(2)


def test_a_picture_that_is_none_is_the_error_of_its_sample_alone() -> None:
    bad = [
        {"image": "data:image/png;base64,AAAA"},
        {"image": "gone.png"},
        {"image": 5},
        {"image": uri(1), "q": "<image 2>"},
        {"image": None, "q": "<image 1>"},
        {"image": "1\0.png"},
        {"image": "long" * 999 + ".png"},
    ]
    records = ask([{"q": "q", "a": "x", "image": uri(1)}, *({"q": "q", "a": "x", **row} for row in bad)])
    assert [record.error is None for record in records] == [True, *(False for _ in bad)]
    assert "names 'gone.png', which is not below" in str(records[2].error)
    assert records[2].scores["exact_match"] is None


def test_each_picture_that_is_none_has_its_own_error() -> None:
    Path("circle.png").symlink_to("circle.png")
    with zipfile.ZipFile("broken.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("broken.png", png(9) * 50)
    whole = bytearray(Path("broken.zip").read_bytes())
    whole[60:80] = bytes(20)
    Path("broken.zip").write_bytes(whole)
    Path("page.png").write_text("<html>404</html>", encoding="utf-8")
    Path("pointer.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", encoding="utf-8")
    named = {
        "pointer.png": "names 'pointer.png', which is only a pointer to the data (Git LFS or git-annex)",
        "gone.png": "'gone.png'",
        "circle.png": "'circle.png'",
        "broken.png": "broken.png: cannot be read",
        "page.png": "column 'image' names 'page.png', which holds no PNG",
        "two\nlines.png": r"names 'two\nlines.png', which",
        "https://[x/a.png": "an address",
        "data:image/png;base64,é": "not base64",
    }
    records = ask([{"q": "What is it?", "a": "x", "image": name} for name in [*named, uri(9)]])
    for record, said in zip(records, named.values(), strict=False):
        assert said in record.error
    assert records[-1].error is None


def test_images_lie_in_a_zip_in_a_mirror_and_behind_an_address() -> None:
    with zipfile.ZipFile("pictures.zip", "w") as archive:
        archive.writestr("deep/1.png", png(21))
        archive.writestr("甲 乙\\3.png", png(23))
    place = Path("mirror/url/example.org/a b")
    place.mkdir(parents=True)
    (place / "2.png").write_bytes(png(22))
    rows = [{"q": "q", "a": "x", "image": name} for name in ("deep/1.png", "1.png", "https://example.org/a%20b/2.png")]
    # As paths are written on Windows, in a row or in an archive.
    rows += [{"q": "q", "a": "x", "image": name} for name in ("deep\\1.png", "甲 乙\\3.png", "甲 乙/3.png", "3.png")]
    records = ask(rows, data=("mirror",))
    assert [shown(record)[0] for record in records] == [sha(21), sha(21), sha(22), sha(21), sha(23), sha(23), sha(23)]
    (image,) = records[0].prompt.shown_media
    assert (image.member, image.read()) == ("deep/1.png", png(21))


def test_names_in_a_zip_of_chinese_windows_are_found() -> None:
    name = "图片/一.png"
    with zipfile.ZipFile("pictures.zip", "w") as archive:
        archive.writestr("-" * len(name.encode("gbk")), png(31))
    Path("pictures.zip").write_bytes(
        Path("pictures.zip").read_bytes().replace(b"-" * len(name.encode("gbk")), name.encode("gbk"))
    )
    records = ask([{"q": "q", "a": "x", "image": each} for each in (name, "一.png")])
    assert [shown(record)[0] for record in records] == [sha(31), sha(31)]
    assert [image.read() for image in records[0].prompt.shown_media] == [png(31)]


def test_an_address_names_no_picture_by_its_file_name_alone() -> None:
    with zipfile.ZipFile("pictures.zip", "w") as archive:
        archive.writestr("val2017/1.png", png(21))
    Path("mirror").mkdir()
    Path("mirror/2.png").write_bytes(png(22))
    Path("2.png").write_bytes(png(22))
    addresses = (
        "http://images.example.org/val2017/1.png",
        "http://example.org/other/1.png",
        "http://example.org/2.png",
    )
    found, other, flat = ask([{"q": "q", "a": "x", "image": each} for each in addresses], data=("mirror",))
    assert shown(found)[0] == sha(21)
    assert "no mirror holds the file (as url/example.org/other/1.png" in other.error
    assert "no mirror holds the file (as url/example.org/2.png" in flat.error


def test_an_image_that_has_changed_is_not_shown() -> None:
    Path("1.png").write_bytes(png(1))
    (image,) = ask([{"q": "q", "a": "x", "image": "1.png"}])[0].prompt.shown_media
    Path("1.png").write_bytes(png(2))
    with pytest.raises(HarnessError, match="has changed since the rows were read"):
        image.read()


def test_turns_of_a_conversation_speak_of_images() -> None:
    text = TASK.replace('doc_to_text: "{{q}}"', "doc_to_messages: turns") % "image"
    turns = [
        {"role": "user", "content": "<image 1>?"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "<image 2>!"},
    ]
    Path("rows.jsonl").write_text(json.dumps({"turns": turns, "a": "x", "image": [uri(1), uri(2)]}), encoding="utf-8")
    Path("see.yaml").write_text(text, encoding="utf-8")
    (record,) = evaluate("dummy", {"mode": "gold"}, ["see.yaml"], apply_chat_template=True).samples()
    first, _, last = record.prompt.messages
    assert [part.sha256 for part in (first.content[0], last.content[0])] == [sha(1), sha(2)]


def test_a_model_that_cannot_see_is_refused() -> None:
    ask([{"q": "q", "a": "x", "image": uri(1)}])
    with pytest.raises(
        UsageError, match=r"cannot see what task 'see' shows: image; --model names one that can \(.*hf_vlm"
    ):
        evaluate("demo", {}, ["see.yaml"])


def test_a_server_gets_the_images_in_their_places() -> None:
    (record,) = ask([{"q": "Is <image 1> grey?", "a": "x", "image": uri(8)}])
    before, image, after = chat_messages(record.prompt)[-1]["content"]
    assert (before["text"], after["text"]) == ("Is ", " grey?")
    assert image["image_url"]["url"].startswith("data:image/png;base64,")


def test_without_images_the_text_alone_is_asked() -> None:
    rows = [{"q": f"Is <image 1> {n}?", "a": "x", "image": uri(n)} for n in range(3)]
    rows.append({"q": "none", "a": "x", "image": None})
    records = ask(rows, modify=("no_image",))
    assert [record.prompt.text for record in records] == ["Is  0?", "Is  1?", "Is  2?", "none"]
    assert {record.task for record in records} == {"see+no_image"}
    assert all(record.view is not None and not record.view.images for record in records)


def test_a_blind_score_stands_beside_chance() -> None:
    rows = [{"q": "A or B?", "A": "1", "B": "2", "a": "AB"[n % 2], "image": uri(n)} for n in range(4)]
    ask(rows, more=CHOICES, modify=("no_image",))
    done = run_harness("report", str(next(Path("runs").iterdir())), "--json")
    metrics = {metric["metric"]: metric["value"] for metric in json.loads(done.stdout)["tasks"][0]["metrics"]}
    assert metrics["exact_match"] == 1.0
    assert metrics["chance"] == 0.5
    assert metrics["above_chance_exact_match"] == 0.5


def test_a_task_without_images_says_so() -> None:
    Path("rows.jsonl").write_text('{"q": "q", "a": "x"}\n', encoding="utf-8")
    Path("see.yaml").write_text(TASK.replace("doc_to_image: %s\n", ""), encoding="utf-8")
    with pytest.raises(HarnessError, match="does not say which columns hold images: add 'doc_to_image:'"):
        evaluate("dummy", {"mode": "gold"}, ["see.yaml"], modify=("no_image",))


def test_rows_of_large_parquet_files_are_read_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.arrow.SMALL", 0)
    Path("rows").mkdir()
    for shard in range(2):
        images = [{"bytes": png(n), "path": f"{n}.png"} for n in range(shard * 150, shard * 150 + 150) if n < 256]
        table = pa.table({"q": [str(n) for n in range(len(images))], "a": ["x"] * len(images), "image": images})
        pq.write_table(table, f"rows/test-{shard:05d}-of-00002.parquet", row_group_size=40)
    Path("see.yaml").write_text((TASK % "image").replace("rows.jsonl", "rows"), encoding="utf-8")
    records = sorted(evaluate("dummy", {"mode": "gold"}, ["see.yaml"]).samples(), key=lambda record: record.id)
    assert [shown(record)[0] for record in records] == [sha(n) for n in range(256)]
    (image,) = records[200].prompt.shown_media
    assert image.read() == png(200) and image.path
