"""OnnxModel to EngineFile: parse, profile, build, with progress and cancel. Needs no GPU for named GPUs."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

from ..converter.model import OnnxModel, TensorSpec, onnx_memory
from ..errors import (
    EngineBuildError,
    FeatureNotSupportedError,
    LibraryNotFoundError,
    TensorRTError,
    UnsupportedModelError,
    ValidationError,
)
from ..native import (
    Blob,
    Builder,
    BuilderFlag,
    Config,
    Flavor,
    Library,
    LibraryInfo,
    Logger,
    MemoryPool,
    Network,
    Parser,
    ParserError,
    Profile,
    ProfileSelector,
    Progress,
    TensorInfo,
)
from .base import CompileOptions
from .build_control import PARSING, POLL_SECONDS, WHOLE, Watch
from .cuda import Device, capability_text
from .engine_file import EngineFile, pynn_version
from .trt_refit import STREAMING, WEIGHTS, weight_digests
from .trt_shapes import BuildShapes, plan_shapes

DEFAULT_CAPABILITIES = (86, 89, 120)
TF32_NOTE = "float32 products may be computed in TF32 (10 bits of mantissa, relative error about 3e-4)"
USER_ALLOCATION = "user_allocation"
"""Option of an engine that allocates nothing while it runs: only such a one calls its stream capturable, which CUDA
graphs need. TensorRT for RTX 1.6 crashes in its first run when dynamic shapes are combined with memory given to it."""
REFIT_LOSES_BIASES, NEEDS_DRIVER = "11.3.", "CHECK(status == CUDA_SUCCESS)"
UNKNOWN_GPU = ("does not have arch kind assigned", "is not found in the accelerator list")
CURRENT_GPU = 0
"""The compute capability that stands for the GPU of this machine."""

Result = TypeVar("Result")


def build_plan(
    model: OnnxModel,
    library: Library,
    options: CompileOptions | None = None,
    compute_capabilities: Sequence[int] = DEFAULT_CAPABILITIES,
    *,
    device: Device | None = None,
) -> EngineFile:
    """Build an engine for GPUs that need not be here (TensorRT for RTX), or with (0,) for ``device``.

    ``options.control`` follows and ends the build: its ``progress`` is called on the calling thread with each event.
    A library that does not come back cannot be left in this process: only ``isolate`` ends that.

    Raises UnsupportedModelError (with node, op_type and the library's words), EngineBuildError, BuildCancelledError,
    BuildDeadlineError, BuildCrashedError (isolated), FeatureNotSupportedError where this library cannot build for other
    GPUs, ValidationError for wrong shapes.
    """
    options = options or CompileOptions()
    watch = Watch(options.control)
    if options.control.isolate:
        from .build_isolated import build_isolated  # loads multiprocessing

        file = build_isolated(model, library, options, compute_capabilities, watch, device)
    else:
        with watch.phase(WHOLE):
            file = build_here(model, library, options, compute_capabilities, watch, device)
    return replace(file, notes=(*file.notes, *model.notes))


def build_here(
    model: OnnxModel,
    library: Library,
    options: CompileOptions,
    compute_capabilities: Sequence[int],
    watch: Watch,
    device: Device | None,
) -> EngineFile:
    """``build_plan`` in this process."""
    shapes = plan_shapes(model, options)
    tf32 = allows_tf32(library, options)
    if tf32 and not options.tf32 and _has_float32(model):
        shapes = replace(shapes, notes=(*shapes.notes, f"{TF32_NOTE}: {library.tf32.reason}"))
    with contextlib.ExitStack() as stack:
        logger = stack.enter_context(Logger(library))
        builder = stack.enter_context(Builder(logger))
        config = stack.enter_context(Config(builder))
        info = library.info
        _configure(config, info.flavor, options, compute_capabilities, info.title)
        streamed = options.weight_streaming_bytes is not None
        capturable = info.flavor is Flavor.RTX and not streamed and all(spec.is_static for spec in shapes.inputs)
        if capturable:
            config.set_flag(BuilderFlag.REQUIRE_USER_ALLOCATION)
        _configure_weights(config, info, options)
        start = time.perf_counter()
        with watch.phase(PARSING, WHOLE):
            network = stack.enter_context(_parse(builder, model, library))
        parsed = time.perf_counter()
        shapes = _bind(network, shapes)
        _add_profiles(builder, config, network, shapes)
        with nullcontext() if info.flavor is Flavor.RTX else watch.turn():
            begun = time.perf_counter()
            try:
                plan = _build(builder, network, config, logger, watch, device)
            except EngineBuildError as error:
                raise _explained(error, options, device) from None
        built = time.perf_counter()
    return EngineFile(
        plan=plan.view,
        flavor=info.flavor.name,
        version=info.version,
        compute_capabilities=tuple(compute_capabilities),
        gpu=device.info.name if device is not None else "",
        inputs=shapes.inputs,
        outputs=shapes.outputs,
        ranges=shapes.ranges,
        profiles=shapes.profiles,
        notes=shapes.notes,
        options={
            "tf32": tf32,
            USER_ALLOCATION: capturable,
            "optimization_level": options.optimization_level,
            **({WEIGHTS: weight_digests(model)} if options.refit else {}),
            **({STREAMING: options.weight_streaming_bytes} if streamed else {}),
        },
        pynn_version=pynn_version(),
        seconds={"parse": parsed - start, "build": built - begun},
    )


def allows_tf32(library: Library, options: CompileOptions) -> bool:
    """Whether float32 products may be computed in TF32, whatever was wished.

    TensorRT goes by its builder flag; TensorRT for RTX by what was settled when it was loaded. Raises
    FeatureNotSupportedError when TF32 is asked for after float32 was settled.
    """
    if library.info.flavor is not Flavor.RTX:
        return bool(options.tf32)
    if options.tf32 and not library.tf32.allowed:
        raise FeatureNotSupportedError(
            f"TF32 was asked for, but {library.info.title} settles that once in a process, while it is loaded: "
            f"{library.tf32.reason}. Ask for it with the first model of a process"
        )
    return library.tf32.allowed


def _has_float32(model: OnnxModel) -> bool:
    specs = (*model.inputs, *model.outputs)
    return any(s.data_type == "float32" for s in specs) or any(
        w.dtype.name == "float32" for w in model.weights.values()
    )


def check_model(model: OnnxModel, library: Library, options: CompileOptions | None = None) -> None:
    """Parse ``model`` and no more. Raises UnsupportedModelError as ``build_plan`` does; needs no GPU."""
    shapes = plan_shapes(model, options or CompileOptions())
    with Logger(library) as logger, Builder(logger) as builder, _parse(builder, model, library) as network:
        _bind(network, shapes)


@dataclass(frozen=True, slots=True)
class Support:
    """What a parser says of a model: whether it takes the whole, the nodes in parts that it takes, and its errors."""

    whole: bool
    nodes: frozenset[int]
    errors: tuple[ParserError, ...]


def supported_nodes(model: OnnxModel, library: Library) -> Support:
    """Ask the parser. It may stop at the first error, so the nodes after it are not all looked at; needs no GPU.

    Raises UnsupportedModelError when it cannot read the model.
    """
    path = None if model.path is None else str(model.path)
    with (
        Logger(library) as logger,
        Builder(logger) as builder,
        Network(builder) as network,
        _parser(network, library) as parser,
    ):
        supported, parts = parser.supports_model(model.to_bytes(), path)
        return Support(supported, frozenset(i for _, nodes in parts for i in nodes), parser.errors)


def _configure(
    config: Config, flavor: Flavor, options: CompileOptions, capabilities: Sequence[int], title: str
) -> None:
    """float32 means float32: TF32 is on by default in TensorRT and off here unless asked for."""
    config.set_flag(BuilderFlag.TF32, bool(options.tf32))
    if options.optimization_level is not None:
        config.optimization_level = options.optimization_level
    if options.workspace_bytes is not None:
        config.set_memory_pool(MemoryPool.WORKSPACE, options.workspace_bytes)
    named = [capability for capability in capabilities if capability != CURRENT_GPU]
    if not capabilities:
        raise ValidationError("compute_capabilities is empty; name at least one, as 86 for 8.6")
    if flavor is not Flavor.RTX:
        if named:
            raise FeatureNotSupportedError(
                f"{title} builds engines only on the GPU they are for; TensorRT for RTX builds for named GPUs"
            )
        return
    try:
        config.set_compute_capabilities(list(capabilities))
    except TensorRTError as error:
        text = ", ".join(map(capability_text, named)) or "that of this machine's GPU"
        raise FeatureNotSupportedError(
            f"{title} does not build for compute capability {text}: {error}", log=error.log
        ) from None


def _configure_weights(config: Config, info: LibraryInfo, options: CompileOptions) -> None:
    if options.refit:
        if info.version.startswith(REFIT_LOSES_BIASES):
            raise FeatureNotSupportedError(
                f"{info.title} may lose the bias of a Gemm in engines whose weights can be replaced, say its release "
                "notes; compile without refit, or use another version"
            )
        config.set_flag(BuilderFlag.STRIP_PLAN)
        config.set_flag(BuilderFlag.REFIT)
    if options.weight_streaming_bytes is not None:
        config.set_flag(BuilderFlag.WEIGHT_STREAMING)


def _explained(error: EngineBuildError, options: CompileOptions, device: Device | None) -> TensorRTError:
    """TensorRT for RTX compiles kernels while it builds for replaceable weights: without a driver it says that CUDA
    failed, and on a GPU outside its list, as 9.0, that it does not know the GPU, though it builds and runs other
    engines there."""
    if not options.refit:
        return error
    if device is None and NEEDS_DRIVER in str(error):
        return EngineBuildError(
            f"an engine with refit=True can only be built where there is an NVIDIA driver and GPU: {error}",
            log=error.log,
        )
    if device is not None and any(words in str(error) for words in UNKNOWN_GPU):
        return FeatureNotSupportedError(
            f"this TensorRT builds no engine with refit=True for {device.info.title}; compile without refit: {error}",
            log=error.log,
        )
    return error


def _parse(builder: Builder, model: OnnxModel, library: Library) -> Network:
    """A network of the model. Weights outside the proto are given by reference where the version can."""
    path = None if model.path is None else str(model.path)
    if model.weights:
        network = Network(builder)
        try:
            with _parser(network, library) as parser:
                parser.load_model(model.proto)
                for name, array in model.weights.items():
                    parser.load_initializer(name, onnx_memory(array))
                parser.parse_loaded()
            return network
        except FeatureNotSupportedError:
            network.close()
        except BaseException:
            network.close()
            raise
    network = Network(builder)
    try:
        with _parser(network, library) as parser:
            parser.parse(model.to_bytes(), path)
    except BaseException:
        network.close()
        raise
    return network


def _parser(network: Network, library: Library) -> Parser:
    try:
        return Parser(network)
    except LibraryNotFoundError as error:
        info = library.info
        why = info.parser_error or "none is beside it"
        raise LibraryNotFoundError(
            f"{info.title} at {info.path} has no usable ONNX parser: {why}. Install the whole library; the parser is a "
            "file of its own",
            log=error.log,
        ) from None


def _bind(network: Network, shapes: BuildShapes) -> BuildShapes:
    """The specs with the names that the network's inputs and outputs really have, after checking their types."""
    inputs, outputs = network.inputs, network.outputs
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise UnsupportedModelError(
                f"input {tensor.name!r} is read as a shape while the engine runs; make it an initializer"
            )
    return replace(shapes, inputs=_matched(shapes.inputs, inputs), outputs=_matched(shapes.outputs, outputs))


def _matched(specs: Sequence[TensorSpec], tensors: Sequence[TensorInfo]) -> tuple[TensorSpec, ...]:
    """By name; else by place, because an input that is also an output loses its name."""
    by_name = {tensor.name: tensor for tensor in tensors}
    matched = []
    for index, spec in enumerate(specs):
        tensor = by_name.get(spec.onnx_name)
        if tensor is None and index < len(tensors):
            tensor = tensors[index]
        if tensor is None:
            raise UnsupportedModelError(f"TensorRT's network has no tensor for {spec}")
        matched.append(replace(spec, onnx_name=tensor.name, carrier=_carrier(spec, tensor)))
    return tuple(matched)


def _carrier(spec: TensorSpec, tensor: TensorInfo) -> str:
    """The type inside the engine where it is not the user's. float64 becomes float32 in TensorRT."""
    expected = spec.carrier or spec.data_type
    if tensor.data_type != expected and (expected, tensor.data_type) != ("float64", "float32"):
        raise UnsupportedModelError(
            f"TensorRT would carry {spec.name!r} as {tensor.data_type}, where the model says {expected}"
        )
    if tensor.data_type in ("int4", "float4e2m1"):
        raise UnsupportedModelError(f"{spec.name!r} is {tensor.data_type}; 4-bit inputs and outputs are not supported")
    return "" if tensor.data_type == spec.data_type else tensor.data_type


def _add_profiles(builder: Builder, config: Config, network: Network, shapes: BuildShapes) -> None:
    names = {spec.name: spec.onnx_name for spec in shapes.inputs}
    for ranges in shapes.profiles if shapes.profile else ():
        with Profile(builder) as profile:
            for name in shapes.profile:
                for selector in ProfileSelector:
                    profile.set_dimensions(names[name], selector, [one[selector] for one in ranges[name]])
            if not profile.is_valid:
                text = ", ".join(f"{name}: {list(ranges[name])}" for name in shapes.profile)
                raise EngineBuildError(f"TensorRT does not accept the shapes (min, opt, max) {text}")
            config.add_profile(profile)


def _build(
    builder: Builder, network: Network, config: Config, logger: Logger, watch: Watch, device: Device | None
) -> Blob:
    """Build on a thread of its own, so that this one can poll, cancel and take Ctrl-C."""
    with Progress() as monitor:
        with contextlib.suppress(FeatureNotSupportedError):
            config.set_progress(monitor)

        def build() -> Blob:
            with nullcontext() if device is None else device.current():
                return builder.build(network, config)

        worker = _Worker(build)
        try:
            while not worker.wait(POLL_SECONDS):
                watch.check()
                _pass_on(monitor, logger, watch)
        except BaseException:
            monitor.cancel()
            worker.outlast()
            raise
        _pass_on(monitor, logger, watch)
        return worker.result()


def _pass_on(monitor: Progress, logger: Logger, watch: Watch) -> None:
    """What the library told since the last time."""
    if watch.log is not None:
        for line in logger.poll():
            watch.log(line.text)
    if watch.wants_events:
        for event in monitor.poll()[0]:
            watch.tell(event)


class _Worker:
    """A function running on a thread; its result or its exception."""

    def __init__(self, function: Callable[[], Blob]) -> None:
        self._outcome: Callable[[], Blob] | None = None
        self._thread = threading.Thread(target=self._work, args=(function,), name="pynn-build", daemon=True)
        self._thread.start()

    def _work(self, function: Callable[[], Blob]) -> None:
        try:
            self._outcome = functools.partial(_same, function())
        except BaseException as error:
            self._outcome = functools.partial(_raise, error)

    def wait(self, seconds: float | None) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def outlast(self) -> None:
        """Wait, whatever happens (another Ctrl-C): the thread uses what the caller gives back next."""
        while self._thread.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                self._thread.join()

    def result(self) -> Blob:
        assert self._outcome is not None
        return self._outcome()


def _same(result: Result) -> Result:
    return result


def _raise(error: BaseException) -> Blob:
    raise error
