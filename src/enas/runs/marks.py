"""This module marks the user's own runs. It does not import torch.

A run may name code, `package.module:thing`, which is imported wherever the run goes on. So whoever
wrote the folder would choose what runs here. That is why the `config.json` of such a run has a
mark, which only this user's key can make. Without it, the user is asked before the code is imported
(`enas.plugins`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from enas.plugins import dotted, trust
from enas.state import Values


def _key(make: bool) -> bytes | None:
    """Returns the user's key, and with `make` makes it where it is missing. Returns None where
    there is no key, or no place for one. Then the user is asked about every run."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    file = Path(home) / "enas" / "key"
    try:
        if make and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(secrets.token_bytes(32))
        key = file.read_bytes()
    except OSError:
        return None
    return key if len(key) == 32 else None


def marked(config: Values) -> dict[str, object]:
    """Returns a config.json with a mark, where it names code."""
    plain = {name: value for name, value in config.items() if name != "mark"}
    names = dotted(plain)
    if not names or (key := _key(make=True)) is None:
        return plain
    return {**plain, "mark": _mark(key, names)}


def trust_own(config: Values) -> None:
    """Lets the code that a config.json names be imported, where the file has this user's mark."""
    names = dotted({name: value for name, value in config.items() if name != "mark"})
    key, said = _key(make=False) if names else None, str(config.get("mark"))
    if key is not None and hmac.compare_digest(_mark(key, names).encode(), said.encode()):
        trust(*names)


def _mark(key: bytes, names: frozenset[str]) -> str:
    return hmac.new(key, json.dumps(sorted(names)).encode(), hashlib.sha256).hexdigest()
