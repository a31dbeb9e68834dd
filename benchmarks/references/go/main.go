// The reference go: net/http and pgx with the product's guarantees.
//
// A request is one round trip to PostgreSQL and one transaction: a batch of three prepared statements, the entry
// statement, SET LOCAL ROLE and the answer statement. Their SQL is that of benchmarks/references/statements.py, read
// from the JSON file that STATEMENTS names. Validation covers the fields that the benchmark sends.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const connections = 8

type statement struct {
	sql        string
	parameters []string
}

type call struct {
	Entry, Answer statement
}

type configuration struct {
	Role     string            `json:"role"`
	Settings map[string]string `json:"settings"`
	Calls    map[string]call   `json:"calls"`
}

// A statement is written as [sql, [names of the parameters in order]].
func (s *statement) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]interface{}{&s.sql, &s.parameters})
}

type claims struct {
	TokenType string `json:"token_type"`
	Expires   int64  `json:"exp"`
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	UserID    string `json:"user_id"`
	SessionID int64  `json:"sid"`
}

type values map[string]interface{}

var (
	key    = []byte(os.Getenv("JWT_SIGNING_KEY"))
	config configuration
	pool   *pgxpool.Pool
)

// verify returns the session and the user that a genuine, unexpired access token names.
func verify(authorization string) (values, bool) {
	if !strings.HasPrefix(authorization, "Bearer ") {
		return nil, false
	}
	parts := strings.Split(authorization[len("Bearer "):], ".")
	if len(parts) != 3 {
		return nil, false
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	var named claims
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !decodeSegment(parts[0], &header) || header.Algorithm != "HS256" {
		return nil, false
	}
	expected := hmac.New(sha256.New, key)
	expected.Write([]byte(parts[0] + "." + parts[1]))
	if !hmac.Equal(signature, expected.Sum(nil)) || !decodeSegment(parts[1], &named) {
		return nil, false
	}
	if named.TokenType != "access" || named.Issuer != "healthcare" || named.Audience != "healthcare-api" ||
		named.Expires <= time.Now().Unix() {
		return nil, false
	}
	user, err := strconv.ParseInt(named.UserID, 10, 64)
	return values{"session": named.SessionID, "user": user}, err == nil
}

func decodeSegment(segment string, target interface{}) bool {
	data, err := base64.RawURLEncoding.DecodeString(segment)
	return err == nil && json.Unmarshal(data, target) == nil
}

// run returns the caller's id and the JSON of a call; both are nil without a live session, the JSON for a 404.
func run(ctx context.Context, name string, given values, limit int) (caller *int64, body *string, err error) {
	chosen := config.Calls[name]
	batch := &pgx.Batch{}
	batch.Queue(chosen.Entry.sql, arguments(chosen.Entry, given)...)
	batch.Queue("SET LOCAL ROLE " + config.Role)
	answer := strings.Replace(chosen.Answer.sql, "<limit>", strconv.Itoa(limit), 1)
	batch.Queue(answer, arguments(chosen.Answer, given)...)
	results := pool.SendBatch(ctx, batch)
	defer func() {
		if closing := results.Close(); err == nil {
			err = closing
		}
	}()
	for step := 0; step < 2; step++ {
		if _, err = results.Exec(); err != nil {
			return nil, nil, err
		}
	}
	err = results.QueryRow().Scan(&caller, &body)
	return caller, body, err
}

func arguments(wanted statement, given values) []interface{} {
	chosen := make([]interface{}, len(wanted.parameters))
	for position, name := range wanted.parameters {
		chosen[position] = given[name]
	}
	return chosen
}

func handle(response http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/api/doctors/" && request.Method == http.MethodGet {
		_, body, err := run(request.Context(), "list_doctors", values{}, limit(request))
		respond(response, http.StatusOK, body, err)
		return
	}
	rest := strings.TrimPrefix(request.URL.Path, "/api/patients/")
	if len(rest) == len(request.URL.Path) {
		fail(response, http.StatusNotFound)
		return
	}
	given, genuine := verify(request.Header.Get("Authorization"))
	if !genuine {
		fail(response, http.StatusUnauthorized)
		return
	}
	given["request"] = requestID()
	name, status := route(request, rest, given)
	if name == "" {
		fail(response, status)
		return
	}
	caller, body, err := run(request.Context(), name, given, limit(request))
	if err == nil && caller == nil {
		fail(response, http.StatusUnauthorized)
		return
	}
	respond(response, status, body, err)
}

// route returns the call and the status of its success, or no call and the status of the refusal.
func route(request *http.Request, rest string, given values) (string, int) {
	if rest == "" {
		switch request.Method {
		case http.MethodGet:
			given["before"] = before(request)
			return "list_patients", http.StatusOK
		case http.MethodPost:
			return withBody(request, given, &newPatient{}, "create_patient", http.StatusCreated)
		}
		return "", http.StatusMethodNotAllowed
	}
	name := "get_patient"
	if strings.HasSuffix(rest, "/doctors/") {
		name, rest = "list_doctors_of_patient", strings.TrimSuffix(rest, "doctors/")
	}
	id, err := strconv.ParseInt(strings.TrimSuffix(rest, "/"), 10, 64)
	if err != nil || !strings.HasSuffix(rest, "/") {
		return "", http.StatusNotFound
	}
	given["id"] = id
	switch {
	case request.Method == http.MethodGet:
		return name, http.StatusOK
	case request.Method == http.MethodPatch && name == "get_patient":
		return withBody(request, given, &changedPatient{}, "change_patient", http.StatusOK)
	}
	return "", http.StatusMethodNotAllowed
}

type validated interface{ valid() bool }

type changedPatient struct {
	Address *string `json:"address,omitempty"`
}

func (p *changedPatient) valid() bool { return p.Address == nil || len(*p.Address) <= 500 }

type newPatient struct {
	changedPatient
	Name       string `json:"name"`
	Age        *int   `json:"age,omitempty"`
	Gender     string `json:"gender,omitempty"`
	Identifier string `json:"identifier,omitempty"`
	Phone      string `json:"phone,omitempty"`
	Email      string `json:"email,omitempty"`
}

func (p *newPatient) valid() bool {
	return p.changedPatient.valid() && p.Name != "" && len(p.Name) <= 200 &&
		(p.Age == nil || *p.Age >= 0 && *p.Age <= 150) && strings.Contains("MFOU", p.Gender) && len(p.Gender) <= 1 &&
		len(p.Identifier) <= 100 && len(p.Phone) <= 40 && len(p.Email) <= 254
}

func withBody(request *http.Request, given values, target validated, name string, status int) (string, int) {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, request.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if decoder.Decode(target) != nil || !target.valid() {
		return "", http.StatusBadRequest
	}
	body, err := json.Marshal(target)
	if err != nil {
		return "", http.StatusBadRequest
	}
	given["body"] = string(body)
	return name, status
}

func limit(request *http.Request) int {
	wanted, err := strconv.Atoi(request.URL.Query().Get("limit"))
	if err != nil || wanted < 1 || wanted > 500 {
		return 100
	}
	return wanted
}

// before returns the id that the page comes before.
func before(request *http.Request) int64 {
	var position [2]interface{}
	if decodeSegment(request.URL.Query().Get("cursor"), &position) {
		if id, isNumber := position[1].(float64); isNumber {
			return int64(id)
		}
	}
	return 1<<63 - 1
}

func requestID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic(err)
	}
	return hex.EncodeToString(id[:])
}

func respond(response http.ResponseWriter, status int, body *string, err error) {
	switch {
	case err != nil:
		log.Print(err)
		fail(response, http.StatusServiceUnavailable)
	case body == nil:
		fail(response, http.StatusNotFound)
	default:
		write(response, status, *body)
	}
}

func fail(response http.ResponseWriter, status int) { write(response, status, "{}") }

func write(response http.ResponseWriter, status int, body string) {
	response.Header().Set("Content-Type", "application/json")
	response.Header().Set("Content-Length", strconv.Itoa(len(body)))
	response.WriteHeader(status)
	if _, err := response.Write([]byte(body)); err != nil {
		log.Print(err)
	}
}

func main() {
	text, err := os.ReadFile(os.Getenv("STATEMENTS"))
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		log.Fatal(err)
	}
	settings, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	settings.MaxConns = connections
	settings.ConnConfig.RuntimeParams["timezone"] = "UTC"
	for name, value := range config.Settings {
		settings.ConnConfig.RuntimeParams[name] = value
	}
	if pool, err = pgxpool.ConnectConfig(context.Background(), settings); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(handle)))
}
