"""The lists of codes and type names that R4 fixes (https://hl7.org/fhir/R4/terminologies-valuesets.html)."""


def codes_in(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PRIMITIVE_TYPES = codes_in("""
    base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt string time
    unsignedInt uri url uuid
""")

OPEN_TYPES = PRIMITIVE_TYPES + codes_in("""
    Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count Distance Duration HumanName Identifier
    Money Period Quantity Range Ratio Reference SampledData Signature Timing ContactDetail Contributor DataRequirement
    Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage Meta
""")  # https://hl7.org/fhir/R4/datatypes.html#open

RESOURCE_TYPES = codes_in("""
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
    "address-type": codes_in("postal physical both"),
    "address-use": codes_in("home work temp old billing"),
    "administrative-gender": codes_in("male female other unknown"),
    "all-types": RESOURCE_TYPES
    + OPEN_TYPES
    + codes_in("""
        BackboneElement Element ElementDefinition Extension MarketingStatus MoneyQuantity Narrative Population
        ProdCharacteristic ProductShelfLife SimpleQuantity SubstanceAmount xhtml Resource DomainResource Type Any
    """),
    "bundle-type": codes_in("""
        document message transaction transaction-response batch batch-response history searchset collection
    """),
    "contact-point-system": codes_in("phone fax email pager url sms other"),
    "contact-point-use": codes_in("home work temp old mobile"),
    "contributor-type": codes_in("author editor reviewer endorser"),
    "days-of-week": codes_in("mon tue wed thu fri sat sun"),
    "event-timing": codes_in("""
        MORN MORN.early MORN.late NOON AFT AFT.early AFT.late EVE EVE.early EVE.late NIGHT PHS HS WAKE C CM CD CV
        AC ACM ACD ACV PC PCM PCD PCV
    """),
    "http-verb": codes_in("GET HEAD POST PUT DELETE PATCH"),
    "identifier-use": codes_in("usual official temp secondary old"),
    "link-type": codes_in("replaced-by replaces refer seealso"),
    "name-use": codes_in("usual official temp nickname anonymous old maiden"),
    "narrative-status": codes_in("generated extensions additional empty"),
    "operation-parameter-use": codes_in("in out"),
    "quantity-comparator": codes_in("< <= >= >"),
    "related-artifact-type": codes_in("""
        documentation justification citation predecessor successor derived-from depends-on composed-of
    """),
    "search-entry-mode": codes_in("match include outcome"),
    "sort-direction": codes_in("ascending descending"),
    "trigger-type": codes_in("""
        named-event periodic data-changed data-added data-modified data-removed data-accessed data-access-ended
    """),
    "units-of-time": codes_in("s min h d wk mo a"),
}
