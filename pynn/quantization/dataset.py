"""Calibration data: samples one after the other, each checked, and folders of .npz files."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..converter.model import TensorSpec
from ..errors import InputError, ValidationError

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]


def samples(
    dataset: object,
    inputs: tuple[TensorSpec, ...],
    check: Callable[[Sample], dict[str, Array]],
    limit: int | None,
    what: str = "calibration",
) -> Iterator[dict[str, Array]]:
    """The samples of ``dataset``, at most ``limit``, checked by ``check`` and for NaN and infinity. ``what`` they are
    for is in the errors.

    Raises InputError naming the sample and the tensor, ValidationError for what is no dataset.
    """
    if isinstance(dataset, (Mapping, str, bytes)) or not isinstance(dataset, Iterable):
        raise ValidationError(
            f"the {what} dataset must be an iterable of samples, got {type(dataset).__name__}; one sample maps "
            "input names to arrays: put it in a list"
        )
    for number, given in enumerate(itertools.islice(dataset, limit)):
        yield _checked(given, f"{what} sample {number}", inputs, check)


def _checked(
    given: object, which: str, inputs: tuple[TensorSpec, ...], check: Callable[[Sample], dict[str, Array]]
) -> dict[str, Array]:
    if isinstance(given, np.ndarray) and len(inputs) == 1:
        given = {inputs[0].name: given}
    if not isinstance(given, Mapping):
        wanted = ", ".join(map(str, inputs))
        raise InputError(f"{which} is {type(given).__name__}; expected a mapping of input names to arrays: {wanted}")
    try:
        sample = check(given)
    except InputError as error:
        raise InputError(f"{which}: {error}", tensor=error.tensor) from None
    for name, array in sample.items():
        if not array.size:
            raise InputError(f"{which}: {name!r} has no element", tensor=name)
        if array.dtype.kind in "fV" and not np.isfinite(array.astype(np.float32, copy=False)).all():
            where = np.argwhere(~np.isfinite(array.astype(np.float32, copy=False)))[0].tolist()
            raise InputError(
                f"{which}: {name!r} has {array[tuple(where)]} at {where}; drop the sample",
                tensor=name,
            )
    return sample


def chain(previous: str, sample: Mapping[str, Array]) -> str:
    """The digest of all samples so far: of the ones before and this one."""
    state = hashlib.sha256(previous.encode())
    for name in sorted(sample):
        array = sample[name]
        state.update(f"{name}|{array.dtype.name}|{array.shape}|".encode())
        plain = repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
        state.update(plain)
    return state.hexdigest()


class Files:
    """Samples from files, read one at a time: an .npz has the arrays of a sample by input name, an .npy the only input.

    Raises ValidationError when ``paths`` (files or folders) have none, InputError for a file that is neither.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self.paths: list[Path] = []
        for path in map(Path, paths):
            found = sorted(path.glob("*.np[yz]")) if path.is_dir() else [path]
            if not found:
                raise ValidationError(f"folder {path} has no .npz or .npy file to calibrate with")
            self.paths += found

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Any]:
        for path in self.paths:
            try:
                loaded = np.load(path, allow_pickle=False)
            except (ValueError, EOFError, BadZipFile) as error:
                raise InputError(f"{path} is neither a .npy nor an .npz file of plain arrays: {error}") from None
            if isinstance(loaded, np.ndarray):
                yield loaded
                continue
            with loaded:
                yield {name: loaded[name] for name in loaded.files}
