"""The Python interface: load a backbone, ask about a video, evaluate methods on a benchmark.

Use it as `evalkit.load_backbone`, `evalkit.ask` and `evalkit.evaluate`; the same objects serve run_eval.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.config import arguments, checks, named
from evalkit.config.arguments import expect
from evalkit.data import protocols, readers
from evalkit.data import video as video_file
from evalkit.data.protocols.plain import TOKENS, PlainProtocol
from evalkit.engine.decode import DecodeSettings
from evalkit.engine.executor.local import LocalExecutor
from evalkit.engine.grid import Grid
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError, EvalkitError
from evalkit.method import Method
from evalkit.runs import load

if TYPE_CHECKING:
    from evalkit.config.arguments import MethodLike, Points
    from evalkit.data.protocols import Protocol
    from evalkit.data.sampling import Sampling
    from evalkit.engine.backbone import Backbone
    from evalkit.runs.load import Run
    from evalkit.types import Answer, Benchmark


def load_backbone(
    name: str | Path,
    *,
    dtype: str | None = None,
    device: str = "auto",
    adapter: str | Path | None = None,
    adapter_any_base: bool = False,
    revision: str | None = None,
    rope: str = "none",
    pooling_head: str | None = None,
) -> Backbone:
    """Load a VideoLLM that is on this machine.

    `name`: "builtin", a file of conf/backbone (tiny, qwen2_vl_7b …), a checkpoint folder, or a hub id whose snapshot is
    in the hub's cache. `dtype`: float32, bfloat16 or float16; None: as in conf/backbone, or as the checkpoint says.
    `device`: auto, cpu, cuda or cuda:N. `adapter`: folder of tuned weights, or builtin/NAME; `adapter_any_base`: also
    one that was tuned on other weights. `revision`: commit, branch or tag of a hub id. `rope`: none or yarn4.
    `pooling_head`: on LLaVA, a SigLIP checkpoint (folder or hub id) whose pooling head methods such as FastVID read.

    Raises ConfigError for a checkpoint, adapter, device or option that is not there or not supported.
    """
    expect("name", name, arguments.PATH)
    expect("adapter", adapter, arguments.OPTIONAL_PATH)
    backbone = named.backbone(
        str(name),
        dtype=dtype,
        device=device,
        adapter=None if adapter is None else str(adapter),
        adapter_any_base=adapter_any_base or None,
        revision=revision,
        rope=rope,
        pooling_head=pooling_head,
    )
    backbone.model  # noqa: B018 – loads it
    return backbone


def ask(
    model: Backbone,
    video: str | Path,
    question: str,
    options: Sequence[str] = (),
    *,
    method: MethodLike | None = None,
    ratio: float = 1.0,
    frames: int | None = None,
    protocol: str | Protocol | None = None,
    sampling: Sampling | None = None,
    reader: str = "pyav",
    seed: int = 0,
) -> Answer:
    """What the model answers to one question about a video, decoded greedily.

    `method` at `ratio`: what is done to the video on its way, and the share in (0, 1] of the dense run's visual KV
    entries that it may leave; None keeps everything. `frames`: at most so many are sampled; None: as `sampling`, or as
    the backbone's configuration says. `protocol`: how it is asked and read. None is PlainProtocol, for which options
    are optional; a name of evalkit.data.protocols asks as that protocol asks Video-MME's questions, of 2 to 4 options.

    The answer has `text`, `letter` (None where there are no options, or none was read) and `ledger` with what it cost
    (`kv_tokens`, `seconds`, `flops` …). Nothing is stored. Asking several questions about a video one by one decodes it
    each time; `evaluate` shares that work.

    Raises VideoError for a video that cannot be read, ConfigError for wrong arguments, EvalkitError with the reason
    where the question could not be answered.
    """
    _expect(model, seed, reader)
    expect("video", video, arguments.PATH)
    expect("question", question, arguments.TEXT)
    expect("options", options, arguments.TEXTS)
    expect("protocol", protocol, arguments.OPTIONAL_PROTOCOL)
    chosen = _protocol(protocol, options)
    asked = arguments.question(Path(video), question, tuple(options), published=not isinstance(chosen, PlainProtocol))
    (point,) = arguments.points([(Method() if method is None else method, ratio)], (), {})
    setup = EngineSetup(
        backbone=model,
        sampling=arguments.sampling(model, sampling, frames),
        protocol=chosen,
        reader=reader,
        seed=seed,
    )
    video_file.expect_whole(video_file.probe(asked.video_path))
    ((_, answer),) = setup.engine.answers({point: [asked]})
    if answer.status == "failed":
        raise EvalkitError(f"{video}: not answered: {answer.error}")
    return answer


def evaluate(
    model: Backbone,
    benchmark: str | Benchmark | Sequence[Benchmark],
    points: Points,
    *,
    results_dir: str | Path,
    ratios: Sequence[float] = (1.0,),
    adapters: Mapping[str, str | Path] | None = None,
    root: str | Path | None = None,
    subset: str = "full",
    frames: int | None = None,
    protocol: str | Protocol = "lmms_eval",
    sampling: Sampling | None = None,
    reader: str = "pyav",
    seed: int = 0,
    share: bool = True,
    timing: int = 0,
    workers: int | None = 1,
    reference: str | None = None,
) -> list[Run]:
    """Answer a benchmark's questions with every operating point, as run_eval.py does; what is stored is not repeated.

    `benchmark`: videomme, mlvu, lvbench or builtin with its data folder `root`, or what
    `evalkit.data.benchmarks.load` gave. `points`: pairs (method, ratio), or names with methods, each of which is run at
    all `ratios`. A method is an object, or a name of conf/method. `adapters`: for methods that bring tuned weights in
    the place of the backbone's, by the name that tables call the method: {"xcomp": "builtin/xcomp"}; both models are
    loaded once, and every table says which weights a row used. `points` may hold OperatingPoint objects, too, which
    name method, ratio and adapter. `reference` names what tables compare the others with; None: the first. `workers`:
    processes that answer side by side, 1: this one with the model that is loaded, None: as many as fit. Each loads
    weights of its own. A script starts them below `if __name__ == "__main__":`, and classes of methods and protocols
    must be in a module: else ConfigError, with None this process answers. The other arguments are the settings of
    conf/config.yaml.

    Returns the runs (answers, config and environment of each); `python -m evalkit report RESULTS_DIR` makes tables and
    plots of them. Questions that could not be answered are answers with status `failed`.

    Raises ConfigError, DataError, RunLockedError where another process writes to the same run folder, SystematicError
    where five videos one after the other fail for one reason that is not theirs.
    """
    _expect(model, seed, reader)
    expect("share", share, checks.TRUTH)
    expect("results_dir", results_dir, arguments.PATH)
    expect("protocol", protocol, arguments.PROTOCOL)
    chosen = arguments.points(points, ratios, adapters or {})
    order = list(dict.fromkeys(point.name for point in chosen))
    if reference is not None and reference not in order:
        raise ConfigError(f"reference: expected one of {', '.join(order)}, got {reference!r}")
    grid = Grid(
        points=chosen,
        benchmarks=arguments.question_sets(benchmark, root, subset),
        setup=EngineSetup(
            backbone=model,
            sampling=arguments.sampling(model, sampling, frames),
            protocol=protocols.get(protocol) if isinstance(protocol, str) else protocol,
            reader=reader,
            seed=seed,
            share=share,
            decode=DecodeSettings(),
        ),
        results_dir=Path(results_dir),
        order=order,
        reference=reference or order[0],
        subset=subset,
        timed_videos=checks.timed_videos(timing),
        executor=LocalExecutor(workers=checks.workers(workers)),
    )
    folders, _ = grid.run()
    return load.ordered([run for folder in folders for run in load.load(folder)])


def _expect(model: Backbone, seed: int, reader: str) -> None:
    """What both `ask` and `evaluate` take."""
    expect("model", model, arguments.MODEL)
    expect("seed", seed, checks.whole(0))
    readers.REGISTRY.entry(reader)


def _protocol(protocol: str | Protocol | None, options: Sequence[str]) -> Protocol:
    if protocol is None:
        return PlainProtocol(limit=TOKENS[0] if options else TOKENS[1])
    return protocols.get(protocol) if isinstance(protocol, str) else protocol
