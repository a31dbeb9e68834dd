"""What FHIR R4 (4.0.1) says about the types that clients may write, and about the datatypes of those.

A line of a table is an element: name, cardinality, type and, for a code with a required binding, its value set.
`value[x]` is a choice of the types; `*` means every type that an extension may have. `Reference(A/B)` refers to
resources of type A or B. See https://hl7.org/fhir/R4/datatypes.html and the pages of the resources.
"""

from dataclasses import dataclass

from fhir.value_sets import OPEN_TYPES, PRIMITIVE_TYPES

QUANTITY = """
    value      0..1 decimal
    comparator 0..1 code quantity-comparator
    unit       0..1 string
    system     0..1 uri
    code       0..1 code
"""

# The datatypes that are an Element: they have `id` and `extension` too.
ELEMENTS: dict[str, str] = {
    "Extension": """
        url      1..1 uri
        value[x] 0..1 *
    """,
    "Narrative": """
        status 1..1 code narrative-status
        div    1..1 xhtml
    """,
    "Meta": """
        versionId   0..1 id
        lastUpdated 0..1 instant
        source      0..1 uri
        profile     0..* canonical
        security    0..* Coding
        tag         0..* Coding
    """,
    "HumanName": """
        use    0..1 code name-use
        text   0..1 string
        family 0..1 string
        given  0..* string
        prefix 0..* string
        suffix 0..* string
        period 0..1 Period
    """,
    "Identifier": """
        use      0..1 code identifier-use
        type     0..1 CodeableConcept
        system   0..1 uri
        value    0..1 string
        period   0..1 Period
        assigner 0..1 Reference(Organization)
    """,
    "ContactPoint": """
        system 0..1 code contact-point-system
        value  0..1 string
        use    0..1 code contact-point-use
        rank   0..1 positiveInt
        period 0..1 Period
    """,
    "Address": """
        use        0..1 code address-use
        type       0..1 code address-type
        text       0..1 string
        line       0..* string
        city       0..1 string
        district   0..1 string
        state      0..1 string
        postalCode 0..1 string
        country    0..1 string
        period     0..1 Period
    """,
    "Period": """
        start 0..1 dateTime
        end   0..1 dateTime
    """,
    "CodeableConcept": """
        coding 0..* Coding
        text   0..1 string
    """,
    "Coding": """
        system       0..1 uri
        version      0..1 string
        code         0..1 code
        display      0..1 string
        userSelected 0..1 boolean
    """,
    "Reference": """
        reference  0..1 string
        type       0..1 uri
        identifier 0..1 Identifier
        display    0..1 string
    """,
    "Attachment": """
        contentType 0..1 code mimetypes
        language    0..1 code
        data        0..1 base64Binary
        url         0..1 url
        size        0..1 unsignedInt
        hash        0..1 base64Binary
        title       0..1 string
        creation    0..1 dateTime
    """,
    "Quantity": QUANTITY,
    # R4 states these as profiles of Quantity; their rules are in fhir/invariants.py.
    "Age": QUANTITY,
    "Count": QUANTITY,
    "Distance": QUANTITY,
    "Duration": QUANTITY,
    "SimpleQuantity": QUANTITY,
    "Range": """
        low  0..1 SimpleQuantity
        high 0..1 SimpleQuantity
    """,
    "Ratio": """
        numerator   0..1 Quantity
        denominator 0..1 Quantity
    """,
    "Annotation": """
        author[x] 0..1 Reference(Practitioner/Patient/RelatedPerson/Organization)|string
        time      0..1 dateTime
        text      1..1 markdown
    """,
    "SampledData": """
        origin     1..1 SimpleQuantity
        period     1..1 decimal
        factor     0..1 decimal
        lowerLimit 0..1 decimal
        upperLimit 0..1 decimal
        dimensions 1..1 positiveInt
        data       0..1 string
    """,
    "Signature": """
        type         1..* Coding
        when         1..1 instant
        who          1..1 Reference(Practitioner/PractitionerRole/RelatedPerson/Patient/Device/Organization)
        onBehalfOf   0..1 Reference(Practitioner/PractitionerRole/RelatedPerson/Patient/Device/Organization)
        targetFormat 0..1 code mimetypes
        sigFormat    0..1 code mimetypes
        data         0..1 base64Binary
    """,
    "Money": """
        value    0..1 decimal
        currency 0..1 code currencies
    """,
    "Timing.repeat": """
        bounds[x]    0..1 Duration|Range|Period
        count        0..1 positiveInt
        countMax     0..1 positiveInt
        duration     0..1 decimal
        durationMax  0..1 decimal
        durationUnit 0..1 code units-of-time
        frequency    0..1 positiveInt
        frequencyMax 0..1 positiveInt
        period       0..1 decimal
        periodMax    0..1 decimal
        periodUnit   0..1 code units-of-time
        dayOfWeek    0..* code days-of-week
        timeOfDay    0..* time
        when         0..* code event-timing
        offset       0..1 unsignedInt
    """,
    "Dosage.doseAndRate": """
        type    0..1 CodeableConcept
        dose[x] 0..1 Range|SimpleQuantity
        rate[x] 0..1 Ratio|Range|SimpleQuantity
    """,
    "ContactDetail": """
        name    0..1 string
        telecom 0..* ContactPoint
    """,
    "Contributor": """
        type    1..1 code contributor-type
        name    1..1 string
        contact 0..* ContactDetail
    """,
    "DataRequirement": """
        type        1..1 code all-types
        profile     0..* canonical
        subject[x]  0..1 CodeableConcept|Reference(Group)
        mustSupport 0..* string
        codeFilter  0..* DataRequirement.codeFilter
        dateFilter  0..* DataRequirement.dateFilter
        limit       0..1 positiveInt
        sort        0..* DataRequirement.sort
    """,
    "DataRequirement.codeFilter": """
        path        0..1 string
        searchParam 0..1 string
        valueSet    0..1 canonical
        code        0..* Coding
    """,
    "DataRequirement.dateFilter": """
        path        0..1 string
        searchParam 0..1 string
        value[x]    0..1 dateTime|Period|Duration
    """,
    "DataRequirement.sort": """
        path      1..1 string
        direction 1..1 code sort-direction
    """,
    "ParameterDefinition": """
        name          0..1 code
        use           1..1 code operation-parameter-use
        min           0..1 integer
        max           0..1 string
        documentation 0..1 string
        type          1..1 code all-types
        profile       0..1 canonical
    """,
    "RelatedArtifact": """
        type     1..1 code related-artifact-type
        label    0..1 string
        display  0..1 string
        citation 0..1 markdown
        url      0..1 url
        document 0..1 Attachment
        resource 0..1 canonical
    """,
    "TriggerDefinition": """
        type      1..1 code trigger-type
        name      0..1 string
        timing[x] 0..1 Timing|Reference(Schedule)|date|dateTime
        data      0..* DataRequirement
        condition 0..1 Expression
    """,
    "UsageContext": """
        code     1..1 Coding
        value[x] 1..1 CodeableConcept|Quantity|Range|\
Reference(PlanDefinition/ResearchStudy/InsurancePlan/HealthcareService/Group/Location/Organization)
    """,
    "Expression": """
        description 0..1 string
        name        0..1 id
        language    1..1 code
        expression  0..1 string
        reference   0..1 uri
    """,
}

# Those that are a BackboneElement: they have `modifierExtension` too.
BACKBONE_ELEMENTS: dict[str, str] = {
    "Timing": """
        event  0..* dateTime
        repeat 0..1 Timing.repeat
        code   0..1 CodeableConcept
    """,
    "Dosage": """
        sequence                 0..1 integer
        text                     0..1 string
        additionalInstruction    0..* CodeableConcept
        patientInstruction       0..1 string
        timing                   0..1 Timing
        asNeeded[x]              0..1 boolean|CodeableConcept
        site                     0..1 CodeableConcept
        route                    0..1 CodeableConcept
        method                   0..1 CodeableConcept
        doseAndRate              0..* Dosage.doseAndRate
        maxDosePerPeriod         0..1 Ratio
        maxDosePerAdministration 0..1 SimpleQuantity
        maxDosePerLifetime       0..1 SimpleQuantity
    """,
    "Patient.contact": """
        relationship 0..* CodeableConcept
        name         0..1 HumanName
        telecom      0..* ContactPoint
        address      0..1 Address
        gender       0..1 code administrative-gender
        organization 0..1 Reference(Organization)
        period       0..1 Period
    """,
    "Patient.communication": """
        language  1..1 CodeableConcept
        preferred 0..1 boolean
    """,
    "Patient.link": """
        other 1..1 Reference(Patient/RelatedPerson)
        type  1..1 code link-type
    """,
    "Practitioner.qualification": """
        identifier 0..* Identifier
        code       1..1 CodeableConcept
        period     0..1 Period
        issuer     0..1 Reference(Organization)
    """,
    "Parameters.parameter": """
        name     1..1 string
        value[x] 0..1 *
        resource 0..1 Resource
        part     0..* Parameters.parameter
    """,
    "Bundle.link": """
        relation 1..1 string
        url      1..1 uri
    """,
    "Bundle.entry": """
        link     0..* Bundle.link
        fullUrl  0..1 uri
        resource 0..1 Resource
        search   0..1 Bundle.entry.search
        request  0..1 Bundle.entry.request
        response 0..1 Bundle.entry.response
    """,
    "Bundle.entry.search": """
        mode  0..1 code search-entry-mode
        score 0..1 decimal
    """,
    "Bundle.entry.request": """
        method          1..1 code http-verb
        url             1..1 uri
        ifNoneMatch     0..1 string
        ifModifiedSince 0..1 instant
        ifMatch         0..1 string
        ifNoneExist     0..1 string
    """,
    "Bundle.entry.response": """
        status       1..1 string
        location     0..1 uri
        etag         0..1 string
        lastModified 0..1 instant
        outcome      0..1 Resource
    """,
}

# The resources that are no DomainResource: they have `id`, `meta`, `implicitRules` and `language` too.
RESOURCES: dict[str, str] = {
    "Parameters": """
        parameter 0..* Parameters.parameter
    """,
    "Bundle": """
        identifier 0..1 Identifier
        type       1..1 code bundle-type
        timestamp  0..1 instant
        total      0..1 unsignedInt
        link       0..* Bundle.link
        entry      0..* Bundle.entry
        signature  0..1 Signature
    """,
}

# Those that are one: they have `text`, `contained`, `extension` and `modifierExtension` too.
DOMAIN_RESOURCES: dict[str, str] = {
    "Patient": """
        identifier           0..* Identifier
        active               0..1 boolean
        name                 0..* HumanName
        telecom              0..* ContactPoint
        gender               0..1 code administrative-gender
        birthDate            0..1 date
        deceased[x]          0..1 boolean|dateTime
        address              0..* Address
        maritalStatus        0..1 CodeableConcept
        multipleBirth[x]     0..1 boolean|integer
        photo                0..* Attachment
        contact              0..* Patient.contact
        communication        0..* Patient.communication
        generalPractitioner  0..* Reference(Organization/Practitioner/PractitionerRole)
        managingOrganization 0..1 Reference(Organization)
        link                 0..* Patient.link
    """,
    "Practitioner": """
        identifier    0..* Identifier
        active        0..1 boolean
        name          0..* HumanName
        telecom       0..* ContactPoint
        address       0..* Address
        gender        0..1 code administrative-gender
        birthDate     0..1 date
        photo         0..* Attachment
        qualification 0..* Practitioner.qualification
        communication 0..* CodeableConcept
    """,
}

# Types that are chosen by the name of another one: `doseQuantity` is a SimpleQuantity.
NAMES_IN_CHOICES = {"SimpleQuantity": "Quantity"}


@dataclass(frozen=True, slots=True)
class Property:
    """A key of a JSON object: `deceasedDateTime` for the element `deceased` of the type dateTime."""

    key: str
    element: str
    type: str
    repeats: bool
    value_set: str
    targets: frozenset[str]

    @property
    def is_primitive(self) -> bool:
        return self.type in (*PRIMITIVE_TYPES, "xhtml", "element-id")


@dataclass(frozen=True, slots=True)
class Definition:
    """A type: its properties by key, and the elements that must be present."""

    name: str
    properties: dict[str, Property]
    required: tuple[str, ...]
    is_resource: bool


def define(name: str, table: str, is_resource: bool = False) -> Definition:
    properties: dict[str, Property] = {}
    required = []
    for line in filter(str.strip, table.splitlines()):
        element, cardinality, types, *value_set = line.split()
        is_choice = element.endswith("[x]")
        element = element.removesuffix("[x]")
        if cardinality.startswith("1"):
            required.append(element)
        for text in OPEN_TYPES if types == "*" else types.split("|"):
            type_name, _, targets = text.rstrip(")").partition("(")
            suffix = NAMES_IN_CHOICES.get(type_name, type_name)
            key = element + suffix[0].upper() + suffix[1:] if is_choice else element
            properties[key] = Property(
                key=key,
                element=element,
                type=type_name,
                repeats=cardinality.endswith("*"),
                value_set="".join(value_set),
                targets=frozenset(filter(None, targets.split("/"))),
            )
    return Definition(name, properties, tuple(required), is_resource)


ELEMENT = """
    id        0..1 element-id
    extension 0..* Extension
"""
BACKBONE_ELEMENT = (
    ELEMENT
    + """
    modifierExtension 0..* Extension
"""
)
RESOURCE = """
    id            0..1 id
    meta          0..1 Meta
    implicitRules 0..1 uri
    language      0..1 code
"""
DOMAIN_RESOURCE = (
    RESOURCE
    + """
    text              0..1 Narrative
    contained         0..* Resource
    extension         0..* Extension
    modifierExtension 0..* Extension
"""
)

DEFINITIONS: dict[str, Definition] = {
    "Element": define("Element", ELEMENT),
    "Resource": define("Resource", RESOURCE, is_resource=True),
    "DomainResource": define("DomainResource", DOMAIN_RESOURCE, is_resource=True),
    **{name: define(name, ELEMENT + table) for name, table in ELEMENTS.items()},
    **{name: define(name, BACKBONE_ELEMENT + table) for name, table in BACKBONE_ELEMENTS.items()},
    **{name: define(name, RESOURCE + table, is_resource=True) for name, table in RESOURCES.items()},
    **{name: define(name, DOMAIN_RESOURCE + table, is_resource=True) for name, table in DOMAIN_RESOURCES.items()},
}
