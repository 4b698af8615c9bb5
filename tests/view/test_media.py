"""Pictures of samples: found again, painted anew, and nothing that a record does not name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import grey_of, shade, write_clip
from PIL import Image
from starlette.testclient import TestClient
from viewer_runs import photo, write_clip_run, write_picture_run

from harness.data.audio import wav_of_samples
from harness.errors import DataError
from harness.view.app import make_app
from harness.view.export import export_pages, export_single
from harness.view.media import painted

HOST = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    return write_picture_run(folder, folder / "runs")


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    with TestClient(make_app([run], "t", [HOST]), base_url=f"http://{HOST}") as made:
        made.get("/?token=t")
        yield made


def settled(client: TestClient, address: str) -> str:
    """A page once the rows were opened in which it looks for pictures: on a busy machine it does not wait so long."""
    text = client.get(address).text
    while "data-indexing" in text:
        text = client.get(address).text
    return text


def address_in(page: str) -> str:
    (found,) = re.findall(r'<img[^>]* src="(/run/[^"]+)"', page)
    return str(found)


def test_a_picture_is_painted_anew_upright_and_without_what_its_file_says(client: TestClient, run: Path) -> None:
    page = settled(client, f"/run/{run.name}/sample/1")
    assert 'width="80" height="160"' in page  # small ones are enlarged
    answer = client.get(address_in(page))
    assert answer.headers["content-type"] == "image/jpeg" and b"alert" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.size == (20, 40) and not shown.getexif()
        assert shown.getpixel((10, 20))[0] > 240


def test_what_is_no_picture_is_said_and_not_shown(client: TestClient, run: Path) -> None:
    for number, words in ((2, "holds no PNG, JPEG"), (3, "no.png")):
        page = settled(client, f"/run/{run.name}/sample/{number}")
        assert "cannot be shown" in page and words in page and "<img" not in page


def test_only_what_a_sample_names_is_given_out(client: TestClient, run: Path) -> None:
    known = address_in(settled(client, f"/run/{run.name}/sample/1"))
    sha256 = known.rsplit("/", 1)[1]
    for path in (f"2/{sha256}", f"1/{'0' * 64}", f"9/{sha256}", "1/..%2F..%2Fphoto.jpg", "1/rows.jsonl", "x/y"):
        assert client.get(f"/run/{run.name}/media/{path}").status_code == 404, path


def copy_with(run: Path, folder: Path, path: Path, sha256: str) -> Path:
    """The run with a first record that says another place and another hash of its picture."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns(".view"))
    records = folder / "pictures.jsonl"
    record = json.loads(records.read_text(encoding="utf-8").splitlines()[0])
    record["prompt"]["messages"][0]["content"][0] |= {"path": str(path), "sha256": sha256}
    records.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return folder


def test_a_file_that_a_record_names_without_being_a_picture_stays_closed(run: Path, tmp_path: Path) -> None:
    """A run folder can come from anywhere, and say anything of files of this machine."""
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    known = hashlib.sha256(b"password").hexdigest()
    os.mkfifo(tmp_path / "pipe")
    for place in (secret, tmp_path / "pipe", Path("/dev/zero"), Path("/etc/passwd"), tmp_path):
        copy_with(run, tmp_path / "runs" / place.name, place, known)
    with TestClient(make_app([tmp_path / "runs"], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        for folder in (tmp_path / "runs").iterdir():
            page = settled(client, f"/run/{folder.name}/sample/1")
            assert "cannot be shown" in page and "<img" not in page and ">password" not in page


def test_a_picture_that_moved_is_found_in_the_rows(run: Path, tmp_path: Path) -> None:
    """The record's path and the cache hold it no more; the task and its rows do, or a mirror that is named."""
    here = tmp_path / "runs" / run.name
    shutil.copytree(run, here, ignore=shutil.ignore_patterns(".view"))
    old = run.parents[1] / "photo.jpg"
    records = here / "pictures.jsonl"
    records.write_text(records.read_text("utf-8").replace(str(old), str(tmp_path / "gone.jpg")), encoding="utf-8")
    with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        page = settled(client, f"/run/{run.name}/sample/1")
        assert client.get(address_in(page)).headers["content-type"] == "image/jpeg"
    data = old.read_bytes()
    try:
        old.write_bytes(photo("blue"))
        with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
            client.get("/?token=t")
            assert "no row of the task shows it any more" in settled(client, f"/run/{run.name}/sample/1")
    finally:
        old.write_bytes(data)


def test_a_damaged_picture_is_said_on_the_page(run: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.jpg"
    half.write_bytes(photo(size=(400, 400))[:900])
    here = copy_with(run, tmp_path / "half", half, hashlib.sha256(half.read_bytes()).hexdigest())
    with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        page = settled(client, "/run/half/sample/1")
        assert "cannot be decoded" in page and "<img" not in page


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "film.mp4", 20, fps=10)
    write_clip(folder / "gone.mp4", 5)
    (folder / "sound.wav").write_bytes(wav_of_samples([0.0, 0.5, -0.5, 0.25] * 4000, 16_000))
    run = write_clip_run(folder, folder / "runs")
    (folder / "gone.mp4").unlink()
    return run


def test_the_frames_of_a_video_and_a_sound_are_shown(clip_run: Path, tmp_path: Path) -> None:
    with TestClient(make_app([clip_run], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        page = settled(client, f"/run/{clip_run.name}/sample/1")
        assert "frames shown to the model: 4 of 20" in page and "6 · 0.60 s" in page
        frames = re.findall(r'<img src="(/run/[^"]+)"', page)
        for address, number in zip(frames, (0, 6, 12, 19), strict=True):
            with Image.open(io.BytesIO(client.get(address).content)) as frame:
                assert frame.format == "JPEG" and abs(grey_of(frame) - shade(number)) < 6
        assert client.get(frames[0].replace("-f0", "-f3")).status_code == 404
        (sound,) = re.findall(r'<audio controls[^>]* src="([^"]+)"', page)
        heard = client.get(sound)
        assert heard.headers["content-type"] == "audio/wav" and heard.content[:4] == b"RIFF"
        assert "media-src 'self'" in heard.headers["content-security-policy"]
        gone = settled(client, f"/run/{clip_run.name}/sample/2")
        assert "cannot be shown" in gone and "gone.mp4" in gone and "<img" not in gone
    export_single([clip_run], tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text("utf-8")
    assert 'src="data:audio/wav;base64,' in text and "media-src data:" in text
    assert text.count("data:image/jpeg;base64,") == 4


@pytest.mark.parametrize("change", [{"indices": [999]}, {"size": [10**9, 10**9]}, {"size": [-1, 5]}, {"times": []}])
def test_frames_that_cannot_be_are_said(clip_run: Path, tmp_path: Path, change: dict[str, object]) -> None:
    here = tmp_path / "changed"
    shutil.copytree(clip_run, here, ignore=shutil.ignore_patterns(".view"))
    record = json.loads((here / "clips.jsonl").read_text("utf-8").splitlines()[0])
    video = next(part for part in record["prompt"]["messages"][0]["content"] if isinstance(part, dict))
    video["frames"] |= change
    (here / "clips.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with TestClient(make_app([here], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        assert "cannot be shown" in settled(client, "/run/changed/sample/1")


@pytest.mark.slow
def test_the_files_of_an_export_hold_their_pictures(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_pages([run], tmp_path / "site")
    (picture,) = (tmp_path / "site").glob("*.jpg")
    assert b"alert" not in picture.read_bytes()
    assert any(picture.name in page.read_text("utf-8") for page in (tmp_path / "site").glob("*sample*.html"))
    monkeypatch.setattr("harness.view.export.MOST_PICTURES", 100)
    export_single([run], tmp_path / "small.html")
    text = (tmp_path / "small.html").read_text("utf-8")
    assert "data:image/jpeg" not in text
    assert re.search(r"\[image [0-9a-f]{12}\]", text)


def test_each_kind_of_picture_reads_as_its_pixels() -> None:
    grey16 = Image.new("I;16", (4, 4), 65535)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for image, form, mode, pixel in (
        (grey16, "PNG", "L", 255),
        (clear, "PNG", "RGBA", (255, 0, 0, 128)),
        (cmyk, "JPEG", "RGB", (254, 0, 0)),
        (Image.new("1", (4, 4), 1), "BMP", "L", 255),
        (Image.new("P", (4, 4), 0), "GIF", "RGB", (0, 0, 0)),
    ):
        stream = io.BytesIO()
        image.save(stream, form)
        with Image.open(io.BytesIO(painted(stream.getvalue()).data)) as shown:
            assert (shown.mode, shown.getpixel((1, 1))) == (mode, pixel), form
    large = photo(size=(5000, 2500))
    with Image.open(io.BytesIO(painted(large).data)) as shown:
        assert shown.size == (800, 1600)
    for bad in (b"", b"\x89PNG\r\n\x1a\n", large[:200], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        with pytest.raises(DataError, match="cannot be decoded"):
            painted(bad)
