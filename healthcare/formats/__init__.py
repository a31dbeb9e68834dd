"""How dates and times are shown, by language: FORMAT_MODULE_PATH of the settings."""
