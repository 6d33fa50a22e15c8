"""Folders of results: what in them this package wrote, and how results get there whole or not at all."""

from zfkernels.output.files import flush_folder, replacing, to_json, write_json, write_whole
from zfkernels.output.folder import HOME, claim, refuse_foreign, staged, working_in
from zfkernels.output.guard import check_file, check_out, local_paths

__all__ = [
    "HOME",
    "check_file",
    "check_out",
    "claim",
    "flush_folder",
    "local_paths",
    "refuse_foreign",
    "replacing",
    "staged",
    "to_json",
    "working_in",
    "write_json",
    "write_whole",
]
