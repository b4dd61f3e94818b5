"""The folder that leaves the house: a network, its plan and its documents, written atomically and read safely."""

from tenfold.storage.document import JSON, Document, Origin
from tenfold.storage.folder import check_plan, load, read_document, read_plan, read_report, save, versions, with_sources
from tenfold.storage.lock import alone, holding
from tenfold.storage.replace import (
    check_ours,
    check_replaceable,
    check_writable,
    is_folder,
    placing,
    write_bytes,
    write_text,
    writing,
)
from tenfold.storage.tensors import check_storable

__all__ = [
    "JSON", "Document", "Origin", "alone", "check_ours", "check_plan", "check_replaceable", "check_storable",
    "check_writable", "holding", "is_folder", "load", "placing", "read_document", "read_plan", "read_report",
    "save", "versions", "with_sources", "write_bytes", "write_text", "writing",
]  # fmt: skip
