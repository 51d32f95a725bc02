"""Weights from a hub: fetched on demand, resumed, known by the hub's own hashes; a run never downloads. No network."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from huggingface_hub import hf_hub_download

import evalkit
from evalkit.__main__ import main
from evalkit.commands import run
from evalkit.config import build
from evalkit.errors import ConfigError, DataError
from evalkit.hub import COMMIT
from evalkit.model import frame_scorer
from evalkit.model.checkpoint import locate
from evalkit.model.fetch import Listing, fetch, listing
from evalkit.model.load import load, skeleton
from evalkit.model.weights_identity import weights_identity
from tests.support import frame_scorers, rows
from tests.support.checkpoints import SHARDS, published
from tests.support.configs import composed
from tests.support.hub import Hub, etag, serving

pytestmark = pytest.mark.slow

REPO, COMMIT_A = "Somebody/tiny-Qwen2-VL", "a" * 40


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No token is sent, and no cache of the user is touched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def files(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = published(checkpoint, tmp_path_factory.mktemp("hub") / "theirs")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())} | {"README.md": b"a card"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serving(REPO, COMMIT_A, dict(files), kind="models") as server:
        yield server


def fetched(hub: Hub, revision: str | None = None) -> Listing:
    found = listing(REPO, revision, endpoint=hub.endpoint)
    fetch(found, endpoint=hub.endpoint)
    return found


def test_fetching_and_running(hub: Hub, capsys: pytest.CaptureFixture[str], files: dict[str, bytes]) -> None:
    command = ["model", "fetch", REPO, "--endpoint", hub.endpoint]
    with pytest.raises(ConfigError, match=f"python -m evalkit model fetch {REPO}$"):
        load(REPO)
    assert main([*command, "--list"]) == 0
    assert hub.asked == []
    listed = capsys.readouterr().out
    assert f"commit {COMMIT_A}" in listed
    assert "to fetch  model-00002-of-00002.safetensors" in listed
    assert "README.md" not in listed
    assert main(command) == 0
    assert {name for name, _ in hub.asked} == set(files) - {"README.md"}
    out = capsys.readouterr().out
    assert f"backbone.path={REPO}" in out
    hub.asked.clear()
    assert main(command) == 0  # nothing is left to fetch
    assert hub.asked == []
    assert "to fetch: 0" in capsys.readouterr().out
    model = load(REPO, device="cpu")
    assert model.processors.fields == {"repetition_penalty": 1.05}
    assert model.tokenizer is not None


def test_what_scores_frames_is_fetched_likewise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = frame_scorers.checkpoint("siglip", tmp_path / "siglip")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ConfigError, match=f"--model={REPO}: no such folder.*python -m evalkit model fetch {REPO}$"):
        frame_scorer.load(REPO, device="cpu")
    with serving(REPO, COMMIT_A, files, kind="models") as hub:
        assert main(["model", "fetch", REPO, "--endpoint", hub.endpoint]) == 0
    assert (
        f"then: python -m evalkit data score-frames BENCHMARK --root DIR --model {REPO} --out"
        in capsys.readouterr().out
    )
    assert type(frame_scorer.load(REPO, device="cpu")) is frame_scorer.SigLip


def test_the_identity_is_the_hubs(hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit and blob names; no weight is read for it. The template is part of it."""
    fetched(hub)
    found = locate(REPO)
    assert (found.name, found.commit) == (REPO, COMMIT_A)
    read = sorted(name for name in files if name != "README.md")
    text = f"commit {COMMIT_A}:" + "".join(f"{name}:{etag(files[name])}:" for name in read)
    assert "chat_template.jinja" in read
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was read"))
    assert weights_identity(REPO) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_commit_and_a_template_change_the_identity(hub: Hub) -> None:
    fetched(hub)
    before = weights_identity(REPO)
    hub.commit = "b" * 40
    assert weights_identity(REPO) == before  # main moved there, not here
    fetched(hub)
    moved = weights_identity(REPO)
    assert moved != before
    assert weights_identity(locate(REPO, COMMIT_A)) == before
    hub.commit, hub.files["chat_template.jinja"] = "c" * 40, b"{{ messages }}"
    fetched(hub)
    assert weights_identity(REPO) not in (before, moved)


def test_a_pinned_revision_is_the_only_one_taken(hub: Hub) -> None:
    fetched(hub, COMMIT_A)
    assert locate(REPO, COMMIT_A).commit == COMMIT_A
    with pytest.raises(ConfigError, match=f"model fetch {REPO} --revision {'b' * 40}$"):
        locate(REPO, "b" * 40)


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before the library tries again
    hub.cut[SHARDS[0]] = len(hub.files[SHARDS[0]]) // 2
    fetched(hub)
    (first, later) = [start for name, start in hub.asked if name == SHARDS[0]]
    assert first == 0 < later <= len(hub.files[SHARDS[0]]) // 2


def test_what_is_missing_is_named(hub: Hub, cache: Path) -> None:
    fetched(hub)
    (shard,) = cache.rglob(f"snapshots/*/{SHARDS[1]}")
    shard.unlink()
    with pytest.raises(ConfigError, match=rf"1 of \d+ files .*{SHARDS[1]}.*model fetch {REPO}$"):
        load(REPO)
    assert listing(REPO, endpoint=hub.endpoint).missing == (SHARDS[1],)
    hub.asked.clear()
    fetched(hub)
    assert {name for name, _ in hub.asked} <= {SHARDS[1]}
    load(REPO, device="cpu")


def test_a_cache_that_another_program_began(hub: Hub) -> None:
    """Without a listing of the repository, the index still says what is missing."""
    for name in set(hub.files) - {SHARDS[1]}:
        hf_hub_download(REPO, name, revision=COMMIT_A, endpoint=hub.endpoint)
    command = f"python -m evalkit model fetch {REPO} --revision {COMMIT_A}"
    with pytest.raises(ConfigError, match=f"1 of 2 weight files .*{SHARDS[1]}; {command}$"):
        load(locate(REPO, COMMIT_A))


def test_a_run_takes_the_backbones_own_revision(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit that ran is in config.yaml; another path leaves the file's revision behind."""
    cfg = composed("backbone=qwen2_vl_7b")
    assert COMMIT.fullmatch(cfg.backbone.revision)
    command = f"model fetch {cfg.backbone.path} --revision {cfg.backbone.revision}$"
    with pytest.raises(ConfigError, match=command):
        build.checkpoint(cfg)
    fetched(hub)
    for more, revision in ((), None), ((f"backbone.revision={COMMIT_A}",), COMMIT_A):
        found = build.checkpoint(composed("backbone=qwen2_vl_7b", f"backbone.path={REPO}", *more))
        assert (found.commit, found.revision) == (COMMIT_A, revision)
    rows.write_json(tmp_path / "data" / "json" / "1_plotQA.json", [rows.mlvu_row()])
    data = ("benchmark=mlvu", f"benchmark.root={tmp_path / 'data'}", f"results_dir={tmp_path / 'results'}")
    grid = build.grid(composed("backbone=qwen2_vl_7b", f"backbone.path={REPO}", "backbone.device=cpu", *data))
    recorded = grid.config(grid.benchmarks[0], "rows", grid.points[0])["backbone"]
    assert (recorded["path"], recorded["commit"], recorded["revision"]) == (REPO, COMMIT_A, None)
    assert recorded["generation"] == {"repetition_penalty": 1.05}
    with pytest.raises(ConfigError, match=command):
        run.run(composed("backbone=qwen2_vl_7b", *data))
    assert not (tmp_path / "results").exists()


def test_a_dry_run_needs_no_weights(hub: Hub) -> None:
    cfg = composed("backbone=qwen2_vl_7b", f"backbone.path={REPO}", "dry_run=true")
    with pytest.raises(ConfigError, match=f"model fetch {REPO} --no-weights$"):
        build.checkpoint(cfg)
    assert main(["model", "fetch", REPO, "--endpoint", hub.endpoint, "--no-weights"]) == 0
    assert not [name for name, _ in hub.asked if name.endswith(".safetensors")]
    assert skeleton(build.checkpoint(cfg)).layers == 6
    with pytest.raises(ConfigError, match=rf"2 of 10 files .*model fetch {REPO}$"):
        build.checkpoint(composed("backbone=qwen2_vl_7b", f"backbone.path={REPO}"))


def refusing(repo: str, hub: Hub) -> str:
    with pytest.raises(ConfigError) as caught:
        fetch(listing(repo, endpoint=hub.endpoint), endpoint=hub.endpoint)
    assert not [name for name, _ in hub.asked if name.endswith((".safetensors", ".bin"))]
    return str(caught.value)


def test_what_a_run_would_refuse_is_not_fetched(hub: Hub, files: dict[str, bytes]) -> None:
    config = json.loads(files["config.json"])
    hub.files["config.json"] = json.dumps({**config, "auto_map": {"AutoConfig": "evil.Config"}}).encode()
    assert "auto_map" in refusing(REPO, hub)
    hub.commit, hub.files["config.json"] = "d" * 40, json.dumps({**config, "model_type": "llava_next"}).encode()
    assert "qwen2_vl" in refusing(REPO, hub)
    hub.files = {"config.json": files["config.json"], "pytorch_model.bin": b"pickle"}
    assert "pytorch_model.bin" in refusing(REPO, hub)


def test_trouble_is_explained(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="no such repository or revision"):
        listing(REPO, "v9", endpoint=hub.endpoint)
    with pytest.raises(DataError, match=r"could not be reached .*call again: it goes on"):
        listing(REPO, endpoint="http://127.0.0.1:9")
    with (
        serving(REPO, COMMIT_A, {}, refuse={"X-Error-Code": "GatedRepo"}, kind="models") as gated,
        pytest.raises(DataError, match="accept them at"),
    ):
        listing(REPO, endpoint=gated.endpoint)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        with pytest.raises(DataError, match="room for"):
            fetched(hub)
    assert hub.asked == []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["model", "fetch", REPO]) == 2
    assert main(["model", "fetch", "qwen2_vl"]) == 2
    assert main(["model", "fetch", "tiny"]) == 2


def test_a_run_never_downloads() -> None:
    """Nothing but the command imports the downloader, and loading asks for local files only."""
    package = Path(evalkit.__file__).parent
    users = [f.name for f in package.rglob("*.py") if "import fetch" in f.read_text(encoding="utf-8")]
    assert sorted(users) == ["data.py", "model.py"]
    calls = [
        call
        for f in package.rglob("*.py")
        for call in f.read_text(encoding="utf-8").split("from_pretrained(")[1:]
        if f.parent.name == "model"
    ]
    assert calls
    assert all("local_files_only=True" in call[:400] or call.startswith("\n        None") for call in calls)
