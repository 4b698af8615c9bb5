"""What is asked: task files, rows, prompts, few-shot examples.

A source plugin finds here what it needs to turn files into rows:

    from harness.tasks import FileOptions, find_split, make_rows, read_all
"""

from __future__ import annotations

from harness.tasks.arrow import read_saved, rows_of_table
from harness.tasks.data import dataset_title, fingerprint, make_rows, open_dataset, remedy
from harness.tasks.download import Server, cache_folder
from harness.tasks.formats import DataFile, FileOptions, is_data_file, read_all, read_rows
from harness.tasks.layout import (
    BUILDERS,
    FileSource,
    HubSplit,
    data_files,
    file_source,
    find_files,
    find_split,
    hub_split,
    inside,
    is_data_folder,
    is_hub_id,
    match_files,
    mirror_folders,
    missing,
    same_split,
    split_of_file,
)

__all__ = [
    "BUILDERS",
    "DataFile",
    "FileOptions",
    "FileSource",
    "HubSplit",
    "Server",
    "cache_folder",
    "data_files",
    "dataset_title",
    "file_source",
    "find_files",
    "find_split",
    "fingerprint",
    "hub_split",
    "inside",
    "is_data_file",
    "is_data_folder",
    "is_hub_id",
    "make_rows",
    "match_files",
    "mirror_folders",
    "missing",
    "open_dataset",
    "read_all",
    "read_rows",
    "read_saved",
    "remedy",
    "rows_of_table",
    "same_split",
    "split_of_file",
]
