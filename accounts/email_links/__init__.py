"""What a link in an e-mail confirms: a new password, the e-mail of an account, and a change to another e-mail."""
