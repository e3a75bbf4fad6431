"""The file: records, sections, index. Nothing outside this package knows the bytes around a payload."""
