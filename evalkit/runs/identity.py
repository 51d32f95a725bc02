"""What makes two runs the same run: everything that can change an answer, and nothing that cannot."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from evalkit.method import Method
from evalkit.runs.answer_modules import CHANGES_ANSWERS, NOT_HASHED
from evalkit.types import Benchmark

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("torch", "torchvision", "transformers", "tokenizers")
READERS = {"pyav": "av", "torchcodec": "torchcodec", "decord": "decord"}  # name -> package


def digest(value: Any) -> str:
    """A hash of plain values (16 hexadecimal digits), independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rows(benchmark: Benchmark, *code: object) -> str:
    """Hash of everything in the question set that can change an answer or its score; never of paths.

    `code`: objects of another package that read or ask it; their source is part of the hash.
    """
    theirs = foreign_source(*code)
    return digest(
        [[q.id, q.video_id, q.text, q.options, q.answer, dict(q.row)] for q in benchmark.questions]
        + [[b.id] for b in benchmark.bad_rows]  # failed, whatever the message, which names files by their paths
        + ([theirs] if theirs else [])
    )


def frame_scores(benchmark: Benchmark) -> str:
    """Hash of what a file says of the frames of a set's videos, for methods that choose frames by it."""
    return digest([[q.id, None if q.frame_scores is None else asdict(q.frame_scores)] for q in benchmark.questions])


def method(method: Method) -> dict[str, Any]:
    """Class, hyper-parameters, and the source of the class and of the modules of its package that it uses."""
    cls = type(method)
    return {"class": f"{cls.__module__}.{cls.__qualname__}", "fields": asdict(method), "source": source(cls)}


def source(cls: type) -> str:
    """Hash of the source files of a method: its module's, and those of its package and of methods that it uses."""
    return _source(_used(sys.modules[cls.__module__], set()))


def foreign_source(*things: object) -> str:
    """Hash of the source files outside evalkit of what makes up these objects; "" where all of it is evalkit's own.

    Followed are classes, functions, and what fields of dataclasses, mappings and sequences hold.
    """
    found: set[ModuleType] = set()
    for name in {name for thing in things for name in _modules(thing)}:
        if name.split(".")[0] not in {"evalkit", *sys.stdlib_module_names} and name in sys.modules:
            _used(sys.modules[name], found)
    return _source(found) if found else ""


def _modules(thing: object) -> Iterator[str]:
    if isinstance(thing, str | bytes | int | float | None):
        return
    yield thing.__module__ if isinstance(thing, type | FunctionType) else type(thing).__module__
    if is_dataclass(thing) and not isinstance(thing, type):
        thing = [getattr(thing, field.name) for field in fields(thing)]
    if isinstance(thing, Mapping):
        thing = list(thing.values())
    if isinstance(thing, Sequence):
        for part in thing:
            yield from _modules(part)


def _source(modules: Iterable[ModuleType]) -> str:
    return digest([inspect.getsource(module) for module in sorted(modules, key=lambda m: m.__name__)])


def _used(module: ModuleType, seen: set[ModuleType]) -> set[ModuleType]:
    seen.add(module)
    package = module.__name__.split(".")[0]
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        other = sys.modules.get(name) if isinstance(name, str) else None
        if other is None or other in seen or not isinstance(name, str) or name.split(".")[0] == "evalkit":
            continue
        if name.split(".")[0] == package or (isinstance(value, type) and issubclass(value, Method)):
            _used(other, seen)
    return seen


def code(reader: str = "pyav") -> dict[str, str]:
    """Versions of the libraries that decode and compute, and a hash of evalkit's own code on the way to an answer.

    PyAV says what a file's frames are whatever the `reader`; one of another package has its source in the identity.
    """
    used = (*LIBRARIES, *dict.fromkeys((READERS["pyav"], READERS.get(reader, READERS["pyav"]))))
    return {"evalkit": own_code(), **{name: version(name) for name in used}, "ffmpeg": ffmpeg()}


def ffmpeg() -> str:
    """Versions of the FFmpeg libraries that PyAV decodes with."""
    import av

    numbers = {name: ".".join(map(str, av.library_versions[name])) for name in ("libavcodec", "libswscale")}
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def device(name: str) -> str:
    """What of a torch device can change an answer: its kind; of a GPU its model, and the versions of CUDA and cuDNN."""
    import torch

    found = torch.device(name)
    if found.type != "cuda":
        return found.type
    cudnn: Any = torch.backends.cudnn  # not typed
    return f"{torch.cuda.get_device_name(found)}, CUDA {torch.version.cuda}, cuDNN {cudnn.version()}"


def own_code(package: Path = PACKAGE) -> str:
    """Hash of the modules that can change an answer, read below `package`, the folder of evalkit's code."""
    return digest([[name, _hashed(_file(package, name).read_text(encoding="utf-8"))] for name in CHANGES_ANSWERS])


def _hashed(text: str) -> str:
    """The source without the top-level assignments to `NOT_HASHED`."""
    if not any(name in text for name in NOT_HASHED):  # nearly always; parsing all modules takes a quarter of a second
        return text
    lines = text.split("\n")
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.Assign) and {ast.unparse(target) for target in node.targets} <= NOT_HASHED:
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def _file(package: Path, module: str) -> Path:
    place = package.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def run_id(parts: Mapping[str, Any]) -> str:
    """The identity of a run from its parts."""
    return digest(dict(parts))
