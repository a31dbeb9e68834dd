"""The second factor of a login: time-based codes (TOTP, RFC 6238) and recovery codes."""
