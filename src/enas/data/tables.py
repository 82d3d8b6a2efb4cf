"""This module reads tables, CSV or parquet, as tensors for a problem of your own (`enas.Problem`).
It needs an extra: `pip install 'enas[tables]'`.

    x, y, names = load_table("wine.csv", target="quality")

In shapes, n is the number of rows, and F the number of columns of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SUFFIXES = (".csv", ".tsv", ".parquet")
MOST_VALUES = 100  # most different words of a column, and whole numbers of a target of classes


def load_table(
    path: str | Path, target: str, train: Tensor | Sequence[int] | None = None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Returns the inputs (n, F) float32, the target (n,), and the names of the inputs' columns.

    Numbers are standardised: their mean is subtracted, and they are divided by their standard
    deviation. Both are computed over the rows `train` (indices; None: over all rows). A missing
    number becomes the mean. A column of words becomes one column of 0 and 1 for each word, also
    standardised. A column with a single value is left out.

    The target is int64 from 0, in the order of its values, where it holds words or at most 100
    different whole numbers. Otherwise it is float32, as it is. Raises a ValueError where the file
    or the column is missing, or a column cannot be used.
    """
    frame = read(Path(path))
    if target not in frame.columns:
        raise ValueError(f"the target is a column; '{path}' has {', '.join(map(str, frame.columns))}; got {target!r}")
    y = _target(frame[target], path)
    columns = {name: column for name in frame.columns if name != target for name, column in _numbers(name, frame[name])}
    if not columns:
        raise ValueError(f"a table has a column beside its target; '{path}' has '{target}' alone")
    x = torch.stack(list(columns.values()), 1)
    rows = x if train is None else x[torch.as_tensor(train)]
    if len(rows) < 2:
        raise ValueError(f"a table has at least 2 rows to standardise by; '{path}' has {len(rows)}")
    known = rows.isfinite()
    count = known.sum(0).clamp(min=1)
    mean = rows.where(known, 0.0).sum(0) / count
    std = ((rows - mean).where(known, 0.0).square().sum(0) / count).sqrt()
    kept = std > 0
    if not bool(kept.any()):
        raise ValueError(f"a table has a column that varies beside its target; '{path}' has none")
    x = ((x - mean) / std)[:, kept]
    names = tuple(name for name, keep in zip(columns, kept.tolist(), strict=True) if keep)
    return x.where(x.isfinite(), 0.0).float(), y, names


def read(path: Path) -> Any:
    """Returns the pandas frame of a file. Raises a ValueError where the file is missing, damaged or
    of another form, or where pandas is not installed."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise ValueError(f"a table is a file {', '.join(SUFFIXES)}; got '{path}'")
    try:
        import pandas as pd

        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
    except ImportError:
        raise ValueError(f"'{path}' is read by pandas and pyarrow: pip install 'enas[tables]'") from None
    except (ValueError, OSError) as error:  # parsing errors are ValueErrors
        raise ValueError(f"'{path}' cannot be read as a table: {' '.join(str(error).split())[:200]}") from None


def _target(column: Any, path: str | Path) -> Tensor:
    import pandas as pd

    if bool(column.isna().any()):
        raise ValueError(f"a target has no missing values; column '{column.name}' of '{path}' has some")
    if pd.api.types.is_float_dtype(column) or (pd.api.types.is_integer_dtype(column) and column.nunique() > MOST_VALUES):
        return torch.tensor(column.to_numpy(float), dtype=torch.float32)
    codes, _ = pd.factorize(column, sort=True)
    return torch.tensor(codes, dtype=torch.int64)


def _numbers(name: str, column: Any) -> list[tuple[str, Tensor]]:
    """Returns the name and the values (n,) float64 of each column that one column becomes."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):  # bool too
        return [(str(name), torch.tensor(column.to_numpy(float, na_value=float("nan")).copy()))]
    values = column.dropna().unique().tolist()
    if not all(isinstance(value, str | bool) for value in values) or len(values) > MOST_VALUES:
        raise ValueError(
            f"a column holds numbers, or at most {MOST_VALUES} different words; column '{name}' has {len(values):,} of"
            f" {column.dtype}: leave it out"
        )
    return [
        (f"{name}={value}", torch.tensor((column == value).to_numpy(float, na_value=0.0).copy()))
        for value in sorted(values)
    ]
