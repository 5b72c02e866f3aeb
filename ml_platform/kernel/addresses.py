"""Addresses as people may see them."""

import re


def without_password(text: str) -> str:
    """Words without the passwords of the addresses in them, and without options that might be one."""
    text = re.sub(r"(\w+://[^\s/@:\[]*):\S*@", r"\1:***@", text)
    return re.sub(r"(\w+://[^\s?]*)\?\S+", r"\1?…", text)
