"""A store of built things on disk: by content, checked, shared by processes. Knows nothing of what it keeps."""

from .folder import cache_folder
from .record import DISABLED, CacheRecord
from .store import Reading, Store

__all__ = ["DISABLED", "CacheRecord", "Reading", "Store", "cache_folder"]
