"""Laws of the data layer: augmentation equals a plain loop, all forms of CIFAR-10 read the same,
nothing in a file runs."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import pickle
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from scipy import stats
from torch import Tensor

from enas.data import cifar10, digits, download
from enas.data.augment import augment
from enas.data.cifar10 import BINARY, FORMS, PYTHON, Form, load_cifar10, read_cifar10
from enas.data.images import ImageData, ImagePart, balanced_order
from enas.data.registry import DATASETS, get, load
from enas.data.unpickle import Array, read_pickle
from laws import one_line

TINY = 20  # images a file, where the official ones have 10,000
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


# ----------------------------------------------------------------------------------------- images
def some_images(n: int, channels: int = 3, size: int = 8, seed: int = 0) -> ImagePart:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    return ImagePart(images, torch.arange(n) % 10)


def some_data(channels: int = 3, size: int = 8) -> ImageData:
    train, validation, test = (some_images(n, channels, size, seed=n) for n in (50, 20, 30))
    return ImageData("some", train, validation, test, NAMES)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_is_the_formula_with_the_training_parts_moments(channels: int) -> None:
    data = some_data(channels)
    assert (data.channels, data.image_size, data.num_classes) == (channels, 8, 10)
    train = data.train.images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, train.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(data.std, train.std((0, 2, 3)), rtol=1e-12)
    for part in ("train", "validation", "test"):
        x = data.normalised(part)
        pixels = getattr(data, part).images.numpy() / 255.0
        expected = (pixels - np.reshape(data.mean, (-1, 1, 1))) / np.reshape(data.std, (-1, 1, 1))
        assert x.dtype == torch.float32
        np.testing.assert_allclose(x.numpy(), expected, atol=1e-6)
        for batch in (x, x[torch.tensor([3, 1, 7])], x[2:9]):
            assert batch.is_contiguous(memory_format=torch.channels_last)


def test_normalised_in_chunks_is_normalised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = some_data()
    whole = data.normalised("train")
    monkeypatch.setattr("enas.data.images.CHUNK", 7)
    assert torch.equal(data.normalised("train"), whole)


def test_data_on_a_device_is_the_same_data() -> None:
    data = some_data()
    moved = data.to("cpu")
    assert torch.equal(moved.test.images, data.test.images)
    assert (moved.mean, moved.std, moved.class_names) == (data.mean, data.std, data.class_names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda part: replace(part, images=part.images.float()), "uint8"),
        (lambda part: replace(part, images=part.images[:, :, :4]), "square"),
        (lambda part: replace(part, images=part.images[:, 0]), "(N, C, H, W)"),
        (lambda part: part[:0], "at least one"),
        (lambda part: some_images(5, size=9), "one shape"),
        (lambda part: replace(part, labels=part.labels[1:]), "one per image"),
        (lambda part: replace(part, labels=part.labels.int()), "int64"),
        (lambda part: replace(part, labels=part.labels + 1), "0 to 9"),
        (lambda part: replace(part, labels=part.labels - 1), "0 to 9"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: Callable[[ImagePart], ImagePart], words: str) -> None:
    data = some_data()
    with one_line(ValueError, "'some'", words):
        replace(data, test=change(data.test))


def test_a_channel_without_variance_is_refused() -> None:
    data = some_data()
    images = data.train.images.clone()
    images[:, 1] = 7
    with one_line(ValueError, "channel 1"):
        replace(data, train=replace(data.train, images=images))


# ----------------------------------------------------------------------------------- augmentation
def by_hand(x: Tensor, generator: torch.Generator, pad: int, flip: bool, cutout: int) -> Tensor:
    """One image at a time, from the same draws."""
    B, C, H, W = x.shape

    def draws(options: int) -> list[int]:
        return torch.randint(options, (B,), generator=generator).tolist()

    tops, lefts = (draws(2 * pad + 1), draws(2 * pad + 1)) if pad else ([0] * B, [0] * B)
    flips = draws(2) if flip else [0] * B
    out = torch.zeros_like(x)
    for b in range(B):
        padded = torch.zeros(C, H + 2 * pad, W + 2 * pad, dtype=x.dtype)
        padded[:, pad : pad + H, pad : pad + W] = x[b]
        crop = padded[:, tops[b] : tops[b] + H, lefts[b] : lefts[b] + W]
        out[b] = crop.flip(-1) if flips[b] else crop
    if cutout:
        for b, (row, col) in enumerate(zip(draws(H), draws(W), strict=True)):
            for i in range(row - cutout // 2, row - cutout // 2 + cutout):
                for j in range(col - cutout // 2, col - cutout // 2 + cutout):
                    if 0 <= i < H and 0 <= j < W:
                        out[b, :, i, j] = 0
    return out


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("cutout", [0, 1, 4, 5, 40])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("pad", [0, 1, 4, 11])
def test_augment_equals_a_loop_over_images(
    pad: int, flip: bool, cutout: int, channels: int, height: int, width: int
) -> None:
    for layout in (torch.channels_last, torch.contiguous_format):
        x = torch.randn(6, channels, height, width, generator=torch.Generator().manual_seed(1))
        x = x.contiguous(memory_format=layout)
        before = x.clone()
        first, second = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
        out = augment(x, first, pad=pad, flip=flip, cutout=cutout)
        assert torch.equal(out, by_hand(x, second, pad, flip, cutout))
        assert torch.equal(first.get_state(), second.get_state())  # no draw more, none less
        assert torch.equal(x, before)
        if pad or flip or cutout:
            assert out.is_contiguous(memory_format=torch.channels_last)
        else:
            assert out is x


def test_crops_flips_and_cutout_are_uniform() -> None:
    n, pad, size = 20_000, 2, 5
    # every pixel another value
    x = torch.arange(1.0, 1 + size * size).view(1, 1, size, size).expand(n, 1, size, size)
    generator = torch.Generator().manual_seed(3)
    # The pixel in the middle tells place and flip: 5 x 5 x 2 cases, of which 25 pairs look alike
    # there.
    middle = augment(x, generator, pad=pad, flip=False)[:, 0, 2, 2].long() - 1
    assert stats.chisquare(torch.bincount(middle, minlength=size * size)).pvalue > 1e-3
    flipped = augment(x, generator, pad=0, flip=True)[:, 0, 0, 0] == size
    assert stats.binomtest(int(flipped.sum()), n).pvalue > 1e-3
    one_pixel = augment(x, generator, pad=0, flip=False, cutout=1).flatten(1) == 0
    assert (one_pixel.sum(1) == 1).all()
    assert stats.chisquare(one_pixel.sum(0)).pvalue > 1e-3
    # A square of 3: a pixel is cut when the centre is within 1 of it, so a corner by 4 centres of
    # 25, the middle by 9.
    cut = (augment(x, generator, pad=0, flip=False, cutout=3)[:, 0] == 0).float().mean(0)
    near = torch.tensor([2, 3, 3, 3, 2.0]) / size
    expected = near.outer(near)
    assert (cut - expected).abs().max() < 5 * (0.25 / n) ** 0.5


@pytest.mark.parametrize("wrong", [{"pad": -1}, {"cutout": -1}])
def test_augment_refuses_negative_sizes(wrong: dict[str, Any]) -> None:
    with one_line(ValueError, "at least 0", "-1"):
        augment(torch.zeros(1, 1, 4, 4), torch.Generator(), **wrong)


# --------------------------------------------------------------------------------- balanced order
@pytest.mark.parametrize("sizes", [(7, 7, 7), (5, 9, 6), (1, 0, 4), (3,)])
def test_every_beginning_of_a_balanced_order_is_balanced(sizes: tuple[int, ...]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = balanced_order(labels, seed=0)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for n in range(len(labels) + 1):
        counts = torch.bincount(labels[order[:n]], minlength=len(sizes)).tolist()
        most = max(counts)
        assert all(count >= min(most - 1, size) for count, size in zip(counts, sizes, strict=True))
    assert torch.equal(order, balanced_order(labels, seed=0))


def test_a_balanced_order_never_changes() -> None:
    """Golden: results on a subset stay comparable over versions of enas, numpy and torch."""
    assert balanced_order(torch.arange(12) % 3, seed=0).tolist() == [6, 4, 11, 9, 10, 2, 3, 1, 8, 0, 7, 5]


# --------------------------------------------------------------------------- CIFAR-10, fabricated
@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> tuple[ImagePart, ImagePart]:
    """Files of 20 images instead of 10,000: what they hold, to train and to test on."""
    monkeypatch.setattr(cifar10, "IMAGES_A_FILE", TINY)
    whole = some_images(6 * TINY, size=32)
    return whole[: 5 * TINY], whole[5 * TINY :]


class Python2:
    """Writes a pickle as Python 2 did for the official files, to the last byte: protocol 2, a place
    in the memo for each string."""

    def __init__(self) -> None:
        self.memo = 0

    def put(self) -> bytes:
        self.memo += 1
        return b"q" + bytes([self.memo]) if self.memo < 256 else b"r" + self.memo.to_bytes(4, "little")

    def dumps(self, value: Any) -> bytes:
        return b"\x80\x02" + self.of(value) + b"."

    def of(self, value: Any) -> bytes:
        match value:
            case str():
                return b"U" + bytes([len(value)]) + value.encode() + self.put()
            case int():
                return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")
            case list():
                head, items = b"]" + self.put(), [self.of(v) for v in value]
                return head + b"".join(b"(" + b"".join(items[i : i + 1000]) + b"e" for i in range(0, len(items), 1000))
            case dict():
                return b"}" + self.put() + b"(" + b"".join(self.of(k) + self.of(v) for k, v in value.items()) + b"u"
            case np.ndarray():
                head = b"cnumpy.core.multiarray\n_reconstruct\n" + self.put() + b"cnumpy\nndarray\n" + self.put()
                head += b"K\x00\x85U\x01b\x87R" + self.put()
                shape = b"".join(self.of(n) for n in value.shape) + b"\x86"
                dtype = b"cnumpy\ndtype\n" + self.put() + b"U\x02u1K\x00K\x01\x87R" + self.put()
                dtype += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
                data = b"\x89T" + value.size.to_bytes(4, "little") + value.tobytes()
                return head + b"(K\x01" + shape + dtype + data + b"tb"
        raise AssertionError(value)


def python2(value: Any) -> bytes:
    return Python2().dumps(value)


def python3(protocol: int) -> Callable[[Any], bytes]:
    """As a tool of today would save the same, with byte strings for keys."""

    def dumps(value: dict[str, Any]) -> bytes:
        return pickle.dumps({key.encode(): v for key, v in value.items()}, protocol=protocol)

    return dumps


def files_of(form: Form, train: ImagePart, test: ImagePart, dumps: Callable[[Any], bytes] = python2) -> dict[str, bytes]:
    """The seven official files with these images."""
    files = {}
    whole = ImagePart(torch.cat([train.images, test.images]), torch.cat([train.labels, test.labels]))
    each = len(test)
    for k, name in enumerate(form.batches):
        part = whole[k * each : (k + 1) * each]
        pixels = part.images.reshape(each, -1).numpy()
        if form is PYTHON:
            names = [f"image_{i}.png" for i in range(each)]
            batch = {"batch_label": name, "labels": part.labels.tolist(), "data": pixels, "filenames": names}
            files[name] = dumps(batch)
        else:
            files[name] = np.concatenate([part.labels.numpy().astype(np.uint8)[:, None], pixels], 1).tobytes()
    meta = {"num_cases_per_batch": each, "label_names": list(NAMES), "num_vis": 3072}
    files[form.meta] = dumps(meta) if form is PYTHON else "\n".join((*NAMES, "", "")).encode()
    return files


def write_folder(form: Form, files: dict[str, bytes], into: Path) -> Path:
    folder = into / form.folder
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def members_of(form: Form, files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    folder = member(f"{form.folder}/", type=tarfile.DIRTYPE, mode=0o755)
    return [folder, *(member(f"{form.folder}/{name}", data) for name, data in files.items())]


def write_archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def assert_same(read: tuple[ImagePart, ImagePart, tuple[str, ...]], train: ImagePart, test: ImagePart) -> None:
    for got, expected in zip(read[:2], (train, test), strict=True):
        assert torch.equal(got.images, expected.images)
        assert torch.equal(got.labels, expected.labels)
    assert read[2] == NAMES


form_by_form = pytest.mark.parametrize("form", FORMS, ids=["python", "binary"])


@form_by_form
def test_every_form_and_every_way_to_name_it_reads_the_same(
    form: Form, tiny: tuple[ImagePart, ImagePart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(form, *tiny)
    folder = write_folder(form, files, tmp_path / "unpacked")
    # an archive has its own order
    shuffled = dict(reversed(files.items())) | {"readme.html": b"<html>"}
    archive = write_archive(tmp_path / "packed" / form.archive, members_of(form, shuffled))
    renamed = write_archive(tmp_path / "mine.tgz", members_of(form, files)[1:])
    elsewhere = shutil.copytree(folder, tmp_path / "by another name")
    before = sorted(tmp_path.rglob("*"))
    for place in (folder.parent, folder, archive.parent, archive, renamed, elsewhere, str(folder)):
        assert_same(read_cifar10(place), *tiny)
    monkeypatch.chdir(folder)
    assert_same(read_cifar10("."), *tiny)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked


def test_dots_before_the_folder_of_an_archive_are_read(tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    dotted = [member(f"./{info.name}", data, type=info.type) for info, data in members_of(BINARY, files_of(BINARY, *tiny))]
    top = member("./", type=tarfile.DIRTYPE)
    assert_same(read_cifar10(write_archive(tmp_path / "x.tar.gz", [top, *dotted])), *tiny)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_saved_again_by_python_3_read_the_same(
    protocol: int, tiny: tuple[ImagePart, ImagePart], tmp_path: Path
) -> None:
    write_folder(PYTHON, files_of(PYTHON, *tiny, python3(protocol)), tmp_path)
    assert_same(read_cifar10(tmp_path), *tiny)


def test_fabricated_files_are_what_pickle_reads(tiny: tuple[ImagePart, ImagePart]) -> None:
    """The generator above against Python's own reader, on the instructions of the official
    files."""
    batch = pickle.loads(files_of(PYTHON, *tiny)["data_batch_2"], encoding="bytes")
    assert batch[b"labels"] == tiny[0].labels[TINY : 2 * TINY].tolist()
    assert (batch[b"data"] == tiny[0].images[TINY : 2 * TINY].flatten(1).numpy()).all()


def test_the_split(tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    train, test = tiny
    write_folder(BINARY, files_of(BINARY, *tiny), tmp_path)
    for validation in (1, 30, 99):
        data = load_cifar10(tmp_path, validation=validation)
        assert torch.equal(data.train.images, train.images[: 100 - validation])
        assert torch.equal(data.validation.images, train.images[100 - validation :])
        assert torch.equal(data.validation.labels, train.labels[100 - validation :])
        assert torch.equal(data.test.images, test.images)
    pool = {image.numpy().tobytes(): int(label) for image, label in zip(train.images[:70], train.labels[:70], strict=True)}
    smaller: set[bytes] = set()
    for n in (10, 40, 70):
        data = load("cifar10", tmp_path, validation=30, train=n)
        assert data.train.labels.bincount().tolist() == [n // 10] * 10
        chosen = {
            image.numpy().tobytes(): int(label) for image, label in zip(data.train.images, data.train.labels, strict=True)
        }
        assert len(chosen) == n
        assert chosen.items() <= pool.items()  # out of the 70, with their own labels
        assert smaller <= chosen.keys()  # and more images contain the fewer
        smaller = set(chosen)
        assert torch.equal(data.validation.images, train.images[70:])
    for wrong in ({"validation": 0}, {"validation": -1}, {"validation": 100}, {"train": 0}, {"train": 71}):
        with one_line(ValueError, str(next(iter(wrong.values()))), "100"):
            load("cifar10", tmp_path, **{"validation": 30} | wrong)


@form_by_form
def test_a_missing_file_is_named(form: Form, tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    files = files_of(form, *tiny)
    for name in files:
        rest = {key: data for key, data in files.items() if key != name}
        folder = write_folder(form, rest, tmp_path / name)
        archive = write_archive(tmp_path / name / "x.tar.gz", members_of(form, rest))
        for place in (folder, archive):
            with one_line(ValueError, f"lacks {name}:", str(place), "download it again"):
                read_cifar10(place)


@form_by_form
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_short_or_too_long_is_refused(
    form: Form, packed: bool, tiny: tuple[ImagePart, ImagePart], tmp_path: Path
) -> None:
    files = files_of(form, *tiny)
    for i, (name, data) in enumerate(files.items()):
        short = [data[:-1], data[: len(data) // 2], data[:10], b""]
        # a pickle says where it ends
        longer = [data + b"x"] if form is BINARY and name != form.meta else []
        vast = [data + bytes(200_000)]
        for k, broken in enumerate(short + longer + vast):
            if name == BINARY.meta and broken in short[:2] and NAMES[-1].encode() in broken:
                continue  # a newline less
            place = tmp_path / f"{i}-{k}"
            changed = files | {name: broken}
            if packed:
                write_archive(place / form.archive, members_of(form, changed))
            else:
                write_folder(form, changed, place)
            words = ["at most"] if broken in vast else [f"got {len(broken):,} bytes", "download it again"]
            with one_line(ValueError, name, *words):
                read_cifar10(place)


@pytest.mark.parametrize("label", [10, 255])
def test_labels_beyond_the_classes_are_refused(label: int, tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    train, test = tiny
    labels = train.labels.clone()
    labels[3 * TINY + 5] = label
    for form in FORMS:
        write_folder(form, files_of(form, replace(train, labels=labels), test), tmp_path / form.folder)
        with one_line(ValueError, form.batches[3], "labels other than 0 to 9"):
            read_cifar10(tmp_path / form.folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch | {"labels": batch["labels"][1:]},
        lambda batch: batch | {"labels": ["cat"] * TINY},
        lambda batch: batch | {"labels": [[]] * TINY},
        lambda batch: batch | {"data": batch["data"][1:]},
        lambda batch: batch | {"data": batch["data"].reshape(2 * TINY, -1)},
        lambda batch: batch | {"data": [1, 2, 3]},
        lambda batch: {"labels": batch["labels"]},
        lambda batch: {"data": batch["data"]},
        lambda batch: [1, 2],
        lambda batch: "data",
    ],
)
def test_other_contents_are_refused(
    change: Callable[[Any], Any], tiny: tuple[ImagePart, ImagePart], tmp_path: Path
) -> None:
    files = files_of(PYTHON, *tiny, dumps=lambda value: python2(change(value) if "data" in value else value))
    write_folder(PYTHON, files, tmp_path)
    with one_line(ValueError, "data_batch_1 holds 20 images of 3,073 bytes", "download it again"):
        read_cifar10(tmp_path)


@pytest.mark.parametrize("names", [["cat"], [1] * 10, "cat", []])
def test_other_class_names_are_refused(names: Any, tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    files = files_of(PYTHON, *tiny) | {"batches.meta": python2({"label_names": names})}
    write_folder(PYTHON, files, tmp_path)
    with one_line(ValueError, "names of the 10 classes"):
        read_cifar10(tmp_path)


def test_where_there_is_nothing_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cifar-10").mkdir()
    (tmp_path / "note.txt").write_text("not an archive")
    for place in (tmp_path, tmp_path / "cifar-10", tmp_path / "nowhere"):
        expected = ("cifar-10-batches-py/", "cifar-10-binary.tar.gz", f"`enas data get cifar10 --data {place}`")
        with one_line(ValueError, f"no CIFAR-10 in '{place}'", *expected):
            read_cifar10(place)
    with one_line(ValueError, "not a whole .tar.gz", "note.txt"):
        read_cifar10(tmp_path / "note.txt")


# ------------------------------------------------------------------------------- hostile archives
@pytest.mark.parametrize(
    "odd",
    [
        member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member(
            "cifar-10-batches-bin/data_batch_1.bin", type=tarfile.LNKTYPE, linkname="cifar-10-batches-bin/test_batch.bin"
        ),
        member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.FIFOTYPE),
        member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.CHRTYPE),
        member("cifar-10-batches-bin", type=tarfile.SYMTYPE, linkname="/"),
        member("/cifar-10-batches-bin/data_batch_1.bin", b"x"),
        member("../cifar-10-batches-bin/data_batch_1.bin", b"x"),
        member("cifar-10-batches-bin/../data_batch_1.bin", b"x"),
        member("cifar-10-batches-bin/..", b"x"),
        member("cifar-10-batches-bin/more/data_batch_1.bin", b"x"),
        member("cifar-10-batches-bin/more", type=tarfile.DIRTYPE),
        member("data_batch_1.bin", b"x"),
        member("other/data_batch_1.bin", b"x"),
        member("other", type=tarfile.DIRTYPE),
    ],
    ids=lambda odd: f"{odd[0].name}-{odd[0].type.decode()}",
)
def test_a_member_that_is_a_link_or_lies_elsewhere_is_refused(
    odd: tuple[tarfile.TarInfo, bytes], tiny: tuple[ImagePart, ImagePart], tmp_path: Path
) -> None:
    members = members_of(BINARY, files_of(BINARY, *tiny))
    for at, place in ((0, "first"), (1, "second"), (len(members), "last")):
        archive = write_archive(tmp_path / f"{place}.tar.gz", [*members[:at], odd, *members[at:]])
        with one_line(ValueError, repr(odd[0].name), "holds files in"):
            read_cifar10(archive)
    assert len(list(tmp_path.iterdir())) == 3


def test_archives_that_hold_too_much_are_refused(tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    files = files_of(BINARY, *tiny)
    members = members_of(BINARY, files)
    with one_line(ValueError, "twice"):
        read_cifar10(write_archive(tmp_path / "twice.tar.gz", [*members, members[1]]))
    with one_line(ValueError, "two forms"):
        both = members + members_of(PYTHON, files_of(PYTHON, *tiny))
        read_cifar10(write_archive(tmp_path / "both.tar.gz", both))
    # a member that is passed over, of zeros that pack well
    with one_line(ValueError, "more than CIFAR-10"):
        vast = member("cifar-10-batches-bin/readme.html", bytes(3_000_000))
        read_cifar10(write_archive(tmp_path / "bomb.tar.gz", [vast, *members]))
    with one_line(ValueError, "more than CIFAR-10"):  # or after its end
        archive = write_archive(tmp_path / "tail.tar.gz", members)
        archive.write_bytes(archive.read_bytes() + gzip.compress(bytes(3_000_000)))
        read_cifar10(archive)
    with one_line(ValueError, "without a file"):
        read_cifar10(write_archive(tmp_path / "empty.tar.gz", members[:1]))


def test_a_damaged_archive_is_noticed_wherever_the_damage_is(tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "x.tar.gz", members_of(BINARY, files_of(BINARY, *tiny)))
    whole = archive.read_bytes()
    rng = random.Random(0)
    for end in [0, 1, 5, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
        archive.write_bytes(whole[:end])
        with one_line(ValueError):
            read_cifar10(archive)
    harmless = 0
    for _ in range(60):
        at = rng.randrange(len(whole))
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        with contextlib.suppress(ValueError):
            assert_same(read_cifar10(archive), *tiny)  # a bit of the time stamp, say
            harmless += 1
    assert harmless < 5


@pytest.mark.slow
def test_a_tar_with_any_bytes_in_it_is_read_or_refused(tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> None:
    """Damage below the compression, where no checksum of gzip sees it: in the headers."""
    archive = write_archive(tmp_path / "x.tar.gz", members_of(BINARY, files_of(BINARY, *tiny)))
    whole = gzip.decompress(archive.read_bytes())
    rng = random.Random(1)
    for _ in range(100):
        at = rng.randrange(1200)  # the folder's header, the first file's, and some of its content
        broken = whole[:at] + rng.randbytes(rng.randrange(1, 9)) + whole[at + 8 :]
        archive.write_bytes(gzip.compress(broken, 1))
        with contextlib.suppress(ValueError):
            read_cifar10(archive)


# -------------------------------------------------------------------------------- hostile pickles
class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any):
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def sentinel() -> str:
    return f"{os.getpid()}-was-here"


def hostile() -> dict[str, bytes]:
    """Files that would do something when Python's own reader read them, and some that would only
    burn time or memory."""
    mkdir = f"mkdir {sentinel()}"
    array = python2({"data": np.zeros((TINY, 3072), np.uint8)})
    out = {}
    for protocol in range(6):
        for name, value in {
            "os.system": Calls(os.system, mkdir),
            "os.mkdir": Calls(os.mkdir, sentinel()),
            "eval": Calls(eval, f"__import__('os').mkdir('{sentinel()}')"),
            "getattr chain": Calls(getattr, Calls(__import__, "os"), "system"),
            "subprocess": Calls(subprocess.Popen, ["mkdir", sentinel()]),
            "partly good": {b"data": np.zeros(3, np.uint8), b"labels": Calls(os.system, mkdir)},
            "object array": {b"data": np.array([Calls(os.system, mkdir)], dtype=object)},
            "empty object array": {b"data": np.zeros((TINY, 30), dtype=object), b"labels": [0] * TINY},
            "float array": {b"data": np.zeros((TINY, 30)), b"labels": [0] * TINY},
            "structured array": {b"data": np.zeros((TINY, 30), dtype=[("x", "u1")]), b"labels": [0] * TINY},
            "numpy scalar": {b"data": np.uint8(3), b"labels": [0] * TINY},
            "set": {b"data": {1, 2}},
        }.items():
            out[f"{name}-{protocol}"] = pickle.dumps(value, protocol=protocol)
    out |= {
        "global": b"\x80\x02cos\nsystem\nU" + bytes([len(mkdir)]) + mkdir.encode() + b"\x85R.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(mkdir)]) + mkdir.encode() + b"\x85R.",
        "inst": b"(S'" + mkdir.encode() + b"'\nios\nsystem\n.",
        "obj": b"\x80\x02(cos\nsystem\nU" + bytes([len(mkdir)]) + mkdir.encode() + b"o.",
        "newobj": b"\x80\x02cos\nsystem\n)\x81.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02U\x01xQ.",
        "call of a type": b"\x80\x02cnumpy\nndarray\nK\x03\x85R.",
        "other class": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
        "fill a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x0b__globals__}sb.",
        "fill a dict": b"\x80\x02}}b.",
        "other encoding": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.",
        "vast memo": b"\x80\x02Kr\xff\xff\xff\xffr\xff\xff\xff\x7f.",
        "vast string": b"\x80\x02T\xff\xff\xff\x7fabc.",
        "negative string": b"\x80\x02T\xff\xff\xff\xffabc.",
        "vast bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.",
        "vast array": array.replace(b"M\x00\x0c\x86", b"J\xff\xff\xff\x7f\x86"),
        "negative array": array.replace(b"M\x00\x0c\x86", b"J\xff\xff\xff\xff\x86"),
        "array of another type": array.replace(b"U\x02u1", b"U\x02O8"),
        "array without content": b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87Rs.",
        "hash for ever": b"\x80\x02K\x01" + b"q\x01h\x01\x86" * 60 + b"q\x02}h\x02K\x01s.",
        "says for ever": b"\x80\x02K\x01" + b"q\x01h\x01\x86" * 60 + b"q\x02}U\x04datah\x02s.",
        "deep": b"\x80\x02" + b"]" * 40_000 + b"a" * 39_999 + b".",
        "no stop": b"\x80\x02}",
        "no start": b".",
        "mark": b"\x80\x02(.",
        "many words\nin it": b"\x80\x02cos\nsystem\nposix \\n\n.",
        "text": b"hello, this is no pickle\n",
        "empty": b"",
    }
    return out


HOSTILE = hostile()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_pickle_runs_anything(
    name: str, tiny: tuple[ImagePart, ImagePart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = files_of(PYTHON, *tiny)
    for file in ("data_batch_1", "batches.meta"):
        place = tmp_path / file
        write_folder(PYTHON, files | {file: HOSTILE[name]}, place)
        with one_line(ValueError, file, "download it again"):
            read_cifar10(place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batches.meta", "data_batch_1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("os.system-2", "it names 'posix.system'"),
        ("eval-4", "it names 'builtins.eval'"),
        ("getattr chain-3", "it names 'builtins.getattr'"),
        ("stack global", "it names 'os.system'"),
        ("empty object array-2", "bytes ('u1'); got 'O8'"),
        ("float array-4", "bytes ('u1'); got 'f8'"),
        ("structured array-4", "bytes ('u1'); got 'V1'"),
        ("vast array", "as many bytes as its shape says"),
        ("negative array", "as many bytes as its shape says"),
        ("array without content", "some of them are missing"),
        ("newobj", "it names 'os.system'"),
        ("extension", "instruction EXT1"),
        ("persistent", "instruction BINPERSID"),
        ("call of a type", "it calls something other"),
        ("fill a dict", "it fills something other"),
    ],
)
def test_a_refusal_says_why(name: str, words: str) -> None:
    with one_line(ValueError, words):
        read_pickle(HOSTILE[name])["data"].numpy()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_values_within_values_are_read(protocol: int) -> None:
    """A list of one item is filled by another instruction than longer ones."""
    value = {"a": [1], "b": [[2], [3, 4]], "c": (1, (2,), (3, 4, 5, 6)), "d": {"e": None}}
    assert read_pickle(pickle.dumps(value, protocol)) == value


def test_a_name_that_is_no_text_makes_no_sense() -> None:
    for pair in (b"\x8c\x02os\x4b\x01", b"\x4b\x01\x8c\x02os"):
        with one_line(ValueError, "its instructions make no sense"):
            read_pickle(b"\x80\x04" + pair + b"\x93.")


def test_the_hostile_pickles_are_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own reader runs them: else the test above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system-2", "os.mkdir-4", "eval-0", "object array-2", "global", "stack global", "inst"):
        pickle.loads(HOSTILE[name])
        (tmp_path / sentinel()).rmdir()


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_a_pickle_with_any_bytes_in_it_is_read_or_refused(tiny: tuple[ImagePart, ImagePart]) -> None:
    seeds = [python2({"labels": [1, 2], "data": np.zeros((2, 3), np.uint8), "names": ["a", "b"]})]
    seeds += [python3(p)({"labels": [1, 2, 300], "data": np.zeros((2, 3), np.uint8), "x": (None, True)}) for p in (2, 3, 4)]
    rng = random.Random(0)
    read = 0
    for _ in range(4000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        try:
            value = read_pickle(bytes(data))
            if isinstance(value, dict) and isinstance(value.get("data"), Array):
                value["data"].numpy()
            read += 1
        except ValueError:
            pass
    assert read > 100  # a changed label, say


# --------------------------------------------------------------------------- every registered set
GENERATED = {"scattered"}  # each part from digits of its own, as many canvases as are asked for
IMAGES = [name for name, entry in DATASETS.items() if entry.kind == "images"]


@pytest.fixture
def folders(tiny: tuple[ImagePart, ImagePart], tmp_path: Path) -> dict[str, Path | None]:
    """Where each registered data set is found in these tests."""
    from PIL import Image

    write_folder(BINARY, files_of(BINARY, *tiny), tmp_path)
    whole = some_images(140, size=8)
    pixels = whole.images.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "arrays.npz", images=pixels, labels=whole.labels.numpy())
    rows: list[dict[str, Any]] = []
    for i, (image, label) in enumerate(zip(pixels, whole.labels.tolist(), strict=True)):
        file = tmp_path / "images" / str(label) / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
        rows.append({"image": file.read_bytes(), "label": label})
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "hub.parquet")
    places = {"arrays": "arrays.npz", "images": "images", "hub_images": "hub.parquet"}
    return {name: tmp_path / places.get(name, "") if DATASETS[name].needs_folder else None for name in IMAGES}


def rows(*parts: ImagePart) -> list[tuple[bytes, int]]:
    return sorted((i.numpy().tobytes(), int(k)) for part in parts for i, k in zip(part.images, part.labels, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_laws_of_a_set_of_images(name: str, folders: dict[str, Path | None]) -> None:
    folder = folders[name]
    data = load(name, folder, validation=30, train=40)
    assert data.name == name
    assert (len(data.train), len(data.validation)) == (40, 30)
    assert data.train.labels.bincount().tolist() == [40 // data.num_classes] * data.num_classes
    again = load(name, folder, validation=30, train=40)
    assert rows(again.train) == rows(data.train)
    # All there is, in whatever split: nothing is lost, nothing is in two parts.
    everything = load(name, folder, validation=30, train=None)
    other = load(name, folder, validation=20, train=None)
    total = len(everything.train) + len(everything.validation) + len(everything.test)
    whole = rows(everything.train, everything.validation, everything.test)
    assert len(whole) == total
    assert name in GENERATED or whole == rows(other.train, other.validation, other.test)
    # Another number of training images leaves the other parts as they are.
    assert rows(everything.test) == rows(data.test)
    assert rows(everything.validation) == rows(data.validation)
    assert set(rows(data.train)) <= set(rows(everything.train))
    for wrong in ({"train": 0}, {"train": -5}, {"train": 10**6}, {"validation": 0}, {"validation": 10**6}):
        with one_line(ValueError, "got"):
            load(name, folder, **{"train": 40, "validation": 30} | wrong)
    entry = DATASETS[name]
    assert "\n" not in entry.about + entry.how_to_get
    if entry.needs_folder:
        get_it = f"enas data get {name}" if name in download.SOURCES else "--data"
        with one_line(ValueError, f"'{name}'", "folder", get_it):
            load(name)
    else:
        with one_line(ValueError, f"'{name}'", "takes no folder", "some/place"):
            load(name, "some/place")
        with one_line(ValueError, f"'{name}'", "nothing to download"):
            get(name, "some/place")


def test_unknown_names_are_refused() -> None:
    for call in (load, get):
        with one_line(ValueError, "cifar10, digits", "'mnist'"):
            call("mnist", "some/place")


@pytest.mark.slow
def test_digits_are_read_without_their_library_and_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import takes seconds, in every process; where its file is not found, it is asked."""
    found = digits.read_scans()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    asked = digits.read_scans()
    for ours, theirs in zip(found, asked, strict=True):
        assert ours.shape == theirs.shape
        assert (ours == theirs).all()
    code = (
        "import sys; from enas.data.scattered import load_scattered; load_scattered(); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_scikit_learns_in_a_fixed_split() -> None:
    from sklearn import datasets

    bunch = datasets.load_digits()
    data = load("digits")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [400, 400, 997]
    assert (data.channels, data.image_size, data.class_names) == (1, 8, tuple("0123456789"))
    assert data.train.labels.bincount().tolist() == data.validation.labels.bincount().tolist() == [40] * 10
    shades = np.floor(bunch.images * 255 / 16 + 0.5).astype(np.uint8)
    expected = sorted((image.tobytes(), int(k)) for image, k in zip(shades, bunch.target, strict=True))
    assert rows(data.train, data.validation, data.test) == expected
    assert int(data.train.images.max()) == 255
    # Golden: results of different versions of enas are compared, so the split must not move.
    assert data.train.labels[:12].tolist() == [4, 5, 6, 9, 4, 7, 8, 9, 2, 9, 6, 9]
    assert data.validation.labels[:12].tolist() == [1, 2, 8, 0, 7, 9, 5, 8, 1, 7, 0, 0]
    assert data.test.labels[:12].tolist() == [0, 3, 7, 1, 2, 3, 5, 6, 0, 1, 3, 4]
    with one_line(ValueError, "1,797", "998"):
        load("digits", train=400, validation=400, test=998)


def test_scattered_digits_are_the_same_everywhere_and_of_other_digits_in_each_part() -> None:
    """Each canvas holds its digit whole, on top of the pieces: so it can be found again."""
    from sklearn import datasets

    data = load("scattered", train=300, validation=60, test=200)
    assert (data.channels, data.image_size, data.class_names) == (1, 14, tuple("0123456789"))
    shades = (datasets.load_digits().images.astype(np.int64) * 255 // 16).astype(np.uint8)
    known = {image.tobytes(): i for i, image in enumerate(shades)}
    assert len(known) == len(shades)
    found: dict[str, set[int]] = {}
    for name in ("train", "validation", "test"):
        part = getattr(data, name)
        windows = np.lib.stride_tricks.sliding_window_view(part.images.numpy()[:, 0], (8, 8), (1, 2)).reshape(
            len(part), -1, 64
        )
        inside = [{known.get(window.tobytes()) for window in of_image} - {None} for of_image in windows]
        assert all(inside), "a digit is missing"
        found[name] = set().union(*inside)
        assert part.labels.bincount().tolist() == [len(part) // 10] * 10
    assert sum(map(len, found.values())) == len(set().union(*found.values())), "a digit is in two parts"
    fewer = load("scattered", train=20, validation=60, test=200)
    assert torch.equal(fewer.train.images, data.train.images[:20]), "fewer are the first of more"
    assert torch.equal(fewer.test.images, data.test.images)
    assert load("scattered", train=5, canvas=16, distractors=0, piece=8).image_size == 16
    # Golden: tables of accuracies are of these bytes.
    content = b"".join(part.images.numpy().tobytes() for part in (data.train, data.validation, data.test))
    assert hashlib.sha256(content).hexdigest()[:16] == "448e0b3117365d43"
    for wrong, says in (
        ({"test": 0}, "test"),
        ({"train": 20_001}, "20,000"),
        ({"canvas": 7}, "8 pixels"),
        ({"piece": 9}, "piece"),
    ):
        with one_line(ValueError, "got", says):
            load("scattered", **wrong)


def test_the_slow_imports_are_left_for_later() -> None:
    slow = {"sklearn", "pooch", "requests", "rich", "scipy"}
    code = f"import sys, enas.data.registry; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------- download
CONTENT = random.Random(0).randbytes(700_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """/whole and /other give a file, /cut breaks off in the middle, /slow says nothing, all else is
    not there."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/slow":
            self.server.patience.wait(20)  # type: ignore[attr-defined]
            return
        if self.path not in ("/whole", "/unsized", "/other", "/cut"):
            self.send_error(404)
            return
        body = CONTENT[::-1] if self.path == "/other" else CONTENT
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.patience = [], threading.Event()  # type: ignore[attr-defined]
        running.at = f"http://127.0.0.1:{running.server_address[1]}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.patience.set()  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


def source(url: str) -> download.Source:
    return download.Source(url, "x.tar.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.mark.parametrize("path", ["/whole", "/unsized"])
def test_a_download_arrives_and_is_not_repeated(path: str, server: Any, tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "new" / "folder"
    file = download.get("x", folder, source(server.at + path))
    assert file == folder / "x.tar.gz"
    assert file.read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["x.tar.gz"]
    assert download.get("x", folder, source(server.at + path)) == file
    assert server.asked == [path]
    assert capfd.readouterr() == ("", "")  # the bar is for terminals


def test_several_files_arrive_in_their_folder(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple(replace(source(f"{server.at}/whole"), file=f"{part}.txt", folder="ptb") for part in "abc")
    monkeypatch.setitem(download.SOURCES, "ptb", files)
    assert get("ptb", tmp_path / "data") == tmp_path / "data" / "ptb"
    assert [(tmp_path / "data" / "ptb" / f"{part}.txt").read_bytes() == CONTENT for part in "abc"] == [True] * 3


def test_a_damaged_file_is_downloaded_again(server: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(CONTENT[:1000])
    assert download.get("x", str(tmp_path), source(f"{server.at}/whole")).read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/other", ValueError, "SHA-256"),
        ("/missing", OSError, "404"),
        ("/cut", OSError, "connection"),
        ("/slow", OSError, "does not answer"),
    ],
)
def test_a_failed_download_leaves_nothing(
    path: str, kind: type[Exception], words: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 1)
    with one_line(kind, server.at + path, words, "x.tar.gz", str(tmp_path)):
        download.get("x", tmp_path, source(server.at + path))
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_one_line(server: Any, tmp_path: Path) -> None:
    server.server_close()
    with one_line(OSError, server.at, "connection"):
        download.get("x", tmp_path, source(f"{server.at}/whole"))
    with one_line(OSError, "nowhere.invalid", "connection"):
        download.get("x", tmp_path, source("http://nowhere.invalid/whole"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_line(server: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with one_line(OSError, str(tmp_path / "taken"), "cannot be written"):
        download.get("x", tmp_path / "taken", source(f"{server.at}/whole"))


def test_a_terminal_sees_a_bar_that_fills(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    download.get("x", tmp_path, source(f"{server.at}/whole"))
    shown = capfd.readouterr().err
    assert "x.tar.gz" in shown
    assert "700.0/700.0 kB" in shown


# ---------------------------------------------------------------------------------- the real data
@pytest.mark.slow
def test_the_real_cifar10_reads_the_same_in_every_form(cifar10_dir: Path, tmp_path: Path) -> None:
    train, test, names = read_cifar10(cifar10_dir)
    assert names == NAMES
    assert train.images.shape == (50_000, 3, 32, 32)
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # a frog, two lorries, ...
    assert train.images[0, :, 0, 0].tolist() == [59, 62, 63]

    files = {path.name: path.read_bytes() for path in (cifar10_dir / PYTHON.folder).iterdir()}
    packed = write_archive(tmp_path / PYTHON.archive, members_of(PYTHON, files))
    assert_same(read_cifar10(packed), train, test)
    binary = files_of(BINARY, train, test)
    write_folder(BINARY, binary, tmp_path / "binary")
    assert_same(read_cifar10(tmp_path / "binary"), train, test)
    # The generator of the fast tests is the one that wrote the official files: to the last byte.
    for name in (PYTHON.meta, "data_batch_2", "test_batch"):
        assert python2(pickle.loads(files[name], encoding="latin-1")) == files[name]
    shutil.rmtree(tmp_path)  # not to be kept for the three sessions that pytest keeps things for


@pytest.mark.slow
def test_the_real_split_and_its_moments(cifar10_dir: Path) -> None:
    data = load("cifar10", cifar10_dir)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    np.testing.assert_allclose(data.mean, (0.491, 0.482, 0.447), atol=1e-3)
    np.testing.assert_allclose(data.std, (0.247, 0.244, 0.262), atol=1e-3)
    x = data.normalised("train")
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(x.std((0, 2, 3)), 1, atol=1e-3)
    few = load("cifar10", cifar10_dir, train=1000, validation=25_000)
    assert few.train.labels.bincount().tolist() == [100] * 10
    assert len(few.validation) == 25_000
