"""Clinics, delegations, by which a user acts for another owner, and the notices that tell users of them."""
