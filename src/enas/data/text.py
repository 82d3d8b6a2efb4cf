"""This module reads text as a sequence of words: Penn Treebank and WikiText-2 as published, a
folder of one's own, and the English text that comes with every Python (paper 3.1).

    data = load("ptb", "data")            # TextData: three tensors of word numbers, and the words
    data = load("text", "mine", max_vocabulary=5000)

A line is a sentence, and `<eos>` follows it. Words are numbered by frequency in the training part,
the most frequent first. In Penn Treebank and WikiText-2 each word counts, and it is an error if the
number of tokens or words is not the published one, because perplexities of different texts cannot
be compared. In a text of one's own, rare words are `<unk>`. Such a text can also be read by
characters.

In shapes, n is the number of tokens of a part, and V the number of words of the vocabulary.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from enas.data.parts import PARTS, Part

EOS, UNK = "<eos>", "<unk>"
OFFICIAL = ("train", "valid", "test")  # names of the files
OWN = (("train.txt", "ptb.train.txt"), ("valid.txt", "ptb.valid.txt", "val.txt"), ("test.txt", "ptb.test.txt"))
SENTENCE = 50  # a line with more words than this is no sentence
CUTS = (0.8, 0.9)  # shares of a text without parts at which validation and test begin
Lines = list[list[str]]  # the words of each line
Tokens = Literal["words", "characters"]


@dataclass(frozen=True, eq=False)
class TextData:
    """A `TextData` is a text in its three parts. Whatever fills one in can be searched on, be it of
    words, characters or bytes.

    Raises a ValueError where a part is not a vector of at least two numbers between 0 and V - 1.
    """

    name: str
    train: Tensor
    """Tokens (n,) int64, as indices into `vocabulary`."""
    validation: Tensor
    test: Tensor
    vocabulary: tuple[str, ...]
    about: str = ""
    """One line that says what was found and how it was read, for a text that varies."""

    def __post_init__(self) -> None:
        for name in PARTS:
            part: Tensor = getattr(self, name)
            if part.dtype != torch.int64 or part.ndim != 1 or len(part) < 2:
                raise ValueError(
                    f"a part of a text is int64 of shape (n,), at least two tokens; the {name} part of '{self.name}' has"
                    f" {part.dtype} of shape {tuple(part.shape)}"
                )
            low, high = int(part.min()), int(part.max())
            if low < 0 or high >= len(self.vocabulary):
                raise ValueError(
                    f"tokens are 0 to {len(self.vocabulary) - 1}, as there are {len(self.vocabulary)} words; the {name}"
                    f" part of '{self.name}' has {low} to {high}"
                )

    @property
    def counts(self) -> dict[str, int]:
        """Returns the number of tokens of each part."""
        return {name: len(getattr(self, name)) for name in PARTS}


# ------------------------------------------------------------------------------- registered texts
PTB_COUNTS = (929_589, 73_760, 82_430, 10_000)  # tokens per part, words (Zaremba et al. 2014)
WIKITEXT2_COUNTS = (2_088_628, 217_646, 245_569, 33_278)  # (Merity et al. 2017)


def load_ptb(folder: str | Path, train: int | None = None) -> TextData:
    """Returns the Penn Treebank in Mikolov's preprocessing (paper 3.1).

    `folder` holds `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`, with or without `ptb.`, or a
    folder `ptb` or `simple-examples/data` (Mikolov's archive, unpacked) with these files. `train`
    keeps only so many first tokens of the training part. Raises a ValueError where files are
    missing, damaged or of another text.
    """
    names = [(f"ptb.{part}.txt", f"{part}.txt") for part in OFFICIAL]
    files = _find(Path(folder), ("", "ptb", "simple-examples/data"), names, "Penn Treebank", "ptb")
    return _as_published("ptb", "Penn Treebank", [_sentences(_read(f)) for f in files], files, PTB_COUNTS, train)


def load_wikitext2(folder: str | Path, train: int | None = None) -> TextData:
    """Returns WikiText-2 at word level (Merity et al. 2017), where empty lines count as sentences.

    `folder` holds `wiki.train.tokens`, `wiki.valid.tokens` and `wiki.test.tokens`, or a folder
    `wikitext-2` with these files, or the published `wikitext-2-v1.zip`. `train` keeps only so many
    first tokens of the training part. Raises a ValueError where files are missing, damaged or of
    another text.
    """
    names = [f"wiki.{part}.tokens" for part in OFFICIAL]
    archive = Path(folder) / "wikitext-2-v1.zip"
    places = [Path(folder) / place / name for place in ("wikitext-2", "") for name in names]
    if archive.is_file() and not any(path.is_file() for path in places):
        files = [archive / "wikitext-2" / name for name in names]
        texts = _read_zip(archive, [f"wikitext-2/{name}" for name in names])
    else:
        files = _find(Path(folder), ("wikitext-2", ""), [(name,) for name in names], "WikiText-2", "wikitext2")
        texts = [_read(file) for file in files]
    lines = [_sentences(text, empty=True) for text in texts]
    return _as_published("wikitext2", "WikiText-2", lines, files, WIKITEXT2_COUNTS, train)


def load_text(
    folder: str | Path,
    train: int | None = None,
    max_vocabulary: int = 10_000,
    min_count: int = 2,
    tokens: Tokens = "words",
) -> TextData:
    """Returns a text of one's own, in UTF-8, with a sentence per line and spaces between words.
    Lines end with `\\n`, `\\r\\n` or `\\r`. Empty lines are skipped where words are read.

    `folder` holds `train.txt`, `valid.txt` and `test.txt` (or `ptb.train.txt` and so on). It may
    also hold other `.txt` files, or be one: then the last two tenths of the text validate and test.
    The other arguments are as in `TextSettings`. Raises a ValueError where files are missing, empty
    or not text.
    """
    path = Path(folder)
    texts = [path] if path.is_file() else sorted(path.glob("*.txt"))
    if path.is_file() or (texts and not any((path / name).is_file() for names in OWN for name in names)):
        whole = "\n".join(_read(file) for file in texts)
        names = ", ".join(file.name for file in texts[:3]) + (", ..." if len(texts) > 3 else "")
        return own_text("text", {"train": whole}, path, f"text: {names}", train, max_vocabulary, min_count, tokens)
    files = _find(path, ("",), OWN, "text", None)
    parts = {part: _read(file) for part, file in zip(PARTS, files, strict=True)}
    return own_text("text", parts, files, "text: three files", train, max_vocabulary, min_count, tokens)


def own_text(
    name: str,
    texts: Mapping[Part, str],
    where: Path | Sequence[Path],
    about: str,
    train: int | None,
    max_vocabulary: int,
    min_count: int,
    tokens: Tokens,
) -> TextData:
    """Returns the words or characters of texts that are given by part. Parts that are missing are
    cut off the end of the training text, a tenth each. `where` holds the files, for errors."""
    lines = {part: _own_lines(text, tokens) for part, text in texts.items()}
    about += f", by {tokens}"
    alone = len(lines["train"]) == 1 and (len(texts) == 1 or len(lines["train"][0]) > SENTENCE)
    if tokens == "words" and alone:
        place = where if isinstance(where, Path) else where[0]
        warnings.warn(
            f"'{place}' is one sentence of {len(lines['train'][0]):,} words: put every sentence on a line of its own, or"
            " read characters with --data.tokens characters",
            stacklevel=3,
        )
    missing = [part for part in PARTS if part not in lines]
    if missing:
        pieces = _cut(lines["train"], CUTS[-len(missing) :])
        lines |= dict(zip(("train", *missing), pieces, strict=True))
        about += f"; the last tenths of the training text are kept for {' and '.join(missing)}"
    files = [where] * len(PARTS) if isinstance(where, Path) else where
    data = _by_frequency(name, [lines[part] for part in PARTS], files, train, max_vocabulary, min_count)
    return replace(data, about=about)


def _own_lines(text: str, tokens: Tokens) -> Lines:
    lines = re.split(r"\r\n|\r|\n", text)
    if tokens == "words":
        return [words for line in lines if (words := line.split())]
    return [list(line) for line in lines[: None if lines[-1] else -1]]


def _cut(lines: Lines, shares: Sequence[float]) -> list[Lines]:
    """Returns a text in pieces that end after these shares of its tokens. A piece ends at the end
    of a line, or within a line where there are too few lines."""
    ends = list(accumulate(len(line) + 1 for line in lines))
    at = [sum(end < share * ends[-1] for end in ends) + 1 for share in shares] if ends else []
    pieces = [lines[a:b] for a, b in pairwise([0, *at, len(lines)])]
    if all(any(piece) for piece in pieces):
        return pieces
    words = [word for line in lines for word in line]
    at = [int(share * len(words)) for share in shares]
    return [[words[a:b]] for a, b in pairwise([0, *at, len(words)])]


def load_topics(train: int | None = None, max_vocabulary: int = 2000, min_count: int = 2) -> TextData:
    """Returns the help texts about Python, `pydoc_data.topics`, with about 58,000 words to train
    on. They differ between versions of Python, so runs record `topics_source()`.

    Whole topics are kept apart for validation and test (about a tenth each). Of equal paragraphs
    only the first stays, so that nothing that is trained on is tested on. Tokens are words in lower
    case, numbers, and single punctuation marks. The arguments are as in `TextSettings`.
    """
    parts = _topic_parts(_topics())
    files = [Path(f"pydoc_data.topics ({name})") for name in PARTS]
    return _by_frequency("topics", parts, files, train, max_vocabulary, min_count)


def topics_source() -> dict[str, str]:
    """Returns which text `load_topics` reads: Python's version and the SHA-256 of the topics."""
    text = "\0".join(part for item in sorted(_topics().items()) for part in item)
    return {"python": platform.python_version(), "sha256": hashlib.sha256(text.encode()).hexdigest()}


# ---------------------------------------------------------------------------------------- reading
def _find(folder: Path, places: Sequence[str], names: Sequence[Sequence[str]], what: str, get: str | None) -> list[Path]:
    """Returns the three files in the first of `places` that has any of them. Each file goes by the
    first of its names that is there."""
    for place in places:
        here = folder / place
        files = [next((here / name for name in choice if (here / name).is_file()), None) for choice in names]
        if any(files):
            for file, choice in zip(files, names, strict=True):
                if file is None:
                    raise ValueError(f"{what} is three files, and '{here}' has no {' or '.join(choice)}")
            return [file for file in files if file is not None]
    expected = ", ".join(choice[0] for choice in names)
    how = f"; `enas data get {get} --data {folder}` downloads it" if get else ""
    raise ValueError(f"no {what} in '{folder}': expected {expected}{how}")


def _read(file: Path) -> str:
    return _decode(file.read_bytes(), file)


def _decode(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"a text is UTF-8; '{file}' is not, at byte {error.start:,} ({error.reason})") from None


def _read_zip(archive: Path, names: Sequence[str], most: int = 64 << 20) -> list[str]:
    """Returns the texts of files in an archive, at most `most` bytes each, without writing to
    disk."""
    texts = []
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in names:
                with packed.open(name) as file:
                    data = io.BytesIO(file.read(most + 1)).getvalue()
                if len(data) > most:
                    raise ValueError(f"{name} of WikiText-2 has at most {most:,} bytes; '{archive}' has more")
                texts.append(_decode(data, archive / name))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"'{archive}' is not a whole WikiText-2 ({str(error).strip(chr(39))}): download it again"
        ) from None
    return texts


def _sentences(text: str, empty: bool = False) -> Lines:
    """Returns the words of each line. With `empty`, empty lines count too."""
    lines = text.removesuffix("\n").split("\n")
    words = [line.split() for line in lines]
    return words if empty else [line for line in words if line]


# ----------------------------------------------------------------------------------- vocabularies
def _ranked(lines: Lines) -> list[tuple[str, int]]:
    """Returns the words and `<eos>` with their counts, the most frequent first, and equally
    frequent ones by alphabet."""
    counts = Counter(word for line in lines for word in line)
    counts[EOS] += len(lines)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _numbers(lines: Lines, vocabulary: Iterable[str], outside: Callable[[int, str], int]) -> Tensor:
    """Returns the tokens of all lines as numbers (n,) int64. `outside(line, word)` returns the
    number of a word that is not in the vocabulary."""
    place = {word: number for number, word in enumerate(vocabulary)}
    numbers: list[int] = []
    for at, line in enumerate(lines):
        for word in line:
            number = place.get(word)
            numbers.append(outside(at, word) if number is None else number)
        numbers.append(place[EOS])
    return torch.tensor(numbers, dtype=torch.int64)


def _check_not_empty(parts: Sequence[Lines], files: Sequence[Path]) -> None:
    for lines, file in zip(parts, files, strict=True):
        if not any(lines):
            raise ValueError(f"each part of a text has words; '{file}' has none")


def _first(tokens: Tensor, train: int | None, name: str) -> Tensor:
    if train is not None and not 2 <= train <= len(tokens):
        raise ValueError(f"2 to {len(tokens):,} tokens of '{name}' can be trained on; got {train:,}")
    return tokens[:train]


def _as_published(
    name: str, title: str, parts: Sequence[Lines], files: Sequence[Path], counts: tuple[int, ...], train: int | None
) -> TextData:
    """Returns a published text, in which every word of the training part counts. Raises a
    ValueError where its numbers of tokens and words are not the published ones."""
    _check_not_empty(parts, files)
    vocabulary = tuple(word for word, _ in _ranked(parts[0]))
    own_counts = (*(sum(map(len, lines)) + len(lines) for lines in parts), len(vocabulary))
    if own_counts != counts:
        texts = [f"{' / '.join(f'{n:,}' for n in some[:3])} tokens and {some[3]:,} words" for some in (counts, own_counts)]
        raise ValueError(
            f"{title} has {texts[0]}; '{files[0].parent}' has {texts[1]}: get the official files, or read it as data set"
            " 'text', with a vocabulary of its own"
        )

    def refuse(file: Path) -> Callable[[int, str], int]:
        def outside(line: int, word: str) -> int:
            raise ValueError(
                f"{title} has {counts[3]:,} words, all in its training part; line {line + 1} of '{file}' has"
                f" {word[:40]!r}: get the official files"
            )

        return outside

    numbers = [_numbers(lines, vocabulary, refuse(file)) for lines, file in zip(parts, files, strict=True)]
    return TextData(name, _first(numbers[0], train, name), numbers[1], numbers[2], vocabulary)


def _by_frequency(
    name: str, parts: Sequence[Lines], files: Sequence[Path], train: int | None, max_vocabulary: int, min_count: int
) -> TextData:
    """Returns a text that keeps the most frequent words of the training part. All other words, in
    every part, are `<unk>`."""
    _check_not_empty(parts, files)
    if max_vocabulary < 2 or min_count < 1:
        raise ValueError(
            f"max_vocabulary is at least 2, for {EOS} and {UNK}, and min_count at least 1; got {max_vocabulary} and"
            f" {min_count}"
        )
    ranked = _ranked(parts[0])
    common = [word for word, count in ranked if word not in (EOS, UNK) and count >= min_count]
    kept = {EOS, UNK, *common[: max_vocabulary - 2]}
    vocabulary = (*(word for word, _ in ranked if word in kept), *([UNK] if UNK not in dict(ranked) else []))
    unknown = vocabulary.index(UNK)
    numbers = [_numbers(lines, vocabulary, lambda line, word: unknown) for lines in parts]
    return TextData(name, _first(numbers[0], train, name), numbers[1], numbers[2], vocabulary)


# ----------------------------------------------------------------------------------------- topics
def _topics() -> Mapping[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError(
            "data set 'topics' is the module pydoc_data of Python's standard library; this Python comes without it: use a"
            " text of your own, `--data.dataset text`"
        ) from None
    return topics


def _topic_parts(topics: Mapping[str, str]) -> list[Lines]:
    """Returns the lines of each part. Topics are dealt to the parts in the order of their names'
    hashes."""
    seen: set[tuple[str, ...]] = set()
    lines: dict[str, Lines] = {}
    for topic in sorted(topics):
        lines[topic] = []
        for paragraph in _paragraphs(topics[topic]):
            sentences = [
                words for sentence in re.split(r'(?<=[.!?])\s+(?=[A-Z"])', paragraph) if (words := _words(sentence))
            ]
            key = tuple(word for words in sentences for word in words)
            if key not in seen:
                seen.add(key)
                lines[topic] += sentences
    sizes = {topic: sum(map(len, sentences)) for topic, sentences in lines.items()}
    most = sum(sizes.values()) / 10
    parts: dict[Part, Lines] = {part: [] for part in PARTS}
    filled = dict.fromkeys(PARTS, 0)
    for topic in sorted(topics, key=lambda name: hashlib.sha256(name.encode()).digest()):
        fits = [part for part in ("test", "validation") if filled[part] + sizes[topic] <= most]
        part: Part = fits[0] if fits else "train"  # type: ignore[assignment]
        parts[part] += lines[topic]
        filled[part] += sizes[topic]
    return [parts[part] for part in PARTS]


def _paragraphs(text: str) -> list[str]:
    """Returns the paragraphs of a text, without the rules of headings and tables."""
    kept = (line for line in text.split("\n") if not re.fullmatch(r"[\s*=~+|-]*([*=~-])\1{2}[\s*=~+|-]*", line))
    return re.split(r"\n\s*\n", "\n".join(kept))


def _words(text: str) -> list[str]:
    """Returns the words of a text, without the marks around code, around stressed words and around
    cells of tables."""
    return re.findall(r"[^\W\d]+|\d+|[^\w\s*|\"]", text.lower())
