"""The lists of codes and type names that R4 fixes (https://hl7.org/fhir/R4/terminologies-valuesets.html)."""


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PRIMITIVE_TYPES = words("""
    base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt string time
    unsignedInt uri url uuid
""")

OPEN_TYPES = PRIMITIVE_TYPES + words("""
    Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count Distance Duration HumanName Identifier
    Money Period Quantity Range Ratio Reference SampledData Signature Timing ContactDetail Contributor DataRequirement
    Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage Meta
""")  # https://hl7.org/fhir/R4/datatypes.html#open

RESOURCE_TYPES = words("""
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic
    Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry
    ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication
    CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage
    CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric
    DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis
    Encounter Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable
    ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse
    HealthcareService ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation
    ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure MeasureReport Media Medication
    MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement
    MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
    MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged
    MedicinalProductPharmaceutical MedicinalProductUndesirableEffect MessageDefinition MessageHeader
    MolecularSequence NamingSystem NutritionOrder Observation ObservationDefinition OperationDefinition
    OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation
    Person PlanDefinition Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
    RelatedPerson RequestGroup ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject
    RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition
    StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein
    SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task
    TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription
""")

# The required bindings, but for media types and currencies, which are open: fhir/primitives.py checks their form.
VALUE_SETS: dict[str, tuple[str, ...]] = {
    "address-type": words("postal physical both"),
    "address-use": words("home work temp old billing"),
    "administrative-gender": words("male female other unknown"),
    "all-types": RESOURCE_TYPES
    + OPEN_TYPES
    + words("""
        BackboneElement Element ElementDefinition Extension MarketingStatus MoneyQuantity Narrative Population
        ProdCharacteristic ProductShelfLife SimpleQuantity SubstanceAmount xhtml Resource DomainResource Type Any
    """),
    "bundle-type": words("""
        document message transaction transaction-response batch batch-response history searchset collection
    """),
    "contact-point-system": words("phone fax email pager url sms other"),
    "contact-point-use": words("home work temp old mobile"),
    "contributor-type": words("author editor reviewer endorser"),
    "days-of-week": words("mon tue wed thu fri sat sun"),
    "event-timing": words("""
        MORN MORN.early MORN.late NOON AFT AFT.early AFT.late EVE EVE.early EVE.late NIGHT PHS HS WAKE C CM CD CV
        AC ACM ACD ACV PC PCM PCD PCV
    """),
    "http-verb": words("GET HEAD POST PUT DELETE PATCH"),
    "identifier-use": words("usual official temp secondary old"),
    "link-type": words("replaced-by replaces refer seealso"),
    "name-use": words("usual official temp nickname anonymous old maiden"),
    "narrative-status": words("generated extensions additional empty"),
    "operation-parameter-use": words("in out"),
    "quantity-comparator": words("< <= >= >"),
    "related-artifact-type": words("""
        documentation justification citation predecessor successor derived-from depends-on composed-of
    """),
    "search-entry-mode": words("match include outcome"),
    "sort-direction": words("ascending descending"),
    "trigger-type": words("""
        named-event periodic data-changed data-added data-modified data-removed data-accessed data-access-ended
    """),
    "units-of-time": words("s min h d wk mo a"),
}
