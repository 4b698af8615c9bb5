"""Rows: where they lie, how their files are read, and how they come here.

A source plugin finds here what it needs to turn files into rows:

    from harness.data import FileOptions, find_split, make_rows, read_all
"""

from __future__ import annotations

from harness.data.arrow import read_saved, rows_of_table
from harness.data.audio import open_sound, wav_bytes
from harness.data.data_file import DataFile
from harness.data.download import Server, Unreachable, cache_folder
from harness.data.file_options import FileOptions
from harness.data.folders import (
    card_config,
    card_files,
    find_files,
    find_split,
    inside,
    is_data_folder,
    is_name_of,
    match_files,
    missing,
    split_of_file,
    stem_of_file,
)
from harness.data.formats import is_data_file, read_all, read_rows
from harness.data.locations import (
    BUILDERS,
    FileSource,
    HubSplit,
    data_files,
    file_source,
    hub_split,
    is_hub_id,
    local_path,
    mirror_folders,
)
from harness.data.open import dataset_title, fingerprint, make_rows, open_dataset, remedy
from harness.data.video import frames_as_images
from harness.spool import Spool

__all__ = [
    "BUILDERS",
    "DataFile",
    "FileOptions",
    "FileSource",
    "HubSplit",
    "Server",
    "Spool",
    "Unreachable",
    "cache_folder",
    "card_config",
    "card_files",
    "data_files",
    "dataset_title",
    "file_source",
    "find_files",
    "find_split",
    "fingerprint",
    "frames_as_images",
    "hub_split",
    "inside",
    "is_data_file",
    "is_data_folder",
    "is_hub_id",
    "is_name_of",
    "local_path",
    "make_rows",
    "match_files",
    "mirror_folders",
    "missing",
    "open_dataset",
    "open_sound",
    "read_all",
    "read_rows",
    "read_saved",
    "remedy",
    "rows_of_table",
    "split_of_file",
    "stem_of_file",
    "wav_bytes",
]
