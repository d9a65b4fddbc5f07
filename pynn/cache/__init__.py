"""A store of built things on disk: by content, checked, shared by processes. Knows nothing of what it keeps."""
