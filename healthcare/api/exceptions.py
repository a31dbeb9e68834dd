"""Answers that DRF has no exception for."""

from rest_framework import exceptions


class Conflict(exceptions.APIException):
    status_code = 409
    default_detail = "Something else depends on this."
    default_code = "conflict"


class PreconditionFailed(exceptions.APIException):
    status_code = 412
    default_detail = "The record has changed since; read it again."
    default_code = "precondition_failed"


class PayloadTooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The body is too large."
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    status_code = 503
    default_detail = "The database is not available at the moment; try again soon."
    default_code = "unavailable"
