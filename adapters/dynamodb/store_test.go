package dynamodb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

var alice = domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}

// bench is a table on moto and a client of it.
type bench struct {
	*dynamodb.Store
	t      *testing.T
	clock  *portstest.Clock
	client *sdk.Client
	table  string
	http   *serial
	ctx    context.Context
}

func TestStore(t *testing.T) {
	t.Parallel()
	cfg := adaptertest.AWSConfig(t, adaptertest.Moto(t))
	server := &serial{client: cfg.HTTPClient} // one lock for all tables of this moto
	open := func(t *testing.T, now func() time.Time) (*dynamodb.Store, *sdk.Client, string, *serial) {
		t.Helper()
		own := &serial{client: server}
		cfg := cfg.Copy()
		cfg.HTTPClient = own
		client := sdk.NewFromConfig(cfg)
		table := "jobs-" + uuid.NewString()
		if err := dynamodb.CreateTable(t.Context(), client, table); err != nil {
			t.Fatal(err)
		}
		return dynamodb.NewStore(client, table, dynamodb.Options{Now: now}), client, table, own
	}
	t.Run("contract", func(t *testing.T) {
		t.Parallel()
		portstest.JobStore(t, func(t *testing.T, now func() time.Time) portstest.JobStoreHarness {
			t.Helper()
			store, _, _, _ := open(t, now)
			return portstest.JobStoreHarness{Store: store}
		})
	})
	for name, run := range map[string]func(*bench){
		"fifty concurrent updates of one job lose none":             (*bench).updateAtOnce,
		"a payload over 4 KiB is written once":                      (*bench).payloadApart,
		"a payload that decide changes moves with the job":          (*bench).payloadChanged,
		"a large job goes by Expire, a small one by time to live":   (*bench).removal,
		"a replaced job leaves no payload behind":                   (*bench).replaced,
		"a payload without its item is an internal error":           (*bench).payloadLost,
		"a job over 400 KB is too large":                            (*bench).tooLarge,
		"a write whose answer was lost is not taken for another's":  (*bench).answerLost,
		"a record that nobody can read holds up no other":           (*bench).damaged,
		"a list shows no job that changed since the index was read": (*bench).staleIndex,
		"the table is on demand and has a time to live":             (*bench).shape,
		"who claimed a job does not read it again":                  (*bench).claimedHere,
		"what another wrote is seen by who claimed the job":         (*bench).changedElsewhere,
		"a payload apart is not kept for a job's next write":        (*bench).claimedLarge,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := portstest.NewClock()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			store, client, table, http := open(t, clock.Now)
			run(&bench{store, t, clock, client, table, http, ctx})
		})
	}
}

func (b *bench) create(payload int) domain.Job {
	b.t.Helper()
	job := portstest.NewJob(b.t, b.clock.Now(), alice, "report.render")
	job.Payload = bytes.Repeat([]byte{'7'}, payload)
	stored, created, err := b.Create(b.ctx, job)
	if err != nil || !created {
		b.t.Fatalf("Create: created %v, error %v", created, err)
	}
	return stored
}

func (b *bench) update(id string, step func(domain.Job) (domain.Job, error)) domain.Job {
	b.t.Helper()
	job, err := b.Update(b.ctx, id, step)
	if err != nil {
		b.t.Fatal(err)
	}
	return job
}

func (b *bench) cancelJob(id string) domain.Job {
	b.t.Helper()
	return b.update(id, func(j domain.Job) (domain.Job, error) { return j.Cancel(b.clock.Now(), domain.ReasonCancelled) })
}

func (b *bench) items() []map[string]types.AttributeValue {
	b.t.Helper()
	out, err := b.client.Scan(b.ctx, &sdk.ScanInput{TableName: &b.table})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.Items
}

func (b *bench) wantStored(want domain.Job) {
	b.t.Helper()
	got, err := b.Get(b.ctx, want.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("the stored job (-want +got):\n%s", diff)
	}
}

func (b *bench) updateAtOnce() {
	job := b.create(10)
	const writers = 50
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for {
				_, err := b.Update(b.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
					j.Checks++
					return j, nil
				})
				if err == nil {
					return
				}
				if domain.KindOf(err) != domain.Throttled { // all tries met others: the caller comes again
					b.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := b.Get(b.ctx, job.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	if got.Checks != writers {
		b.t.Errorf("after %d updates the counter stands at %d", writers, got.Checks)
	}
}

func (b *bench) payloadApart() {
	job := b.create(4 << 10)
	if n := len(b.items()); n != 1 {
		b.t.Errorf("a payload of 4 KiB makes %d items, want 1", n)
	}
	b.cancelJob(job.ID)

	job = b.create(100 << 10)
	if n := len(b.items()); n != 3 {
		b.t.Errorf("a payload of 100 KiB makes %d items, want 2", n-1)
	}
	longest := 0
	b.http.seen = func(operation string, body []byte) {
		if operation != "GetItem" && operation != "Query" && operation != "PutItem" {
			b.t.Errorf("a run calls %s", operation)
		}
		longest = max(longest, len(body))
	}
	taken, err := b.Take(b.ctx, 10, domain.Job.Taken)
	if err != nil || len(taken) != 1 || !bytes.Equal(taken[0].Payload, job.Payload) {
		b.t.Fatalf("Take = %d jobs, error %v; want the job with its payload", len(taken), err)
	}
	claimed := b.update(job.ID, func(j domain.Job) (domain.Job, error) { return j.Claim(b.clock.Now(), "t", "w") })
	if !bytes.Equal(claimed.Payload, job.Payload) {
		b.t.Error("the claimed job has lost its payload")
	}
	settled := b.update(job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Settle(b.clock.Now(), "t", domain.Outcome{Output: []byte(`1`)}, 0)
	})
	b.wantStored(settled)
	if longest > 4<<10 {
		b.t.Errorf("take, claim and settle send up to %d bytes: the payload is among them", longest)
	}
	b.http.seen = nil
	page, err := b.List(b.ctx, ports.JobQuery{Limit: 10, Status: domain.Succeeded})
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff([]domain.Job{settled}, page.Jobs); diff != "" {
		b.t.Errorf("List (-want +got):\n%s", diff)
	}
}

func (b *bench) payloadChanged() {
	job := b.create(5000)
	for _, c := range []struct{ size, items int }{{6000, 2}, {100, 1}, {7000, 2}, {0, 1}} {
		changed := b.update(job.ID, func(j domain.Job) (domain.Job, error) {
			j.Payload = bytes.Repeat([]byte{'8'}, c.size)
			return j, nil
		})
		b.wantStored(changed)
		if n := len(b.items()); n != c.items {
			b.t.Errorf("with a payload of %d bytes there are %d items, want %d", c.size, n, c.items)
		}
	}
}

func (b *bench) removal() {
	var ids []string
	for range 3 {
		ids = append(ids, b.create(5000).ID)
	}
	small := b.create(10)
	redriven := b.create(5000)
	for _, id := range append(ids, small.ID, redriven.ID) {
		b.cancelJob(id)
	}
	open := b.update(redriven.ID, func(j domain.Job) (domain.Job, error) { return j.Redrive(b.clock.Now()) })

	b.clock.Advance(500 * time.Microsecond)
	expires := b.clock.Now().Add(domain.DefaultRetention.Finished)
	for _, i := range b.items() {
		ttl, has := i[dynamodb.TTLAttribute].(*types.AttributeValueMemberN)
		if id := i["pk"].(*types.AttributeValueMemberS).Value; has != (id == small.ID) {
			b.t.Errorf("item %s has a time to live: %v", id, has)
		}
		if has {
			seconds, err := strconv.ParseInt(ttl.Value, 10, 64)
			if err != nil || math.Abs(float64(seconds-expires.Unix())) > 1 || time.Unix(seconds, 0).Before(expires.Truncate(time.Second)) {
				b.t.Errorf("the time to live is %s, want the second of %v or the next", ttl.Value, expires)
			}
		}
	}

	b.clock.Advance(domain.DefaultRetention.Finished)
	if n, err := b.Expire(b.ctx, 10); n != 0 || err != nil {
		b.t.Errorf("Expire at once = %d, %v; want none before clocks that differ have all passed the time", n, err)
	}
	b.clock.Advance(time.Hour)
	for _, want := range []int{2, 1, 0} {
		if n, err := b.Expire(b.ctx, 2); n != want || err != nil {
			b.t.Errorf("Expire(2) = %d, %v; want %d", n, err, want)
		}
	}
	if n := len(b.items()); n != 3 {
		b.t.Errorf("%d items are left, want the small job's one and the open job's two", n)
	}
	b.wantStored(open)
}

func (b *bench) replaced() {
	job := b.create(5000)
	b.cancelJob(job.ID)
	b.clock.Advance(domain.DefaultRetention.Finished)
	again := job
	again.CreatedAt, again.Name = b.clock.Now(), "again"
	stored, created, err := b.Create(b.ctx, again)
	if err != nil || !created {
		b.t.Fatalf("Create over an expired job: created %v, error %v", created, err)
	}
	b.wantStored(stored)
	if n := len(b.items()); n != 2 {
		b.t.Errorf("%d items are left, want the job's and its payload's", n)
	}
	found, created, err := b.Create(b.ctx, job)
	if err != nil || created || !cmp.Equal(found, stored) {
		b.t.Errorf("Create again: created %v, error %v; want the stored job", created, err)
	}
}

func (b *bench) payloadLost() {
	job := b.create(5000)
	for _, i := range b.items() {
		if k := i["pk"].(*types.AttributeValueMemberS); k.Value != job.ID {
			if _, err := b.client.DeleteItem(b.ctx, &sdk.DeleteItemInput{TableName: &b.table, Key: map[string]types.AttributeValue{"pk": k}}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	_, err := b.Get(b.ctx, job.ID)
	wantKind(b.t, "Get", err, domain.Internal)
	_, err = b.List(b.ctx, ports.JobQuery{Limit: 10})
	wantKind(b.t, "List", err, domain.Internal)
	_, err = b.Take(b.ctx, 10, domain.Job.Taken)
	wantKind(b.t, "Take", err, domain.Internal)
}

func (b *bench) tooLarge() {
	job := portstest.NewJob(b.t, b.clock.Now(), alice, "report.render")
	job.Payload = bytes.Repeat([]byte{'7'}, 420_000)
	_, _, err := b.Create(b.ctx, job)
	wantKind(b.t, "Create with a large payload", err, domain.TooLarge)
	job.Payload = nil
	if _, _, err = b.Create(b.ctx, job); err != nil {
		b.t.Fatal(err)
	}
	_, err = b.Update(b.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		j.Output = bytes.Repeat([]byte{'7'}, 420_000)
		return j, nil
	})
	wantKind(b.t, "Update with a large output", err, domain.TooLarge)
	if n := len(b.items()); n != 1 {
		b.t.Errorf("%d items are left, want the small job's alone", n)
	}
}

// cutOff carries the next PutItem out and loses its answer.
type cutOff struct {
	sdk.HTTPClient
	lose bool
}

func (c *cutOff) Do(req *http.Request) (*http.Response, error) {
	resp, err := c.HTTPClient.Do(req)
	if err == nil && c.lose && strings.HasSuffix(req.Header.Get("X-Amz-Target"), ".PutItem") {
		c.lose = false
		_ = resp.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return resp, err
}

func (b *bench) answerLost() {
	line := &cutOff{HTTPClient: b.http, lose: true}
	store := dynamodb.NewStore(sdk.New(b.client.Options(), func(o *sdk.Options) { o.HTTPClient = line }), b.table,
		dynamodb.Options{Now: b.clock.Now})
	job := portstest.NewJob(b.t, b.clock.Now(), alice, "report.render")
	if _, created, err := store.Create(b.ctx, job); err != nil || !created || line.lose {
		b.t.Fatalf("Create: created %v, error %v; want it to know its own write", created, err)
	}
	line.lose = true
	claimed, err := store.Update(b.ctx, job.ID, func(j domain.Job) (domain.Job, error) { return j.Claim(b.clock.Now(), "t", "w") })
	if err != nil || line.lose {
		b.t.Fatalf("Update: %v; want it to know its own write", err)
	}
	if claimed.Starts != 1 {
		b.t.Errorf("the job was claimed %d times", claimed.Starts)
	}
	b.wantStored(claimed)
	b.clock.Advance(claimed.LeaseTerm())
	line.lose = true
	if taken, err := store.Take(b.ctx, 10, domain.Job.Taken); err != nil || len(taken) != 1 || line.lose {
		b.t.Errorf("Take = %d jobs, error %v; want it to know its own write", len(taken), err)
	}
}

// calls are the operations that do makes.
func (b *bench) calls(do func()) []string {
	b.t.Helper()
	var made []string
	b.http.seen = func(operation string, _ []byte) { made = append(made, operation) }
	do()
	b.http.seen = nil
	return made
}

func (b *bench) claim(id, token string) domain.Job {
	b.t.Helper()
	return b.update(id, func(j domain.Job) (domain.Job, error) { return j.Claim(b.clock.Now(), token, "worker") })
}

func (b *bench) claimedHere() {
	id := b.create(10).ID
	made := b.calls(func() {
		claimed := b.claim(id, "token")
		claimed.Payload[0], claimed.History[0].Worker = 'x', "who?" // the caller's own, to do with as it likes
		b.update(id, func(j domain.Job) (domain.Job, error) { return j.Renew(b.clock.Now(), "token") })
		b.update(id, func(j domain.Job) (domain.Job, error) { return j.Settle(b.clock.Now(), "token", domain.Outcome{}, 0) })
	})
	if diff := cmp.Diff([]string{"GetItem", "PutItem", "PutItem", "PutItem"}, made); diff != "" {
		b.t.Errorf("a claim, a renewal and a settling make other calls (-want +got):\n%s", diff)
	}
	job, err := b.Get(b.ctx, id)
	if err != nil || job.Status != domain.Succeeded || string(job.Payload) != "7777777777" || job.History[0].Worker != "worker" {
		b.t.Errorf("the job is %+v, %v", job, err)
	}
	if made := b.calls(func() {
		_, err := b.Update(b.ctx, id, func(j domain.Job) (domain.Job, error) { return j.Cancel(b.clock.Now(), domain.ReasonCancelled) })
		wantKind(b.t, "Update of a job that ended here", err, domain.Conflict)
	}); !slices.Equal(made, []string{"GetItem"}) {
		b.t.Errorf("a job that ended is not read: %v", made)
	}
}

func (b *bench) changedElsewhere() {
	elsewhere := dynamodb.NewStore(b.client, b.table, dynamodb.Options{Now: b.clock.Now})
	asked, lost := b.create(10).ID, b.create(10).ID
	b.claim(asked, "token")
	b.claim(lost, "token")
	if _, err := elsewhere.Update(b.ctx, asked, func(j domain.Job) (domain.Job, error) {
		return j.Cancel(b.clock.Now(), domain.ReasonCancelled)
	}); err != nil {
		b.t.Fatal(err)
	}
	renewed := b.update(asked, func(j domain.Job) (domain.Job, error) { return j.Renew(b.clock.Now(), "token") })
	if !renewed.CancelRequested {
		b.t.Error("a renewal does not see that a cancel was asked for")
	}

	b.clock.Advance(renewed.LeaseTerm())
	if _, err := elsewhere.Update(b.ctx, lost, func(j domain.Job) (domain.Job, error) {
		return j.Claim(b.clock.Now(), "another", "another worker")
	}); err != nil {
		b.t.Fatal(err)
	}
	_, err := b.Update(b.ctx, lost, func(j domain.Job) (domain.Job, error) {
		return j.Settle(b.clock.Now(), "token", domain.Outcome{}, 0)
	})
	if domain.ReasonOf(err) != domain.ReasonLeaseLost {
		b.t.Errorf("settled under a lease that is another's: %v", err)
	}

	// A refusal is believed of what is stored, not of what was.
	id := b.create(10).ID
	b.claim(id, "token")
	if _, err := elsewhere.Update(b.ctx, id, func(j domain.Job) (domain.Job, error) {
		return j.Settle(b.clock.Now(), "token", domain.Outcome{}, 0)
	}); err != nil {
		b.t.Fatal(err)
	}
	_, err = b.Update(b.ctx, id, func(j domain.Job) (domain.Job, error) { return j.Claim(b.clock.Now(), "next", "worker") })
	if domain.ReasonOf(err) != domain.ReasonFinished {
		b.t.Errorf("a claim of a job that ended elsewhere is refused as %q", domain.ReasonOf(err))
	}
}

func (b *bench) claimedLarge() {
	id := b.create(5 << 10).ID
	b.claim(id, "token")
	if made := b.calls(func() {
		b.update(id, func(j domain.Job) (domain.Job, error) { return j.Settle(b.clock.Now(), "token", domain.Outcome{}, 0) })
	}); !slices.Equal(made, []string{"GetItem", "GetItem", "PutItem"}) {
		b.t.Errorf("settled by %v", made)
	}
}

func (b *bench) set(id, attr, value string) {
	b.t.Helper()
	_, err := b.client.UpdateItem(b.ctx, &sdk.UpdateItemInput{
		TableName: &b.table, Key: map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: id}},
		UpdateExpression: aws.String("SET #a = :v"), ExpressionAttributeNames: map[string]string{"#a": attr},
		ExpressionAttributeValues: map[string]types.AttributeValue{":v": &types.AttributeValueMemberS{Value: value}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) damaged() {
	first := b.create(10)
	b.set(first.ID, "job", `{"id":`)
	b.clock.Advance(time.Millisecond)
	second := b.create(10)
	_, err := b.Get(b.ctx, first.ID)
	wantKind(b.t, "Get", err, domain.Internal)
	_, err = b.Update(b.ctx, first.ID, func(j domain.Job) (domain.Job, error) { return j, nil })
	wantKind(b.t, "Update", err, domain.Internal)
	taken, err := b.Take(b.ctx, 1, domain.Job.Taken)
	if err != nil || len(taken) != 1 || taken[0].ID != second.ID {
		b.t.Errorf("Take = %v, %v; want the readable job", taken, err)
	}
	_, err = b.Take(b.ctx, 1, domain.Job.Taken)
	wantKind(b.t, "Take of nothing else", err, domain.Internal)
}

func (b *bench) staleIndex() {
	kept := b.create(10)
	b.clock.Advance(time.Millisecond)
	moved, stale, gone := b.create(10), b.create(10), b.create(10)
	b.cancelJob(stale.ID)
	// The index is made to say what it said a moment ago.
	b.set(stale.ID, "status", string(domain.Queued))
	b.set(moved.ID, "listed", "2026-01-01T00:00:00.000Z#"+moved.ID)
	b.cancelJob(gone.ID)
	b.clock.Advance(domain.DefaultRetention.Finished)
	b.set(gone.ID, "expires_at", "2030-01-01T00:00:00.000Z")
	page, err := b.List(b.ctx, ports.JobQuery{Limit: 10, Status: domain.Queued})
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff([]domain.Job{kept}, page.Jobs); diff != "" {
		b.t.Errorf("List (-want +got):\n%s", diff)
	}
	b.set(stale.ID, "agenda", "due#0")
	b.set(stale.ID, "agenda_at", "2026-01-01T00:00:00.000Z#"+stale.ID)
	taken, err := b.Take(b.ctx, 10, domain.Job.Taken)
	if err != nil {
		b.t.Fatal(err)
	}
	if slices.ContainsFunc(taken, func(j domain.Job) bool { return j.ID == stale.ID }) {
		b.t.Error("Take hands out a finished job")
	}
}

func (b *bench) shape() {
	table, err := b.client.DescribeTable(b.ctx, &sdk.DescribeTableInput{TableName: &b.table})
	if err != nil {
		b.t.Fatal(err)
	}
	if got := table.Table.BillingModeSummary.BillingMode; got != types.BillingModePayPerRequest {
		b.t.Errorf("the billing mode is %s", got)
	}
	ttl, err := b.client.DescribeTimeToLive(b.ctx, &sdk.DescribeTimeToLiveInput{TableName: &b.table})
	if err != nil {
		b.t.Fatal(err)
	}
	if got := ttl.TimeToLiveDescription; got.TimeToLiveStatus != types.TimeToLiveStatusEnabled || *got.AttributeName != dynamodb.TTLAttribute {
		b.t.Errorf("the time to live is %+v", got)
	}
	wantKind(b.t, "CreateTable again", dynamodb.CreateTable(b.ctx, b.client, b.table), domain.Internal)
	elsewhere := dynamodb.NewStore(b.client, "absent", dynamodb.Options{})
	_, err = elsewhere.Get(b.ctx, uuid.NewString())
	wantKind(b.t, "Get from an absent table", err, domain.Internal)
}

func wantKind(t *testing.T, what string, err error, kind domain.Kind) {
	t.Helper()
	if _, ok := errors.AsType[*domain.Error](err); !ok || domain.KindOf(err) != kind {
		t.Errorf("%s = %v (%v), want %v", what, err, domain.KindOf(err), kind)
	}
}

var ignoreRevision = cmpopts.IgnoreFields(domain.Job{}, "Revision")
