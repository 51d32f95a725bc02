"""The generated sets on disk: the benchmarks' own formats, byte-stable, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.data import benchmarks
from evalkit.data.prepare import subsets
from evalkit.errors import DataError
from evalkit.tiny.videos import encode, make, plan
from evalkit.tiny.videos.plan import Planned

pytestmark = pytest.mark.slow

PICKED = {"videomme": (0, 1, 2, 3), "mlvu": (0, 5, 21, 26, 42, 47, 55), "lvbench": (0, 1)}  # of MLVU one per task


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few videos of a second or two per set; workers write what they are told, so the plan is cut here only."""
    for name, numbers in PICKED.items():
        whole: Callable[[], list[Planned]] = getattr(plan, name)
        short = [replace(p, frames=24) for i, p in enumerate(whole()) if i in numbers]
        monkeypatch.setattr(plan, name, lambda short=short: short)


def _hashes(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.usefixtures("small")
def test_sets_are_byte_stable_and_load(tmp_path: Path) -> None:
    make.make(tmp_path / "a", progress=False, workers=1)
    make.make(tmp_path / "b", progress=False, workers=3)
    hashes = _hashes(tmp_path / "a")
    assert hashes == _hashes(tmp_path / "b")
    assert not [name for name in hashes if ".part" in name or ".generating" in name]
    suffixes = {Path(name).suffix for name in hashes}
    assert {".mp4", ".webm", ".mkv", ".parquet", ".jsonl", ".srt"} - suffixes <= {".srt"}
    for name in PICKED:
        root = tmp_path / "a" / name
        [loaded] = benchmarks.load(name, root)
        assert not loaded.bad_rows
        assert loaded.generated
        assert all(q.answer in "ABCD" and q.answer for q in loaded.questions)
        assert all(q.video_path.is_file() for q in loaded.questions)
        evidence = json.loads((root / "evidence.json").read_text())
        assert set(evidence) == {q.id for q in loaded.questions}
        assert all(0 <= a < b for spans in evidence.values() for a, b in spans)


@pytest.mark.usefixtures("small")
def test_a_subset_has_the_videos_it_asks_about_and_can_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(subsets.SIZES, "ci-50", 3)
    make.make(tmp_path, subset="ci-50", progress=False)
    part = {p: p.stat().st_mtime_ns for p in make._clips(tmp_path)}
    for name in PICKED:
        [loaded] = benchmarks.load(name, tmp_path / name)
        asked = set(subsets.draw(loaded)["ci-50"])
        there = {q.id for q in loaded.questions if q.video_path.is_file()}
        assert asked <= there < {q.id for q in loaded.questions}
    make.make(tmp_path, progress=False)
    assert len(make._clips(tmp_path)) == sum(map(len, PICKED.values())) > len(part)
    assert {p: p.stat().st_mtime_ns for p in part} == part
    assert not list(tmp_path.rglob(make.PART))
    whole = _hashes(tmp_path)
    make.make(tmp_path, subset="ci-50", progress=False)
    assert _hashes(tmp_path) == whole


@pytest.mark.usefixtures("small")
def test_a_complete_set_is_left_alone_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    make.make(tmp_path, progress=False)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    make.make(tmp_path, progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    folder = tmp_path / "lvbench"
    (folder / make.DONE).rename(folder / make.STARTED)
    gone = sorted((folder / "videos").iterdir())[0]
    content = gone.read_bytes()
    gone.unlink()
    make.make(tmp_path, progress=False)
    assert gone.read_bytes() == content
    kept = [p for p in before if p.suffix in {".mp4", ".webm", ".mkv"} and p != gone]
    assert all(p.stat().st_mtime_ns == before[p] for p in kept)
    assert json.loads((folder / make.DONE).read_text()) == make.STAMP


@pytest.mark.usefixtures("small")
def test_another_version_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.make(tmp_path, progress=False)
    video = next((tmp_path / "mlvu" / "video").rglob("*.mp4"))
    video.write_bytes(b"old")
    monkeypatch.setattr(make, "STAMP", {"seed": plan.SEED, "version": "next"})
    make.make(tmp_path, progress=False)
    assert video.read_bytes() != b"old"
    assert json.loads((tmp_path / "mlvu" / make.DONE).read_text())["version"] == "next"


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    own = tmp_path / "mlvu" / "json" / "1_plotQA.json"
    own.parent.mkdir(parents=True)
    own.write_text("real")
    with pytest.raises(DataError, match="other files; give another root"):
        make.make(tmp_path, progress=False)
    assert own.read_text() == "real"
    assert not (tmp_path / "videomme").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"videomme: cannot be made .*; give another root"):
        make.make(tmp_path / place, progress=False)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("codec", "suffix", "name"), [("h264", ".mp4", "h264"), ("vp9", ".webm", "vp9"), ("av1", ".mp4", "av1")]
)
def test_clips_have_the_frames_rate_and_codec_asked_for(tmp_path: Path, codec: str, suffix: str, name: str) -> None:
    import av

    world = plan.videomme()[0].world
    path = tmp_path / f"clip{suffix}"
    encode.write(encode.Clip(path=path, world=world, frames=30, fps=10, codec=codec))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name in {name, "libdav1d", "libvpx-vp9"}
        assert float(stream.average_rate) == pytest.approx(10)
    assert len(frames) == 30
    assert (frames[0].width, frames[0].height) == (128, 128)
    assert [f.time for f in frames] == pytest.approx([i / 10 for i in range(30)], abs=1e-3)
