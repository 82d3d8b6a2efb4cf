"""Downloads a data set from where its authors publish it, and checks it against a known checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 30  # seconds without an answer


@dataclass(frozen=True)
class Source:
    """A published file."""

    url: str
    file: str
    """Its name in the folder it is downloaded to."""
    sha256: str
    size: int
    """Bytes."""


SOURCES = {
    "cifar10": Source(
        # The page of the data set gives the MD5, c58f30108f718f92721af3b95e74349a.
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        file="cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        size=170_498_071,
    ),
}


def get(name: str, folder: str | Path, source: Source | None = None) -> Path:
    """Download `name` into `folder`, which is made where it is missing; a terminal shows progress. Returns the file.

    A file that is there already, and whole, is not downloaded again. The file gets its name when its checksum is right,
    not before. source: another place to get it from. ValueError where there is nothing to download or the checksum is
    wrong, OSError where the network or the disk fails; one line each.
    """
    import pooch  # slow to import, as are its requests
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    if source is None:
        if name not in SOURCES:
            raise ValueError(f"one can download {', '.join(SOURCES)}; got '{name}'")
        source = SOURCES[name]
    target = Path(folder) / source.file
    advice = f"try again, or put {source.file} into '{folder}' by other means"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    level = pooch.get_logger().level
    pooch.get_logger().setLevel("WARNING")  # it would name the file on stderr, in the middle of the bar
    try:
        with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
            task = progress.add_task(source.file, total=source.size)

            # pooch has a downloader of its own, which leaves the connection open when it fails.
            def fetch(url: str, into: str, _: Any) -> None:
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
    except requests.RequestException as error:  # its text runs over several names of classes
        kind = type(error).__name__
        raise OSError(f"'{source.url}' cannot be downloaded, the connection failed ({kind}): {advice}") from None
    except ValueError:  # of pooch: the checksum
        raise ValueError(
            f"'{source.url}' is not the file it should be (its SHA-256 is another), so it was deleted: {advice}"
        ) from None
    except OSError as error:
        raise OSError(f"'{target}' cannot be written: {error.strerror or error}") from None
    finally:
        pooch.get_logger().setLevel(level)
    return target
