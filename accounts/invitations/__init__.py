"""Invitations: with REGISTRATION=invite only who has one can register."""
