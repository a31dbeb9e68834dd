// Makes every call of this API by openapi-fetch with the types that openapi-typescript generates; `scripts/clients/run`
// compiles and starts it.
//
//   node quickstart.js BASE_URL OPENAPI_JSON

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import createClient, { type Client, type Middleware } from "openapi-fetch";

import type { components, paths } from "./schema.js";

type Problem = components["schemas"]["Problem"];
type Answer<Data> = { data?: Data; error?: Problem | undefined; response: Response };

const [url, description] = process.argv.slice(2) as [string, string];
const calls = new Set<string>();
const recording: Middleware = {
  onRequest({ request, schemaPath }) {
    calls.add(`${request.method.toLowerCase()} ${schemaPath}`);
  },
};

function clientWith(token?: string): Client<paths> {
  const client = createClient<paths>({ baseUrl: url, headers: token ? { Authorization: `Bearer ${token}` } : {} });
  client.use(recording);
  return client;
}

/** What the server answered, which has to have this status. */
function answer<Data>({ data, error, response }: Answer<Data>, status = 200): Data {
  assert.equal(response.status, status, JSON.stringify(error));
  assert(data !== undefined, response.url);
  return data;
}

function done({ error, response }: Answer<unknown>): void {
  assert.equal(response.status, 204, JSON.stringify(error));
}

/** The problem that the server answered, which has to have this status, and an error of this field. */
function refused({ error, response }: Answer<unknown>, status: number, pointer = ""): Problem {
  assert.equal(response.status, status, response.url);
  assert(error, response.url);
  assert.equal(error.status, status);
  assert.equal(error.request_id, response.headers.get("X-Request-Id"));
  assert(!pointer || error.errors?.some((one) => one.pointer === pointer), JSON.stringify(error));
  return error;
}

/** The code that an authenticator app shows now for a secret in base32 (RFC 6238). */
function oneTimeCode(secret: string): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((letter) => letters.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const digest = createHmac("sha1", key).update(counter).digest();
  const start = digest.readUInt8(digest.length - 1) & 15;
  return String((digest.readUInt32BE(start) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

// An account and its tokens
const name = `asha-${randomUUID()}`;
const email = `${name}@example.org`;
const password = "StrongPass123";
const anyone = clientWith();
const account = { name: "Asha Nair", email, username: name, password };
const user = answer(await anyone.POST("/api/auth/register/", { body: account }), 201);
assert.deepEqual([user.name, user.email, user.username], ["Asha Nair", email, name]);
refused(await anyone.POST("/api/auth/register/", { body: account }), 400, "/email");
refused(await anyone.POST("/api/auth/login/", { body: { username: name, password: "not the password" } }), 401);
refused(await clientWith("not a token").GET("/api/auth/me/"), 401);
const other = clientWith(answer(await anyone.POST("/api/auth/login/", { body: { email, password } })).access);
const { refresh } = answer(await anyone.POST("/api/auth/login/", { body: { username: name, password } }));
const client = clientWith(answer(await anyone.POST("/api/auth/refresh/", { body: { refresh } })).access);
assert.equal(answer(await client.PATCH("/api/auth/me/", { body: { name: "Asha R. Nair" } })).name, "Asha R. Nair");
assert.equal(answer(await client.GET("/api/auth/me/")).id, user.id);

// Patients: the first body is the one of the contract
const john = await client.POST("/api/patients/", {
  body: { name: "John Smith", age: 34, gender: "M", address: "Bengaluru" },
});
const patient = answer(john, 201);
assert.deepEqual([patient.name, patient.age, patient.gender, patient.address], ["John Smith", 34, "M", "Bengaluru"]);
assert.equal(john.response.headers.get("Location"), `/api/patients/${patient.id}/`);
const ofPatient = { path: { id: patient.id } };
const page = await client.GET("/api/patients/", { params: { query: { limit: 10, count: true } } });
assert.deepEqual(answer(page).map((row) => row.id), [patient.id]);
assert.equal(page.response.headers.get("X-Total-Count"), "1");
const replaced = answer(
  await client.PUT("/api/patients/{id}/", {
    params: ofPatient,
    body: { name: "John Smith", birth_date: "1992-03-14", gender: "M", phone: null, email: null },
  }),
);
assert.deepEqual([replaced.birth_date, replaced.phone, replaced.email], ["1992-03-14", "", ""]);
const phone = "+91 80 5550 0100";
assert.equal(answer(await client.PATCH("/api/patients/{id}/", { params: ofPatient, body: { phone } })).phone, phone);
const bad = refused(await client.POST("/api/patients/", { body: { name: "", age: -1 } }), 400, "/age");
assert.equal(bad.error_count, 2);
const unknown: Record<string, string> & { name: string } = { name: "John Smith", date_of_birth: "1992-03-14" };
refused(await client.POST("/api/patients/", { body: unknown }), 400, "/date_of_birth");
const lenient = { header: { Prefer: "handling=lenient" } };
const ignored = answer(await client.POST("/api/patients/", { body: unknown, params: lenient }), 201);
done(await client.DELETE("/api/patients/{id}/", { params: { path: { id: ignored.id } } }));
refused(await client.GET("/api/patients/{id}/", { params: { path: { id: 2 ** 53 } } }), 404);

// Finding
const found = answer(await client.GET("/api/patients/", { params: { query: { search: "jon smyth" } } }));
assert.deepEqual(found.map((row) => row.id), [patient.id]);
const shaped = answer(
  await client.GET("/api/patients/", {
    params: { query: { age_min: 30, ordering: "-updated_at", fields: ["id", "name"], include: ["doctors"] } },
  }),
);
assert.deepEqual(shaped, [{ id: patient.id, name: "John Smith", doctors: [] }]);
const hits = await client.POST("/api/patients/search/", { body: { search: "jon smyth", count: true } });
assert.deepEqual(answer(hits).map((row) => row.id), [patient.id]);
assert.equal(hits.response.headers.get("X-Total-Count"), "1");
assert.deepEqual(answer(await client.GET("/api/patients/{id}/duplicates/", { params: ofPatient })), []);
refused(
  await client.POST("/api/patients/", {
    params: { query: { on_duplicate: "reject" } },
    body: { name: "Smith, John", birth_date: "1992-03-14" },
  }),
  409,
);

// Two records of one person
const second = answer(await client.POST("/api/patients/", { body: { name: "J. Smith", identifier: "MRN 17" } }), 201);
const duplicate = { path: { id: second.id } };
const merge = { params: ofPatient, body: { duplicate: second.id } };
assert.equal(answer(await client.POST("/api/patients/{id}/merge/", merge)).identifier, "MRN 17");
const gone = await client.GET("/api/patients/{id}/", { params: duplicate });
refused(gone, 410);
assert(gone.response.headers.get("Link")?.includes(`/api/patients/${patient.id}/`));
answer(await client.POST("/api/patients/{id}/unmerge/", merge));
done(await client.DELETE("/api/patients/{id}/", { params: duplicate }));

// Repeated calls, and concurrent changes
const keyed = { header: { "Idempotency-Key": randomUUID() } };
const first = await client.POST("/api/patients/", { params: keyed, body: { name: "Mary Smith" } });
const again = await client.POST("/api/patients/", { params: keyed, body: { name: "Mary Smith" } });
assert.deepEqual(answer(again, 201), answer(first, 201));
assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");
refused(await client.POST("/api/patients/", { params: keyed, body: { name: "Another" } }), 422);
const read = await client.GET("/api/patients/{id}/", { params: ofPatient });
const condition = { ...ofPatient, header: { "If-Match": String(read.response.headers.get("ETag")) } };
const moved = await client.PATCH("/api/patients/{id}/", { params: condition, body: { address: "Hubballi" } });
const changedAt = answer(moved).updated_at;
const held = { ...ofPatient, header: { "If-None-Match": String(moved.response.headers.get("ETag")) } };
assert.equal((await client.GET("/api/patients/{id}/", { params: held })).response.status, 304);
refused(await client.PATCH("/api/patients/{id}/", { params: condition, body: { address: "Delhi" } }), 412);

// Doctors
const doctor = answer(
  await client.POST("/api/doctors/", {
    body: { name: "Dr. Meera Rao", specialization: "Cardiology", experience_years: 12 },
  }),
  201,
);
const ofDoctor = { path: { id: doctor.id } };
assert.equal(answer(await anyone.GET("/api/doctors/", { params: { query: { limit: 10 } } }))[0]?.id, doctor.id);
assert.equal(answer(await anyone.GET("/api/doctors/{id}/", { params: ofDoctor })).experience_years, 12);
answer(await client.PUT("/api/doctors/{id}/", { params: ofDoctor, body: { name: "Dr. Meera Rao", hospital: "City" } }));
answer(await client.PATCH("/api/doctors/{id}/", { params: ofDoctor, body: { experience_years: 13 } }));

// Who treats whom: the body is the one of the contract
const pair = { patient: patient.id, doctor: doctor.id };
const created = await client.POST("/api/mappings/", { body: pair });
const assignment = answer(created, 201);
const ofAssignment = { path: { id: assignment.id } };
assert.equal(created.response.headers.get("Location"), `/api/assignments/${assignment.id}/`);
refused(await client.POST("/api/mappings/", { body: pair }), 400);
assert.deepEqual(answer(await client.GET("/api/mappings/")), [assignment]);
assert.deepEqual(answer(await client.GET("/api/assignments/{id}/", { params: ofAssignment })), assignment);
const treating = answer(await client.GET("/api/mappings/{id}/", { params: ofPatient }));
assert.deepEqual(treating.map((row) => [row.id, row.mapping]), [[doctor.id, assignment.id]]);
assert.deepEqual(answer(await client.GET("/api/patients/{id}/doctors/", { params: ofPatient })), treating);
const treated = answer(await client.GET("/api/doctors/{id}/patients/", { params: ofDoctor }));
assert.deepEqual(treated.map((row) => [row.id, row.mapping]), [[patient.id, assignment.id]]);
const primary = { role: "cardiologist", is_primary: true };
assert(answer(await client.PATCH("/api/mappings/{id}/", { params: ofAssignment, body: primary })).is_primary);
refused(await client.DELETE("/api/doctors/{id}/", { params: ofDoctor }), 409);

// Looking back
const events = answer(await client.GET("/api/patients/{id}/history/", { params: ofPatient }));
assert.deepEqual(events[0]?.changes, { address: ["Bengaluru", "Hubballi"] });
answer(await client.GET("/api/doctors/{id}/history/", { params: ofDoctor }));
answer(await client.GET("/api/mappings/{id}/history/", { params: ofAssignment }));
assert(answer(await client.GET("/api/patients/{id}/access-log/", { params: ofPatient })).length);
const members = answer(await client.GET("/api/patients/{id}/audience/", { params: ofPatient }));
assert.deepEqual(members.map((member) => member.username), [name]);
const toNobody = { params: ofPatient, body: { to: `nobody-${name}` } };
refused(await client.POST("/api/patients/{id}/transfer/", toNobody), 400, "/to");
const past = answer(await client.GET("/api/patients/", { params: { query: { as_of: changedAt } } }));
assert(past.some((row) => row.address === "Hubballi"));

// Deleting and restoring
done(await client.DELETE("/api/mappings/{id}/", { params: ofAssignment }));
assert.equal(answer(await client.GET("/api/mappings/", { params: { query: { active: false } } })).length, 1);
done(await client.DELETE("/api/doctors/{id}/", { params: ofDoctor }));
answer(await client.POST("/api/doctors/{id}/restore/", { params: ofDoctor }));
done(await client.DELETE("/api/patients/{id}/", { params: ofPatient }));
refused(await client.GET("/api/patients/{id}/", { params: ofPatient }), 404);
const deleted = answer(await client.GET("/api/patients/", { params: { query: { deleted: true } } }));
assert(deleted.some((row) => row.id === patient.id));
answer(await client.POST("/api/patients/{id}/restore/", { params: ofPatient }));

// Files of records, which are sent and received as they are
const asText = { parseAs: "text" as const };
const asFile = { bodySerializer: (body: unknown) => body as BodyInit };
const csv = { ...asFile, headers: { "Content-Type": "text/csv" } };
const ndjson = { ...asFile, headers: { "Content-Type": "application/x-ndjson" } };
const query = { search: "jon smyth" };
const exported = answer(await client.GET("/api/patients/export/", { ...asText, params: { query } }));
assert(exported.startsWith("id,name,"));
const people = "Full Name;identifier\nRavi Kumar;MRN 18\n";
const map = ["Full Name:name"];
const importing = "/api/patients/import/";
const checked = answer(await client.POST(importing, { ...csv, body: people, params: { query: { map } } }));
assert.deepEqual([checked.import, checked.summary.created], [null, 1]);
const apply = { query: { mode: "apply" as const } };
const stopped = await client.POST(importing, { ...csv, body: "name,age\nRavi Kumar,-1\n", params: apply });
assert.equal(refused(stopped, 422).results?.[0]?.errors[0]?.pointer, "/age");
const packed = { query: { ...apply.query, map }, header: { "Content-Encoding": "gzip" as const } };
const packedPeople = gzipSync(people) as unknown as string; // the types call bytes a string
const imported = answer(await client.POST(importing, { ...csv, body: packedPeople, params: packed }));
const known = "name,birth_date\nJohn Smith,1992-03-14\n";
const likely = answer(await client.POST(importing, { ...csv, body: known })).results[0]?.likely;
assert.deepEqual(likely, [{ id: patient.id }]);
const license = `KMC ${name}`;
const doctorFile = JSON.stringify({ name: "Dr. Vikram Shah", license_number: license });
const doctors = answer(await client.POST("/api/doctors/import/", { ...ndjson, body: doctorFile, params: apply }));
const asLines = { ...asText, params: { query: { format: "ndjson" as const } } };
const directory = answer(await anyone.GET("/api/doctors/export/", asLines));
assert.equal(JSON.parse(directory.split("\n")[0] ?? "").id, doctors.results[0]?.id);
const pairs = `patient_identifier,doctor_license\nMRN 18,${license}\n`;
const assigned = answer(await client.POST("/api/mappings/import/", { ...csv, body: pairs, params: apply }));
assert(answer(await client.GET("/api/mappings/export/", asText)).includes(String(assigned.results[0]?.id)));
const imports = answer(await client.GET("/api/imports/"));
assert.deepEqual(imports.map((one) => one.id), [assigned.import, doctors.import, imported.import]);
for (const one of [assigned, doctors, imported]) {
  const ofImport = { params: { path: { id: Number(one.import) } } };
  assert.deepEqual(answer(await client.GET("/api/imports/{id}/", ofImport)).results, one.results);
  const undone = answer(await client.POST("/api/imports/{id}/undo/", ofImport));
  assert.deepEqual(undone.deleted, one.results.map((result) => result.id));
  refused(await client.POST("/api/imports/{id}/undo/", ofImport), 409);
}
const fileBody = { params: ofPatient, body: { current_password: password } };
const archive = await client.POST("/api/patients/{id}/file/", { ...fileBody, parseAs: "arrayBuffer" });
assert.deepEqual([...new Uint8Array(answer(archive)).slice(0, 2)], [...Buffer.from("PK")]);

// Personal access tokens, the second factor, and what is stored about the account
const proof = { current_password: password };
const reports = { name: "reports", scope: "read" as const, ...proof };
const token = answer(await client.POST("/api/auth/tokens/", { body: reports }), 201);
const ofToken = { params: { path: { id: token.id } } };
assert.equal(answer(await client.GET("/api/auth/tokens/{id}/", ofToken)).name, "reports");
answer(await clientWith(token.token).GET("/api/patients/"));
done(await client.DELETE("/api/auth/tokens/{id}/", ofToken));
assert.deepEqual(answer(await client.GET("/api/auth/tokens/")), []);
const { secret } = answer(await client.POST("/api/auth/otp/", { body: proof }), 201);
const confirmation = { body: { otp: oneTimeCode(secret) } };
const { recovery_codes } = answer(await client.POST("/api/auth/otp/confirm/", confirmation));
done(await client.DELETE("/api/auth/otp/", { body: { ...proof, otp: recovery_codes[0] ?? "" } }));
assert.equal(answer(await client.GET("/api/auth/me/file/")).account.username, name);
refused(await client.POST("/api/auth/invitations/", { body: {} }), 403);
refused(await client.DELETE("/api/auth/me/", { body: proof }), 409);
// This server sends no e-mails.
const link = { uid: "MQ", token: "x" };
refused(await client.POST("/api/auth/email/", { body: { email: `2-${email}`, ...proof } }), 404);
refused(await anyone.POST("/api/auth/email/verify/", { body: { email } }), 404);
refused(await anyone.POST("/api/auth/email/verify/confirm/", { body: link }), 404);
refused(await anyone.POST("/api/auth/password/reset/", { body: { email } }), 404);
refused(await anyone.POST("/api/auth/password/reset/confirm/", { body: { ...link, new_password: "EvenStronger456" } }), 404);

// Login sessions, and logging out
const sessions = answer(await client.GET("/api/auth/sessions/"));
const session = sessions.find((one) => !one.current);
assert(session);
const ofSession = { path: { id: session.id } };
refused(await client.DELETE("/api/auth/sessions/{id}/", { params: ofSession }), 400, "/current_password");
done(await client.DELETE("/api/auth/sessions/{id}/", { params: ofSession, body: proof }));
refused(await other.GET("/api/auth/me/"), 401);
const change = { current_password: password, new_password: "EvenStronger456" };
done(await client.POST("/api/auth/password/", { body: change }));
refused(await client.POST("/api/auth/password/", { body: change }), 400, "/current_password");
done(await client.POST("/api/auth/logout/"));
refused(await client.POST("/api/auth/logout/"), 401);

const described = JSON.parse(readFileSync(description, "utf-8")) as {
  paths: Record<string, Record<string, { tags: string[] }>>;
};
const domains = ["auth", "patients", "doctors", "mappings", "imports"]; // every operation of these is called
const operations = Object.entries(described.paths).flatMap(([path, item]) =>
  Object.entries(item)
    .filter(([, operation]) => operation.tags.some((tag) => domains.includes(tag)))
    .map(([method]) => `${method} ${path}`),
);
assert.deepEqual([...calls].sort(), operations.sort());
console.log(`The TypeScript client made all calls: ${calls.size} operations.`);
