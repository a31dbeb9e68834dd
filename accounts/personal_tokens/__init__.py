"""Personal access tokens: what a script sends instead of logging in."""
