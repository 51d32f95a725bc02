"""From a composed Hydra configuration to the objects of a run. Every complaint names the setting and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from evalkit.config import checks, choices, method_fields
from evalkit.config.choices import listed, settings
from evalkit.data import benchmarks, protocols
from evalkit.data.benchmarks import evidence_csv, frame_scores
from evalkit.data.prepare import subsets, verify
from evalkit.data.protocols import Protocol
from evalkit.data.sampling import Sampling
from evalkit.engine.backbone import Backbone
from evalkit.engine.decode import DecodeSettings
from evalkit.engine.executor.base import Executor
from evalkit.engine.executor.local import LocalExecutor
from evalkit.engine.executor.ray_cluster import RayExecutor
from evalkit.engine.grid import Grid
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError
from evalkit.method import Method, OperatingPoint
from evalkit.model import adapter as adapters
from evalkit.model.checkpoint import Checkpoint, locate
from evalkit.types import Benchmark

WEIGHTS = Path(__file__).parents[1] / "tiny" / "weights"
OF_THE_POINT = ("name", "adapter", "ratios")  # settings of a method's section that are no fields of the method


def grid(cfg: DictConfig, meanwhile: Callable[[], object] | None = None) -> Grid:
    """What run_eval.py runs. ConfigError or DataError for settings or data that it cannot run.

    `meanwhile`: called once in a thread, where this process only waits for others that answer.
    """
    checks.evaluation(cfg)
    chosen, named, against = points(cfg), order(cfg), reference(cfg)
    timed = checks.timed_videos(cfg.timing)
    common = setup(cfg, protocols.get(cfg.protocol))
    return Grid(
        points=chosen,
        benchmarks=question_sets(cfg),
        setup=common,
        results_dir=Path(cfg.results_dir),
        order=named,
        reference=against,
        subset=str(cfg.subset),
        timed_videos=timed,
        max_failed=cfg.max_failed,
        executor=executor(cfg, meanwhile),
    )


def executor(cfg: DictConfig, meanwhile: Callable[[], object] | None = None) -> Executor:
    """In which processes videos are answered. ConfigError where what it needs is not installed."""
    chosen = cfg.executor
    if chosen.name == "local":
        return LocalExecutor(chosen.workers, chosen.deadline, meanwhile)
    return RayExecutor(
        workers=chosen.workers,
        deadline=chosen.deadline,
        address=chosen.address,
        gpus_per_worker=chosen.gpus_per_worker,
        meanwhile=meanwhile,
    )


def setup(cfg: DictConfig, protocol: Protocol) -> EngineSetup:
    """What all operating points have in common; no weight is read yet."""
    return EngineSetup(
        sampling=sampling(cfg),
        protocol=protocol,
        backbone=backbone(cfg),
        reader=cfg.reader,
        seed=cfg.seed,
        share=cfg.get("share", True),
        decode=decode(cfg),
    )


def decode(cfg: DictConfig) -> DecodeSettings | None:
    """How videos are decoded; None where a configuration has no such settings, as that of tuning."""
    chosen = cfg.get("decode")
    if chosen is None:
        return None
    return DecodeSettings(ahead=chosen.ahead, deadline=chosen.deadline, tolerate_short=chosen.tolerate_short)


def backbone(cfg: DictConfig) -> Backbone:
    """Checkpoint and loading options. ConfigError where the checkpoint is not on this machine."""
    chosen = cfg.backbone
    recorded = OmegaConf.to_container(chosen, resolve=True)
    assert isinstance(recorded, dict)
    if recorded.get("pooling_head") is None:
        recorded.pop("pooling_head", None)  # of LLaVA backbones alone
    recorded.pop("published", None)  # of the repository, for `doctor`: no option of this run
    return Backbone(
        name=str(chosen.name),
        checkpoint=checkpoint(cfg),
        dtype=chosen.dtype,
        device=chosen.device,
        rope=chosen.rope,
        adapter=adapter(cfg),
        adapter_any_base=bool(chosen.get("adapter_any_base")),
        threads=chosen.threads,
        chunk_cells=chosen.chunk_cells,
        encode_cells=chosen.encode_cells,
        pooling_head=chosen.get("pooling_head"),
        recorded={str(key): value for key, value in recorded.items()},
    )


def question_sets(cfg: DictConfig) -> list[Benchmark]:
    """The benchmarks named by `benchmark` and found under `benchmark.root`, each narrowed to `subset`."""
    subsets.check(cfg.subset)
    if cfg.benchmark.root is None:
        raise ConfigError(
            f"benchmark={cfg.benchmark.name} needs benchmark.root=DIR, the folder with its annotations and videos"
        )
    loaded = benchmarks.load(cfg.benchmark.name, Path(cfg.benchmark.root).expanduser())
    evidence = cfg.benchmark.get("evidence")  # a benchmark of another package may have no such setting
    if evidence is not None:
        loaded = evidence_csv.placed(loaded, Path(str(evidence)).expanduser())
    scores = cfg.benchmark.get("frame_scores")
    if scores is not None:
        loaded = frame_scores.placed(loaded, Path(str(scores)).expanduser())
    return narrowed(loaded, cfg.subset)


def narrowed(loaded: Sequence[Benchmark], subset: str) -> list[Benchmark]:
    """Question sets without what `subset` leaves out, with what `data verify` found about the rest."""
    return [verify.carry(full, subsets.restrict(full, subset)) for full in loaded]


def points(cfg: DictConfig) -> list[OperatingPoint]:
    """Methods × ratios: the lists `methods` and `ratios`, each narrowed to one by `method=NAME` and `ratio=R`.

    A method with `ratios` of its own is run at those.
    """
    chosen = [cfg.method] if cfg.get("method") else [_method_config(entry) for entry in _several(cfg, "methods")]
    names = [checks.name("method", config.get("name")) for config in chosen]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"methods: expected each name once, got {', '.join(twice)} more than once; give one of them another name: "
            "{from: METHOD, name: ANOTHER, field: value}"
        )
    built = [(_build(config), own_adapter(config.name, config.get("adapter"))) for config in chosen]
    found = [
        OperatingPoint(name, method, step, own)
        for name, config, (method, own) in zip(names, chosen, built, strict=True)
        for step in dict.fromkeys(map(ratio, _ratios(cfg, config)))
    ]
    if not found:
        raise ConfigError(f"ratio: expected one at which a method of `methods` is run, got {cfg.ratio}")
    return found


def _ratios(cfg: DictConfig, method: DictConfig) -> list[Any]:
    """At which a method is run: at its own or else at those of all, and at no other than `ratio=R`."""
    own = method.get("ratios")
    if own is not None and not (isinstance(own, ListConfig) and len(own)):
        raise ConfigError(f"method {method.name}: ratios: expected a list such as [1.0,0.5] or null, got {own!r}")
    if cfg.ratio is None:
        return list(own) if own is not None else _several(cfg, "ratios")
    return [cfg.ratio] if own is None or cfg.ratio in own else []


def order(cfg: DictConfig) -> tuple[str, ...]:
    """Names of the methods in the order of tables: those of `methods`, whether `method=NAME` narrows them or not."""
    listed = [str(_method_config(entry).name) for entry in cfg.methods]
    chosen = [str(cfg.method.name)] if cfg.get("method") else []
    return tuple(dict.fromkeys([*listed, *chosen]))


def reference(cfg: DictConfig) -> str:
    """What the other methods are compared with: the one of `reference`, or else the first of `methods`."""
    names = order(cfg)
    if cfg.reference is not None and str(cfg.reference) not in names:
        raise ConfigError(f"reference: expected null or a method of this configuration, {names}, got {cfg.reference!r}")
    return names[0] if cfg.reference is None else str(cfg.reference)


def _several(cfg: DictConfig, key: str) -> list[Any]:
    """A list with something in it."""
    value, one = cfg[key], key.removesuffix("s")
    if not isinstance(value, ListConfig) or not len(value):
        raise ConfigError(f"{key}: expected a list such as {key}=[…,…], or one {one} as {one}=…; got {value!r}")
    return list(value)


def _method_config(entry: Any) -> DictConfig:
    """A method by its name, `{from: NAME, name: ANOTHER, field: value …}` for one with other fields, or any class.

    `adapter: DIR` beside the fields gives it tuned weights of its own.
    A class needs no name of its own in conf/method or elsewhere: `{_target_: package.Class, name: ANOTHER, …}`.
    """
    changes = entry if isinstance(entry, DictConfig) else DictConfig({"from": entry})
    if "_target_" in changes and "from" not in changes:
        return changes
    name = changes.get("from")
    if name not in choices.names("method"):
        raise ConfigError(
            f"methods: expected names among {listed('method')}, {{from: NAME, name: ANOTHER, field: value}}, or "
            f"{{_target_: package.Class, name: ANOTHER, field: value}}; got {entry!r}"
        )
    config = OmegaConf.merge(settings("method", name), {key: value for key, value in changes.items() if key != "from"})
    assert isinstance(config, DictConfig)
    return config


def method(entry: Any) -> Method:
    """The method of a file of conf/method. ConfigError where there is none, or its fields do not fit."""
    return _build(_method_config(entry))


def own_adapter(method: str, named: Any) -> str | None:
    """The tuned weights that a method brings, a setting beside its fields. ConfigError where they are not there."""
    if named is None:
        return None
    if not (isinstance(named, str) and named):
        raise ConfigError(
            f"method {method}: adapter: expected a folder of tuned weights, builtin/NAME or null; got {named!r}"
        )
    adapters.check(named)
    return named


def _build(config: DictConfig) -> Method:
    fields = {str(key): value for key, value in config.items() if key not in OF_THE_POINT}
    method_fields.check(str(config.name), fields)
    try:
        method = instantiate(fields)
    except InstantiationException as error:
        raise ConfigError(f"method {config.name}: {error.__cause__ or error}") from error
    if not isinstance(method, Method):
        raise ConfigError(
            f"method {config.name}: expected _target_ to name a subclass of evalkit.method.Method, got {method!r}"
        )
    return method


def ratio(value: Any) -> float:
    """A share of the dense run's visual KV entries. ConfigError unless it is a number in (0, 1]."""
    if not checks.number(value) or not 0 < value <= 1:
        raise ConfigError(f"ratio: expected a number in (0, 1], got {value!r}")
    return float(value)


def sampling(cfg: DictConfig) -> Sampling:
    """The sampling preset."""
    fields = OmegaConf.to_container(cfg.sampling, resolve=True)
    assert isinstance(fields, dict)
    try:
        return Sampling(**{str(key): value for key, value in fields.items()})
    except TypeError as error:
        raise ConfigError(f"sampling: {error}; see conf/sampling") from error


def adapter(cfg: DictConfig) -> str | None:
    """Folder of tuned weights; `builtin/NAME` is one that comes with evalkit, ConfigError if there is none."""
    name = cfg.backbone.adapter
    return None if name is None else str(adapters.locate(str(name)))


def checkpoint(cfg: DictConfig) -> Checkpoint:
    """Where the backbone's weights lie: a folder, or a hub id's snapshot in the hub's cache.

    `builtin` is the trained one that comes with evalkit; null writes a random one to `backbone.folder` on first use.
    """
    if cfg.backbone.path == "builtin":
        return locate(str(WEIGHTS))
    if cfg.backbone.path is not None:
        return locate(str(cfg.backbone.path), _revision(cfg), weights=not cfg.get("dry_run"))
    from evalkit.tiny.model import random_checkpoint

    folder = Path(cfg.backbone.folder)
    if not (folder / "config.json").exists():
        random_checkpoint(folder, seed=int(cfg.backbone.seed))
    return locate(str(folder))


def _revision(cfg: DictConfig) -> str | None:
    """`backbone.revision`; None where it is the commit that the backbone's file gives for another `path`."""
    found, name = cfg.backbone.get("revision"), cfg.backbone.name
    published: Any = settings("backbone", name) if name in choices.names("backbone") else {}
    if found is None or (published.get("revision") == found and published.get("path") != cfg.backbone.path):
        return None
    return str(found)
