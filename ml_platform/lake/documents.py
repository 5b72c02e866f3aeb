"""Files of the lake that are no tables, such as reports: written whole, found by their path below the root.

They lie beside the tables, never inside one: a vacuum removes what a table's log does not name from its folder.
"""

from uuid import uuid4

import pyarrow.fs as pa_fs

from ml_platform.lake.object_store import answering
from ml_platform.lake.tables import Lake


def write(lake: Lake, path: str, content: bytes) -> str:
    """Write a document in the place of the one before, if there was one; its URI.

    Who reads meanwhile gets the old one or the new one, whole: an object store shows an object when it is complete,
    and a folder gets the file by renaming. Raises StoreError for a store that does not take it.
    """
    store, base = lake.filesystem
    target = f"{base.rstrip('/')}/{path}"
    with answering(lake.root):
        if isinstance(store, pa_fs.LocalFileSystem):
            _replace(store, target, content)
        else:
            _put(store, target, content)
    return uri(lake, path)


def read(lake: Lake, path: str) -> bytes | None:
    """The content of a document, or None when there is none of this path; StoreError as of `Lake.files`."""
    store, base = lake.filesystem
    with answering(lake.root):
        try:
            with store.open_input_stream(f"{base.rstrip('/')}/{path}") as stream:
                return stream.read()
        except FileNotFoundError:
            lake.require_place()
            return None


def names(lake: Lake, folder: str) -> list[str]:
    """Names of the documents directly in a folder, in order; StoreError as of `Lake.files`."""
    store, base = lake.filesystem
    wanted = pa_fs.FileSelector(f"{base.rstrip('/')}/{folder}", allow_not_found=True)
    with answering(lake.root):
        found = [info.base_name for info in store.get_file_info(wanted) if info.is_file]
    if not found:
        lake.require_place()
    return sorted(name for name in found if not name.startswith("."))


def uri(lake: Lake, path: str) -> str:
    """Where a document is, or would be: a path of this machine, or a URI."""
    return f"{lake.root.rstrip('/')}/{path}"


def _put(store: pa_fs.FileSystem, path: str, content: bytes) -> None:
    with store.open_output_stream(path) as stream:
        stream.write(content)


def _replace(store: pa_fs.FileSystem, path: str, content: bytes) -> None:
    folder, _, name = path.rpartition("/")
    store.create_dir(folder, recursive=True)
    unfinished = f"{folder}/.{name}.{uuid4().hex}"
    _put(store, unfinished, content)
    store.move(unfinished, path)
