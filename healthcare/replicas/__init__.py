"""Reads on standbys of PostgreSQL (DATABASE_REPLICA_URL), which answer what the primary would.

A read first runs on a replica, under row-level security as its caller claims to be. One message to the primary then
checks the caller's session, and the delegation, that no change of the owner's records is missing on the replica, and
records the access. Only then is the answer sent. Otherwise the primary reads.

`OwnerWrite` holds the transactions that have changed records of an owner. A snapshot of the replica has all these
changes if every transaction up to the last of them has ended in it.
"""
