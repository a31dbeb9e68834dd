"""Answers that DRF has no exception for."""

from rest_framework import exceptions


class Conflict(exceptions.APIException):
    status_code = 409
    default_detail = "Something else depends on this."
    default_code = "conflict"


class PayloadTooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The body is too large."
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    status_code = 503
    default_detail = "The database is not available at the moment; try again soon."
    default_code = "unavailable"
