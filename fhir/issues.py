"""What is wrong with a resource, in the terms of OperationOutcome.issue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Issue:
    """One error: a `code` of R4's value set issue-type, and `diagnostics`, a sentence that never repeats a value.

    `expression` is the FHIRPath of the element, such as `Patient.telecom[1].value`, without the type of a choice:
    `Patient.deceased`, whether it was sent as `deceasedBoolean` or as `deceasedDateTime`.
    """

    code: str
    diagnostics: str
    expression: str = ""
