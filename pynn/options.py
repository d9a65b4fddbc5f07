"""The keyword arguments that ``compile``, ``create_context`` and ``build_engine`` share, described once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypedDict

from .backends.base import BuildControl, CompileOptions
from .backends.selection import Wish, check_wish
from .backends.shapes import ShapeSizes
from .converter.precision.choice import Precision, PrecisionName, parse_precision
from .errors import ValidationError

PowerPreference = Literal["default", "high-performance", "low-power"]
BackendName = Literal["auto", "tensorrt", "onnxruntime"]
Wait = Literal["auto", "spin", "block"]
KernelSpecialization = Literal["auto", "lazy", "eager", "none"]
Shapes = ShapeSizes | Sequence[ShapeSizes]
"""Sizes of dynamic dimensions, by input name (its whole shape) or by the dimension's name: a number or (min, opt, max).
A sequence of such mappings is several optimisation profiles."""


class EngineOptions(TypedDict, total=False):
    """What changes an engine.

    ``tensorrt_library``: a directory to take TensorRT from. ``precision``: in what types to compute, a name or a
    ``pynn.Precision``; by default those of the model, and "auto" where ``power_preference`` says "high-performance" or
    "low-power". ``tf32``: float32 products may be computed in TF32.
    ``optimization_level``: 0 (quick to build) to 5. ``workspace_bytes``: limit of scratch memory. ``refit``: weights
    can be replaced without a rebuild, and are kept out of the cached engine. ``weight_streaming_bytes``: GPU memory for
    weights; the rest stays in host memory. ``progress`` is called with each event of the build (``kind`` "start",
    "step" or "finish", ``phase``, ``parent``, ``step``, ``steps``); what it raises cancels the build, as setting
    ``cancel`` does; ``deadline`` limits it in seconds. ``isolate`` builds in a child process.
    """

    tensorrt_library: str | os.PathLike[str] | None
    precision: PrecisionName | Precision | None
    tf32: bool | None
    optimization_level: int | None
    workspace_bytes: int | None
    refit: bool
    weight_streaming_bytes: int | None
    progress: Callable[[Any], object] | None
    cancel: threading.Event | None
    deadline: float | None
    isolate: bool


class RunOptions(TypedDict, total=False):
    """What changes how an engine runs.

    ``device``: the GPU's number. ``cuda_graph``: runs are CUDA graph launches where that is possible. ``cache``:
    engines and compiled kernels are kept on disk, in ``cache_dir`` or the user's cache directory. ``concurrency``: how
    many runs may be on the GPU at a time. ``wait``: "spin" has the least delay, "block" leaves the CPU free; "auto"
    spins for two milliseconds, then blocks. ``kernel_specialization``: when kernels for shapes met at run are compiled
    (TensorRT for RTX): "lazy" beside the runs, "eager" before the first, "none"; "auto" is the library's choice.
    """

    device: int
    cuda_graph: bool
    cache: bool
    cache_dir: str | os.PathLike[str] | None
    concurrency: int | None
    wait: Wait
    kernel_specialization: KernelSpecialization


class Options(EngineOptions, RunOptions, total=False):
    """What changes the choice of a back end, besides ``EngineOptions`` and ``RunOptions``.

    ``backend`` decides instead of ``power_preference`` and ``accelerated``, and forbids a fallback.
    ``allow_partition``: what TensorRT refuses of a graph may run on ONNX Runtime.
    """

    backend: BackendName | None
    power_preference: PowerPreference
    accelerated: bool
    allow_partition: bool


_CHOICES = {"wait": ("auto", "spin", "block"), "kernel_specialization": ("auto", "lazy", "eager", "none")}
_KNOWN = frozenset({*EngineOptions.__annotations__, *RunOptions.__annotations__, *Options.__annotations__})
_PLAIN = {field.name for field in fields(CompileOptions)} & _KNOWN - {"precision", "cache_dir"}
_CONTROL = ("progress", "cancel", "deadline", "isolate")


def parse_options(where: str, options: Mapping[str, Any], shapes: Shapes | None = None) -> tuple[Wish, CompileOptions]:
    """Checked. Raises ValidationError naming the argument, TypeError for an unknown one."""
    for name in options:
        if name not in _KNOWN:
            raise TypeError(
                f"{where}() got an unexpected keyword argument {name!r}; known: {', '.join(sorted(_KNOWN))}"
            )
    for name, choices in _CHOICES.items():
        value = options.get(name, "auto")
        if value not in choices:
            raise ValidationError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    for name in ("cache", "cuda_graph", "refit", "isolate"):
        if not isinstance(options.get(name, False), bool):
            raise ValidationError(f"{name} must be True or False, got {options.get(name)!r}")
    for name in ("concurrency", "workspace_bytes", "weight_streaming_bytes"):
        value = options.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise ValidationError(f"{name} must be a positive integer or None, got {value!r}")
    if not isinstance(options.get("tf32"), (bool, type(None))):
        raise ValidationError(f"tf32 must be True, False or None, got {options.get('tf32')!r}")
    progress, cancel = options.get("progress"), options.get("cancel")
    if progress is not None and not callable(progress):
        raise ValidationError(f"progress must be a function of one event or None, got {progress!r}")
    if cancel is not None and not hasattr(cancel, "is_set"):
        raise ValidationError(f"cancel must be a threading.Event or None, got {cancel!r}")
    level = options.get("optimization_level")
    if level is not None and (type(level) is not int or not 0 <= level <= 5):
        raise ValidationError(f"optimization_level must be an integer from 0 to 5 or None, got {level!r}")
    deadline = options.get("deadline")
    if deadline is not None and not (isinstance(deadline, (int, float)) and deadline > 0):
        raise ValidationError(f"deadline must be a positive number of seconds or None, got {deadline!r}")
    precision = parse_precision(options.get("precision"))
    if "precision" not in options and options.get("power_preference", "default") in ("high-performance", "low-power"):
        precision = Precision("auto")
    tf32 = options.get("tf32")
    if precision.name in ("fp32", "tf32"):
        if tf32 is not None and tf32 != (precision.name == "tf32"):
            raise ValidationError(f"precision={precision.name!r} and tf32={tf32} contradict each other; give one")
        tf32 = precision.name == "tf32"
    wish = check_wish(
        options.get("backend"),
        options.get("power_preference", "default"),
        options.get("accelerated", True),
        options.get("device", 0),
        options.get("tensorrt_library"),
        options.get("allow_partition", True),
        bool(tf32),
    )
    folder = options.get("cache_dir")
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise ValidationError(f"cache_dir must be a directory, got {folder!r}")
    plain: dict[str, Any] = {name: options[name] for name in _PLAIN if name in options}
    plain["tf32"] = tf32
    control: dict[str, Any] = {name: options[name] for name in _CONTROL if name in options}
    compile_options = CompileOptions(
        **parse_sizes(shapes),
        precision=precision,
        cache_dir=None if folder is None else os.fspath(folder),
        control=BuildControl(**control),
        **plain,
    )
    return replace(wish, cache=compile_options.cache, cache_dir=compile_options.cache_dir), compile_options


def parse_sizes(shapes: Shapes | None) -> dict[str, Any]:
    """``shapes`` and ``profiles`` of CompileOptions. Raises ValidationError for another type."""
    if shapes is None or isinstance(shapes, Mapping):
        return {"shapes": dict(shapes or {})}
    if isinstance(shapes, (str, bytes)) or not isinstance(shapes, Sequence) or not shapes:
        raise ValidationError(f"shapes must map names to sizes, or be a sequence of such mappings; got {shapes!r}")
    for one in shapes:
        if not isinstance(one, Mapping):
            raise ValidationError(f"shapes holds {one!r}, which is no mapping of names to sizes")
    if len(shapes) == 1:
        return {"shapes": dict(shapes[0])}
    return {"profiles": tuple(dict(one) for one in shapes)}
