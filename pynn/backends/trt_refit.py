"""The weights of an engine that was built without them, or whose weights are streamed from host memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping

from ..converter.model import OnnxModel, onnx_memory
from ..errors import EngineBuildError, FeatureNotSupportedError, PlanError, UnsupportedModelError
from ..native import Engine
from ..native.refit import Refitter, WeightStreaming, set_weight_budget, weight_streaming
from .engine_file import EngineFile

WEIGHTS, STREAMING = "weights", "weight_streaming_bytes"
"""Options of an engine file: the digests of the weights that it was built with and without, and the GPU memory that its
weights may take."""
_PARAMETERS = 2
"""The parser makes one scale and one bias of the four parameters of a BatchNormalization; refitting it does so too."""


def weight_digests(model: OnnxModel) -> dict[str, str]:
    """A digest for each float weight: those that the key of a refittable engine leaves out, and those it has, since
    an engine file is loaded with the weights of any model."""
    from ..converter.serialize import float_weights, other_float_weights

    every: Iterator[tuple[str, bytes | memoryview]] = itertools.chain(float_weights(model), other_float_weights(model))
    return {name: hashlib.sha256(memory).hexdigest()[:32] for name, memory in every}


def prepare(engine: Engine, file: EngineFile, model: OnnxModel | None = None) -> int:
    """What must be done between loading an engine and making its first context, with the GPU's context current. Gives
    the bytes of weights on the GPU, reckoning the rest of a plan among them.

    Raises PlanError when the engine has no weights and ``model`` is None or not the one for it.
    """
    resident = len(file.plan)
    built = file.options.get(WEIGHTS)
    if built is not None:
        if model is None:
            raise PlanError(
                "this engine was built with refit=True, so its weights are not in it: load it with weights=, the model "
                "that it was built from or one that differs in weights only"
            )
        resident += _float_size(model)
        try:
            refit(engine, model, built)
        except (EngineBuildError, UnsupportedModelError) as error:
            raise PlanError(f"the weights of {model!r} do not fit this engine: {error}", log=error.log) from error
    size = file.options.get(STREAMING)
    if size is not None:
        state = apply_weight_streaming(engine, size)
        resident = max(resident - state.streamable, 0) + state.budget
    return resident


def _float_size(model: OnnxModel) -> int:
    from ..converter.serialize import float_weights

    return sum(memory.nbytes for _, memory in float_weights(model))


def refit(engine: Engine, model: OnnxModel, built: Mapping[str, str]) -> None:
    """Put the weights of ``model`` into ``engine``; ``built`` are the digests of those it was built with.

    The library passes over weights that the engine has no place for, since they were computed with during the build:
    they must be those that were used then, else PlanError. Raises EngineBuildError or UnsupportedModelError when the
    library refuses the weights.
    """
    with Refitter(engine) as refitter:
        _check_fixed(model, frozenset(refitter.names()), built)
        _give(refitter, model)
        refitter.refit()


def _check_fixed(model: OnnxModel, names: frozenset[str], built: Mapping[str, str]) -> None:
    digests = weight_digests(model)
    if digests.keys() != built.keys():
        differing = sorted(digests.keys() ^ built.keys())
        raise PlanError(f"this engine is for a model with other weights: {', '.join(map(repr, differing[:3]))} differ")
    replaced = names | frozenset(_normalizations(model, names))
    fixed = [name for name in digests if name not in replaced and digests[name] != built[name]]
    if fixed:
        raise PlanError(
            f"this engine was built with another value of {fixed[0]!r}, which cannot be replaced; build it again"
        )


def _normalizations(model: OnnxModel, names: frozenset[str]) -> Iterator[str]:
    """Parameters that become weights of other names, provided the engine has places enough for all of those."""
    from ..converter.serialize import constant_names, normalization_parameters

    groups = normalization_parameters(model.proto)
    if len(names - constant_names(model.proto)) >= _PARAMETERS * len(groups):
        for group in groups:
            yield from group


def _give(refitter: Refitter, model: OnnxModel) -> None:
    path = None if model.path is None else str(model.path)
    if model.weights:
        try:
            refitter.load_model(model.proto, path)
        except FeatureNotSupportedError:
            pass
        else:
            for name, array in model.weights.items():
                refitter.load_initializer(name, onnx_memory(array))
            refitter.set_from_loaded()
            return
    refitter.set_from_model(model.to_bytes(), path)


def apply_weight_streaming(engine: Engine, size: int) -> WeightStreaming:
    """Keep at most ``size`` bytes of the engine's streamable weights on the GPU. Before its first context.

    Raises FeatureNotSupportedError before TensorRT 10.1, TensorRTError when the library refuses.
    """
    set_weight_budget(engine, min(size, weight_streaming(engine).streamable))
    return weight_streaming(engine)
