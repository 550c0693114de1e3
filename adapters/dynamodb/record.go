package dynamodb

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// maxInline is the longest payload that stays in the job's item. A write is charged for each KiB of the item, so that
// a longer one would make each renewal and settle dearer.
const maxInline = 4 << 10

// item is an item of the table.
type item = map[string]types.AttributeValue

// stored is a job and where its payload is. The zero stored is no job.
type stored struct {
	job        domain.Job
	payloadKey string // key of the payload's own item; empty: the payload is in the job's item, or there is none
}

func (r stored) exists() bool { return r.job.ID != "" }

func (r stored) live(now time.Time) bool { return r.exists() && !r.job.Expired(now) }

// payloadKey says where the payload of job goes, which replaces old. A payload's item is never overwritten and its
// key never used again, so that whoever follows an old record's key finds that record's payload or none.
func payloadKey(old stored, job domain.Job) string {
	switch {
	case len(job.Payload) <= maxInline:
		return ""
	case old.payloadKey != "" && bytes.Equal(job.Payload, old.job.Payload):
		return old.payloadKey
	}
	return job.ID + "#payload#" + strconv.FormatInt(job.Revision, 16)
}

// newRevision is random, so that a writer recognises its own write, which a counter would not let it tell from
// another's.
func newRevision() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:])                             // never fails: crypto/rand
	return int64(binary.BigEndian.Uint64(b[:])>>1) | 1 // positive, and never the zero of a job not stored
}

// record is what the attribute "job" holds: the job but for its bytes and its revision, which have attributes of their
// own. The other attributes of an item serve the indexes and are never read back.
type record struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	Owner           identity  `json:"owner,omitzero"`
	TokenID         string    `json:"token_id,omitzero"`
	IdempotencyKey  string    `json:"idempotency_key,omitzero"`
	Fingerprint     string    `json:"fingerprint,omitzero"`
	TraceParent     string    `json:"traceparent,omitzero"`
	Retry           retries   `json:"retry"`
	Retention       retention `json:"retention"`
	CreatedAt       time.Time `json:"created_at,omitzero"`
	Status          string    `json:"status"`
	Reason          string    `json:"reason,omitzero"`
	Attempts        int       `json:"attempts,omitzero"`
	Starts          int       `json:"starts,omitzero"`
	Dispatches      int       `json:"dispatches,omitzero"`
	Checks          int       `json:"checks,omitzero"`
	CancelRequested bool      `json:"cancel_requested,omitzero"`
	DueAt           time.Time `json:"due_at,omitzero"`
	CheckAt         time.Time `json:"check_at,omitzero"`
	UpdatedAt       time.Time `json:"updated_at,omitzero"`
	FinishedAt      time.Time `json:"finished_at,omitzero"`
	ExpiresAt       time.Time `json:"expires_at,omitzero"`
	Lease           lease     `json:"lease,omitzero"`
	Progress        progress  `json:"progress,omitzero"`
	History         []attempt `json:"history,omitzero"`
}

type identity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

type retries struct {
	Attempts int           `json:"attempts"`
	Base     time.Duration `json:"base_ns"`
	Max      time.Duration `json:"max_ns"`
	Timeout  time.Duration `json:"timeout_ns"`
}

type retention struct {
	Finished time.Duration `json:"finished_ns"`
	Dead     time.Duration `json:"dead_ns"`
}

type lease struct {
	Token  string    `json:"token"`
	Worker string    `json:"worker,omitzero"`
	Until  time.Time `json:"until"`
}

type progress struct {
	Percent int    `json:"percent"`
	Message string `json:"message,omitzero"`
}

type attempt struct {
	Number    int       `json:"number"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Worker    string    `json:"worker,omitzero"`
	Error     string    `json:"error,omitzero"`
}

// encode returns the job's item.
func (r stored) encode() (item, error) {
	j := r.job
	doc := record{
		ID: j.ID, Name: j.Name, Owner: identity(j.Owner), TokenID: j.TokenID, IdempotencyKey: j.IdempotencyKey,
		Fingerprint: j.Fingerprint, TraceParent: j.TraceParent, Retry: retries(j.Retry), Retention: retention(j.Retention),
		CreatedAt: j.CreatedAt, Status: string(j.Status), Reason: string(j.Reason), Attempts: j.Attempts, Starts: j.Starts,
		Dispatches: j.Dispatches, Checks: j.Checks, CancelRequested: j.CancelRequested, DueAt: j.DueAt, CheckAt: j.CheckAt,
		UpdatedAt: j.UpdatedAt, FinishedAt: j.FinishedAt, ExpiresAt: j.ExpiresAt, Lease: lease(j.Lease), Progress: progress(j.Progress),
	}
	for _, a := range j.History {
		doc.History = append(doc.History, attempt(a))
	}
	text, err := json.Marshal(doc, jsonv1.FormatDurationAsNano(true))
	if err != nil {
		return nil, damaged(err)
	}
	out := item{
		keyAttr: str(j.ID), revisionAttr: num(j.Revision), jobAttr: str(string(text)),
		ownerAttr: str(ownerKey(j.Owner)), allAttr: str(shard(allPrefix, j.ID)), listedAttr: str(string(listed(j))),
		nameAttr: str(j.Name), statusAttr: str(string(j.Status)),
	}
	if r.payloadKey != "" {
		out[payloadKeyAttr] = str(r.payloadKey)
	} else if j.Payload != nil {
		out[payloadAttr] = &types.AttributeValueMemberB{Value: j.Payload}
	}
	if j.Output != nil {
		out[outputAttr] = &types.AttributeValueMemberB{Value: j.Output}
	}
	if !j.ExpiresAt.IsZero() {
		out[expiresAttr] = str(instant(j.ExpiresAt))
	}
	switch {
	case !j.Status.Finished():
		out[agendaAttr], out[agendaAtAttr] = str(shard(duePrefix, j.ID)), str(string(at(j.CheckAt, j.ID)))
	case r.payloadKey != "":
		// Time to Live would remove the job's item alone and leave the payload's behind: Expire removes both.
		out[agendaAttr], out[agendaAtAttr] = str(shard(expirePrefix, j.ID)), str(string(at(j.ExpiresAt.Add(expireMargin), j.ID)))
	default:
		out[TTLAttribute] = num(j.ExpiresAt.Add(time.Second - time.Nanosecond).Unix()) // rounded up: never too early
	}
	return out, nil
}

// decode is the reverse of encode, without the payload when that has an item of its own. No item is no job.
func decode(i item) (stored, error) {
	if len(i) == 0 {
		return stored{}, nil
	}
	text, ok := i[jobAttr].(*types.AttributeValueMemberS)
	if !ok {
		return stored{}, damaged(errors.New("the item has no job"))
	}
	var doc record
	if err := json.Unmarshal([]byte(text.Value), &doc, jsonv1.FormatDurationAsNano(true)); err != nil {
		return stored{}, damaged(err)
	}
	r := stored{job: domain.Job{
		ID: doc.ID, Name: doc.Name, Owner: domain.Identity(doc.Owner), TokenID: doc.TokenID, IdempotencyKey: doc.IdempotencyKey,
		Fingerprint: doc.Fingerprint, TraceParent: doc.TraceParent, Retry: domain.RetryPolicy(doc.Retry), Retention: domain.Retention(doc.Retention),
		CreatedAt: doc.CreatedAt, Status: domain.Status(doc.Status), Reason: domain.Reason(doc.Reason), Attempts: doc.Attempts, Starts: doc.Starts,
		Dispatches: doc.Dispatches, Checks: doc.Checks, CancelRequested: doc.CancelRequested, DueAt: doc.DueAt, CheckAt: doc.CheckAt,
		UpdatedAt: doc.UpdatedAt, FinishedAt: doc.FinishedAt, ExpiresAt: doc.ExpiresAt, Lease: domain.Lease(doc.Lease), Progress: domain.Progress(doc.Progress),
	}}
	for _, a := range doc.History {
		r.job.History = append(r.job.History, domain.Attempt(a))
	}
	revision, ok := i[revisionAttr].(*types.AttributeValueMemberN)
	if !ok {
		return stored{}, damaged(errors.New("the item has no revision"))
	}
	var err error
	if r.job.Revision, err = strconv.ParseInt(revision.Value, 10, 64); err != nil {
		return stored{}, damaged(err)
	}
	if k, ok := i[payloadKeyAttr].(*types.AttributeValueMemberS); ok {
		r.payloadKey = k.Value
	}
	if b, ok := i[payloadAttr].(*types.AttributeValueMemberB); ok {
		r.job.Payload = b.Value
	}
	if b, ok := i[outputAttr].(*types.AttributeValueMemberB); ok {
		r.job.Output = b.Value
	}
	return r, nil
}

// position is a sort key of the indexes, a time and a job's id. Positions compare as (time, id).
type position string

// last comes after every position.
const last position = "~"

const instantLayout = "2006-01-02T15:04:05.000Z"

func instant(t time.Time) string { return t.UTC().Format(instantLayout) }

func at(t time.Time, id string) position { return position(instant(t) + "#" + id) }

// by is the bound of all positions until and at t.
func by(t time.Time) position { return position(instant(t)) + last }

// listed is the position of a job in the lists.
func listed(job domain.Job) position { return at(job.CreatedAt, job.ID) }

func (p position) id() string {
	_, id, _ := strings.Cut(string(p), "#")
	return id
}

func (p position) cursor() (ports.JobCursor, error) {
	when, id, _ := strings.Cut(string(p), "#")
	created, err := time.Parse(instantLayout, when)
	if err != nil {
		return ports.JobCursor{}, damaged(err)
	}
	return ports.JobCursor{CreatedAt: created, ID: id}, nil
}

// shardCount spreads the jobs of an index that knows no owner over as many partitions: a partition takes 1,000 write
// units a second, and an index that cannot follow throttles the table's writes
// (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html).
const shardCount = 16

func shard(prefix, id string) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	return prefix + strconv.Itoa(int(h.Sum32()%shardCount))
}

func shards(prefix string) []string {
	out := make([]string, shardCount)
	for i := range out {
		out[i] = prefix + strconv.Itoa(i)
	}
	return out
}

// ownerKey is a hash: issuer and subject together may be longer than the 2,048 bytes of a partition key.
func ownerKey(owner domain.Identity) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(owner.Issuer), owner.Issuer, owner.Subject))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func key(k string) item { return item{keyAttr: str(k)} }

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}
