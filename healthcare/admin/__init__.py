"""What the admin of every app is built from."""
