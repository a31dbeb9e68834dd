"""Clinics, delegations, by which a user acts for another owner, and the notices about them."""
