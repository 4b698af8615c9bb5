"""Runs in parts: what `--shard` asks, and that `harness merge` leaves what one process would have left."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import HarnessError, UsageError
from harness.record.run import RunFolder
from harness.run.cuts import parts_of
from harness.run.merge import merge
from harness.testing import run_harness

_TIMES = re.compile(r"started|finished|seconds|sessions|command|output")


def run(output: Path, shard: str | None = None, **options: Any) -> Path:
    given = {"tasks": "demo", **options}
    return harness.evaluate("dummy", output=output, shard=shard, **given).path


def lasting(path: Path) -> Any:
    """What a manifest or a report says but for times, and for what names the command and its folder."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(item) for name, item in value.items() if not _TIMES.fullmatch(name)}
        return [kept(item) for item in value] if isinstance(value, list) else value

    return kept(json.loads(path.read_text(encoding="utf-8")))


def assert_same(merged: Path, whole: Path) -> None:
    files = {file.name for file in whole.iterdir()}
    assert {file.name for file in merged.iterdir()} == files
    for name in files - {".lock", "manifest.json", "report.json", "report.html"}:
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("manifest.json", "report.json"):
        assert lasting(merged / name) == lasting(whole / name), name
        assert list(json.loads((merged / name).read_text())) == list(json.loads((whole / name).read_text()))


@pytest.mark.parametrize(
    ("of", "options"),
    [
        (2, {"tasks": "demo_choice_zh:letters", "modify": "circular", "limit": 3}),
        (5, {"tasks": "demo_choice_en/words,demo_perplexity,demo_arithmetic", "limit": 2}),  # more shards than rows
    ],
)
def test_merged_shards_are_what_one_process_leaves(tmp_path: Path, of: int, options: dict[str, Any]) -> None:
    shards = [run(tmp_path / "parts", f"{part}/{of}", **options) for part in range(1, of + 1)]
    whole = run(tmp_path / "whole", **options)
    merged = merge([tmp_path / "parts"], tmp_path / "merged").path
    assert merged.name == whole.name
    assert_same(merged, whole)
    for part, shard in enumerate(shards, 1):
        report = harness.load_run(shard).report
        assert report is not None and report["shard"] == {"part": part, "of": of}
        assert f"partial: shard {part} of {of}" in (shard / "report.html").read_text(encoding="utf-8")
    assert run(tmp_path / "merged", **options) == merged  # the command of the whole run finds all answers there
    assert harness.load_run(merged).manifest["sessions"][-1]["samples"] == 0


def test_shards_are_merged_from_any_folder_and_where_the_project_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("my/tasks").mkdir(parents=True)
    Path("my/tasks/sums.yaml").write_text(
        "task: sums\ndataset_path: rows.jsonl\ntest_split: train\noutput_type: generate_until\ndoc_to_text: q\n"
        "doc_to_target: a\nmetric_list: [{metric: exact_match}]\n"
    )
    Path("my/tasks/rows.jsonl").write_text('{"q": "1", "a": "1"}\n{"q": "2", "a": "2"}\n')
    for part in (1, 2):
        run(Path("parts"), f"{part}/2", tasks="sums", include_path="my/tasks")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(list(RunFolder.read(merge([tmp_path / "here/parts"], tmp_path / "merged").path).records())) == 2
    (tmp_path / "here").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved/my")
    assert len(list(RunFolder.read(merge([Path("../parts")], tmp_path / "again").path).records())) == 2
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(HarnessError, match=re.escape(str(tmp_path / "here/my/tasks"))):
        merge([tmp_path / "moved/parts"], tmp_path / "third")


def test_a_merge_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (1, 2):
        run(tmp_path / "parts", f"{part}/2", tasks="demo_arithmetic")
    write, written = RunFolder.write, []

    def dies(folder: RunFolder, record: Any) -> None:
        written.append(record)
        if len(written) == 120:
            raise OSError("killed")
        write(folder, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", dies)
        with pytest.raises(OSError, match="killed"):
            merge([tmp_path / "parts"], tmp_path / "merged")
    merged = merge([tmp_path / "parts"], tmp_path / "merged").path
    assert_same(merged, run(tmp_path / "whole", tasks="demo_arithmetic"))
    sessions = [session.get("shard") for session in harness.load_run(merged).manifest["sessions"]]
    assert [each for each in sessions if each] == ["1/2", "2/2"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    for part in (1, 2):
        run(folder, f"{part}/2", tasks="demo_choice_zh", limit=4)
    return folder


def _change(name: str, **fields: Any) -> Callable[[Path], object]:
    """Change the manifest of the second shard."""

    def change(folder: Path) -> None:
        (shard,) = folder.glob(f"*{name}*")
        file = shard / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        for key, value in fields.items():
            part, _, inner = key.partition("__")
            manifest[part] = {**manifest[part], inner: value} if inner else value
        file.write_text(json.dumps(manifest), encoding="utf-8")

    return change


def _cut_off(folder: Path) -> None:
    (file,) = folder.glob("*-shard-2-of-2-*/demo_choice_zh.jsonl")
    file.write_bytes(file.read_bytes()[:-20])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: shutil.rmtree(next(folder.glob("*-shard-2-*"))), "1 shard is missing: 2/2; run it with"),
    "twice": (lambda folder: shutil.copytree(next(folder.glob("*-2-of-2-*")), folder / "b"), "are both shard 2 of 2"),
    "other rows": (lambda folder: run(folder, "2/2", tasks="demo_choice_zh", limit=5), "limit is 4 in the first and 5"),
    "other model": (_change("-2-of-2-", identity__seed=7), "are no shards of one run: seed is 1234 in the first and 7"),
    "versions": (_change("-2-of-2-", versions={"harness-eval": "0.0.9"}), 'different versions: harness-eval is "0'),
    "plugins": (
        _change("-2-of-2-", plugins=[{"name": "models.dummy", "package": "harness-eval", "version": "0.0.9"}]),
        "different versions: plugins of harness-eval",
    ),
    "data": (_change("-2-of-2-", data={"demo_choice_zh/test": "0"}), "are no shards of one run: data."),
    "not finished": (
        _change("-2-of-2-", status="running"),
        "shard 2 of 2 .* is not finished: it holds 10 of 10 samples",
    ),
    "no part": (
        _change("-2-of-2-", identity__shard=5),
        r"manifest\.json: damaged \(identity\.shard is no part of a run",
    ),
    "a part beyond the last": (
        _change("-2-of-2-", identity__shard={"part": 3, "of": 2, "rows": "0"}),
        r"damaged \(identity\.shard is part 3 of 2\)",
    ),
    "no tasks": (_change("-2-of-2-", tasks={}), r"damaged \(its tasks are not those of its identity\)"),
    "tasks that are none": (
        _change("-2-of-2-", spec__tasks=5),
        r"damaged \(spec\.tasks: input should be a valid array",
    ),
    "a setting of tomorrow": (_change("-2-of-2-", spec__mood="good"), r"spec\.mood: no setting that this version of h"),
    "cut off": (_cut_off, "shard 2 of 2 .* is not finished: it holds 9 of 10 samples; go on with: "),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_merged_is_one_line_and_writes_nothing(parts: Path, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "parts"
    shutil.copytree(parts, folder)
    change, words = BAD[fault]
    change(folder)
    with pytest.raises(UsageError, match=words) as raised:
        merge([folder], tmp_path / "merged")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "merged").exists()


def test_a_missing_shard_is_named_with_its_command(tmp_path: Path) -> None:
    flags = "--tasks demo_choice_zh --model dummy --limit 1 --shard 2/3 --output"
    run_harness(*flags.split(), str(tmp_path / "parts"))
    done = run_harness("merge", str(tmp_path / "parts"))
    assert done.exit_code == 4
    assert "2 shards are missing: 1/3, 3/3; run the first with: harness --tasks demo_choice_zh" in done.stderr
    assert "--shard 1/3" in done.stderr
    config = tmp_path / "flags.yaml"
    config.write_text("tasks: demo_choice_zh\nmodel: dummy\nlimit: 1\nshard: 1/2\n", encoding="utf-8")
    run_harness("--config", str(config), "--output", str(tmp_path / "by_file"))
    done = run_harness("merge", str(tmp_path / "by_file"))
    assert re.search("1 shard is missing: 2/2; run it with: harness --config .* --shard 2/2$", done.stderr.strip())


@pytest.mark.parametrize("flag", ["--output", "--out"])
def test_where_the_merged_run_lies_is_said_as_elsewhere(parts: Path, tmp_path: Path, flag: str) -> None:
    done = run_harness("merge", str(parts), flag, str(tmp_path / "all"))
    assert done.exit_code == 0, done.output
    assert [path.parent for path in (tmp_path / "all").glob("*/report.json")]


def test_mixed_versions_are_merged_on_request_and_named(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path / "parts")
    _change("-2-of-2-", versions={"torch": "1.0"})(tmp_path / "parts")
    merged = merge([tmp_path / "parts"], mixed_versions=True).path
    sessions = harness.load_run(merged).manifest["sessions"]
    assert [session.get("versions") for session in sessions] == [None, {"torch": "1.0"}, None]


def test_a_whole_run_is_no_shard_and_a_shard_is_not_scored_alone(parts: Path, tmp_path: Path) -> None:
    whole = run(tmp_path, tasks="demo_arithmetic", limit=1)
    with pytest.raises(UsageError, match="is no shard of a run: its command had no --shard"):
        merge([whole])
    with pytest.raises(UsageError, match="holds no shard of a run"):
        merge([tmp_path])
    from harness.run.rescore import score_run

    with pytest.raises(UsageError, match="holds shard 1 of 2; score the merged run"):
        score_run(next(parts.glob("*-1-of-2-*")))
    with pytest.raises(UsageError, match="--precision does not go with --shard"):
        run(tmp_path, "1/2", precision=0.1)
    with pytest.raises(UsageError, match="'4/3': the first part is 1/3"):
        run(tmp_path, "4/3")


def test_cuts_are_even_and_go_to_the_edges_of_groups_that_are_near() -> None:
    assert parts_of("aaaabbbb", [1] * 8, 2) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert parts_of("a" * 6, [5, 1, 1, 1, 1, 1], 2) == [0, 1, 1, 1, 1, 1]
    near = parts_of("a" * 51 + "b" * 49, [1] * 100, 2)
    assert near == [0] * 51 + [1] * 49
    assert parts_of("a" * 60 + "b" * 40, [1] * 100, 2) == [0] * 50 + [1] * 50
    assert sorted(set(parts_of("ab", [1, 1], 5))) == [1, 3]
    assert parts_of("aa", [0, 0], 3) == [0, 0]


OWN_TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: {text}
doc_to_target: "{{{{n}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match}}]
"""
OWN_CODE = """\
from pathlib import Path

def text(doc):
    return Path(__file__).with_name("words.txt").read_text() + str(doc["n"])
"""


@pytest.fixture
def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(6)))
    (tmp_path / "code.py").write_text(OWN_CODE)
    (tmp_path / "words.txt").write_text("What is ")
    return tmp_path / "sums.yaml"


@pytest.mark.parametrize("text", ['"Say {{n}}:"', "!function code.text"])
def test_a_task_that_has_changed_since_its_shards_ran_is_refused(own_task: Path, text: str) -> None:
    """By its file, by its Python, and by nothing where both are what they were."""
    own_task.write_text(OWN_TASK.format(text=text))
    options: dict[str, Any] = {"tasks": "sums.yaml", "trust_task_code": "."}
    for part in (1, 2):
        run(Path("parts"), f"{part}/2", **options)
    whole = run(Path("whole"), **options)
    assert_same(merge([Path("parts")], Path("merged")).path, whole)
    changed = Path("code.py") if "!function" in text else own_task
    changed.write_text(changed.read_text().replace("+ str(", "+ ascii(").replace("metric: exact_match", "metric: f1"))
    with pytest.raises(UsageError, match=r"task 'sums' is not here what it was where the shards ran"):
        merge([Path("parts")], Path("again"))
    assert not Path("again").exists()
