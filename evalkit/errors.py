"""Everything that evalkit raises on purpose.

EvalkitError                  base: the message says what was expected, what came and what to do
├── ConfigError               a setting is missing, unknown or contradicts another
├── DataError                 an annotation file or folder is missing or malformed
│   └── VideoError            one video cannot be opened or decoded (recorded as failed rows, never ends a run)
│       └── DecoderKilledError   the process that decoded it crashed, or was killed at its deadline
├── MethodError               a method returned something that its contract forbids
├── ModelError                numbers or a cache of the model that no answer can rest on (recorded as failed rows)
├── RunLockedError            another process is writing to the same run folder
├── SystematicError           every video fails for one reason, so the run was stopped: what is stored stands
└── StorageError              the machine stopped the work (a full disk, too many open files): what is stored stands
"""

from __future__ import annotations


class EvalkitError(Exception):
    """Base of all errors that evalkit raises on purpose."""


class ConfigError(EvalkitError):
    """A setting is missing, unknown or contradicts another."""


class DataError(EvalkitError):
    """An annotation file or data folder is missing or malformed."""


class VideoError(DataError):
    """One video cannot be opened or decoded."""


class DecoderKilledError(VideoError):
    """The process that decoded a video crashed, or was killed at its deadline."""


class MethodError(EvalkitError):
    """A method returned something that its contract forbids."""


class ModelError(EvalkitError):
    """The model gave numbers, or left a cache, that no answer can rest on."""


class RunLockedError(EvalkitError):
    """Another process is writing to the same run folder."""


class SystematicError(EvalkitError):
    """Every video fails for one reason that is not its own; the run was stopped, and what is stored stands."""


class StorageError(EvalkitError):
    """A full disk, too many open files, or a file changed by others stopped the work; what is stored stands."""
