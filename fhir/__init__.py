"""FHIR R4 (4.0.1) at /fhir: the same records, in the words of https://hl7.org/fhir/R4/."""
