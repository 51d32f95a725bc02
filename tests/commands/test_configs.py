"""Every configuration composes to the run that it describes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from evalkit.config import build, choices
from evalkit.config.choices import CONF
from evalkit.data import protocols
from evalkit.errors import ConfigError
from methods.heuristic_drop import HeuristicDrop
from methods.lpcomp import LPComp
from methods.pivotkv import PivotKV
from methods.retake import ReTaKe
from methods.uniform import Uniform
from methods.xcomp import XComp
from tests.support.configs import composed


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", names("experiment"))
def test_experiments(name: str) -> None:
    cfg = composed(f"experiment={name}", "benchmark.root=somewhere")
    assert build.points(cfg)
    assert build.sampling(cfg).frames > 0


@pytest.mark.parametrize("name", names("sampling"))
def test_samplings(name: str) -> None:
    assert build.sampling(composed(f"sampling={name}")).frames > 0


@pytest.mark.parametrize("name", names("backbone"))
def test_backbones_have_the_same_keys(name: str) -> None:
    keys = set(composed(f"backbone={name}").backbone) - {"folder", "seed", "pooling_head"}  # the last is LLaVA's
    assert keys | {"published"} == set(composed("backbone=qwen2_vl_7b").backbone)


def test_published_sizes_are_no_option_of_a_run(checkpoint: Path) -> None:
    """They are not in config.yaml, so that runs from before they were there compare."""
    cfg = composed("backbone=qwen2_vl_7b", f"backbone.path={checkpoint}")
    assert "published" in cfg.backbone
    assert "published" not in build.backbone(cfg).recorded


def test_a_real_backbone_brings_real_frames_unless_told_otherwise() -> None:
    assert composed("backbone=qwen2_vl_7b").sampling.max_pixels > 12544
    assert composed("backbone=qwen2_vl_7b", "sampling=retake").sampling.preset == "retake"
    assert composed().sampling.max_pixels == 12544


def test_the_released_retake_settings() -> None:
    cfg = composed("experiment=retake_lvbench", "backbone=qwen2_5_vl_7b")
    assert cfg.backbone.path == "Qwen/Qwen2.5-VL-7B-Instruct"
    sampling = build.sampling(cfg)
    assert (sampling.preset, sampling.fps, sampling.frames) == ("retake", 2.0, 2048)
    assert (sampling.long_side, sampling.resize) == (448, "nearest")
    dense, retake = build.points(cfg)
    assert dense.method == Uniform(max_frames=256)
    assert retake.name == "retake_32k"
    assert retake.method == ReTaKe(patch_sync=False, pivots="released", max_input_length=32000)
    assert retake.method.query_aware


@pytest.mark.parametrize("name", ["videomme", "mlvu", "lvbench"])
def test_released_retake_settings_ask_as_the_released_code(name: str) -> None:
    cfg = composed(f"experiment=retake_{name}")
    protocol = protocols.get(cfg.protocol)
    assert (protocol.name, protocol.max_new_tokens(name), protocol.stop) == ("retake", 128, ())
    assert build.sampling(cfg).resize == "nearest"
    assert "# Differs:" in (CONF / "experiment" / f"retake_{name}.yaml").read_text(encoding="utf-8")


def test_each_backbone_brings_what_lmms_eval_shows_it() -> None:
    assert composed("backbone=qwen2_vl_7b").sampling.preset == "lmms_eval"
    assert composed("backbone=qwen2_5_vl_7b").sampling.preset == "lmms_eval_qwen2_5_vl"
    assert composed("backbone=qwen3_vl_8b").sampling.preset == "lmms_eval_qwen3_vl"
    onevision, video = (composed(f"backbone=llava_{name}_7b").sampling for name in ("onevision", "video"))
    assert (onevision.preset, onevision.frames, onevision.fps) == ("lmms_eval", 32, None)
    assert (video.preset, video.frames, video.fps) == ("lmms_eval", 64, None)


def test_retake_on_llava_video() -> None:
    cfg = composed("experiment=retake_llava_video_videomme")
    assert (cfg.backbone.path, cfg.backbone.rope) == ("lmms-lab/LLaVA-Video-7B-Qwen2", "yarn4")
    assert build.sampling(cfg).frames == 1024
    dense, ours = (point.method for point in build.points(cfg))
    assert dense == Uniform(max_frames=128)
    assert ours == PivotKV(pivots="released", max_input_length=40000)


@pytest.mark.parametrize(
    ("name", "frames", "paper", "released"),
    [
        ("videomme", 1024, (0.5, 2), (0.5, 8)),
        ("mlvu", 1024, (1.0, 2), (0.25, 2)),
        ("lvbench", 4096, (0.5, 2), (0.5, 2)),
    ],
)
def test_the_papers_and_the_released_xcomp_settings(
    name: str, frames: int, paper: tuple[float, int], released: tuple[float, int]
) -> None:
    cfg = composed(f"experiment=xcomp_{name}", "backbone=qwen2_5_vl_7b")
    sampling = build.sampling(cfg)
    assert (sampling.preset, sampling.fps, sampling.min_frames, sampling.frames) == (
        "videochat_flash",
        8.0,
        128,
        frames,
    )
    assert (cfg.benchmark.name, cfg.protocol) == (name, "xcomp")
    dense, alone, ours, theirs = (point.method for point in build.points(cfg))
    assert dense == Uniform(max_frames=1024)
    assert alone == LPComp(frame_ratio=1024 / frames)
    assert ours == XComp(frame_ratio=paper[0], repeats=paper[1], rounding="paper", first_layer=0, last_layer=27)
    assert theirs == XComp(frame_ratio=released[0], repeats=released[1], first_layer=6, last_layer=23)


@pytest.mark.parametrize(
    ("name", "frames", "chosen", "repeats"),
    [("videomme", 1024, 512, 8), ("mlvu", 1024, 256, 2), ("lvbench", 4096, 2048, 2)],
)
def test_xcomp_on_its_own_base(name: str, frames: int, chosen: int, repeats: int) -> None:
    """The released settings leave the message on the video's length out; uniform costs as much in visual KV."""
    cfg = composed(f"experiment=xcomp_videochat_flash_{name}")
    assert cfg.backbone.path == "OpenGVLab/VideoChat-Flash-Qwen2_5-2B_res448"
    assert (build.sampling(cfg).frames, cfg.benchmark.name, cfg.protocol) == (frames, name, "xcomp")
    dense, equal, heuristic, alone, ours, theirs = (point.method for point in build.points(cfg))
    share = 1024 / frames
    assert (dense, equal) == (Uniform(max_frames=1024), Uniform(max_frames=round(chosen * 231 / 28 / 16)))
    assert heuristic == HeuristicDrop(schedule="model_card", frame_ratio=share)
    assert alone == LPComp(frame_ratio=share)
    assert isinstance(ours, XComp)
    assert (ours.rounding, ours.repeats, ours.skip) == ("paper", 2, 0)
    assert theirs == XComp(frame_ratio=chosen / frames, repeats=repeats, first_layer=6, last_layer=23, skip=27)


def test_one_method_and_one_ratio_take_the_place_of_the_lists() -> None:
    (point,) = build.points(composed("method=pivotkv", "ratio=0.5", "method.pivots=released"))
    assert (point.name, point.ratio) == ("pivotkv", 0.5)
    assert vars(point.method)["pivots"] == "released"
    assert len(build.points(composed("method=pivotkv"))) == len(composed().ratios)


def test_the_file_of_a_method_is_all_that_its_choice_brings() -> None:
    """So that what holds for the files, each of which builds a method, holds for what Hydra composes of them."""
    for name in names("method"):
        text = (CONF / "method" / f"{name}.yaml").read_text(encoding="utf-8")
        assert "defaults" not in choices.settings("method", name)
        assert "@package" not in text
    for name in ("adaretake", "xcomp"):
        composed_one, alone = composed(f"method={name}"), choices.settings("method", name)
        assert composed_one.method == alone
        assert build.points(composed_one)[0].method == build.method(name)


def test_a_method_may_bring_tuned_weights_of_its_own() -> None:
    """A setting beside its fields, in each way to name a method; nothing, or null, is the backbone's weights."""
    by_path = "{_target_: methods.lpcomp.LPComp, name: mine, adapter: builtin/xcomp}"
    words = f"methods=[uniform,{{from: xcomp, adapter: builtin/xcomp}},{{from: xcomp, name: free}},{by_path}]"
    found = {point.name: point for point in build.points(composed(words, "ratios=[0.5]"))}
    assert {name: point.adapter for name, point in found.items()} == {
        "uniform": None,
        "xcomp": "builtin/xcomp",
        "free": None,
        "mine": "builtin/xcomp",
    }
    assert found["xcomp"].method == found["free"].method
    (one,) = build.points(composed("method=xcomp", "ratio=1", "+method.adapter=builtin/xcomp"))
    assert one.adapter == "builtin/xcomp"
    for wrong, told in {"builtin/no": "one of", "/no/where": "expected a folder with", "3": "got 3"}.items():
        with pytest.raises(ConfigError, match=told):
            build.points(composed(f"methods=[{{from: xcomp, adapter: {wrong}}}]"))


def test_a_method_may_be_run_at_ratios_of_its_own() -> None:
    methods = (
        "methods=[uniform,{from: blind, ratios: [1.0]},{from: lowres, ratios: [0.5,0.1]},{from: single, ratios: null}]"
    )

    def found(*words: str) -> dict[str, list[float]]:
        points = build.points(composed(methods, "ratios=[1.0,0.5]", *words))
        return {name: [p.ratio for p in points if p.name == name] for name in dict.fromkeys(p.name for p in points)}

    assert found() == {"uniform": [1.0, 0.5], "blind": [1.0], "lowres": [0.5, 0.1], "single": [1.0, 0.5]}
    assert found("ratio=0.5") == {"uniform": [0.5], "lowres": [0.5], "single": [0.5]}
    for wrong, told in {
        "{from: blind, ratios: 0.5}": r"method blind: ratios: expected a list such as \[1.0,0.5\] or null, got 0.5",
        "{from: blind, ratios: []}": r"expected a list such as",
        "{from: blind, ratios: [2]}": r"expected a number in \(0, 1\], got 2",
    }.items():
        with pytest.raises(ConfigError, match=told):
            build.points(composed(f"methods=[{wrong}]"))
    with pytest.raises(ConfigError, match=r"expected one at which a method of `methods` is run, got 0\.3"):
        build.points(composed("methods=[{from: blind, ratios: [1.0]}]", "ratio=0.3"))


def test_the_built_in_experiments_show_xcomp_with_its_weights() -> None:
    for words in ([], ["experiment=builtin_report"]):
        points = [point for point in build.points(composed(*words)) if point.name == "xcomp"]
        assert [(point.ratio, point.adapter) for point in points] == [
            (ratio, "builtin/xcomp") for ratio in (1.0, 0.5, 0.25, 0.125)
        ]


def test_the_zoo_holds_every_method_that_needs_no_file() -> None:
    points = build.points(composed("experiment=zoo"))
    by_file = {name for name in names("method") if build.method(name).needs_frame_scores}
    assert by_file == {"aks", "bolt"}
    assert {point.name for point in points} == set(names("method")) - by_file
    assert {(point.adapter, point.name == "xcomp") for point in points} == {("builtin/xcomp", True), (None, False)}


@pytest.mark.parametrize("backbone", ["llava_onevision", "qwen2_5_vl"])
def test_the_replications_take_any_of_the_benchmarks(backbone: str) -> None:
    """lowres is not defined where frames have one size."""
    cfg = composed(f"experiment=replication_{backbone}", "benchmark=lvbench")
    assert (cfg.benchmark.name, cfg.backbone.name, cfg.sampling.frames) == ("lvbench", f"{backbone}_7b", 32)
    found = dict.fromkeys(point.name for point in build.points(cfg))
    assert list(found)[:2] == ["uniform", "random_frames"]
    assert {"retake", "xcomp", "vidcom2", "visionzip", "fastvid", "fastv"} <= set(found)
    assert ("lowres" in found) == (backbone == "qwen2_5_vl")
    assert not any(point.adapter for point in build.points(cfg))


def test_wrong_fields_are_explained() -> None:
    with pytest.raises(ConfigError, match="windows"):
        build.points(composed("method=dpselect", "+method.windows=5"))
    with pytest.raises(ConfigError, match="odd window"):
        build.points(composed("method=dpselect", "method.window=4"))
    with pytest.raises(ConfigError, match="expected names"):
        build.points(composed("methods=[{from: nothing, name: x}]"))


def test_every_number_of_a_preset_has_a_source() -> None:
    for group in ("sampling", "experiment"):
        files = [*(CONF / group).glob("retake*.yaml"), *(CONF / group).glob("xcomp*.yaml")]
        files += (CONF / group).glob("replication*.yaml")
        for file in sorted(files):
            for line in file.read_text(encoding="utf-8").splitlines():
                key, _, value = line.strip().partition(": ")
                if not line.startswith("#") and value[:1].isdigit() and file.stem != "retake_claim":
                    assert "# source:" in value, f"{file.name}: {key}"


def test_conf_is_where_the_package_looks() -> None:
    assert (Path(__file__).parents[2] / "conf").samefile(CONF)


def test_no_log_file_is_opened() -> None:
    """Hydra's own job logging writes run_eval.log into the working directory."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("config", return_hydra_config=True)
    handlers = cfg.hydra.job_logging.handlers
    assert {handler["class"] for handler in handlers.values()} == {"logging.StreamHandler"}
