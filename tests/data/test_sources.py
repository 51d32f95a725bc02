"""What is published where, and fetching it from a hub on this machine. No network."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest

from evalkit.__main__ import main
from evalkit.data import benchmarks
from evalkit.data.prepare import sources, subsets
from evalkit.data.prepare.download import fetch
from evalkit.errors import ConfigError, DataError
from evalkit.hub import COMMIT
from tests.support import rows
from tests.support.hub import Hub, serving

COMMIT_A = "a" * 40
MLVU = benchmarks.REGISTRY["mlvu"].sources[0]
QUESTIONS = "MLVU/json/1_plotQA.json"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token is sent, and no cache of the user is touched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    asked = [rows.mlvu_row(video=f"v{n}.mp4", question=f"Which bus is number {n}?") for n in range(120)]
    files = {QUESTIONS: rows.write_json(tmp_path / "rows.json", asked).read_bytes(), "README.md": b"terms"}
    files |= {f"MLVU/video/1_plotQA/v{n}.mp4": bytes([n]) * 50 for n in range(120)}
    with serving(MLVU.repo, COMMIT_A, files) as hub:
        yield hub


# ---- plan


@pytest.mark.parametrize("name", list(benchmarks.REGISTRY))
def test_sources_are_pinned_or_ask_for_it(name: str) -> None:
    for source in benchmarks.REGISTRY[name].sources:
        assert source.revision is None or COMMIT.fullmatch(source.revision)
        known = [archive.size for archive in source.archives if archive.size and archive.videos]
        assert source.total is None or sum(known) <= source.total


def test_the_plan_says_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "plan", "videomme"]) == 0
    out = capsys.readouterr().out
    assert all(f"videos_chunked_{number:02d}.zip" in out for number in range(1, 21))
    assert "unknown" in out
    assert "needed" not in out  # no rows, no subset


@pytest.mark.slow
def test_a_subset_needs_all_archives_where_nothing_else_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row(n) for n in range(1, 181)])
    assert main(["data", "plan", "videomme", "--root", str(tmp_path), "--subset", "ci-50"]) == 0
    out = capsys.readouterr().out
    assert "51 questions on 17 videos" in out
    assert "which one holds which video is not published" in out


def test_a_subset_needs_its_own_files_where_videos_are_files(tmp_path: Path) -> None:
    asked = [rows.mlvu_row(video=f"v{n}.mp4", question=f"{n}?") for n in range(120)]
    rows.write_json(tmp_path / "json" / "1_plotQA.json", asked)
    rows.write_json(tmp_path / "json" / "2_needle.json", [rows.mlvu_row(video="v[1].mp4")])
    (full,) = benchmarks.load("mlvu", tmp_path)
    part = subsets.restrict(full, "ci-50")
    needed = sources.video_files(MLVU, part.questions)
    assert needed is not None
    assert {Path(name).stem for name in needed} == set(part.by_video())
    assert len(needed) == 50
    whole = sources.video_files(MLVU, full.questions)
    assert whole is not None
    assert "MLVU/video/2_needle/v[1].mp4" in whole
    assert sources.wanted(whole, sources.patterns(MLVU, full)) == whole  # brackets are no pattern
    assert "50 of these videos" in sources.plan("mlvu", part, "ci-50")


def test_a_plan_without_rows_cannot_name_a_subset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "plan", "mlvu", "--subset", "ci-50"]) == 2
    assert main(["data", "plan", "mlvu", "--subset", "ci-51"]) == 2


# ---- fetch


@pytest.mark.slow
def test_a_subset_is_fetched_and_nothing_else(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "MLVU"
    command = ["data", "fetch", "mlvu", "--root", str(root), "--revision", COMMIT_A, "--endpoint", hub.endpoint]
    assert main([*command, "--files", "MLVU/json/*"]) == 0
    (full,) = benchmarks.load("mlvu", root)
    assert len(full.questions) == 120
    assert main([*command, "--subset", "ci-50"]) == 0
    part = subsets.restrict(full, "ci-50")
    assert len(list(root.rglob("*.mp4"))) == len(part.by_video()) == 50
    (again,) = benchmarks.load("mlvu", root)
    for asked in subsets.restrict(again, "ci-50").questions:
        assert asked.video_path.read_bytes() == hub.files[f"MLVU/video/1_plotQA/{asked.video_id}.mp4"]
    assert "51 files" in capsys.readouterr().out


def test_a_second_call_fetches_only_what_is_missing(hub: Hub, tmp_path: Path) -> None:
    source, names = MLVU, [f"MLVU/video/1_plotQA/v{n}.mp4" for n in range(5)]
    sizes = fetch(source, tmp_path, names, revision=COMMIT_A, endpoint=hub.endpoint)
    assert sizes == dict.fromkeys(names, 50)
    assert sorted(name for name, _ in hub.asked) == names
    hub.asked.clear()
    fetch(source, tmp_path, names, revision=COMMIT_A, endpoint=hub.endpoint)
    assert hub.asked == []
    (tmp_path / names[2]).unlink()
    fetch(source, tmp_path, names, revision=COMMIT_A, endpoint=hub.endpoint)
    assert [name for name, _ in hub.asked] == [names[2]]


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before the library tries again
    name, data = "big.zip", random.Random(0).randbytes(1 << 20)
    hub.files[name], hub.cut[name] = data, 700_000
    fetch(MLVU, tmp_path, [name], revision=COMMIT_A, endpoint=hub.endpoint)
    assert (tmp_path / name).read_bytes() == data
    (first, start), (second, later) = hub.asked
    assert first == second == name
    assert start == 0 < later <= 700_000


def test_only_asking_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    sizes = fetch(MLVU, tmp_path / "new", ["*"], revision=COMMIT_A, endpoint=hub.endpoint, list_only=True)
    assert len(sizes) == 122
    assert hub.asked == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("revision", [None, "main", "ead1408"])
def test_a_revision_must_be_pinned(revision: str | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--revision"):
        fetch(
            benchmarks.REGISTRY["lvbench"].sources[0],
            tmp_path,
            ["*"],
            revision=revision,
            endpoint="http://127.0.0.1:9",
        )


def test_unknown_names_are_explained(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file 'nothing\.zip'"):
        fetch(MLVU, tmp_path, ["README.md", "nothing.zip"], revision=COMMIT_A, endpoint=hub.endpoint)
    with pytest.raises(DataError, match="no such data set or commit"):
        fetch(MLVU, tmp_path, ["*"], revision="b" * 40, endpoint=hub.endpoint)
    with pytest.raises(ConfigError, match="sy1998/MLVU_dev"):
        sources.source("mlvu", "someone/else")


def test_offline_is_a_clear_error_even_where_files_lie(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library alone would be content with what the folder holds."""
    fetch(MLVU, tmp_path, [QUESTIONS], revision=COMMIT_A, endpoint=hub.endpoint)
    with pytest.raises(DataError, match="could not be reached"):
        fetch(MLVU, tmp_path, ["*"], revision=COMMIT_A, endpoint="http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        fetch(MLVU, tmp_path, ["*"], revision=COMMIT_A, endpoint=hub.endpoint)
    assert main(["data", "fetch", "mlvu", "--root", str(tmp_path), "--files", "*"]) == 2


def test_consent_is_asked_for(tmp_path: Path) -> None:
    with (
        serving(MLVU.repo, COMMIT_A, {}, refuse={"X-Error-Code": "GatedRepo"}) as hub,
        pytest.raises(DataError, match="accept them"),
    ):
        fetch(MLVU, tmp_path, ["*"], revision=COMMIT_A, endpoint=hub.endpoint)


def test_a_disk_that_is_too_small(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match="room for"):
        fetch(MLVU, tmp_path / "new", ["*"], revision=COMMIT_A, endpoint=hub.endpoint)
    assert hub.asked == []
    (tmp_path / "README.md").write_bytes(hub.files["README.md"])
    fetch(MLVU, tmp_path, ["README.md"], revision=COMMIT_A, endpoint=hub.endpoint)  # is there already, takes no room
    hub.files["README.md"] += b", five bytes and more"
    with pytest.raises(DataError, match="room for"):
        fetch(MLVU, tmp_path, ["README.md"], revision=COMMIT_A, endpoint=hub.endpoint)


def test_a_run_never_fetches() -> None:
    """Nothing but the command imports the downloader."""
    package = Path(sources.__file__).parents[2]
    users = [f.name for f in package.rglob("*.py") if "prepare.download" in f.read_text(encoding="utf-8")]
    assert users == ["data.py"]
