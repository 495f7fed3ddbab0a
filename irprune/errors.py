"""Every error that irprune raises on purpose, with the exit code of the command line."""

from __future__ import annotations

EXIT_CHECK = 1
EXIT_USAGE = 2
EXIT_MODEL = 3


class IrpruneError(Exception):
    """Base of all errors that a user can act on; the command line prints it on one line."""

    exit_code = EXIT_USAGE


class UsageError(IrpruneError):
    """A missing file, a bad option or value, or unusable data."""

    exit_code = EXIT_USAGE


class DataError(UsageError):
    """Structures or labels that cannot be used as they are."""


class ModelFileError(IrpruneError):
    """A model file that cannot be read, is not trusted or is not supported."""

    exit_code = EXIT_MODEL


class CheckFailed(IrpruneError):
    """A verification step measured more than its tolerance."""

    exit_code = EXIT_CHECK


class IrrepsTypeError(IrpruneError):
    """Two values meet whose irreps types do not fit; names both nodes."""

    exit_code = EXIT_MODEL


class UnknownForm(IrrepsTypeError):
    """A call that may well be equivariant, in a form that its OpDef does not know: a barrier."""


class BarrierError(IrpruneError):
    """An operation without an OpDef stands where one is needed."""

    exit_code = EXIT_MODEL


class ExactnessError(IrpruneError):
    """An exact transformation found that it would not be exact, and declined."""


class LegalityError(UsageError):
    """A structure that the chosen target cannot express."""


class PipelineError(UsageError):
    """A pass pipeline that does not parse, or whose requirements are not met."""


class TextError(UsageError):
    """Text of a graph that cannot be read; names line and column."""
