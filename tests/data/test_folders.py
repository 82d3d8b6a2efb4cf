"""What a folder holds is recognised and read: images per class, arrays, saved Hugging Face data
sets, tables, texts; and what does not fit in memory is streamed, to the same bits."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from documented import ROOT, markdown
from enas.cli.main import main
from enas.data.arrays import role_of
from enas.data.folder import look, recognised
from enas.data.image_stream import ImageFiles, Streamed
from enas.data.images import PARTS, ImageData, stratified_order
from enas.data.pictures import Frame, Packed, Unreadable, as_bytes, decoded, fitted, kind_of, quiet
from enas.data.registry import load
from enas.data.tables import load_table
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.tasks.image_classification import ImageClassification, class_weights
from enas.tasks.settings import ImageClassificationSettings
from laws import one_line

RNG = np.random.RandomState
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def pixels(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Flat areas with some noise, so that a .jpg is small."""
    rng = RNG(seed)
    return (rng.randint(0, 200, (1, 1, channels)) + rng.randint(0, 50, (height, width, channels))).astype(np.uint8)


def save(path: Path, array: np.ndarray, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(path, **how)


def class_folders(
    root: Path,
    counts: Sequence[int],
    size: tuple[int, int] = (12, 12),
    channels: int = 3,
    suffix: str = "png",
) -> Path:
    """A folder per class; class c has counts[c] images of (height, width)."""
    for c, n in enumerate(counts):
        for i in range(n):
            save(root / f"class{c:03}" / f"{i}.{suffix}", pixels(1000 * c + i, *size, channels))
    return root


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20, 12 and 8 images of 12x12 pixels in colour. To be read only."""
    return class_folders(tmp_path_factory.mktemp("three"), (20, 12, 8))


# ----------------------------------------------------------------------------------- image folders
def test_class_folders_are_read_and_split_by_class(three: Path) -> None:
    data = load("images", three)
    assert data.class_names == ("class000", "class001", "class002")
    assert [len(getattr(data, part)) for part in PARTS] == [28, 6, 6]
    for part, counts in (("validation", [3, 2, 1]), ("test", [3, 2, 1]), ("train", [14, 8, 6])):
        assert getattr(data, part).labels.bincount().tolist() == counts
    expected = {pixels(1000 * c + i, 12, 12).tobytes(): c for c, n in enumerate((20, 12, 8)) for i in range(n)}
    for part in PARTS:
        for image, label in zip(*vars(getattr(data, part)).values(), strict=True):
            assert expected.pop(image.permute(1, 2, 0).contiguous().numpy().tobytes()) == label
    assert not expected
    for words in ("class folders: 3 classes, 40 images of 12x12 pixels", "6 for test and 6 for validation", "stratified"):
        assert words in data.about


def test_folders_of_parts_are_kept(tmp_path: Path) -> None:
    inside = tmp_path / "archive"  # one folder in another, as archives unpack
    for name, n in (("train", 5), ("Val", 2), ("test", 3)):
        class_folders(inside / name, (n, n))
    (inside / "train" / ".hidden").mkdir()
    (inside / "train" / "class000" / "._0.png").write_bytes(b"of another system")
    (inside / "train" / "class000" / "note.txt").write_text("no image")
    assert recognised(tmp_path, "images").dataset == "images"
    data = load("images", tmp_path)
    assert [len(getattr(data, part)) for part in PARTS] == [10, 4, 6]
    assert "taken from" not in data.about
    with one_line(ValueError, "validation images of its own", "3"):
        load("images", tmp_path, validation=3)
    (inside / "Val").rename(inside / "other")
    data = load("images", tmp_path)
    assert [len(getattr(data, part)) for part in PARTS] == [8, 2, 6]
    save(inside / "test" / "new" / "0.png", pixels(0, 12, 12))
    with one_line(ValueError, "'new'", "train"):
        load("images", tmp_path)


@pytest.mark.parametrize("sizes", [(7, 7, 7), (50, 9, 6), (1, 4), (3,)])
def test_every_beginning_of_a_stratified_order_is_stratified(sizes: tuple[int, ...]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = stratified_order(labels, seed=0)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for n in range(len(labels) + 1):
        counts = torch.bincount(labels[order[:n]], minlength=len(sizes)).tolist()
        assert all(abs(count - n * size / len(labels)) <= 1.5 for count, size in zip(counts, sizes, strict=True))
    # for ever
    assert stratified_order(torch.arange(9) % 3, seed=0).tolist() == [7, 2, 6, 1, 8, 3, 4, 0, 5]


@pytest.mark.parametrize(
    ("mode", "kind", "value"),
    [
        ("1", (1, False), [255]),
        ("L", (1, False), [200]),
        ("I;16", (1, False), [200]),
        ("I", (1, False), [200]),
        ("LA", (2, True), [200, 30]),
        ("P", (3, False), [10, 20, 30]),
        ("P transparent", (4, True), [10, 20, 30, 0]),
        ("RGB", (3, False), [10, 20, 30]),
        ("RGBA", (4, True), [10, 20, 30, 40]),
        ("CMYK", (3, False), [155, 155, 155]),
    ],
)
def test_every_mode_is_read(mode: str, kind: tuple[int, bool], value: list[int], tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if mode in ("CMYK", "I") else "a.png")
    fill: Any = {"1": 1, "L": 200, "I;16": 200 * 257, "I": 200 * 257, "LA": (200, 30), "CMYK": (100, 100, 100, 0)}.get(mode)
    if mode.startswith("P"):
        image = Image.new("P", (5, 4), 7)
        image.putpalette([0, 0, 0] * 7 + [10, 20, 30])
        image.save(file, **({"transparency": 7} if "transparent" in mode else {}))
    else:
        Image.new(mode, (5, 4), fill or (10, 20, 30, 40)[: len(mode)]).save(file)
    read = kind_of(str(file))
    assert (read.width, read.height, read.channels, read.alpha) == (5, 4, *kind)
    out = decoded(str(file), Frame(4, kind[0]))
    assert (out.shape, out.dtype) == ((kind[0], 4, 4), np.uint8)
    assert (out == np.array(value)[:, None, None]).all()


def test_many_channels_are_read_from_arrays_and_pages(tmp_path: Path) -> None:
    values = pixels(0, 6, 6, 12)
    np.save(tmp_path / "a.npy", values)
    pages = [Image.fromarray(values[:, :, c]) for c in range(12)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for name in ("a.npy", "a.tif"):
        assert kind_of(str(tmp_path / name)).channels == 12
        assert (decoded(str(tmp_path / name), Frame(6, 12)) == values.transpose(2, 0, 1)).all()
    np.save(tmp_path / "b.npy", values.transpose(2, 0, 1).repeat(3, 2))
    with one_line(Unreadable, "(12, 6, 18)", "12 channels"):
        kind_of(str(tmp_path / "b.npy"))
    np.save(tmp_path / "c.npy", np.array([[{}]], dtype=object))
    with one_line(Unreadable):
        kind_of(str(tmp_path / "c.npy"))


def test_an_upright_photograph(tmp_path: Path) -> None:
    save(tmp_path / "a.png", values := pixels(0, 6, 4))
    image = Image.open(tmp_path / "a.png")
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "b.png", exif=exif)
    turned = decoded(str(tmp_path / "b.png"), Frame(4, 3, "crop"))
    assert (turned == values[1:5][::-1, ::-1].transpose(2, 0, 1)).all()


def test_resized_is_the_whole_and_cropped_is_the_middle() -> None:
    values = pixels(0, 8, 14, 2)
    assert (fitted(values, Frame(8, 2, "crop")) == values[:, 3:11].transpose(2, 0, 1)).all()
    bands = [Image.fromarray(values[:, :, c]).resize((6, 6), Image.Resampling.BILINEAR) for c in range(2)]
    assert (fitted(values, Frame(6, 2, "resize")) == np.stack([np.asarray(band) for band in bands])).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [0, 128, 255]),
        (np.array([0, 257 * 128, 65535], np.uint16), [0, 128, 255]),
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0.0, 127.6, 255.0], np.float32), [0, 128, 255]),
        (np.array([0, 128, 255], np.int64), [0, 128, 255]),
        (np.array([False, True]), [0, 255]),
    ],
)
def test_numbers_become_bytes(values: np.ndarray, expected: list[int]) -> None:
    assert as_bytes(values).tolist() == expected


@pytest.mark.parametrize("values", [np.array([-1.0, 1.0]), np.array([0, 10**6]), np.array([np.nan, 1.0]), np.array(["a"])])
def test_other_numbers_are_refused(values: np.ndarray) -> None:
    with one_line(ValueError, "pixels are"):
        as_bytes(values)


@pytest.mark.parametrize(
    ("sizes", "asked", "side", "words"),
    [
        ([(28, 28)] * 4, None, 28, "28x28 pixels;"),
        ([(48, 48)] * 4, None, 32, "48x48 pixels, resized to 32;"),
        ([(9, 13), (12, 12), (20, 10), (70, 11)], None, 16, "9 to 70 pixels, resized to 16;"),
        ([(3, 5)] * 4, None, 8, "3x5 pixels, resized to 8;"),
        ([(28, 28)] * 4, 20, 20, "28x28 pixels, resized to 20;"),
    ],
)
def test_the_size_is_that_of_the_images_or_their_median(
    sizes: list[tuple[int, int]], asked: int | None, side: int, words: str, tmp_path: Path
) -> None:
    for i in range(16):
        width, height = sizes[i % 4]
        save(tmp_path / "ab"[i // 8] / f"{i}.png", pixels(i, height, width))
    data = load("images", tmp_path, image_size=asked)
    assert data.image_size == side
    assert f"16 images of {words}" in data.about


def test_grey_beside_colour_is_colour_and_opacity_is_dropped(tmp_path: Path) -> None:
    for i, channels in enumerate((1, 3, 4, 1, 3, 4, 1, 3, 4, 1, 3, 4)):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", pixels(i, 8, 8, channels))
    data = load("images", tmp_path)
    assert data.channels == 3
    grey = torch.from_numpy(pixels(0, 8, 8, 1).transpose(2, 0, 1))
    parts = torch.cat([getattr(data, part).images for part in PARTS])
    assert any(torch.equal(image, grey.expand(3, 8, 8)) for image in parts)
    with_alpha = class_folders(tmp_path / "alpha", (6, 6), channels=4)
    assert load("images", with_alpha).channels == 4
    for file in with_alpha.rglob("*.png"):  # wholly opaque: nothing to learn from
        image = Image.open(file).convert("RGB").convert("RGBA")
        image.save(file)
    assert load("images", with_alpha).channels == load("images", with_alpha, memory=1e-9).channels == 3
    np.save(tmp_path / "a" / "x.npy", pixels(0, 8, 8, 5))
    with one_line(ValueError, "one number of channels", "5"):
        load("images", tmp_path)


def test_damaged_files_are_named_and_refused_or_skipped(three: Path, tmp_path: Path) -> None:
    root = class_folders(tmp_path, (8, 8), size=(30, 30))
    whole = (root / "class000" / "0.png").read_bytes()
    damaged = {"empty.png": b"", "text.jpg": b"hello", "cut.png": whole[: len(whole) // 2], "array.npy": b"\x93NUMPY"}
    for name, content in damaged.items():
        (root / "class001" / name).write_bytes(content)
    with one_line(ValueError, "4 of 20 images", "array.npy", "empty.png", "text.jpg", "data.corrupt 'skip'"):
        load("images", root)
    data = load("images", root, corrupt="skip")
    assert "16 images of 30x30" in data.about
    assert "skipped 4 that cannot be read" in data.about
    assert sum(len(getattr(data, part)) for part in PARTS) == 16
    assert "skipped 4" in look(root)
    for file in (root / "class001").iterdir():
        file.write_bytes(b"x")
    with one_line(ValueError, "'class001'", "0"):
        load("images", root, corrupt="skip")
    for file in (root / "class000").iterdir():
        file.write_bytes(b"x")
    with one_line(ValueError, "no image", "can be read"):
        load("images", root, corrupt="skip")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "npy"])
def test_a_file_with_any_bytes_in_it_is_read_or_refused(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    np.save(file, pixels(0, 9, 9)) if suffix == "npy" else save(file, pixels(0, 9, 9))
    whole, rng = file.read_bytes(), RNG(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
        for i in range(80):
            at = rng.randint(len(whole))
            broken = whole[:at] if i % 2 else whole[:at] + bytes(rng.randint(0, 256, 3).tolist()) + whole[at + 3 :]
            source = Packed("a", broken)
            if suffix == "npy":
                file.write_bytes(broken)
            with contextlib.suppress(Unreadable), quiet():
                kind = kind_of(str(file) if suffix == "npy" else source)
                decoded(str(file) if suffix == "npy" else source, Frame(8, kind.channels))


def test_too_little_to_learn_from_is_one_line(tmp_path: Path) -> None:
    one = class_folders(tmp_path / "one", (5,))
    with one_line(ValueError, "at least two classes", str(one)):
        load("images", one)
    single = class_folders(tmp_path / "single", (1,) * 12)
    with one_line(ValueError, "every class has an image to train on", "'class00"):
        load("images", single)
    with one_line(ValueError, "at least 1", "got"):
        load("images", class_folders(tmp_path / "few", (1, 1)))
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    for kind in ("images", "text"):
        with one_line(ValueError, str(tmp_path / "empty"), "a folder of images per class", ".npz", "CIFAR-10", ".txt"):
            recognised(tmp_path / "empty", kind)
    with one_line(ValueError, "no folder or file", "nowhere"):
        recognised(tmp_path / "nowhere", "images")


# ------------------------------------------------------------------------------------------ arrays
def some_arrays(n: int = 40, size: int = 8, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([pixels(i, size, size, channels) for i in range(n)]), np.arange(n) % 4


@pytest.mark.parametrize(
    ("change", "channels"),
    [
        (lambda x: x, 3),
        (lambda x: x.transpose(0, 3, 1, 2), 3),
        (lambda x: x[..., 0], 1),
        (lambda x: x[:, None, :, :, 0], 1),
        (lambda x: (x / 255).astype(np.float32), 3),
        (lambda x: x.astype(np.uint16) * 257, 3),
        (lambda x: np.concatenate([x] * 4, 3).transpose(0, 3, 1, 2), 12),
    ],
)
def test_arrays_of_every_layout_and_type(change: Any, channels: int, tmp_path: Path) -> None:
    x, y = some_arrays()
    np.savez(tmp_path / "a.npz", images=change(x), labels=y)
    data = load("arrays", tmp_path / "a.npz")
    assert (data.channels, data.image_size, data.num_classes) == (channels, 8, 4)
    read = torch.cat([getattr(data, part).images for part in PARTS])
    expected = {image.transpose(2, 0, 1)[: min(3, channels)].tobytes() for image in x}
    assert {image[:3].contiguous().numpy().tobytes() for image in read} == expected


@pytest.mark.parametrize("form", ["x_train", "train_images", "folder of npz", "folder of npy", "named npy", "words"])
def test_arrays_of_every_form(form: str, tmp_path: Path) -> None:
    x, y = some_arrays()
    sizes = {"train": (0, 20), "val": (20, 30), "test": (30, 40)}
    parts = {part: (x[a:b], y[a:b]) for part, (a, b) in sizes.items()}
    path = tmp_path
    if form == "x_train":
        path = tmp_path / "a.npz"
        np.savez(
            path,
            **{f"{role}_{part}": array for part, pair in parts.items() for role, array in zip("xy", pair, strict=True)},
        )
    elif form == "train_images":
        arrays = {f"{part}_{role}": a for part, p in parts.items() for role, a in zip(("images", "labels"), p, strict=True)}
        np.savez_compressed(tmp_path / "a.npz", **{name: a[:, None] if a.ndim == 1 else a for name, a in arrays.items()})
    elif form == "folder of npz":
        for part, (images, labels) in parts.items():
            np.savez(tmp_path / f"{part}.npz", data=images, targets=labels)
    elif form == "folder of npy":
        for part, (images, labels) in parts.items():
            np.save(tmp_path / f"x_{part}.npy", images)
            np.save(tmp_path / f"y_{part}.npy", labels)
    elif form == "named npy":
        np.save(tmp_path / "images.npy", x)
        np.save(tmp_path / "labels.npy", y.astype(float))
    else:
        np.savez(tmp_path / "a.npz", image=x, label=np.array(["d", "a", "c", "b"])[y], ids=np.arange(len(x)))
    assert recognised(path, "images").dataset == "arrays"
    data = load("arrays", path)
    split = form not in ("named npy", "words")
    assert [len(getattr(data, part)) for part in PARTS] == ([20, 10, 10] if split else [28, 6, 6])
    names = ("a", "b", "c", "d") if form == "words" else ("0", "1", "2", "3")
    assert data.class_names == names
    where = {image.transpose(2, 0, 1).tobytes(): i for i, image in enumerate(x)}
    for image, label in zip(data.train.images, data.train.labels, strict=True):
        i = where[image.numpy().tobytes()] % 4
        assert data.class_names[label] == ("dacb"[i] if form == "words" else str(i))


def test_bad_arrays_are_one_line(tmp_path: Path) -> None:
    x, y = some_arrays()
    file = tmp_path / "a.npz"

    def refused(*words: str, **arrays: np.ndarray) -> None:
        np.savez(file, **arrays)
        with one_line(ValueError, str(file), *words):
            load("arrays", file)

    refused("images and labels", "images alone", images=x)
    refused("images and labels", "none of these", a=x, b=y)
    refused("one per image", "(39,)", images=x, labels=y[1:])
    refused("shape (40, 8)", images=x[:, :, 0, 0], labels=y)
    refused("at most 12 channels", images=np.zeros((5, 20, 20, 20), np.uint8), labels=y[:5])
    refused("pixels are", "-0.99", images=x / 255 - 1, labels=y)
    refused("two classes", images=x, labels=y * 0)
    refused("for the same", images=x, x=x, labels=y)
    refused("some of both", images=x, labels=y, x_train=x, y_train=y)
    refused("class 9 in its test part", x_train=x, y_train=y, x_test=x, y_test=np.full(40, 9))
    refused("none to train on", x_test=x, y_test=y)
    np.savez(file, images=x, labels=np.array([{}] * 40, dtype=object))
    with one_line(ValueError, str(file), "no whole file", "allow_pickle"):
        load("arrays", file)
    np.savez(file, images=x, labels=y)
    whole = file.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with one_line(ValueError, str(file), "no whole file"):
            load("arrays", file)
    assert role_of("x_train") == ("train", "images")
    assert role_of("my_labels") is None


# ------------------------------------------------------------------------- Hugging Face's data sets
@pytest.mark.slow
def test_saved_data_sets_with_images(three: Path, tmp_path: Path) -> None:
    import datasets

    files = sorted(three.rglob("*.png"))
    rows = {"image": [str(file) for file in files], "label": [int(file.parent.name[-1]) for file in files]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    saved = datasets.Dataset.from_dict(rows, features=features)
    embedded = saved.with_format("arrow").map(
        lambda table: datasets.table.embed_table_storage(table), batched=True, keep_in_memory=True
    )
    saved.save_to_disk(str(tmp_path / "disk"))
    embedded.to_parquet(str(tmp_path / "parquet" / "data" / "train-00000-of-00001.parquet"))
    datasets.DatasetDict({"train": saved, "test": saved.select(range(5))}).save_to_disk(str(tmp_path / "dict"))
    expected = load("images", three)
    for form in ("disk", "parquet"):
        assert recognised(tmp_path / form, "images").dataset == "hub_images"
        data = load("hub_images", tmp_path / form)
        assert data.class_names == ("x", "y", "z")
        for part in PARTS:
            assert torch.equal(getattr(data, part).images, getattr(expected, part).images)
            assert torch.equal(getattr(data, part).labels, getattr(expected, part).labels)
    data = load("hub_images", tmp_path / "dict")
    assert [len(getattr(data, part)) for part in PARTS] == [34, 6, 5]
    with one_line(ValueError, "holds images", "'hub_images'", "learns from text"):
        recognised(tmp_path / "disk", "text")
    (tmp_path / "disk" / "state.json").write_text("{")
    with one_line(ValueError, "no whole folder"):
        load("hub_images", tmp_path / "disk")


def test_saved_data_sets_with_texts_and_tables(tmp_path: Path) -> None:
    import datasets

    texts = datasets.Dataset.from_dict({"text": ["a b", "a c\ra", "b"] * 10})
    texts.save_to_disk(str(tmp_path / "disk"))
    assert recognised(tmp_path / "disk", "text").dataset == "hub_text"
    data = load("hub_text", tmp_path / "disk", min_count=1)
    assert data.counts == {"train": 80, "validation": 10, "test": 10}
    numbers = datasets.Dataset.from_dict({"age": [1, 2], "label": [0, 1]})
    numbers.to_parquet(str(tmp_path / "table.parquet"))
    with one_line(ValueError, "is a table", "load_table", "examples/tabular.py"):
        recognised(tmp_path / "table.parquet", "images")
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    with one_line(ValueError, "no whole .parquet"):
        recognised(tmp_path / "table.parquet", "images")


# ------------------------------------------------------------------------------------------- texts
def said(data: Any, part: str) -> str:
    return " ".join(data.vocabulary[i] for i in getattr(data, part).tolist())


def test_any_texts_are_cut_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"c c\rd d\r\n" * 5)
    (tmp_path / "a.txt").write_bytes(b"a a\rb b\n" * 5)
    assert recognised(tmp_path, "text").dataset == "text"
    data = load("text", tmp_path, min_count=1)
    assert said(data, "train").startswith("a a <eos> b b <eos> a a <eos>")
    assert (said(data, "validation"), said(data, "test")) == ("c c <eos> d d <eos>",) * 2
    assert data.counts == {"train": 48, "validation": 6, "test": 6}
    assert "a.txt, b.txt" in data.about
    assert recognised(tmp_path / "b.txt", "text").dataset == "text"
    assert said(load("text", tmp_path / "b.txt", min_count=1), "train").startswith("c c <eos> d d")


def test_a_text_by_characters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab a\n\nb\n" * 20)
    data = load("text", tmp_path, tokens="characters")
    assert said(data, "train").startswith("a b   a <eos> <eos> b <eos> a b")
    assert set(data.vocabulary) == {"a", "b", " ", "<eos>", "<unk>"}
    assert "by characters" in data.about


def test_a_text_of_one_sentence_is_remarked_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("so on and " * 40)
    with pytest.warns(UserWarning, match="one sentence of 120 words.*line of its own.*--data.tokens characters"):
        data = load("text", tmp_path)
    assert data.counts == {"train": 97, "validation": 13, "test": 13}
    load("text", tmp_path, tokens="characters")  # says nothing


def test_published_texts_are_told_from_ones_own(tmp_path: Path) -> None:
    for name, text in (("ptb", " aer banknote berlitz calloway \n"), ("own", "a b\n" * 90)):
        folder = tmp_path / name
        folder.mkdir()
        for part in ("train", "valid", "test"):
            (folder / f"{part}.txt").write_text(text)
        assert recognised(folder, "text").dataset == {"ptb": "ptb", "own": "text"}[name]
    plan = make_plan("ptb-rnn", data=tmp_path / "own", device="cpu")
    assert plan.settings.data.dataset == "text"
    damaged = make_plan("ptb-rnn", data=tmp_path / "ptb", device="cpu")
    with one_line(ValueError, "929,589 / 73,760"):
        damaged.load_data()


# ------------------------------------------------------------------------------------------ tables
def test_a_table_becomes_standardised_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("size,colour,same,old,y\n1,red,3,True,b\n2,blue,3,False,a\n,red,3,True,b\n6,red,3,True,a\n")
    x, y, names = load_table(file, target="y")
    assert names == ("size", "colour=blue", "colour=red", "old")
    assert y.tolist() == [1, 0, 1, 0]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    std = np.std([1, 2, 6])
    np.testing.assert_allclose(x[:, 0], [-2 / std, -1 / std, 0, 3 / std], rtol=1e-6)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x[:, 1:].std(0, unbiased=False), 1, rtol=1e-6)
    x, y, names = load_table(file, target="y", train=[0, 1])
    # by mean and deviation of 1 and 2
    np.testing.assert_allclose(x[:, 0], [-1, 1, 0, 9], rtol=1e-6)
    with one_line(ValueError, "no missing values", "'size'"):
        load_table(file, target="size")
    with one_line(ValueError, "size, colour", "'z'"):
        load_table(file, target="z")
    with one_line(ValueError, "table is a file", "nothing.csv"):
        load_table(tmp_path / "nothing.csv", target="y")


def test_tables_of_every_form_and_target(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1.5, 2.5, 4.0], "price": [1.0, 2.5, 3.0], "day": pd.date_range("2020-01-01", periods=3)})
    frame[["a", "price"]].to_parquet(tmp_path / "a.parquet")
    frame[["a", "price"]].to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    for name in ("a.parquet", "a.tsv"):
        _, y, names = load_table(tmp_path / name, target="price")
        assert (y.dtype, y.tolist(), names) == (torch.float32, [1.0, 2.5, 3.0], ("a",))
    frame.to_parquet(tmp_path / "b.parquet")
    with one_line(ValueError, "column 'day'", "leave it out"):
        load_table(tmp_path / "b.parquet", target="price")
    (tmp_path / "c.csv").write_text('a,b\n1,2,3,4\n"')
    with one_line(ValueError, "c.csv", "cannot be read"):
        load_table(tmp_path / "c.csv", target="a")
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    with one_line(ValueError, "is a table"):
        recognised(tmp_path / "d.csv", "text")


# --------------------------------------------------------------------------------------- streaming
def task_of(data: ImageData, train_on: Any = "train", **settings: Any) -> ImageClassification:
    return ImageClassification(
        data,
        ImageClassificationSettings(**{"batch_size": 6, "reward_batch": 4, "eval_batch": 5, "pad": 1} | settings),
        3,
        train_on=train_on,
    )


def seen(task: ImageClassification) -> list[torch.Tensor]:
    """Every kind of batch, in and out of order."""
    order = [(0, 0), (0, 0), (0, 1), (0, 2), (1, 3), (0, task.train_steps - 1), (1, 0), (1, 1)]
    batches = [task.train_batch(*at) for at in order] + [task.reward_batch(step) for step in range(3)]
    batches += [batch for part in PARTS for batch in task._whole(part)]
    return [tensor for batch in batches for tensor in batch]


@pytest.mark.slow
@pytest.mark.parametrize("train_on", ["train", "train+validation"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", ["bytes", "files"])
def test_what_streams_is_the_same_bit_for_bit(kept: str, workers: int, train_on: str, three: Path) -> None:
    if workers and train_on != "train":
        return
    whole = load("images", three)
    memory = 1e-9 if kept == "files" else 40 * 3 * 144 * 1e-9  # exactly the bytes
    data = load("images", three, memory=memory, workers=workers)
    assert isinstance(data.train.images, ImageFiles if kept == "files" else torch.Tensor)
    assert (data.mean, data.std) == (whole.mean, whole.std)
    expected, streamed = task_of(whole, train_on), task_of(data, train_on)
    assert not isinstance(expected._parts["train"].x, Streamed)
    assert isinstance(streamed._parts["train"].x, Streamed)
    drawn = torch.get_rng_state()
    for a, b in zip(seen(expected), seen(streamed), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()
    assert torch.equal(drawn, torch.get_rng_state())  # dropout must not depend on it
    place = "disk" if kept == "files" else "bytes in memory"
    assert f"streams from {place}{', 2 workers' if workers else ''}" in streamed.about
    assert "streams" not in expected.about


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_goes_away_is_one_line(workers: int, tmp_path: Path) -> None:
    data = load("images", class_folders(tmp_path, (8, 8)), memory=1e-9, workers=workers)
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    with one_line(ValueError, "can no longer be read", "class00"):
        task_of(data).train_batch(0, 0)


MEASURED = """
import sys
from enas.data.registry import load
from enas.tasks.image_classification import ImageClassification
from enas.tasks.settings import ImageClassificationSettings

def peak():  # of this program: getrusage's begins with that of its parent
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))

def epoch(folder, memory):
    data = load("images", folder, image_size=224, memory=memory)
    settings = ImageClassificationSettings(batch_size=4, reward_batch=4, eval_batch=4)
    task = ImageClassification(data, settings)
    for step in range(task.train_steps):
        task.train_batch(0, step)
    for part in ("validation", "test"):
        for batch in task._whole(part):
            pass
    return sum(len(getattr(data, part)) for part in ("train", "validation", "test")) * 3 * 224**2

epoch(sys.argv[1], 1e-9)  # all that Python, torch and Pillow take by themselves
before = peak()
allowed = float(sys.argv[3]) * 1e-9
size = epoch(sys.argv[2], allowed)
grown = peak() - before
epoch(sys.argv[2], 1e9)
print(size, grown, peak() - before)
"""


@pytest.mark.slow
def test_a_folder_twice_as_large_as_its_memory_is_read_in_less(tmp_path: Path) -> None:
    few = class_folders(tmp_path / "few", (8, 8), (224, 224), suffix="jpg")
    many = class_folders(tmp_path / "many", (130, 130), (224, 224), suffix="jpg")
    allowed = 260 * 3 * 224**2 // 2
    done = subprocess.run([sys.executable, "-c", MEASURED, few, many, str(allowed)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size, grown, whole = map(int, done.stdout.split())
    assert size == 2 * allowed
    assert grown < 1.25 * allowed  # the allocator keeps some; all bytes would be twice as many
    assert whole > 2 * size  # in memory as float32, where it may


# --------------------------------------------------------------------------------- uneven classes
@pytest.mark.slow
def test_balanced_weights_are_torchs(three: Path) -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(labels, 4)
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 0.0, 10 / 3])
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    data = load("images", three)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    for smoothing in (0.0, 0.1):
        task = task_of(data, class_weights="balanced", label_smoothing=smoothing)
        batch = task.train_batch(0, 0)
        counts = torch.tensor([14.0, 8.0, 6.0])
        own = torch.nn.functional.cross_entropy(logits, batch.y, weight=28 / (3 * counts), label_smoothing=smoothing)
        assert torch.equal(task.loss(lambda *_, **__: logits, None, batch), own)
        plain = task_of(data, label_smoothing=smoothing).loss(lambda *_, **__: logits, None, batch)
        assert torch.equal(plain, torch.nn.functional.cross_entropy(logits, batch.y, label_smoothing=smoothing))


# -------------------------------------------------------------------------------- from a preset on
def test_a_preset_takes_the_reader_of_what_the_folder_holds(three: Path, tmp_path: Path) -> None:
    plan = make_plan("digits-micro", data=three, device="cpu")
    assert (plan.settings.data.dataset, plan.settings.data.train, plan.settings.data.validation) == ("images", None, None)
    again = Plan.of(json.loads(json.dumps(plan.to_dict("search"))))
    assert again.settings == plan.settings
    assert len(again.on().load_data().train) == 28
    cifar = tmp_path / "cifar"
    (cifar / "cifar-10-batches-py").mkdir(parents=True)
    official = make_plan("cifar10-micro", data=cifar, device="cpu")
    assert official.settings == make_plan("cifar10-micro", device="cpu").settings
    with one_line(ValueError, "lacks data_batch_1", "download it again"):
        official.load_data()
    with one_line(ValueError, "holds images", "learns from text"):
        make_plan("ptb-rnn", data=three)
    asked = make_plan("digits-micro", device="cpu")
    data = asked.settings.data
    for changed in ({"validation": 9}, {"train": 21}, {"image_size": 8, "fit": "crop"}):
        settings = asked.with_settings(data=type(data)(**vars(data) | changed)).settings
        plan = make_plan("digits-micro", settings=settings, data=three, device="cpu")
        assert vars(plan.settings.data).items() >= changed.items()
        assert plan.settings.data.dataset == "images"
        plan.load_data()
    named = asked.with_settings(data=type(data)("arrays")).settings
    assert make_plan("digits-micro", settings=named, data=three, device="cpu").settings.data.dataset == "arrays"
    for words, wrong in (("'tokens'", {"tokens": "characters"}),):
        text = make_plan("text-rnn", device="cpu")
        settings = text.with_settings(data=type(text.settings.data)("topics", **wrong)).settings
        with one_line(ValueError, words, "'topics'"):
            make_plan("text-rnn", settings=settings, device="cpu").load_data()


SMALL = (
    "--threads 1 --epochs 1 --space.num-nodes 2 --network.filters 4 --retrain.network.filters 4 --search.warmup-epochs 0"
)
SMALL += " --search.controller-steps 1 --search.architectures 2 --task.batch-size 20 --retrain.task.batch-size 20"
SMALL += " --search.probes 0 --derive.samples 2 --derive.keep 1 --derive.finalists 0 --derive.uniform 0 --retrain.epochs 1"


def enas(line: str) -> None:
    assert main(line.split()) == 0, line


@pytest.mark.slow
def test_a_folder_is_searched_on(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enas(f"data look {three}")
    enas(f"search digits-micro --data {three} --out {tmp_path / 'run'} --data.memory 1e-9 {SMALL}")
    said = capsys.readouterr().out
    assert said.count("class folders: 3 classes, 40 images of 12x12 pixels") == 2
    assert "streams from disk" in said
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["data"]["dataset"] == "images"


@pytest.mark.slow
def test_a_folder_goes_the_whole_way(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: None
) -> None:
    """Also with workers and after a stop: to the same bytes as in one go, from memory."""
    runs = tmp_path / "a", tmp_path / "b"
    enas(f"search digits-micro --data {three} --out {runs[0]} {SMALL.replace('--epochs 1', '--epochs 2')}")
    streamed = f"search digits-micro --data {three} --out {runs[1]} --data.memory 1e-9 --data.workers 2 {SMALL}"
    enas(f"{streamed.replace('--epochs 1', '--epochs 2')} --max-time 0.01s")
    enas(f"resume {runs[1]}")
    for run in runs:
        enas(f"derive {run}")
        enas(f"retrain {run}")
    enas(f"compare {runs[1]} --cells 2 --seeds 2")
    assert "verdict" in capsys.readouterr().out
    for name in ("metrics.jsonl", "architectures.jsonl", "retrained.json"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(  # any two kinds together
    ("side", "channels", "classes"), [(64, 1, 2), (64, 4, 100), (224, 1, 100), (224, 4, 2)]
)
def test_an_epoch_of_every_kind_of_folder(side: int, channels: int, classes: int, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "data", [5 if classes == 100 else 20] * classes, (side, side), channels)
    size = {64: 64, 224: 32}[side]
    size = 224 if (side, classes) == (224, 2) else size
    stem = " --network.stem-stride 2"
    enas(f"search cifar10-micro --data {root} --out {tmp_path / 'run'} --data.image-size {size} {SMALL}{stem}")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["data"]["dataset"] == "images"


@pytest.mark.slow
def test_the_lines_of_the_page_run(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers").symlink_to(three)
    x, y = some_arrays()
    np.savez("mine.npz", images=x, labels=y)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "book.txt").write_text("the cat sat on the mat\r" * 300)
    lines = [line for some in markdown(ROOT / "docs" / "data.md").values() for line in some]
    words = (
        "--threads 1 --epochs 1 --network.hidden 8 --space.num-nodes 2 --search.warmup-epochs 0 --search.controller-steps 1"
    )
    words += " --search.architectures 2 --search.probes 0 --task.batch-size 10 --task.reward-batch 4"
    ran = []
    for line in lines:
        ran += [line.split()[:2]]
        small = (words if "-rnn" in line else SMALL) if line.startswith("enas search") else ""
        enas(f"{line.removeprefix('enas ')} {small}")
    assert ran.count(["enas", "search"]) == 3
    datasets = [
        Plan.of(json.loads(file.read_text())).settings.data.dataset for file in sorted(Path("runs").glob("*/config.json"))
    ]
    assert datasets == ["text", "images", "arrays"]
