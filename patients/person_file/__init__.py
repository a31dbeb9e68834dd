"""The file of one person: everything that is stored about a patient, as a ZIP archive (GDPR articles 15 and 20)."""
