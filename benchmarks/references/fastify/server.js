// The reference fastify: Fastify and node-postgres with the product's guarantees, in a cluster of WORKERS processes.
//
// A request is one message to PostgreSQL and one transaction: the entry statement, SET LOCAL ROLE and the answer
// statement, of which entry and answer are prepared once a session. Their SQL is that of
// benchmarks/references/statements.py, read from the JSON file that STATEMENTS names.
"use strict";

const cluster = require("node:cluster");
const crypto = require("node:crypto");
const fs = require("node:fs");

const CONNECTIONS = 8; // of all workers together
const WORKERS = Number(process.env.WORKERS);

if (cluster.isPrimary) {
  for (let worker = 0; worker < WORKERS; worker += 1) cluster.fork();
} else {
  serve();
}

function serve() {
  const { createVerifier } = require("fast-jwt");
  const { Pool, escapeLiteral } = require("pg");
  const { role, settings, calls } = JSON.parse(fs.readFileSync(process.env.STATEMENTS, "utf8"));
  const sessionSettings = { timezone: "UTC", ...settings };
  const pool = new Pool({
    connectionString: process.env.DATABASE_URL,
    max: CONNECTIONS / WORKERS,
    options: Object.entries(sessionSettings).map(([name, value]) => `-c ${name}=${value}`).join(" "),
  });
  const verify = createVerifier({
    key: process.env.JWT_SIGNING_KEY,
    algorithms: ["HS256"],
    allowedIss: "healthcare",
    allowedAud: "healthcare-api",
    cache: true,
  });
  const names = new Map(); // of prepared statements, by their SQL
  const prepared = new WeakMap(); // by connection the set of names that it knows

  function nameOf(sql) {
    if (!names.has(sql)) names.set(sql, `s${names.size}`);
    return names.get(sql);
  }

  /** PREPARE, where this connection does not know the statement yet, and EXECUTE. */
  function execution([sql, parameters], values, known) {
    const name = nameOf(sql);
    const places = parameters.map((parameter) => escapeLiteral(String(values[parameter])));
    const call = `EXECUTE ${name}${places.length ? `(${places.join(", ")})` : ""}`;
    return { name, text: known.has(name) ? call : `PREPARE ${name} AS ${sql};\n${call}` };
  }

  /** The caller's id and the JSON of a call: both null without a live session, the JSON for a 404. */
  async function run(name, values, limit = 0) {
    const { entry, answer } = calls[name];
    const connection = await pool.connect();
    let failure;
    try {
      if (!prepared.has(connection)) prepared.set(connection, new Set());
      const known = prepared.get(connection);
      const enter = execution(entry, values, known);
      const fetch = execution([answer[0].replace("<limit>", limit), answer[1]], values, known);
      const results = await connection.query({
        text: `${enter.text};\nSET LOCAL ROLE ${role};\n${fetch.text}`,
        rowMode: "array",
      });
      known.add(enter.name).add(fetch.name);
      return results.at(-1).rows[0];
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      connection.release(failure);
    }
  }

  function authenticate(request, reply, done) {
    try {
      const [scheme, token] = (request.headers.authorization || "").split(" ");
      const claims = verify(token);
      if (scheme !== "Bearer" || claims.token_type !== "access") throw new Error("not an access token");
      request.identity = { session: claims.sid, user: claims.user_id, request: crypto.randomBytes(16).toString("hex") };
      done();
    } catch {
      reply.code(401).send({});
    }
  }

  async function answer(request, reply, name, values, { status = 200, limit = 0 } = {}) {
    const [caller, body] = await run(name, { ...request.identity, ...values }, limit);
    if (caller === null) return reply.code(401).send({});
    if (body === null) return reply.code(404).send({});
    return reply.code(status).type("application/json").send(body);
  }

  /** The id that the page comes before. */
  function before(cursor) {
    return cursor ? JSON.parse(Buffer.from(cursor, "base64url").toString())[1] : "9223372036854775807";
  }

  const text = (maxLength) => ({ type: "string", maxLength });
  const changeable = { address: text(500) };
  const createable = {
    ...changeable,
    name: { ...text(200), minLength: 1 },
    age: { type: "integer", minimum: 0, maximum: 150 },
    gender: { type: "string", enum: ["M", "F", "O", "U"] },
    identifier: text(100),
    phone: text(40),
    email: text(254),
  };
  const object = (properties, required = []) => ({
    type: "object", properties, required, additionalProperties: false,
  });
  const id = object({ id: { type: "string", pattern: "^[0-9]{1,18}$" } });
  const page = object({
    limit: { type: "integer", minimum: 1, maximum: 500, default: 100 },
    cursor: { type: "string" },
  });

  const app = require("fastify")({ logger: { level: "error" } });
  app.get("/api/doctors/", { schema: { querystring: page } }, async (request, reply) => {
    const [, body] = await run("list_doctors", {}, request.query.limit);
    return reply.type("application/json").send(body);
  });
  app.register(async (patients) => {
    patients.addHook("onRequest", authenticate);
    patients.get("/", { schema: { querystring: page } }, (request, reply) =>
      answer(request, reply, "list_patients", { before: before(request.query.cursor) }, { limit: request.query.limit }));
    patients.post("/", { schema: { body: object(createable, ["name"]) } }, (request, reply) =>
      answer(request, reply, "create_patient", { body: JSON.stringify(request.body) }, { status: 201 }));
    patients.get("/:id/", { schema: { params: id } }, (request, reply) =>
      answer(request, reply, "get_patient", request.params));
    patients.patch("/:id/", { schema: { params: id, body: object(changeable) } }, (request, reply) =>
      answer(request, reply, "change_patient", { ...request.params, body: JSON.stringify(request.body) }));
    patients.get("/:id/doctors/", { schema: { params: id } }, (request, reply) =>
      answer(request, reply, "list_doctors_of_patient", request.params));
  }, { prefix: "/api/patients" });
  app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
}
